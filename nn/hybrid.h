// Heads of several types side by side in one attention layer.
#pragma once

#include <map>
#include <memory>

#include <triad/nn/spectral.h>

namespace triad::nn {

// q, k, v = split(W_qkv x);  each group of heads maps its own (q, k, v);  out = W_o concat, plus x.
//
// Heads lie grouped by type in the order standard, spectral, holonomy, whatever the order of
// head_types. Parameters: W_qkv, W_o,
// attention_modules.spectral.spectral_attn.{W_qkv,W_o,log_gain,phase},
// attention_modules.holonomy.curvature.
class HybridAttentionLayer : public SelfAttention {
 public:
  struct Options {
    std::int64_t d_model = 0;
    std::vector<HeadType> head_types = {};  // heads("standard*4, spectral*2, holonomy*2")
    std::int64_t max_seq_len = 1024;        // control points of spectral filters; T may be anything
    bool causal = false;                    // for every type of head
    bool residual = true;                   // false leaves x out: a pre-norm block adds its own
    bool token_gate = false, use_dct = false;  // of spectral heads
    double dropout = 0;                        // of attention weights and of the output
  };
  explicit HybridAttentionLayer(const Options& options);

  // x [B,T,M]. With spectral heads a mask is an error; token_mask goes with every type.
  Tensor forward(const Tensor& x, const AttentionMasks& masks) override;
  Tensor step(const Tensor& x, LayerCache& cache) override;
  void visit(Visitor& visitor) override;
  std::string type_name() const override { return "HybridAttentionLayer"; }
  std::string options_text() const override;

  const std::vector<HeadType> head_types;  // as given
  const std::int64_t n_heads, d_head;
  const bool causal, residual;
  // Types that occur, in grouped order.
  std::map<HeadType, int> head_type_counts;
  std::map<HeadType, std::unique_ptr<HeadGroup>> attention_modules;
  Linear W_qkv, W_o;
  Dropout drop;

 private:
  struct Group {
    HeadGroup* heads;
    std::int64_t first, count;
    bool keys_and_values;
  };
  struct Projected {
    Tensor q, k, v;  // [B,count,T,D]; k and v undefined where the group does not use them
  };
  std::vector<Projected> project(const Tensor& x);
  Tensor finish(const Tensor& x, const Tensor& mixed);
  AttentionMasks masks_of(const Group& group, const AttentionMasks& masks) const;
  void check_input(const Tensor& x, const AttentionMasks& masks) const;

  std::vector<Group> groups_;
};

}  // namespace triad::nn
