#include <triad/nn/attention.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include <triad/core/format.h>

namespace triad::nn {

constexpr const char* kHeadNames[] = {"standard", "spectral", "holonomy"};
constexpr int kMaxHeads = 1024;  // of one entry: a mistyped count should not fill the memory

static std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == text.npos ? std::string_view() : text.substr(first, last - first + 1);
}

// Heads, of which there are `n`, share the width M equally.
static std::int64_t head_size(const char* layer, std::int64_t M, const char* what, std::int64_t n) {
  if (n < 1 || M < 1 || M % n != 0)
    throw_error<ValueError>("{}: needs a d_model that {} divides, got {} and {}", layer, what, M,
                            n);
  return M / n;
}

static void check_input(const char* layer, const Tensor& x, std::int64_t M) {
  if (x.dim() != 3 || x.size(2) != M || x.numel() == 0)
    throw_error<ShapeError>("{}: needs x [B,T,{}] with B and T at least 1, got {}", layer, M,
                            x.shape());
}

// The initial log-gain: a gentle low-pass slope, smoothed by a 5-tap kernel with reflected ends.
static Tensor smooth_low_pass(std::int64_t bins) {
  auto slope = [last = bins - 1](std::int64_t k) {
    k = std::min(std::abs(k), 2 * last - std::abs(k));
    return 0.05 - 0.25 * std::pow(double(k) / double(std::max<std::int64_t>(last, 1)), 1.2);
  };
  constexpr double kernel[5] = {0.05, 0.2, 0.5, 0.2, 0.05};
  std::vector<float> values;
  for (std::int64_t k = 0; k < bins; ++k) {
    double smooth = 0;
    for (int j = 0; j < 5; ++j) smooth += kernel[j] * slope(k + j - 2);
    values.push_back(float(bins > 5 ? smooth : slope(k)));
  }
  return from_vector(values);
}

static std::unique_ptr<HeadGroup> make_heads(HeadType type, std::int64_t count, std::int64_t d_head,
                                             const HybridAttentionLayer::Options& o) {
  switch (type) {
    case HeadType::standard:
      return std::make_unique<StandardAttention>(StandardAttention::Options{o.causal, o.dropout});
    case HeadType::spectral:
      return std::make_unique<SpectralHeads>(SpectralHeads::Options{
          count * d_head, count, o.max_seq_len, o.causal, o.token_gate, o.use_dct, o.dropout});
    case HeadType::holonomy:
      return std::make_unique<HolonomyAttention>(
          HolonomyAttention::Options{d_head, count, o.causal, o.dropout});
  }
  throw_error<ValueError>("HybridAttentionLayer: unknown head type {}; allowed are {}", int(type),
                          fmt::join(kHeadNames, ", "));
}

// ---------------------------------------------------------------------- types of heads

const char* name(HeadType type) { return kHeadNames[int(type)]; }

std::vector<HeadType> heads(const std::string& text) {
  std::vector<HeadType> types;
  for (std::size_t begin = 0, end = 0; end != text.npos; begin = end + 1) {
    end = text.find(',', begin);
    const std::string_view entry = std::string_view(text).substr(begin, end - begin);
    const auto star = entry.find('*');
    const auto word = trimmed(entry.substr(0, star));
    const auto digits = star == entry.npos ? "1" : trimmed(entry.substr(star + 1));
    int count = 0;
    const auto [last, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
    if (error != std::errc() || last != digits.end() || count < 1 || count > kMaxHeads)
      throw_error<ValueError>("heads: needs a count of 1 to {} after '*', got '{}' in '{}'",
                              kMaxHeads, digits, text);
    const auto type = std::ranges::find(kHeadNames, word) - kHeadNames;
    if (type == std::ssize(kHeadNames))
      throw_error<ValueError>("heads: unknown head type '{}' in '{}'; allowed are {}", word, text,
                              fmt::join(kHeadNames, ", "));
    types.insert(types.end(), std::size_t(count), HeadType(type));
  }
  return types;
}

std::string heads_text(const std::vector<HeadType>& types) {
  std::string text;
  for (std::size_t i = 0, end = 0; i < types.size(); i = end) {
    while (end < types.size() && types[end] == types[i]) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", name(types[i]));
    if (end - i > 1) text += fmt::format("*{}", end - i);
  }
  return text;
}

// ---------------------------------------------------------------------- decoding

void HeadCache::append(const Tensor& key, const Tensor& value) {
  const Tensor& next = key.defined() ? key : value;
  if (next.size(2) != 1) throw_error<ShapeError>("step: needs one token, got {}", next.size(2));
  if (values.defined() && values.size(0) != next.size(0))
    throw_error<ShapeError>("step: the cache holds {} sequences, got {}", values.size(0),
                            next.size(0));
  if (length >= capacity)
    throw_error<ValueError>("step: the cache has room for {} tokens and holds {}", capacity,
                            length);
  const Shape sizes{next.size(0), next.size(1), capacity, next.size(3)};
  auto write = [&](Tensor& kept, const Tensor& token) {
    if (!kept.defined()) kept = empty(sizes, next.dtype(), next.device(), "step");
    kept.slice(2, length, length + 1).copy_(token);
  };
  if (key.defined()) write(keys, key);
  write(values, value);
  ++length;
}

// ---------------------------------------------------------------------- standard

Tensor StandardAttention::forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Context& c) {
  const Range range([&] { return type_name(); });
  return scaled_dot_product_attention(q, k, v,
                                      {.attn_mask = c.masks.mask,
                                       .dropout_p = training() ? drop.p : 0,
                                       .is_causal = causal,
                                       .token_mask = c.masks.token_mask,
                                       .qkv = c.qkv,
                                       .out = c.out});
}

// ---------------------------------------------------------------------- spectral

SpectralAttention::SpectralAttention(const Options& o)
    : n_heads(o.n_heads), d_head(head_size("SpectralAttention", o.d_model, "n_heads", n_heads)),
      causal(o.causal), use_dct(o.use_dct), W_qkv(o.d_model, 3 * o.d_model),
      W_o(o.d_model, o.d_model), drop(o.dropout) {
  if (o.max_seq_len < 1)
    throw_error<ValueError>("SpectralAttention: needs a max_seq_len of at least 1, got {}",
                            o.max_seq_len);
  if (use_dct && (causal || o.token_gate))
    throw ValueError("SpectralAttention: use_dct goes with neither causal nor token_gate");
  const std::int64_t points = o.max_seq_len / 2 + 1;
  log_gain = parameter(smooth_low_pass(points) + randn({n_heads, 1}) * 0.01);
  phase = parameter(randn({n_heads, points}) * 0.01);
  if (o.token_gate) {
    alpha.emplace(d_head, 1);
    NoGradGuard guard;
    alpha->weight.fill_(0);
    alpha->bias.fill_(0.01);
  }
}

Tensor SpectralAttention::values(const Tensor& x) {
  const std::int64_t M = n_heads * d_head;
  check_input("SpectralAttention", x, M);
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

Tensor SpectralAttention::forward(const Tensor& x, const AttentionMasks& masks) {
  const Range range([&] { return type_name(); });
  if (masks.mask.defined())
    throw ValueError(
        "SpectralAttention: honours no mask [T,T]; use the option causal, or a token_mask");
  Tensor v = values(x);
  if (const Tensor& real = masks.token_mask; real.defined()) {
    if (real.shape() != Shape{x.size(0), x.size(1)})
      throw_error<ShapeError>("SpectralAttention: needs a token_mask [{},{}], got {}", x.size(0),
                              x.size(1), real.shape());
    v = masked_fill(v, logical_not(real).reshape({x.size(0), x.size(1), 1, 1}), 0);
  }
  return finish(x, v, filtered(v));
}

// The convolution at its newest position: one dot product with the taps, for each channel.
Tensor SpectralAttention::step(const Tensor& x, HeadCache& cache) {
  if (!causal) throw ValueError("step: needs causal attention");
  NoGradGuard guard;
  Tensor v = values(x);
  cache.append({}, v.transpose(1, 2));
  // Turned round, so that the newest token meets the first tap.
  if (!cache.taps.defined()) cache.taps = flip(causal_taps(log_gain, phase), 1);
  const std::int64_t K = cache.taps.size(1), heard = std::min(K, cache.length);
  Tensor past = cache.values.slice(2, cache.length - heard, cache.length);
  Tensor taps = cache.taps.slice(1, K - heard).unsqueeze(1);
  return finish(x, v, matmul(taps, past).transpose(1, 2));  // [H,1,n] [B,H,n,D] -> [B,H,1,D]
}

std::string SpectralAttention::options_text() const {
  return fmt::format("{} heads of {}, {} control points{}{}{}", n_heads, d_head, log_gain.size(1),
                     causal ? ", causal" : "", use_dct ? ", dct" : "", alpha ? ", token gate" : "");
}

// ---------------------------------------------------------------------- heads of several types

HybridAttentionLayer::HybridAttentionLayer(const Options& o)
    : head_types(o.head_types), n_heads(std::ssize(head_types)),
      d_head(head_size("HybridAttentionLayer", o.d_model, "the number of heads", n_heads)),
      causal(o.causal), residual(o.residual), W_qkv(o.d_model, 3 * o.d_model),
      W_o(o.d_model, o.d_model), drop(o.dropout) {
  for (HeadType type : head_types) ++head_type_counts[type];
  std::int64_t first = 0;
  for (const auto& [type, count] : head_type_counts) {
    auto& heads = attention_modules[type] = make_heads(type, count, d_head, o);
    groups_.push_back({heads.get(), first, count, heads->uses_keys_and_values() ? 3 : 1});
    first += count;
  }
}

// The rows of W_qkv are [q,k,v][head][channel]. Those that some group uses come as few stretches:
// one product each, of which every group takes its heads.
std::vector<HybridAttentionLayer::QKV> HybridAttentionLayer::project(const Tensor& x) {
  struct Stretch {
    std::int64_t begin, end;
    Tensor y = {};
  };
  std::vector<Stretch> stretches;
  auto first_row = [&](auto& group, auto part) { return (part * n_heads + group.first) * d_head; };
  for (std::int64_t part = 0; part < 3; ++part)
    for (const Group& group : groups_) {
      if (part >= group.parts) continue;
      const std::int64_t begin = first_row(group, part);
      if (stretches.empty() || stretches.back().end != begin) stretches.push_back({begin, begin});
      stretches.back().end += group.count * d_head;
    }
  for (Stretch& s : stretches) s.y = W_qkv.forward_rows(x, s.begin, s.end);

  auto heads = [&](const Group& group, std::int64_t part) {
    const std::int64_t begin = first_row(group, part);
    const auto s = std::ranges::find_if(stretches, [&](auto& s) { return begin < s.end; });
    const std::int64_t first = begin - s->begin, end = first + group.count * d_head;
    const Shape sizes{x.size(0), x.size(1), group.count, d_head};
    return window("heads", s->y, [=](const Layout& y) {
      return transposed(*reshaped(sliced(y, 2, first, end, 1), sizes), 1, 2);
    });
  };
  std::vector<QKV> inputs(groups_.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    for (int part = 0; part < groups_[i].parts; ++part) inputs[i][part] = heads(groups_[i], part);
  if (groups_.size() == 1 && groups_[0].parts == 3)
    inputs[0][3] = stretches[0].y.reshape({x.size(0), x.size(1), 3, n_heads, d_head});
  return inputs;
}

Tensor HybridAttentionLayer::forward(const Tensor& x, const AttentionMasks& masks) {
  const Range range([&] { return type_name(); });
  check_input("HybridAttentionLayer", x, n_heads * d_head);
  const Tensor& mask = masks.mask;
  const std::int64_t mask_heads = mask.defined() && mask.dim() == 4 ? mask.size(1) : 1;
  if (mask_heads != 1 && mask_heads != n_heads)
    throw_error<ShapeError>("HybridAttentionLayer: needs a mask for 1 or {} heads, got {}", n_heads,
                            mask.shape());
  const std::vector<QKV> inputs = project(x);
  // Groups write side by side into one buffer where they can; cat copies what is not in its place.
  const Shape sizes{x.size(0), x.size(1), n_heads, d_head};
  Tensor buffer = empty(sizes, inputs[0][0].dtype(), x.device(), "HybridAttentionLayer");
  Tensors outputs;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const auto& [heads, first, count, parts] = groups_[i];
    const auto& [q, k, v, qkv] = inputs[i];
    Tensor place = buffer.slice(2, first, first + count).transpose(1, 2);
    AttentionMasks own = masks;
    if (mask_heads > 1) own.mask = mask.slice(1, first, first + count);
    outputs.push_back(heads->forward(q, k, v, {own, place, qkv}).transpose(1, 2));
  }
  return finish(x, outputs.size() == 1 ? outputs[0] : cat(outputs, 2, buffer));
}

Tensor HybridAttentionLayer::step(const Tensor& x, LayerCache& cache) {
  check_input("HybridAttentionLayer", x, n_heads * d_head);
  NoGradGuard guard;
  cache.groups.resize(groups_.size(), {.capacity = cache.capacity});
  const std::vector<QKV> inputs = project(x);
  Tensors outputs;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const auto& [q, k, v, qkv] = inputs[i];
    outputs.push_back(groups_[i].heads->step(q, k, v, cache.groups[i]).transpose(1, 2));
  }
  return finish(x, cat(outputs, 2));
}

std::string HybridAttentionLayer::options_text() const {
  return fmt::format("{} heads of {}: {}{}", n_heads, d_head, heads_text(head_types),
                     causal ? ", causal" : "");
}

}  // namespace triad::nn
