#include <triad/autograd/complex.h>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {

Tensor view_as_real(const Tensor& z) {
  check_complex("view_as_real", z);
  Layout pairs = z.layout();
  for (std::int64_t& stride : pairs.strides) stride *= 2;
  pairs.offset *= 2;
  pairs.shape.push_back(2);
  pairs.strides.push_back(1);
  return record("view_as_real", {z.storage(), pairs, real_type(z.dtype())}, {z},
                [](const Tensor& g) { return Tensors{view_as_complex(g)}; });
}

Tensor view_as_complex(const Tensor& x) {
  check_float("view_as_complex", x);
  if (x.dtype() == bf16 || x.dim() < 1 || x.size(-1) != 2)
    throw_error<ShapeError>("view_as_complex: needs f32 or f64 [...,2], got {}{}", x.dtype(),
                            x.shape());
  bool together = x.strides().back() == 1 && x.layout().offset % 2 == 0;
  for (int i = 0; i < x.dim() - 1; ++i) together &= x.strides()[i] % 2 == 0;
  if (!together) return view_as_complex(x.clone());
  Layout numbers = selected(x.layout(), -1, 0);
  for (std::int64_t& stride : numbers.strides) stride /= 2;
  numbers.offset /= 2;
  return record("view_as_complex", {x.storage(), numbers, complex_type(x.dtype())}, {x},
                [](const Tensor& g) { return Tensors{view_as_real(g)}; });
}

Tensor real(const Tensor& z) { return is_complex(z.dtype()) ? view_as_real(z).select(-1, 0) : z; }

Tensor imag(const Tensor& z) {
  check_complex("imag", z);
  return view_as_real(z).select(-1, 1);
}

Tensor complex(const Tensor& real, const Tensor& imag) {
  check_same_type("complex", real, imag);
  const Shape shape = broadcast_shapes("complex", real.shape(), imag.shape());
  return view_as_complex(stack({real.expand(shape), imag.expand(shape)}, -1));
}

Tensor polar(const Tensor& abs, const Tensor& angle) {
  check_same_type("polar", abs, angle);
  return complex(abs * cos(angle), abs * sin(angle));
}

}  // namespace triad
