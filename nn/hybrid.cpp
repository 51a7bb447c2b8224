#include <triad/nn/hybrid.h>

#include <triad/core/format.h>

namespace triad::nn {
namespace {

std::int64_t checked_head_size(const HybridAttentionLayer::Options& o) {
  if (o.head_types.empty())
    throw ValueError(
        "HybridAttentionLayer: needs at least one head; allowed are standard, spectral, holonomy");
  const std::int64_t n = std::int64_t(o.head_types.size());
  if (o.d_model < 1 || o.d_model % n != 0)
    throw_error<ValueError>(
        "HybridAttentionLayer: needs a d_model that the number of heads divides, got {} and {}",
        o.d_model, n);
  return o.d_model / n;
}

std::unique_ptr<HeadGroup> make_heads(HeadType type, std::int64_t count, std::int64_t d_head,
                                      const HybridAttentionLayer::Options& o) {
  switch (type) {
    case HeadType::standard:
      return std::make_unique<StandardAttention>(
          StandardAttention::Options{.causal = o.causal, .dropout = o.dropout});
    case HeadType::spectral:
      return std::make_unique<SpectralHeads>(
          SpectralAttention::Options{.d_model = count * d_head,
                                     .n_heads = count,
                                     .max_seq_len = o.max_seq_len,
                                     .causal = o.causal,
                                     .token_gate = o.token_gate,
                                     .use_dct = o.use_dct,
                                     .dropout = o.dropout});
    case HeadType::holonomy:
      return std::make_unique<HolonomyAttention>(HolonomyAttention::Options{
          .d_head = d_head, .n_heads = count, .causal = o.causal, .dropout = o.dropout});
  }
  throw_error<ValueError>(
      "HybridAttentionLayer: unknown head type {}; allowed are standard, spectral, holonomy",
      int(type));
}

}  // namespace

HybridAttentionLayer::HybridAttentionLayer(const Options& options)
    : head_types(options.head_types), n_heads(std::int64_t(options.head_types.size())),
      d_head(checked_head_size(options)), causal(options.causal), residual(options.residual),
      W_qkv(options.d_model, 3 * options.d_model), W_o(options.d_model, options.d_model),
      drop(options.dropout) {
  for (HeadType type : head_types) ++head_type_counts[type];
  std::int64_t first = 0;
  for (const auto& [type, count] : head_type_counts) {
    auto& heads = attention_modules[type] = make_heads(type, count, d_head, options);
    groups_.push_back({heads.get(), first, count, heads->uses_keys_and_values()});
    first += count;
  }
}

void HybridAttentionLayer::check_input(const Tensor& x, const AttentionMasks& masks) const {
  if (x.dim() != 3 || x.size(2) != n_heads * d_head || x.numel() == 0)
    throw_error<ShapeError>(
        "HybridAttentionLayer: needs x [B,T,{}] with B and T at least 1, got {}", n_heads * d_head,
        x.shape());
  if (masks.mask.defined()) {
    if (attention_modules.contains(HeadType::spectral))
      throw ValueError(
          "HybridAttentionLayer: spectral heads honour no mask [T,T]; use the option causal, or a "
          "token_mask");
    if (masks.mask.dim() == 4 && masks.mask.size(1) != 1 && masks.mask.size(1) != n_heads)
      throw_error<ShapeError>("HybridAttentionLayer: needs a mask for 1 or {} heads, got {}",
                              n_heads, masks.mask.shape());
  }
}

AttentionMasks HybridAttentionLayer::masks_of(const Group& group,
                                              const AttentionMasks& masks) const {
  AttentionMasks own = masks;
  if (own.mask.defined() && own.mask.dim() == 4 && own.mask.size(1) == n_heads)
    own.mask = own.mask.slice(1, group.first, group.first + group.count);
  return own;
}

// The rows of W_qkv are [q,k,v][head][channel]. Those that some group uses come as few stretches:
// one product each, of which every group takes its heads.
std::vector<HybridAttentionLayer::Projected> HybridAttentionLayer::project(const Tensor& x) {
  struct Stretch {
    std::int64_t begin, end;
    Tensor y;
  };
  const std::int64_t M = n_heads * d_head;
  std::vector<Stretch> stretches;
  for (std::int64_t part = 0; part < 3; ++part)
    for (const Group& group : groups_) {
      if (part > 0 && !group.keys_and_values) continue;
      const std::int64_t begin = part * M + group.first * d_head,
                         end = begin + group.count * d_head;
      if (!stretches.empty() && stretches.back().end == begin) stretches.back().end = end;
      else stretches.push_back({begin, end, {}});
    }
  for (Stretch& s : stretches) s.y = W_qkv.forward_rows(x, s.begin, s.end);

  auto heads = [&](const Group& group, std::int64_t part) {
    const std::int64_t begin = part * M + group.first * d_head;
    for (const Stretch& s : stretches) {
      if (begin < s.begin || begin >= s.end) continue;
      const Shape sizes{x.size(0), x.size(1), group.count, d_head};
      return window("heads", s.y,
                    [at = begin - s.begin, sizes, width = group.count * d_head](const Layout& y) {
                      return transposed(*reshaped(sliced(y, 2, at, at + width, 1), sizes), 1, 2);
                    });
    }
    return Tensor();
  };
  std::vector<Projected> projected;
  for (const Group& group : groups_) {
    projected.push_back({.q = heads(group, 0), .k = {}, .v = {}});
    if (group.keys_and_values)
      projected.back().k = heads(group, 1), projected.back().v = heads(group, 2);
  }
  return projected;
}

Tensor HybridAttentionLayer::finish(const Tensor& x, const Tensor& mixed) {
  Tensor out = drop(W_o(mixed.reshape(x.shape())));
  return residual ? x + out : out;
}

Tensor HybridAttentionLayer::forward(const Tensor& x, const AttentionMasks& masks) {
  check_input(x, masks);
  const std::vector<Projected> inputs = project(x);
  // Groups write side by side into one buffer where they can; cat copies what is not in its place.
  Tensor buffer = empty({x.size(0), x.size(1), n_heads, d_head}, x.dtype(), x.device());
  Tensors outputs;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const Group& group = groups_[i];
    Tensor place = buffer.slice(2, group.first, group.first + group.count).transpose(1, 2);
    const auto& [q, k, v] = inputs[i];
    outputs.push_back(group.heads->forward(q, k, v, {.masks = masks_of(group, masks), .out = place})
                          .transpose(1, 2));
  }
  return finish(x, outputs.size() == 1 ? outputs[0] : cat(outputs, 2, buffer));
}

Tensor HybridAttentionLayer::step(const Tensor& x, LayerCache& cache) {
  check_input(x, {});
  if (!causal) throw ValueError("step: needs a causal layer");
  NoGradGuard guard;
  cache.groups.resize(groups_.size(), {.capacity = cache.capacity});
  const std::vector<Projected> inputs = project(x);
  Tensors outputs;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const auto& [q, k, v] = inputs[i];
    outputs.push_back(groups_[i].heads->step(q, k, v, cache.groups[i]).transpose(1, 2));
  }
  return finish(x, cat(outputs, 2));
}

void HybridAttentionLayer::visit(Visitor& visitor) {
  visitor("W_qkv", W_qkv);
  visitor("W_o", W_o);
  for (auto& [type, heads] : attention_modules)
    visitor(std::string("attention_modules.") + name(type), *heads);
  visitor("drop", drop);
}

std::string HybridAttentionLayer::options_text() const {
  return fmt::format("{} heads of {}: {}{}", n_heads, d_head, heads_text(head_types),
                     causal ? ", causal" : "");
}

}  // namespace triad::nn
