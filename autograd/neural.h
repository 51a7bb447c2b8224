// The fused ops of neural networks: one pass over the data forward, one backward.
#pragma once

#include <triad/core/tensor.h>

namespace triad {

// Along one axis. A row of -inf alone gives NaN.
Tensor softmax(const Tensor& x, std::int64_t axis);
Tensor log_softmax(const Tensor& x, std::int64_t axis);

// (x - mean) / sqrt(variance + eps) * weight + bias over the last axis, of size C; weight and bias
// [C] or undefined. Ba et al. 2016, arXiv 1607.06450.
Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5);

// weight[ids]: weight [V,C], ids i64 [...] -> [...,C]; an id outside 0..V-1 is an IndexError.
Tensor embedding(const Tensor& ids, const Tensor& weight);

// Zero with probability p, 0 <= p < 1, else x / (1 - p); x itself when not training. The mask is
// drawn again in backward, not stored. Srivastava et al. 2014.
Tensor dropout(const Tensor& x, double p, bool training = true);

inline constexpr std::int64_t kIgnoreIndex = -100;

// The mean over positions of -log softmax(logits)[target], in nats: logits [...,C], target i64
// [...]. Positions whose target is ignore_index do not count; where none counts the loss is NaN and
// the gradient zero, as in PyTorch. (PyTorch wants the class axis second; here it is the last.)
Tensor cross_entropy(const Tensor& logits, const Tensor& target,
                     std::int64_t ignore_index = kIgnoreIndex);

Tensor mse_loss(const Tensor& input, const Tensor& target);  // mean((input - target)^2), same sizes

}  // namespace triad
