// Matrix products.
#pragma once

#include <string>

#include <triad/autograd/autograd.h>

namespace triad {

// torch.matmul: a [...,M,K] b [...,K,N] -> [...,M,N], leading axes broadcast; a 1-d argument is a
// row (left) or a column (right) whose axis disappears from the result. Transposed views are read
// as they lie.
Tensor matmul(const Tensor& a, const Tensor& b);

// x [...,K] weight[N,K]^T + bias[N] -> [...,N]; bias may be undefined.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

// Sums of products by the name of each axis: einsum("bij,bjk->bik", {a, b}). Every operand's axes
// are lower or upper case letters, the result's come after "->"; an axis that is named twice in one
// operand means its diagonal. Two operands at a time, from the left, become one matmul.
Tensor einsum(const std::string& equation, const Tensors& operands);

}  // namespace triad
