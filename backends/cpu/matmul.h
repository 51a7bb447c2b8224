// A batch of matrix products c = a b (+ bias) (+ c), brought into the simplest shape, and the two
// ways to compute it.
#pragma once

#include <triad/backends/cpu/parallel.h>
#include <triad/core/tensor.h>

namespace triad::cpu {

// c[batch..., M, N] is contiguous; strides of a and b are given, 0 along a batch axis repeats.
struct MatrixProduct {
  Index M, N, K;
  Index a_row, a_column, b_row, b_column;  // one of each pair is 1
  bool accumulate;
  Shape batch = {}, a_batch = {}, b_batch = {};
};

// By oneDNN. False, with nothing done, where it has no fast way: then the other one is taken.
bool matmul_onednn(const MatrixProduct& product, const float* a, const float* b, const float* bias,
                   float* c);

// By gemm_tile on blocks of c, the same bits at any number of threads. `bias` may be null.
template <class T>
void matmul_blocked(const MatrixProduct& product, const T* a, const T* b, const T* bias, T* c);

}  // namespace triad::cpu
