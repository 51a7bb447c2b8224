// For the sources of ops: all that they include, and the checks and few steps that they share.
#pragma once

#include <triad/autograd/autograd.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {

inline const Tensor& check_defined(const char* op, const Tensor& x) {
  if (!x.defined()) throw_error<ValueError>("{}: got an undefined tensor", op);
  return x;
}
// `cast` is what to write when x's type does not fit.
inline void check_type(const char* op, const Tensor& x, bool fits, const char* needs,
                       const char* cast) {
  check_defined(op, x);
  if (!fits) throw_error<DTypeError>("{}: needs {}, got {}; write {}", op, needs, x.dtype(), cast);
}
inline void check_float(const char* op, const Tensor& x) {  // f32, f64, bf16 or f16
  check_type(op, x, is_floating_point(x.dtype()), "f32 or f64",
             is_complex(x.dtype()) ? "real(x) or abs(x)" : "x.to(f32)");
}
inline void check_precise(const char* op, const Tensor& x) {  // f32 or f64
  check_float(op, x);
  check_type(op, x, !is_narrow(x.dtype()), "f32 or f64", "x.to(f32)");
}
inline void check_complex(const char* op, const Tensor& x) {  // c64 or c128
  check_type(op, x, is_complex(x.dtype()), "complex numbers",
             x.dtype() == f64 ? "x.to(c128)" : "x.to(c64)");
}
inline void check_inexact(const char* op, const Tensor& x) {  // any of these
  if (!is_complex(x.dtype())) check_float(op, x);
}
inline void check_number(const char* op, const Tensor& x) {  // anything but bool
  check_type(op, x, x.dtype() != boolean, "numbers", "x.to(f32)");
}
inline void check_ordered(const char* op, const Tensor& x) {  // anything but bool and complex
  check_number(op, x);
  if (is_complex(x.dtype())) throw_error<DTypeError>("{}: complex numbers have no order", op);
}
inline void check_bool(const char* op, const Tensor& x) {
  check_type(op, x, x.dtype() == boolean, "bool", "x != 0");
}
inline void check_same_device(const char* op, const Tensor& a, const Tensor& b) {
  if (a.device() != b.device())
    throw_error<DeviceError>("{}: the tensors are on different devices", op);
}
inline void check_same_type(const char* op, const Tensor& a, const Tensor& b) {  // and device
  check_defined(op, a);
  check_defined(op, b);
  if (a.dtype() != b.dtype())
    throw_error<DTypeError>("{}: the types differ, {} and {}; write .to({}) or .to({})", op,
                            a.dtype(), b.dtype(), a.dtype(), b.dtype());
  check_same_device(op, a, b);
}
// Integer indices into x as i64, after a check that they lie in 0..count-1.
Tensor checked_indices(const char* op, const Tensor& x, const Tensor& indices, std::int64_t count);

// Under Autocast: do the types of a sum differ by it? Is an operand of a product to be narrowed?
inline bool are_cast(const Tensor& a, const Tensor& b) {
  return autocast_enabled() && wide_type(a.dtype()) == f32 && wide_type(b.dtype()) == f32;
}
inline bool mixes(const Tensor& a, const Tensor& b) {
  return a.dtype() != b.dtype() && are_cast(a, b);
}
inline bool narrows(const Tensor& a, const Tensor& b) {
  const auto fits = [to = autocast_dtype()](const Tensor& x) { return x.dtype() == to; };
  return a.defined() && b.defined() && are_cast(a, b) && !(fits(a) && fits(b));
}
// What was computed in f32 for a narrow x: rounded to its type, but for under Autocast.
inline Tensor rounded(const Tensor& y, const Tensor& x) {
  return autocast_enabled() || !is_narrow(x.dtype()) ? y : y.to(x.dtype());
}

// Whether rows of x go to f32: narrow ones on the CPU, for want of a kernel, and under Autocast.
inline bool is_widened(const Tensor& x) {
  return is_narrow(x.dtype()) && (x.device() == Device::cpu() || autocast_enabled());
}

// record() for an op of one input, by a function from the gradient of `out` to that of x.
template <class Gradient>
Tensor record_unary(const char* name, Tensor out, const Tensor& x, Gradient dx) {
  return record(name, std::move(out), {x},
                [dx = std::move(dx)](const Tensor& g) { return Tensors{dx(g)}; });
}

// What a rule allocates for the gradient of x; undefined where none is wanted.
inline Tensor empty_gradient(const Tensor& x) {
  return x.requires_grad() ? empty_like(x) : Tensor();
}
// x without history, for kernels that want stride 1 along the last axis; a copy where it is not.
inline Tensor with_packed_rows(const Tensor& x) {
  return x.shape().back() == 1 || x.strides().back() == 1 ? x.detach() : x.detach().contiguous();
}
// Of optional arguments, which may be undefined: in a type; contiguous and without history.
inline Tensor in_wide(const Tensor& x) { return x.defined() ? x.to(wide_type(x.dtype())) : x; }
inline Tensor narrowed(const Tensor& x) { return x.defined() ? x.to(autocast_dtype()) : x; }
inline Tensor packed(const Tensor& x) { return x.defined() ? x.detach().contiguous() : x; }
// A 0-d tensor of x's dtype, on x's device.
inline Tensor scalar_like(double value, const Tensor& x) {
  return scalar(value, {.dtype = x.dtype(), .device = x.device()});
}

// The gradient of an input of sizes `shape` that was broadcast to g's: sums over the repeated axes.
inline Tensor sum_to(const Tensor& g, const Shape& shape) {
  if (g.shape() == shape) return g;
  const int extra = g.dim() - shape.rank();
  Axes axes;
  for (int i = 0; i < g.dim(); ++i)
    if (i < extra || (shape[i - extra] == 1 && g.shape()[i] != 1)) axes.push_back(i);
  return sum(g, axes, true).reshape(shape);
}

}  // namespace triad
