#include <triad/autograd/op_helpers.h>

namespace triad {

const Tensor& check_defined(const char* op, const Tensor& x) {
  if (!x.defined()) throw_error<ValueError>("{}: got an undefined tensor", op);
  return x;
}

// `cast` is what to write when x's type does not fit.
static void check_type(const char* op, const Tensor& x, bool fits, const char* needs,
                       const char* cast) {
  check_defined(op, x);
  if (!fits) throw_error<DTypeError>("{}: needs {}, got {}; write {}", op, needs, x.dtype(), cast);
}

void check_float(const char* op, const Tensor& x) {
  check_type(op, x, is_floating_point(x.dtype()), "f32 or f64",
             is_complex(x.dtype()) ? "real(x) or abs(x)" : "x.to(f32)");
}

void check_precise(const char* op, const Tensor& x) {
  check_float(op, x);
  check_type(op, x, x.dtype() != bf16, "f32 or f64", "x.to(f32)");
}

void check_complex(const char* op, const Tensor& x) {
  check_type(op, x, is_complex(x.dtype()), "complex numbers",
             x.dtype() == f64 ? "x.to(c128)" : "x.to(c64)");
}

void check_inexact(const char* op, const Tensor& x) {
  if (!is_complex(x.dtype())) check_float(op, x);
}

void check_number(const char* op, const Tensor& x) {
  check_type(op, x, x.dtype() != boolean, "numbers", "x.to(f32)");
}

void check_ordered(const char* op, const Tensor& x) {
  check_number(op, x);
  if (is_complex(x.dtype())) throw_error<DTypeError>("{}: complex numbers have no order", op);
}

void check_bool(const char* op, const Tensor& x) {
  check_type(op, x, x.dtype() == boolean, "bool", "x != 0");
}

void check_same_type(const char* op, const Tensor& a, const Tensor& b) {
  check_defined(op, a);
  check_defined(op, b);
  if (a.dtype() != b.dtype())
    throw_error<DTypeError>("{}: the types differ, {} and {}; write .to({}) or .to({})", op,
                            a.dtype(), b.dtype(), a.dtype(), b.dtype());
  check_same_device(op, a, b);
}

void check_same_device(const char* op, const Tensor& a, const Tensor& b) {
  if (a.device() != b.device())
    throw_error<DeviceError>("{}: the tensors are on different devices", op);
}

static bool either(const Tensor& a, const Tensor& b, DType one, DType other) {
  return (a.dtype() == one && b.dtype() == other) || (a.dtype() == other && b.dtype() == one);
}

bool narrows(const Tensor& a, const Tensor& b) {
  return autocast_enabled() && (either(a, b, f32, f32) || either(a, b, f32, bf16)) && a.defined() &&
         b.defined();
}

bool mixes(const Tensor& a, const Tensor& b) {
  return autocast_enabled() && either(a, b, f32, bf16);
}

Tensor empty_gradient(const Tensor& x) { return x.requires_grad() ? empty_like(x) : Tensor(); }

Tensor with_packed_rows(const Tensor& x) {
  return x.shape().back() == 1 || x.strides().back() == 1 ? x.detach() : x.detach().contiguous();
}

Tensor scalar_like(double value, const Tensor& x) {
  return scalar(value, {.dtype = x.dtype(), .device = x.device()});
}

Tensor sum_to(const Tensor& g, const Shape& shape) {
  if (g.shape() == shape) return g;
  const int extra = g.dim() - shape.rank();
  Axes axes;
  for (int i = 0; i < g.dim(); ++i)
    if (i < extra || (shape[i - extra] == 1 && g.shape()[i] != 1)) axes.push_back(i);
  return sum(g, axes, true).reshape(shape);
}

}  // namespace triad
