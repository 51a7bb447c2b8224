// Groups of attention heads of one type, as a HybridAttentionLayer holds them side by side.
//
// A group maps its heads' queries, keys and values, q, k, v [B,count,T,D], to [B,count,T,D].
#pragma once

#include <string>
#include <vector>

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
};

// Throws, before anything is written, unless `next` [B,count,1,D] is one more token for which the
// cache has room.
void check_step(const HeadCache& cache, const Tensor& next);

class HeadGroup : public Module {
 public:
  // What some heads need beside q, k and v: the masks of this group, where to write the result (a
  // view [B,count,T,D]; optional).
  struct Context {
    AttentionMasks masks = {};
    Tensor out = {};
  };
  virtual Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v,
                         const Context& context) = 0;
  Tensor operator()(const Tensor& q, const Tensor& k, const Tensor& v,
                    const AttentionMasks& masks = {}) {
    return forward(q, k, v, {.masks = masks});
  }
  // The result for the token after those in the cache: q, k, v [B,count,1,D]. Causal groups only.
  virtual Tensor step(const Tensor& q, const Tensor& k, const Tensor& v, HeadCache& cache) = 0;
  virtual bool uses_keys_and_values() const { return true; }
};

// softmax(q k^T / sqrt(D) + mask) v, with dropout on the weights in training.
class StandardAttention : public HeadGroup {
 public:
  struct Options {
    bool causal = false;
    double dropout = 0;
  };
  explicit StandardAttention(const Options& options);

  Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v,
                 const Context& context) override;
  Tensor step(const Tensor& q, const Tensor& k, const Tensor& v, HeadCache& cache) override;
  void visit(Visitor& visitor) override { visitor("drop", drop); }
  std::string type_name() const override { return "StandardAttention"; }
  std::string options_text() const override { return causal ? "causal" : ""; }

  bool causal;
  Dropout drop;
};

// Standard attention whose queries are first carried by the head's curvature: q' = q C, C
// [count,D,D].
//
// C could be absorbed into the projection that makes q, so its function class is that of a standard
// head; what differs is the path that training takes. (attention.md, section 3)
class HolonomyAttention : public StandardAttention {
 public:
  struct Options {
    std::int64_t d_head = 0, n_heads = 0;
    bool causal = false;
    double dropout = 0;
  };
  explicit HolonomyAttention(const Options& options);

  Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v,
                 const Context& context) override;
  Tensor step(const Tensor& q, const Tensor& k, const Tensor& v, HeadCache& cache) override;
  void visit(Visitor& visitor) override;
  std::string type_name() const override { return "HolonomyAttention"; }

  Tensor curvature;  // [n_heads, d_head, d_head], starts as 0.02 N(0,1)
};

}  // namespace triad::nn
