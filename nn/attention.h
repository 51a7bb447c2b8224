// What a transformer block asks of its attention: a module from [B,T,M] to [B,T,M].
#pragma once

#include <triad/nn/heads.h>

namespace triad::nn {

// What a layer remembers of the tokens decoded so far: a cache for each group of heads.
struct LayerCache {
  std::vector<HeadCache> groups = {};
  std::int64_t capacity = 0;  // the most tokens that will be decoded
};

class SelfAttention : public Module {
 public:
  // x [B,T,M]. A mask that the layer cannot honour is an error.
  virtual Tensor forward(const Tensor& x, const AttentionMasks& masks) = 0;
  Tensor operator()(const Tensor& x, const AttentionMasks& masks = {}) { return forward(x, masks); }

  // The result for one more token, x [B,1,M], after those in the cache: equal to the last position
  // of forward() over all of them. Needs a causal layer; records no history.
  virtual Tensor step(const Tensor& x, LayerCache& cache) = 0;
};

}  // namespace triad::nn
