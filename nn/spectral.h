// Spectral attention: tokens are mixed by a learned filter along time, in O(T log T).
#pragma once

#include <optional>

#include <triad/nn/attention.h>

namespace triad::nn {

// v = W_v x;  y = irfft(rfft(v over T) exp(log_gain + i phase)), one filter a head;  x +
// dropout(W_o y).
//
// The filter is given by F = max_seq_len / 2 + 1 control points over the frequencies 0..pi and is
// read at whatever T comes. With `causal` it is the minimum-phase filter of that gain, and no
// position hears the future (attention.md, section 2). Parameters: W_qkv.{weight,bias} [3M,M] (only
// the last third takes part), W_o.{weight,bias}, log_gain and phase [H,F], with token_gate
// alpha.{weight,bias}.
class SpectralAttention : public SelfAttention {
 public:
  struct Options {
    std::int64_t d_model = 0, n_heads = 1;
    std::int64_t max_seq_len = 1024;  // sets F; T may be anything
    bool causal = false;
    bool token_gate = false;  // y += 0.05 tanh(alpha(v)), a scalar for each token and head
    bool use_dct =
        false;  // the orthonormal DCT in the place of the FFT; goes with neither of the above
    double dropout = 0;
  };
  explicit SpectralAttention(const Options& options);

  Tensor forward(const Tensor& x, const AttentionMasks& masks) override;  // token_mask only
  Tensor step(const Tensor& x, LayerCache& cache) override;
  Tensor step(const Tensor& x, HeadCache& cache);
  void visit(Visitor& visitor) override;
  std::string type_name() const override { return "SpectralAttention"; }
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
  Tensor finish(const Tensor& x, const Tensor& v, Tensor y);
};

// A group of spectral heads: SpectralAttention of width count * D on the group's queries. Keys and
// values are not used.
class SpectralHeads : public HeadGroup {
 public:
  explicit SpectralHeads(const SpectralAttention::Options& options) : spectral_attn(options) {}

  Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v,
                 const Context& context) override;
  Tensor step(const Tensor& q, const Tensor& k, const Tensor& v, HeadCache& cache) override;
  bool uses_keys_and_values() const override { return false; }
  void visit(Visitor& visitor) override { visitor("spectral_attn", spectral_attn); }
  std::string type_name() const override { return "SpectralHeads"; }

  SpectralAttention spectral_attn;
};

}  // namespace triad::nn
