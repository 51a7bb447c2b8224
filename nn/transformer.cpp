#include <triad/nn/transformer.h>

#include <triad/core/format.h>
#include <triad/core/random.h>

namespace triad::nn {

static std::unique_ptr<SelfAttention> without_residual(HybridAttentionLayer::Options options) {
  options.residual = false;
  return std::make_unique<HybridAttentionLayer>(options);
}

static const TransformerOptions& checked(const char* model, const TransformerOptions& o,
                                         std::int64_t classes) {
  const char* names[] = {"vocab_size", "d_model", "layers", "max_seq_len", "classes"};
  const std::int64_t sizes[] = {o.vocab_size, o.d_model, o.layers, o.max_seq_len, classes};
  for (int i = 0; i < 5; ++i)
    if (sizes[i] < 1)
      throw_error<ValueError>("{}: needs {} >= 1, got {}", model, names[i], sizes[i]);
  return o;
}

// [B,T]: rows that agree with the first one before their cut and differ from it everywhere after.
static Tensor ids_with_other_futures(const std::vector<std::int64_t>& cuts, std::int64_t vocab_size,
                                     std::int64_t T) {
  std::vector<std::int64_t> ids;
  for (std::int64_t cut : cuts)
    for (std::int64_t t = 0; t < T; ++t) {
      const Philox4 bits = philox(0, 0, std::uint64_t(t));
      const std::int64_t shift = t < cut ? 0 : 1 + bits.lane[1] % (vocab_size - 1);
      ids.push_back((bits.lane[0] % vocab_size + shift) % vocab_size);
    }
  return from_vector(ids, {std::int64_t(cuts.size()), T});
}

TransformerBlock::TransformerBlock(const Options& o)
    : TransformerBlock(o.d_model, without_residual(o), o.dropout) {
  norm1.narrow = true;  // a product comes next
}
TransformerBlock::TransformerBlock(std::int64_t d_model, std::unique_ptr<SelfAttention> attn,
                                   double dropout)
    : norm1(d_model), norm2(d_model), attn(std::move(attn)), mlp(d_model, dropout) {
  norm2.narrow = true;
  if (!this->attn) throw ValueError("TransformerBlock: needs an attention, got none");
}

Transformer::Transformer(const char* model, const Options& o, bool causal,
                         const Linear::Options& head)
    : options(checked(model, o, head.out_features)), tok(o.vocab_size, o.d_model),
      pos(o.max_seq_len, o.d_model), drop(o.dropout), norm(o.d_model), head(head) {
  for (std::int64_t i = 0; i < o.layers; ++i)
    blocks.emplace_back(TransformerBlock::Options{.d_model = o.d_model,
                                                  .head_types = o.head_types,
                                                  .max_seq_len = o.max_seq_len,
                                                  .causal = causal,
                                                  .dropout = o.dropout});
  for (TransformerBlock& block : blocks) block.mlp.approximate = o.gelu;
}

Tensor Transformer::embed(const Tensor& ids, std::int64_t first) {
  const std::int64_t end = first + (ids.dim() == 2 ? ids.size(1) : 0), table = pos.weight.size(0);
  if (ids.dim() != 2 || ids.numel() == 0 || end > table)
    throw_error<ShapeError>(
        "{}: needs ids [B,T] with B and T at least 1 and at most {} positions, "
        "got {} at position {}",
        type_name(), table, ids.shape(), first);
  return drop(tok(ids) + pos.weight.slice(0, first, end));
}

TransformerLM::TransformerLM(const Options& o)
    : Transformer("TransformerLM", o, true, {o.d_model, o.vocab_size, false}) {
  NoGradGuard guard;
  for (const auto& [name, p] : named_parameters()) {
    if (name.ends_with(".weight") && p.dim() == 2) p.copy_(randn(p.shape()) * 0.02);
    if (name.ends_with(".bias")) p.fill_(0);
  }
  pos.weight.copy_(randn(pos.weight.shape()) * 0.01);
  if (o.tie_weights) head.weight = tok.weight;
  norm.narrow = true;
}

Tensor TransformerLM::step(const Tensor& ids, DecodeCache& cache) {
  if (training()) throw ValueError("TransformerLM: step is for eval mode; call eval() first");
  if (ids.dim() != 2 || ids.size(1) != 1)
    throw_error<ShapeError>("TransformerLM: step needs ids [B,1], got {}", ids.shape());
  NoGradGuard guard;
  cache.layers.resize(blocks.size(), {.capacity = options.max_seq_len});
  Tensor x = embed(ids, cache.length);
  for (std::size_t i = 0; i < blocks.size(); ++i) x = blocks[i].step(x, cache.layers[i]);
  ++cache.length;
  return head(norm(x));
}

std::string TransformerLM::options_text() const {
  return fmt::format("{} tokens, d_model {}, {} layers, at most {} positions", options.vocab_size,
                     options.d_model, options.layers, options.max_seq_len);
}

TransformerClassifier::TransformerClassifier(const Options& o)
    : Transformer("TransformerClassifier", o, false, {o.d_model, o.classes}) {}

Tensor TransformerClassifier::operator()(const Tensor& ids, const Tensor& token_mask) {
  const Range range([&] { return type_name(); });
  Tensor x = features(ids, {.token_mask = token_mask});
  if (!token_mask.defined()) return head(mean(x, {1}));
  Tensor weight = token_mask.to(x.dtype()).unsqueeze(-1);
  return head(sum(x * weight, {1}) / clamp(sum(weight, {1}), 1));
}

void check_causal(const Function<Tensor(const Tensor& ids)>& logits, std::int64_t vocab_size,
                  std::int64_t T) {
  if (vocab_size < 2 || T < 2) return;  // there is no other future
  // The first row is whole; the last cut comes next because it says most about a leak.
  const std::vector<std::int64_t> cuts = {T, T - 1, (T + 1) / 2, 1};
  NoGradGuard guard;
  const Tensor out = logits(ids_with_other_futures(cuts, vocab_size, T));
  if (out.dim() != 3 || out.size(0) != std::int64_t(cuts.size()) || out.size(1) != T)
    throw_error<ShapeError>("check_causal: needs logits [{},{},C], got {}", cuts.size(), T,
                            out.shape());
  if (!all_finite(out)) throw ValueError("check_causal: the logits are not finite");

  const Tensor changes = max(abs(out - out.slice(0, 0, 1)), -1).first;  // [B,T]
  // Rounding of f32 reaches about 1e-6 of the largest change in a few layers; a circular filter
  // moves the position before a change by some hundredths of it.
  const double allowed = 1e-4 * max(changes).item<double>();
  for (std::size_t row = 1; row < cuts.size(); ++row) {
    const Tensor past = changes.select(0, std::int64_t(row)).slice(0, 0, cuts[row]);
    const double change = max(past).item<double>();
    if (change > allowed)
      throw_error<ValueError>(
          "check_causal: the model sees the future: other ids from position {} "
          "on change the logits at position {} by {:.3g}",
          cuts[row], argmax(past, 0).item<std::int64_t>(), change);
  }
}

void check_causal(TransformerLM& model) {
  const std::shared_ptr<void> restore(
      nullptr, [&model, was = model.training()](void*) { model.train(was); });
  model.eval();
  const Device device = model.tok.weight.device();
  check_causal([&](const Tensor& ids) { return model(ids.to(device)); }, model.options.vocab_size,
               model.options.max_seq_len);
}

}  // namespace triad::nn
