// The contract between ops and backends: what kernels are given, and the list of them, per device.
#pragma once

#include <cstdint>

#include <triad/backends/math.h>
#include <triad/core/random.h>
#include <triad/core/tensor.h>

namespace triad::kernels {

using math::Unary, math::Binary;  // listed, with their formulas, in backends/math.h

// What a query may attend to, all combined by "and", and how its weights are scaled and dropped.
struct AttentionArgs {
  double scale = 1;     // of q k^T, before the softmax
  bool causal = false;  // s <= t + S - T: the last query sees every key
  Tensor mask;          // bool, expanded to [B,H,T,S] (stride 0 repeats); undefined: none
  Tensor token_mask;    // bool [B,S], true = a real token; undefined: none
  double dropout = 0;   // of the weights: element ((b H + h) T + t) S + s of `random` decides
  RandomStream random;
};

struct AdamArgs {
  double lr, beta1, beta2, eps;
  double weight_decay;  // AdamW: p -= lr * weight_decay * p
  double l2;            // Adam: gradient += l2 * p
  std::int64_t step;    // of this update, from 1
};
struct AdamUpdate {
  AdamArgs args;
  Tensor gradient, p, m, v;  // m, v: running means of the gradient and of its square
};

#define TRIAD_TAG Cpu
#include <triad/backends/kernel_list.h>
#undef TRIAD_TAG
#ifdef TRIAD_CUDA
#define TRIAD_TAG Cuda
#include <triad/backends/kernel_list.h>
#undef TRIAD_TAG
#endif

}  // namespace triad::kernels
