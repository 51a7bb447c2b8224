// New tensors: sizes first, then {.dtype = f64, .requires_grad = true} and the like.
#pragma once

#include <initializer_list>

#include <triad/core/random.h>
#include <triad/core/tensor.h>

namespace triad {

struct TensorOptions {
  DType dtype = f32;
  Device device = {};
  bool requires_grad = false;
};

Tensor full(const Shape& shape, double value, TensorOptions options = {});
inline Tensor zeros(const Shape& shape, TensorOptions o = {}) { return full(shape, 0, o); }
inline Tensor ones(const Shape& shape, TensorOptions o = {}) { return full(shape, 1, o); }
inline Tensor scalar(double value, TensorOptions options = {}) { return full({}, value, options); }
// start, start + step, ... below end; without a start from 0. Never i64 unless options say so.
Tensor arange(double start, double end, double step = 1, TensorOptions options = {});
inline Tensor arange(double end, TensorOptions options = {}) { return arange(0, end, 1, options); }
Tensor linspace(double start, double end, std::int64_t steps, TensorOptions options = {});
Tensor eye(std::int64_t n, TensorOptions options = {});

// Of x's sizes, type and device.
Tensor empty_like(const Tensor& x, const char* op = __builtin_FUNCTION());  // contiguous
Tensor full_like(const Tensor& x, double value);
inline Tensor zeros_like(const Tensor& x) { return full_like(x, 0); }
inline Tensor ones_like(const Tensor& x) { return full_like(x, 1); }
Tensor rand_like(const Tensor& x);
Tensor randn_like(const Tensor& x);

// Nested lists: tensor({{1, 2}, {3, 4}}), f32 unless options say otherwise.
class Nested {
 public:
  Nested(double value) : value_(value) {}
  Nested(std::initializer_list<Nested> parts) : parts_(parts), is_list_(true) {}
  // Appends the values; entry `depth` of `shape` is this list's length. Uneven: a ShapeError.
  void collect(std::vector<double>& values, Shape& shape, int depth = 0) const;

 private:
  double value_ = 0;
  std::vector<Nested> parts_;
  bool is_list_ = false;
};
Tensor tensor(std::initializer_list<Nested> values, TensorOptions options = {});

// The memory of somebody else, without a copy; `deleter` is called when no tensor sees it any more.
template <class T>
Tensor from_blob(T* data, const Shape& shape,
                 std::type_identity_t<Function<void(T*)>> deleter = {}) {
  std::shared_ptr<void> owner(static_cast<void*>(data), [deleter](void* p) {
    if (deleter) deleter(static_cast<T*>(p));
  });
  return {Storage::borrow(data, std::size_t(shape.numel()) * sizeof(T), std::move(owner)),
          contiguous_layout(shape), dtype_of<T>()};
}

// A copy of `values`, in row-major order; T is the C++ type of any dtype.
template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape, bool requires_grad = false) {
  Tensor y = empty(shape, dtype_of<T>());
  if (y.numel() != std::int64_t(values.size()))
    throw ShapeError("from_vector: " + std::to_string(values.size()) + " values do not fill " +
                     shape.str());
  T* next = y.data<T>();
  for (T value : values) *next++ = value;
  return y.requires_grad_(requires_grad);
}
template <class T> Tensor from_vector(const std::vector<T>& values) {
  return from_vector(values, {std::int64_t(values.size())});
}

// From the generator that manual_seed sets; the same numbers at any thread count.
Tensor rand(const Shape& shape, TensorOptions options = {});              // uniform in [0, 1)
Tensor randn(const Shape& shape, TensorOptions options = {});             // mean 0, variance 1
Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape);  // i64, low <= x < high

Tensor randperm(std::int64_t n);    // i64, 0..n-1 in random order
Tensor bernoulli(const Tensor& p);  // of p's type: 1 with probability p, else 0
// i64 [...,n]: n draws from the weights of each row of p [...,C], by default without replacement.
Tensor multinomial(const Tensor& p, std::int64_t n, bool replacement = false);

// The lower (upper) triangle of the matrices x [...,R,C] with the diagonal `offset`; else 0.
Tensor tril(const Tensor& x, std::int64_t offset = 0);
Tensor triu(const Tensor& x, std::int64_t offset = 0);
// bool [rows, columns], true up to the diagonal `offset` right of the main one: a causal mask.
Tensor tril_mask(std::int64_t rows, std::int64_t columns, std::int64_t offset = 0);

}  // namespace triad
