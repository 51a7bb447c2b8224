// Attention: groups of heads of one type, and layers made of them.
#pragma once

#include <array>
#include <map>

#include <triad/nn/layers.h>

namespace triad::nn {

// In the order in which heads lie grouped in a layer.
enum class HeadType { standard, spectral, holonomy };
const char* name(HeadType type);
// "standard*4, spectral*2, holonomy" -> a list of seven. An unknown type or count is a ValueError.
std::vector<HeadType> heads(const std::string& text);
std::string heads_text(const std::vector<HeadType>& types);  // and back

// What one forward pass restricts, beside the layer's own `causal`.
struct AttentionMasks {
  Tensor mask = {};        // bool [T,T], [B,T,T], [B,1,T,T] or [B,H,T,T], true = may attend
  Tensor token_mask = {};  // bool [B,T], true = a real token, false = padding
};

// What a group of heads remembers of the tokens that were decoded so far, to decode the next one.
struct HeadCache {
  Tensor keys = {};    // [B,count,capacity,D], the first `length` filled; spectral heads have none
  Tensor values = {};  // likewise
  Tensor taps = {};    // of a causal spectral filter, the last one first
  std::int64_t length = 0, capacity = 0;

  // Appends the keys (unless undefined) and values [B,count,1,D] of one more token. Without room
  // for it, or if it is not one token of the same sequences, throws and leaves the cache alone.
  void append(const Tensor& key, const Tensor& value);
};

// What a layer remembers of them: a cache for each group of heads.
struct LayerCache {
  std::vector<HeadCache> groups = {};
  std::int64_t capacity = 0;  // the most tokens that will be decoded
};

// What a transformer block asks of its attention: a module from [B,T,M] to [B,T,M].
struct SelfAttention : Module {
  // x [B,T,M]. A mask that the layer cannot honour is an error.
  virtual Tensor forward(const Tensor& x, const AttentionMasks& masks) = 0;
  Tensor operator()(const Tensor& x, const AttentionMasks& masks = {}) { return forward(x, masks); }
  // The result for one more token, x [B,1,M], after those in the cache: equal to the last position
  // of forward() over all of them. Needs a causal layer; records no history.
  virtual Tensor step(const Tensor& x, LayerCache& cache) = 0;
};

// Heads of one type in a HybridAttentionLayer: from q, k, v [B,count,T,D] to the same sizes.
struct HeadGroup : Module {
  struct Context {
    AttentionMasks masks = {};  // of this group
    Tensor out = {};            // a view to write the result to; optional
    Tensor qkv = {};            // [B,T,3,count,D]: q, k and v, where they are all of it; optional
  };
  virtual Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, const Context& c) = 0;
  Tensor operator()(const Tensor& q, const Tensor& k, const Tensor& v,
                    const AttentionMasks& masks = {}) {
    return forward(q, k, v, {.masks = masks});
  }
  // The result for the token after those in the cache: q, k, v [B,count,1,D]. Causal groups only.
  virtual Tensor step(const Tensor& q, const Tensor& k, const Tensor& v, HeadCache& cache) = 0;
  virtual bool uses_keys_and_values() const { return true; }
};

// softmax(q k^T / sqrt(D) + mask) v, with dropout on the weights in training.
struct StandardAttention : HeadGroup {
  struct Options {
    bool causal = false;
    double dropout = 0;
  };
  explicit StandardAttention(const Options& o) : causal(o.causal), drop(o.dropout) {}

  Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, const Context& c) override;
  Tensor step(const Tensor& q, const Tensor& k, const Tensor& v, HeadCache& cache) override {
    if (!causal) throw ValueError("step: needs causal attention");
    NoGradGuard guard;
    cache.append(k, v);
    return scaled_dot_product_attention(q, cache.keys.slice(2, 0, cache.length),
                                        cache.values.slice(2, 0, cache.length));
  }
  void visit(Visitor& visitor) override { visitor("drop", drop); }
  std::string options_text() const override { return causal ? "causal" : ""; }

  bool causal;
  Dropout drop;
};

// Standard attention whose queries are first carried by the head's curvature C [D,D]: q' = q C.
// The projection of q could absorb C: only the path of training differs (attention.md, section 3).
struct HolonomyAttention : StandardAttention {
  struct Options {
    std::int64_t d_head = 0, n_heads = 0;
    bool causal = false;
    double dropout = 0;
  };
  explicit HolonomyAttention(const Options& o)
      : StandardAttention({.causal = o.causal, .dropout = o.dropout}),
        curvature(parameter(randn({o.n_heads, o.d_head, o.d_head}) * 0.02)) {}

  Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, const Context& c) override {
    return StandardAttention::forward(matmul(q, curvature), k, v, c);
  }
  Tensor step(const Tensor& q, const Tensor& k, const Tensor& v, HeadCache& cache) override {
    return StandardAttention::step(matmul(q, curvature), k, v, cache);
  }
  void visit(Visitor& visitor) override { visitor("curvature", curvature, "drop", drop); }

  Tensor curvature;  // [n_heads, d_head, d_head], starts as 0.02 N(0,1)
};

// v = W_v x;  y = irfft(rfft(v over T) exp(log_gain + i phase));  x + dropout(W_o y): tokens mixed
// by a learned filter along time for each head, in O(T log T).
//
// The filter is given by F = max_seq_len / 2 + 1 control points over the frequencies 0..pi and is
// read at whatever T comes. With `causal` it is the minimum-phase filter of that gain, and no
// position hears the future (attention.md, section 2). Parameters: W_qkv.{weight,bias} [3M,M] (only
// the last third acts), W_o.{weight,bias}, log_gain, phase [H,F]; token_gate: alpha.{weight,bias}.
class SpectralAttention : public SelfAttention {
 public:
  struct Options {
    std::int64_t d_model = 0, n_heads = 1;
    std::int64_t max_seq_len = 1024;  // sets F; T may be anything
    bool causal = false;
    bool token_gate = false;  // y += 0.05 tanh(alpha(v)), a scalar for each token and head
    bool use_dct = false;     // orthonormal DCT instead of FFT; goes with neither of the above
    double dropout = 0;
  };
  explicit SpectralAttention(const Options& options);

  Tensor forward(const Tensor& x, const AttentionMasks& masks) override;  // token_mask only
  Tensor step(const Tensor& x, LayerCache& cache) override {
    cache.groups.resize(1, {.capacity = cache.capacity});
    return step(x, cache.groups[0]);
  }
  Tensor step(const Tensor& x, HeadCache& cache);
  void visit(Visitor& visitor) override {
    visitor("W_qkv", W_qkv, "W_o", W_o, "log_gain", log_gain, "phase", phase);
    if (alpha) visitor("alpha", *alpha);
    visitor("drop", drop);
  }
  std::string options_text() const override;

  const std::int64_t n_heads, d_head;
  const bool causal, use_dct;
  Linear W_qkv, W_o;
  Tensor log_gain, phase;
  std::optional<Linear> alpha;
  Dropout drop;

 private:
  Tensor values(const Tensor& x);    // W_v x as [B,T,H,D]
  Tensor filtered(const Tensor& v);  // [B,T,H,D]
  Tensor finish(const Tensor& x, const Tensor& v, Tensor y) {
    if (alpha) y = y + tanh((*alpha)(v)) * 0.05;
    return x + drop(W_o(y.reshape(x.shape())));
  }
};

// A group of spectral heads: SpectralAttention of width count * D on its queries alone.
struct SpectralHeads : HeadGroup {
  using Options = SpectralAttention::Options;
  explicit SpectralHeads(const Options& options) : spectral_attn(options) {}

  Tensor forward(const Tensor& q, const Tensor&, const Tensor&, const Context& c) override {
    Tensor x = q.transpose(1, 2);  // [B,T,H,D]
    return spectral_attn(x.flatten(2), c.masks).reshape(x.shape()).transpose(1, 2);
  }
  Tensor step(const Tensor& q, const Tensor&, const Tensor&, HeadCache& cache) override {
    Tensor x = q.transpose(1, 2);
    return spectral_attn.step(x.flatten(2), cache).reshape(x.shape()).transpose(1, 2);
  }
  bool uses_keys_and_values() const override { return false; }
  void visit(Visitor& visitor) override { visitor("spectral_attn", spectral_attn); }

  SpectralAttention spectral_attn;
};

// q, k, v = split(W_qkv x);  each group of heads maps its own (q, k, v);  out = W_o concat, plus x.
//
// Heads lie grouped in the order of HeadType. Parameters: W_qkv, W_o; below attention_modules also
// holonomy.curvature, spectral.spectral_attn.{W_qkv,W_o,log_gain,phase}.
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
  void visit(Visitor& visitor) override {
    visitor("W_qkv", W_qkv, "W_o", W_o);
    for (auto& [type, heads] : attention_modules)
      visitor(std::string("attention_modules.") + name(type), *heads);
    visitor("drop", drop);
  }
  std::string options_text() const override;

  const std::vector<HeadType> head_types;  // as given
  const std::int64_t n_heads, d_head;
  const bool causal, residual;
  std::map<HeadType, int> head_type_counts;  // of types that occur
  std::map<HeadType, std::unique_ptr<HeadGroup>> attention_modules;
  Linear W_qkv, W_o;
  Dropout drop;

 private:
  struct Group {
    HeadGroup* heads;
    std::int64_t first, count;
    int parts;  // 3, or 1 where q is all it uses
  };
  using QKV = std::array<Tensor, 4>;  // q, k, v [B,count,T,D] where used, and Context::qkv
  std::vector<QKV> project(const Tensor& x);
  Tensor finish(const Tensor& x, const Tensor& mixed) {
    Tensor out = drop(W_o(mixed.reshape(x.shape())));
    return residual ? x + out : out;
  }

  std::vector<Group> groups_;
};

}  // namespace triad::nn
