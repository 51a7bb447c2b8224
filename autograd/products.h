// Matrix products.
#pragma once

#include <triad/core/tensor.h>

namespace triad {

// torch.matmul: a [...,M,K] b [...,K,N] -> [...,M,N], leading axes broadcast; a 1-d argument is a
// row (left) or a column (right) whose axis disappears from the result. Transposed views are read
// as they lie.
Tensor matmul(const Tensor& a, const Tensor& b);

// x [...,K] weight[N,K]^T + bias[N] -> [...,N]; bias may be undefined.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

}  // namespace triad
