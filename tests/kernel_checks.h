// Inputs and comparisons for tests of kernels: tensors of random numbers lying in memory in every
// way a view can, and their elements as fp64.
#pragma once

#include <doctest/doctest.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <triad/tests/reference.h>
#include <triad/tests/test_device.h>

namespace kernel_checks {

using triad::Shape;
using triad::Tensor;

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// x on another device, lying in its memory as it does here, with what is beside it.
inline Tensor moved(const Tensor& x, triad::Device device) {
  const auto storage = triad::Storage::allocate(x.storage()->bytes(), device);
  copy_bytes(storage->data(), device, x.storage()->data(), x.device(), storage->bytes());
  return {storage, x.layout(), x.dtype()};
}

// x on the device of the tests, lying there as it does here.
inline Tensor placed(const Tensor& x) {
  return test_device() == x.device() ? x : moved(x, test_device());
}

// The elements in row-major order, converted.
inline reference::Values values(const Tensor& x) {
  return triad::visit_any(x.dtype(), [&](auto zero) {
    reference::Values result;
    for (auto value : x.to_vector<decltype(zero)>())
      result.push_back(triad::converted<double>(decltype(zero)(value)));
    return result;
  });
}

// The tensor of that dtype with these elements.
inline Tensor tensor(const reference::Values& from, const Shape& shape,
                     triad::DType dtype = triad::f32) {
  Tensor x = triad::empty(shape, dtype);
  REQUIRE(x.numel() == std::int64_t(from.size()));
  triad::visit_any(dtype, [&](auto zero) {
    using T = decltype(zero);
    for (std::size_t i = 0; i < from.size(); ++i) x.first<T>()[i] = triad::converted<T>(from[i]);
  });
  return placed(x);
}

// Standard normals times `scale`; whole numbers as i64, true or false as bool.
inline Tensor random_tensor(const Shape& shape, triad::DType dtype, unsigned seed,
                            double scale = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  reference::Values from(std::size_t(shape.numel()));
  for (double& value : from) {
    value = scale * normal(engine);
    if (dtype == triad::i64 || dtype == triad::i32) value = std::round(10 * value);
    if (dtype == triad::boolean) value = value > 0;
  }
  return tensor(from, shape, dtype);
}

// How a tensor lies in memory.
enum class Lie { contiguous, transposed, sliced, rows_apart };
inline constexpr Lie kLies[] = {Lie::contiguous, Lie::transposed, Lie::sliced, Lie::rows_apart};

// An uninitialised tensor of that shape that lies so.
inline Tensor lying(Lie lie, const Shape& shape, triad::DType dtype) {
  const int last = shape.rank() - 1;
  if (lie == Lie::contiguous || last < 0) return triad::empty(shape, dtype);
  Shape base = shape;
  if (lie == Lie::transposed) {  // the first axis is the innermost one in memory
    for (int i = 0; i <= last; ++i) base[i] = shape[last - i];
    Shape order = Shape::filled(last + 1, 0);
    for (int i = 0; i <= last; ++i) order[i] = last - i;
    Tensor x = triad::empty(base, dtype);
    return x.with_layout(triad::permuted(x.layout(), order));
  }
  // `sliced`: every third element of the last axis; `rows_apart`: a gap after each row.
  base[last] = lie == Lie::sliced ? 3 * shape[last] + 2 : shape[last] + 5;
  Tensor x = triad::empty(base, dtype);
  return x.with_layout(triad::sliced(x.layout(), last, 2,
                                     lie == Lie::sliced ? triad::kEnd : 2 + shape[last],
                                     lie == Lie::sliced ? 3 : 1));
}

// The same elements, lying so. Element by element, so that it needs no kernel.
inline Tensor laid(Lie lie, const Tensor& x) {
  Tensor y = lying(lie, x.shape(), x.dtype());
  triad::visit_any(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto from = x.to_vector<T>();
    std::int64_t index = 0;
    for (T value : from) {
      std::int64_t at = 0, rest = index++;
      for (int i = x.dim(); i-- > 0; rest /= x.shape()[i])
        at += rest % x.shape()[i] * y.strides()[i];
      y.first<T>()[at] = value;
    }
  });
  return placed(y);
}

inline Tensor expand(const Tensor& x, const Shape& shape) {
  return x.with_layout(triad::expanded(x.layout(), shape));
}

// `got` is `want` to `bound`, relative to each element and absolutely to `bound` times `scale`; NaN
// and infinities where they are wanted.
inline void check_close(const Tensor& got, const reference::Values& want, double bound,
                        const std::string& what, double scale = 1) {
  const reference::Values have = values(got);
  REQUIRE(have.size() == want.size());
  std::size_t wrong = 0, where = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const bool same = have[i] == want[i] || (std::isnan(have[i]) && std::isnan(want[i])) ||
                      std::abs(have[i] - want[i]) <= bound * (std::abs(want[i]) + scale);
    if (!same && wrong++ == 0) where = i;
  }
  CHECK_MESSAGE(wrong == 0, what, ": ", wrong, " of ", want.size(), " wrong, element ", where,
                " is ", wrong ? have[where] : 0, ", should be ", wrong ? want[where] : 0);
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (!a.is_contiguous() || !b.is_contiguous() || a.shape() != b.shape() || a.dtype() != b.dtype())
    return false;
  const Tensor x = a.detach().to(triad::Device::cpu()), y = b.detach().to(triad::Device::cpu());
  return std::memcmp(x.first_byte(), y.first_byte(),
                     std::size_t(x.numel()) * item_size(x.dtype())) == 0;
}

// Runs `compute`, which returns a tensor, at 1 and at several threads and compares the bits.
template <class F> void check_threads(const std::string& what, F compute) {
  const int before = triad::get_num_threads();
  triad::set_num_threads(1);
  const Tensor one = compute();
  for (int threads : {2, 3}) {
    triad::set_num_threads(threads);
    CHECK_MESSAGE(same_bits(one, compute()), what, " differs at ", threads, " threads");
  }
  triad::set_num_threads(before);
}

}  // namespace kernel_checks
