// Two linear layers with gelu between them, where a product's own kernel computes gelu.
#pragma once

#include <triad/autograd/autograd.h>

namespace triad {

// linear(gelu(linear(x, weight1, bias1), Gelu::tanh), weight2, bias2): the feed-forward part of a
// transformer; biases may be undefined. On a Hopper GPU and newer ones it is an op of its own,
// which cannot be differentiated twice: cuBLASLt's products then make gelu, and times its
// derivative.
Tensor mlp(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
           const Tensor& bias2);

}  // namespace triad
