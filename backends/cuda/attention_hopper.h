// Attention by attention_hopper.cuh: false, with nothing done, where its kernels are not for this.
#pragma once

#include <triad/backends/cuda/attention_input.h>

namespace triad::cuda {

template <class E>
bool attend_on_hopper(Cuda device, const AttentionInput<E>& p, const Heads<E>& out, float* lse);
template <class E, bool keys>
bool gradients_on_hopper(Cuda device, const AttentionInput<E>& p, const AttentionGradients<E>& to);

}  // namespace triad::cuda
