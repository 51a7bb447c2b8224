// Sums and what is made of them. Axes may be negative; without axes, over all of them
// (an empty list is no axis: it sums over nothing).
#pragma once

#include <utility>
#include <vector>

#include <triad/core/tensor.h>

namespace triad {

using Axes = std::vector<std::int64_t>;
const Axes& all_axes();  // of an x of any rank

Tensor sum(const Tensor& x, const Axes& axes = all_axes(), bool keepdim = false);  // i32, bool: i64
Tensor mean(const Tensor& x, const Axes& axes = all_axes(), bool keepdim = false);
// The variance, divided by n - correction, and its root, torch.std, a name that a namespace has.
Tensor var(const Tensor& x, const Axes& axes = all_axes(), bool keepdim = false,
           double correction = 1);
Tensor stddev(const Tensor& x, const Axes& axes = all_axes(), bool keepdim = false,
              double correction = 1);

// The largest element along an axis, and its index (i64); of equal ones the first; NaN before all.
std::pair<Tensor, Tensor> max(const Tensor& x, std::int64_t axis, bool keepdim = false);
std::pair<Tensor, Tensor> min(const Tensor& x, std::int64_t axis, bool keepdim = false);
Tensor argmax(const Tensor& x, std::int64_t axis, bool keepdim = false);
Tensor argmin(const Tensor& x, std::int64_t axis, bool keepdim = false);
Tensor max(const Tensor& x);  // of all elements; the gradient goes to the first of equal ones
Tensor min(const Tensor& x);

// Is any element, are all, other than zero? bool
Tensor any(const Tensor& x, const Axes& axes = all_axes(), bool keepdim = false);
Tensor all(const Tensor& x, const Axes& axes = all_axes(), bool keepdim = false);

// log(sum(exp(x))), without overflow.
Tensor logsumexp(const Tensor& x, const Axes& axes, bool keepdim = false);

Tensor cumsum(const Tensor& x, std::int64_t axis);  // y_i = x_0 + ... + x_i

// The Euclidean norm. Its gradient at zero is zero.
Tensor norm(const Tensor& x);
Tensor norm(const Tensor& x, const Axes& axes, bool keepdim = false);

// Does x hold neither a NaN nor an infinity?
bool all_finite(const Tensor& x);

}  // namespace triad
