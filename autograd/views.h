// Views and joins as ops. The view methods of Tensor (reshape, permute, slice, ...) are defined
// beside.
#pragma once

#include <triad/autograd/autograd.h>

namespace triad {

// Joins along an axis. Parts that already lie in place side by side in one buffer (written there
// through `window` views of it) are not copied: `buffer`, contiguous and of the result's sizes.
Tensor cat(const Tensors& parts, std::int64_t axis = 0, const Tensor& buffer = {});
Tensor stack(const Tensors& parts, std::int64_t axis = 0);  // along a new axis

std::vector<Tensor> chunk(const Tensor& x, std::int64_t chunks, std::int64_t axis = 0);
Tensor repeat(const Tensor& x, const Shape& times);  // the whole of it, so often along each axis

// Pads with `value`; widths come as {left, right} of the last axis, then of the one before, ...
Tensor pad(const Tensor& x, const Shape& widths, double value = 0);

// The part of x that `cut`, a function from layout to layout made of the functions of
// core/layout.h, cuts out, as one step of history. No element may occur twice in it.
Tensor window(const char* name, const Tensor& x, const Function<Layout(const Layout&)>& cut);

}  // namespace triad
