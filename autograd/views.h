// Views and joins as ops, and complex numbers, which are pairs seen as one. The view methods of
// Tensor (reshape, permute, slice, ...) are defined beside.
#pragma once

#include <triad/autograd/autograd.h>

namespace triad {

// Joins along an axis. Parts that already lie in place side by side in one buffer (written there
// through `window` views of it) are not copied: `buffer`, contiguous and of the result's sizes.
Tensor cat(const Tensors& parts, std::int64_t axis = 0, const Tensor& buffer = {});
Tensor stack(const Tensors& parts, std::int64_t axis = 0);  // along a new axis

std::vector<Tensor> chunk(const Tensor& x, std::int64_t chunks, std::int64_t axis = 0);
Tensor repeat(const Tensor& x, const Shape& times);  // the whole of it, so often along each axis

// Pads with `value`; widths come as {left, right} of the last axis, ... of the last but 3 at most.
Tensor pad(const Tensor& x, const Shape& widths, double value = 0);

// The part of x that `cut`, a function from layout to layout made of the functions of
// core/layout.h, cuts out, as one step of history. No element may occur twice in it.
Tensor window(const char* name, const Tensor& x, const Function<Layout(const Layout&)>& cut);

// Complex numbers: c64 and c128, as pairs of f32 or f64. The gradient of a real loss with respect
// to z = x + i y is dL/dx + i dL/dy, as in PyTorch, so a rule multiplies by conjugates.

// Views: c64 [...] <-> f32 [...,2], real parts first. The second copies pairs that lie apart.
Tensor view_as_real(const Tensor& z);
Tensor view_as_complex(const Tensor& pairs);

Tensor real(const Tensor& z);  // views; of real numbers themselves
Tensor imag(const Tensor& z);
Tensor conj(const Tensor& z);  // of real numbers themselves

Tensor complex(const Tensor& real, const Tensor& imag);  // broadcast
Tensor polar(const Tensor& abs, const Tensor& angle);    // abs (cos angle + i sin angle)

}  // namespace triad
