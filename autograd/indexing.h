// Elements picked by index. Indices are i64 (i32 is taken too); one out of range is an IndexError.
#pragma once

#include <utility>

#include <triad/core/tensor.h>

namespace triad {

// weight[ids]: weight [V,C], ids [...] -> [...,C].
Tensor embedding(const Tensor& ids, const Tensor& weight);

// The entries index [n] of an axis, in their order.
Tensor index_select(const Tensor& x, std::int64_t axis, const Tensor& index);

// y[i][j][k] = x[i][index[i][j][k]][k] for axis 1 of three; index: no longer than x elsewhere.
Tensor gather(const Tensor& x, std::int64_t axis, const Tensor& index);

// x with source[i][j][k] added at [i][index[i][j][k]][k], in order: the transpose of gather.
Tensor scatter_add(const Tensor& x, std::int64_t axis, const Tensor& index, const Tensor& source);

// The k largest (or smallest) along an axis, in order, and their indices; equal ones come in the
// order of their indices, NaN counts as the largest.
std::pair<Tensor, Tensor> topk(const Tensor& x, std::int64_t k, std::int64_t axis = -1,
                               bool largest = true);

// The entries of an axis in reverse; by `shift` places further, round and round.
Tensor flip(const Tensor& x, std::int64_t axis);
Tensor roll(const Tensor& x, std::int64_t shift, std::int64_t axis);

}  // namespace triad
