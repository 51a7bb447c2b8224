#include <triad/nn/heads.h>

#include <charconv>
#include <string_view>

#include <triad/core/format.h>

namespace triad::nn {

// ---------------------------------------------------------------------- head types

namespace {

constexpr HeadType kHeadTypes[] = {HeadType::standard, HeadType::spectral, HeadType::holonomy};
constexpr const char* kHeadNames[] = {"standard", "spectral", "holonomy"};
constexpr int kMaxHeads = 1024;  // of one entry: a mistyped count should not fill the memory

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == text.npos ? std::string_view() : text.substr(first, last - first + 1);
}

HeadType head_type(std::string_view word, std::string_view text) {
  for (HeadType type : kHeadTypes)
    if (word == name(type)) return type;
  throw_error<ValueError>(
      "heads: unknown head type '{}' in '{}'; allowed are standard, spectral, holonomy", word,
      text);
}

}  // namespace

const char* name(HeadType type) { return kHeadNames[int(type)]; }

std::vector<HeadType> heads(const std::string& text) {
  std::vector<HeadType> types;
  std::string_view rest = text;
  for (bool more = true; more;) {
    const auto comma = rest.find(',');
    more = comma != rest.npos;
    const std::string_view entry = rest.substr(0, comma);
    rest = more ? rest.substr(comma + 1) : std::string_view();
    const auto star = entry.find('*');
    int count = 1;
    if (star != entry.npos) {
      const std::string_view digits = trimmed(entry.substr(star + 1));
      const auto [end, error] =
          std::from_chars(digits.data(), digits.data() + digits.size(), count);
      if (error != std::errc() || end != digits.data() + digits.size() || count < 1 ||
          count > kMaxHeads)
        throw_error<ValueError>("heads: needs a count of 1 to {} after '*', got '{}' in '{}'",
                                kMaxHeads, digits, text);
    }
    types.insert(types.end(), std::size_t(count), head_type(trimmed(entry.substr(0, star)), text));
  }
  return types;
}

std::string heads_text(const std::vector<HeadType>& types) {
  std::string text;
  for (std::size_t i = 0; i < types.size();) {
    std::size_t end = i;
    while (end < types.size() && types[end] == types[i]) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", name(types[i]));
    if (end - i > 1) text += fmt::format("*{}", end - i);
    i = end;
  }
  return text;
}

// ---------------------------------------------------------------------- decoding

void check_step(const HeadCache& cache, const Tensor& next) {
  if (next.size(2) != 1) throw_error<ShapeError>("step: needs one token, got {}", next.size(2));
  if (cache.values.defined() && cache.values.size(0) != next.size(0))
    throw_error<ShapeError>("step: the cache holds {} sequences, got {}", cache.values.size(0),
                            next.size(0));
  if (cache.length >= cache.capacity)
    throw_error<ValueError>("step: the cache has room for {} tokens and holds {}", cache.capacity,
                            cache.length);
}

// ---------------------------------------------------------------------- standard

StandardAttention::StandardAttention(const Options& options)
    : causal(options.causal), drop(options.dropout) {}

Tensor StandardAttention::forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Context& context) {
  return scaled_dot_product_attention(q, k, v,
                                      {.causal = causal,
                                       .mask = context.masks.mask,
                                       .token_mask = context.masks.token_mask,
                                       .dropout = training() ? drop.p : 0,
                                       .out = context.out});
}

Tensor StandardAttention::step(const Tensor& q, const Tensor& k, const Tensor& v,
                               HeadCache& cache) {
  if (!causal) throw_error<ValueError>("step: needs causal attention");
  check_step(cache, k);
  NoGradGuard guard;
  if (!cache.keys.defined()) {
    const Shape sizes{k.size(0), k.size(1), cache.capacity, k.size(3)};
    cache.keys = empty(sizes, k.dtype(), k.device());
    cache.values = empty(sizes, k.dtype(), k.device());
  }
  cache.keys.slice(2, cache.length, cache.length + 1).copy_(k);
  cache.values.slice(2, cache.length, cache.length + 1).copy_(v);
  ++cache.length;
  return scaled_dot_product_attention(q, cache.keys.slice(2, 0, cache.length),
                                      cache.values.slice(2, 0, cache.length));
}

// ---------------------------------------------------------------------- holonomy

HolonomyAttention::HolonomyAttention(const Options& options)
    : StandardAttention({.causal = options.causal, .dropout = options.dropout}),
      curvature(parameter(randn({options.n_heads, options.d_head, options.d_head}) * 0.02)) {}

Tensor HolonomyAttention::forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Context& context) {
  return StandardAttention::forward(matmul(q, curvature), k, v, context);
}

Tensor HolonomyAttention::step(const Tensor& q, const Tensor& k, const Tensor& v,
                               HeadCache& cache) {
  return StandardAttention::step(matmul(q, curvature), k, v, cache);
}

void HolonomyAttention::visit(Visitor& visitor) {
  visitor("curvature", curvature);
  StandardAttention::visit(visitor);
}

}  // namespace triad::nn
