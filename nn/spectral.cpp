#include <triad/nn/spectral.h>

#include <cmath>

#include <triad/core/format.h>

namespace triad::nn {
namespace {

// The initial log-gain: a gentle low-pass slope, smoothed by a 5-tap kernel with reflected ends.
Tensor smooth_low_pass(std::int64_t bins) {
  auto slope = [&](std::int64_t k) {
    const std::int64_t last = bins - 1;
    k = std::abs(k);
    if (k > last) k = 2 * last - k;
    const double f = last > 0 ? double(k) / double(last) : 0;
    return 0.05 - 0.25 * std::pow(f, 1.2);
  };
  constexpr double kernel[5] = {0.05, 0.2, 0.5, 0.2, 0.05};
  std::vector<float> values;
  for (std::int64_t k = 0; k < bins; ++k) {
    double value = bins > 5 ? 0 : slope(k);
    for (int j = 0; bins > 5 && j < 5; ++j) value += kernel[j] * slope(k + j - 2);
    values.push_back(float(value));
  }
  return from_vector(values);
}

SpectralAttention::Options checked(const SpectralAttention::Options& o) {
  if (o.n_heads < 1 || o.d_model < 1 || o.d_model % o.n_heads != 0)
    throw_error<ValueError>(
        "SpectralAttention: needs a d_model that n_heads divides, got {} and {}", o.d_model,
        o.n_heads);
  if (o.max_seq_len < 1)
    throw_error<ValueError>("SpectralAttention: needs a max_seq_len of at least 1, got {}",
                            o.max_seq_len);
  if (o.use_dct && (o.causal || o.token_gate))
    throw ValueError("SpectralAttention: use_dct goes with neither causal nor token_gate");
  return o;
}

}  // namespace

SpectralAttention::SpectralAttention(const Options& options)
    : n_heads(checked(options).n_heads), d_head(options.d_model / options.n_heads),
      causal(options.causal), use_dct(options.use_dct), W_qkv(options.d_model, 3 * options.d_model),
      W_o(options.d_model, options.d_model), drop(options.dropout) {
  const std::int64_t points = options.max_seq_len / 2 + 1;
  log_gain = parameter(smooth_low_pass(points) + randn({n_heads, 1}) * 0.01);
  phase = parameter(randn({n_heads, points}) * 0.01);
  if (options.token_gate) {
    alpha.emplace(d_head, 1);
    NoGradGuard guard;
    alpha->weight.fill_(0);
    alpha->bias.fill_(0.01);
  }
}

Tensor SpectralAttention::values(const Tensor& x) {
  const std::int64_t M = n_heads * d_head;
  if (x.dim() != 3 || x.size(2) != M || x.numel() == 0)
    throw_error<ShapeError>("SpectralAttention: needs x [B,T,{}] with B and T at least 1, got {}",
                            M, x.shape());
  return W_qkv.forward_rows(x, 2 * M, 3 * M).reshape({x.size(0), x.size(1), n_heads, d_head});
}

Tensor SpectralAttention::filtered(const Tensor& v) {
  const std::int64_t T = v.size(1);
  if (causal) return causal_convolution(v, causal_taps(log_gain, phase));
  if (use_dct) {
    Tensor gain = exp(at_bins(log_gain, T)).transpose(0, 1).reshape({1, T, n_heads, 1});
    return idct(dct(v, 1) * gain, 1);
  }
  return spectral_filter(v, at_bins(log_gain, T / 2 + 1), at_bins(phase, T / 2 + 1));
}

Tensor SpectralAttention::finish(const Tensor& x, const Tensor& v, Tensor y) {
  if (alpha) y = y + tanh((*alpha)(v)) * 0.05;
  return x + drop(W_o(y.reshape(x.shape())));
}

Tensor SpectralAttention::forward(const Tensor& x, const AttentionMasks& masks) {
  if (masks.mask.defined())
    throw ValueError(
        "SpectralAttention: honours no mask [T,T]; use the option causal, or a token_mask");
  Tensor v = values(x);
  if (masks.token_mask.defined()) {
    if (masks.token_mask.shape() != Shape{x.size(0), x.size(1)})
      throw_error<ShapeError>("SpectralAttention: needs a token_mask [{},{}], got {}", x.size(0),
                              x.size(1), masks.token_mask.shape());
    v = masked_fill(v, logical_not(masks.token_mask).reshape({x.size(0), x.size(1), 1, 1}), 0);
  }
  return finish(x, v, filtered(v));
}

Tensor SpectralAttention::step(const Tensor& x, LayerCache& cache) {
  cache.groups.resize(1, {.capacity = cache.capacity});
  return step(x, cache.groups[0]);
}

// The convolution at its newest position: one dot product with the taps, for each channel.
Tensor SpectralAttention::step(const Tensor& x, HeadCache& cache) {
  if (!causal) throw ValueError("step: needs causal attention");
  NoGradGuard guard;
  Tensor v = values(x);
  check_step(cache, v.transpose(1, 2));
  if (!cache.values.defined()) {
    cache.values = empty({x.size(0), n_heads, cache.capacity, d_head}, x.dtype(), x.device());
    cache.taps = flip(causal_taps(log_gain, phase), 1);  // the newest token meets the first tap
  }
  cache.values.slice(2, cache.length, cache.length + 1).copy_(v.transpose(1, 2));
  ++cache.length;
  const std::int64_t K = cache.taps.size(1), heard = std::min(K, cache.length);
  Tensor past = cache.values.slice(2, cache.length - heard, cache.length);
  Tensor y =
      matmul(cache.taps.slice(1, K - heard).unsqueeze(1), past);  // [H,1,n] [B,H,n,D] -> [B,H,1,D]
  return finish(x, v, y.transpose(1, 2));
}

void SpectralAttention::visit(Visitor& visitor) {
  visitor("W_qkv", W_qkv);
  visitor("W_o", W_o);
  visitor("log_gain", log_gain);
  visitor("phase", phase);
  if (alpha) visitor("alpha", *alpha);
  visitor("drop", drop);
}

std::string SpectralAttention::options_text() const {
  return fmt::format("{} heads of {}, {} control points{}{}{}", n_heads, d_head, log_gain.size(1),
                     causal ? ", causal" : "", use_dct ? ", dct" : "", alpha ? ", token gate" : "");
}

// ---------------------------------------------------------------------- as a group of heads

namespace {

Tensor side_by_side(const Tensor& heads) {  // [B,H,T,D] -> [B,T,H*D]
  return heads.transpose(1, 2).reshape(
      {heads.size(0), heads.size(2), heads.size(1) * heads.size(3)});
}

Tensor apart(const Tensor& x, const Tensor& like) {  // and back
  return x.reshape({like.size(0), like.size(2), like.size(1), like.size(3)}).transpose(1, 2);
}

}  // namespace

Tensor SpectralHeads::forward(const Tensor& q, const Tensor&, const Tensor&,
                              const Context& context) {
  return apart(spectral_attn(side_by_side(q), context.masks), q);
}

Tensor SpectralHeads::step(const Tensor& q, const Tensor&, const Tensor&, HeadCache& cache) {
  return apart(spectral_attn.step(side_by_side(q), cache), q);
}

}  // namespace triad::nn
