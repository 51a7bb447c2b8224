// The ops of neural networks.
#pragma once

#include <triad/core/tensor.h>

namespace triad {

// Along one axis. A row of -inf alone gives NaN. softmax has no second derivative.
Tensor softmax(const Tensor& x, std::int64_t axis);
Tensor log_softmax(const Tensor& x, std::int64_t axis);

// (x - mean) / sqrt(variance + eps) * weight + bias over the last axis, of size C; weight and bias
// [C] or undefined. `narrow`: in Autocast's type, for a product. Ba et al. 2016, arXiv 1607.06450.
Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5, bool narrow = false);
// x / sqrt(mean(x^2) + eps) * weight, in the same way. Zhang & Sennrich 2019, arXiv 1910.07467.
Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, double eps = 1e-6);

// Zero with probability p, 0 <= p < 1, else x / (1 - p); x itself when not training. The mask is
// drawn again in backward, not stored. Srivastava et al. 2014.
Tensor dropout(const Tensor& x, double p, bool training = true);

// y[b,t,c] = sum over k of weight[c,k] x[b,t-K+1+k,c] + bias[c], zeros before the start: x [B,T,C],
// weight [C,K], bias [C] or undefined. For the short filters of Hyena and Mamba.
Tensor causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

enum class Reduction { mean, sum, none };
inline constexpr std::int64_t kIgnoreIndex = -100;

// The mean over positions of -log softmax(logits)[target], in nats: logits [...,C], target [...] of
// indices. With label_smoothing s the target is 1 - s there plus s / C everywhere. Positions whose
// target is ignore_index do not count; where none counts the loss is NaN and the gradient zero, as
// in PyTorch. (PyTorch wants the class axis second; here it is the last.)
Tensor cross_entropy(const Tensor& logits, const Tensor& target,
                     std::int64_t ignore_index = kIgnoreIndex, double label_smoothing = 0);

// Of input and target of the same sizes: the square of the difference d; d^2/2, but
// delta (|d| - delta/2) beyond delta; target (log target - input), input being logarithms.
Tensor mse_loss(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean);
Tensor huber_loss(const Tensor& input, const Tensor& target, double delta = 1,
                  Reduction reduction = Reduction::mean);
Tensor kl_div(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean);

}  // namespace triad
