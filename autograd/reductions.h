// Sums and what is made of them. Axes may be negative; without axes, over all of them
// (an empty list is no axis: it sums over nothing).
#pragma once

#include <utility>
#include <vector>

#include <triad/core/tensor.h>

namespace triad {

using Axes = std::vector<std::int64_t>;

Tensor sum(const Tensor& x);
Tensor sum(const Tensor& x, const Axes& axes, bool keepdim = false);
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, const Axes& axes, bool keepdim = false);
// The variance, divided by n - correction. Its root is sqrt(var(x)): a function named std would be
// ambiguous with the namespace.
Tensor var(const Tensor& x, const Axes& axes, bool keepdim = false, double correction = 1);
Tensor var(const Tensor& x);

// The largest element along an axis and its index (i64); the first of equal ones, which alone gets
// the gradient; NaN before all.
std::pair<Tensor, Tensor> max(const Tensor& x, std::int64_t axis, bool keepdim = false);
Tensor argmax(const Tensor& x, std::int64_t axis, bool keepdim = false);
Tensor max(const Tensor& x);  // of all elements
Tensor min(const Tensor& x);

// The Euclidean norm of all elements. Its gradient at zero is zero.
Tensor norm(const Tensor& x);

// Does x hold neither a NaN nor an infinity?
bool all_finite(const Tensor& x);

}  // namespace triad
