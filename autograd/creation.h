// New tensors: sizes first, then {.dtype = f64, .requires_grad = true} and the like.
#pragma once

#include <vector>

#include <triad/core/random.h>
#include <triad/core/tensor.h>

namespace triad {

struct TensorOptions {
  DType dtype = f32;
  Device device = {};
  bool requires_grad = false;
};

Tensor zeros(const Shape& shape, TensorOptions options = {});
Tensor ones(const Shape& shape, TensorOptions options = {});
Tensor full(const Shape& shape, double value, TensorOptions options = {});
Tensor scalar(double value, TensorOptions options = {});  // 0-d
// start, start + step, ... below end; without a start from 0. PyTorch would guess i64: say {.dtype
// = i64}.
Tensor arange(double end, TensorOptions options = {});
Tensor arange(double start, double end, double step = 1, TensorOptions options = {});

// A copy of `values`, in row-major order; T is float, double, std::int64_t or bool.
template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape, bool requires_grad = false);
template <class T>
Tensor from_vector(const std::vector<T>& values) {
  return from_vector(values, {std::int64_t(values.size())});
}

// From the generator that manual_seed sets; the same numbers at any thread count.
Tensor rand(const Shape& shape, TensorOptions options = {});              // uniform in [0, 1)
Tensor randn(const Shape& shape, TensorOptions options = {});             // mean 0, variance 1
Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape);  // i64, low <= x < high

// bool [rows, columns], true on and below the diagonal `offset` places right of the main one: as a
// mask, what a causal query may attend to.
Tensor tril_mask(std::int64_t rows, std::int64_t columns, std::int64_t offset = 0);

}  // namespace triad
