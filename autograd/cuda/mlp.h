// Two linear layers with gelu between them, on a GPU where a product makes gelu itself.
#pragma once

#include <triad/autograd/autograd.h>

namespace triad {

// linear(gelu(linear(x, weight1, bias1), Gelu::tanh), weight2, bias2): the feed-forward part of a
// transformer; biases may be undefined. In bf16 and f16, on a Hopper GPU or a newer one, with
// biases and a hidden size that 8 divides, it is an op of its own, which cannot be differentiated
// twice: there cuBLASLt's products make gelu and its derivative, with a tanh that is right to
// 2^-11.
Tensor mlp(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
           const Tensor& bias2);

}  // namespace triad
