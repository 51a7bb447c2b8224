// A batch of matrix products in the simplest shape that describes it, for kernels::matmul.
#pragma once

#include <triad/core/tensor.h>

namespace triad::kernels {

// c = a b (+ bias), c[batch..., M, N] contiguous; stride 0 repeats a matrix.
struct MatrixProduct {
  DType dtype;
  std::int64_t M, N, K;
  std::int64_t a_row, a_column, b_row, b_column;  // one of each pair is 1
  Shape batch = {}, a_batch = {}, b_batch = {};

  // Whether rows (or columns) overlap, as those of an expanded vector do.
  bool a_overlaps() const { return a_column == 1 ? a_row < K : a_column < M; }
  bool b_overlaps() const { return b_column == 1 ? b_row < N : b_column < K; }
};

// An axis of size 1 may have any stride: gives it the one that makes the matrix easy to read.
inline void normalize(std::int64_t rows, std::int64_t columns, std::int64_t& row,
                      std::int64_t& column) {
  if (columns == 1 && row != 1) column = 1;
  if (rows == 1 && column != 1) row = 1;
  if (rows == 1 && column == 1) row = columns;
  if (columns == 1 && row == 1) column = rows;
}

// Batch axes that lie one behind the other become one, and rows of a that all meet the same b
// become one tall matrix: a single large product is faster than many small ones.
inline MatrixProduct simplest(const Tensor& a, const Tensor& b) {
  const int axes = a.dim() - 2;
  const std::int64_t M = a.shape()[axes], N = b.shape().back(), K = b.shape()[axes];
  const Shape &a_steps = a.strides(), &b_steps = b.strides();
  MatrixProduct p{a.dtype(), M, N, K, a_steps[axes], a_steps.back(), b_steps[axes], b_steps.back()};
  for (int i = axes - 1; i >= 0; --i) {
    const std::int64_t size = a.shape()[i], a_step = a_steps[i], b_step = b_steps[i];
    if (size == 1) continue;
    if (p.batch.empty()) {
      const bool tall = p.M == 1 ? p.a_column == 1 || a_step == 1 : a_step == p.M * p.a_row;
      if (b_step == 0 && tall) {
        if (p.M == 1) p.a_row = a_step;
        p.M *= size;
        continue;
      }
    } else if (a_step == p.a_batch[0] * p.batch[0] && b_step == p.b_batch[0] * p.batch[0]) {
      p.batch[0] *= size;
      continue;
    }
    p.batch.insert(0, size);
    p.a_batch.insert(0, a_step);
    p.b_batch.insert(0, b_step);
  }
  normalize(p.M, p.K, p.a_row, p.a_column);
  normalize(p.K, p.N, p.b_row, p.b_column);
  return p;
}

}  // namespace triad::kernels
