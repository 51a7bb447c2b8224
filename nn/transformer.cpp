#include <triad/nn/transformer.h>

#include <triad/core/format.h>

namespace triad::nn {

// ---------------------------------------------------------------------- block

namespace {

std::unique_ptr<SelfAttention> without_residual(HybridAttentionLayer::Options options) {
  options.residual = false;
  return std::make_unique<HybridAttentionLayer>(options);
}

}  // namespace

TransformerBlock::TransformerBlock(const Options& o)
    : TransformerBlock(o.d_model, without_residual(o), o.dropout) {}

TransformerBlock::TransformerBlock(std::int64_t d_model, std::unique_ptr<SelfAttention> attn,
                                   double dropout)
    : norm1(d_model), norm2(d_model), attn(std::move(attn)), mlp(d_model, dropout) {
  if (!this->attn) throw ValueError("TransformerBlock: needs an attention, got none");
}

Tensor TransformerBlock::operator()(const Tensor& x, const AttentionMasks& masks) {
  Tensor y = x + attn->forward(norm1(x), masks);
  return y + mlp(norm2(y));
}

Tensor TransformerBlock::step(const Tensor& x, LayerCache& cache) {
  NoGradGuard guard;
  Tensor y = x + attn->step(norm1(x), cache);
  return y + mlp(norm2(y));
}

void TransformerBlock::visit(Visitor& visitor) {
  visitor("norm1", norm1);
  visitor("attn", *attn);
  visitor("norm2", norm2);
  visitor("mlp", mlp);
}

// ---------------------------------------------------------------------- what both models share

namespace {

template <class Options>
const Options& checked(const char* model, const Options& o) {
  auto check = [&](const char* what, std::int64_t size) {
    if (size < 1) throw_error<ValueError>("{}: needs {} >= 1, got {}", model, what, size);
  };
  check("vocab_size", o.vocab_size);
  check("d_model", o.d_model);
  check("layers", o.layers);
  check("max_seq_len", o.max_seq_len);
  if constexpr (requires { o.classes; }) check("classes", o.classes);
  return o;
}

}  // namespace

template <class Options>
Transformer::Transformer(const char* model, const Options& o, bool causal,
                         const Linear::Options& head)
    : tok(checked(model, o).vocab_size, o.d_model), pos(o.max_seq_len, o.d_model), drop(o.dropout),
      norm(o.d_model), head(head) {
  for (std::int64_t i = 0; i < o.layers; ++i)
    blocks.emplace_back(TransformerBlock::Options{.d_model = o.d_model,
                                                  .head_types = o.head_types,
                                                  .max_seq_len = o.max_seq_len,
                                                  .causal = causal,
                                                  .dropout = o.dropout});
}

Tensor Transformer::embed(const Tensor& ids, std::int64_t first) {
  const std::int64_t T = ids.dim() == 2 ? ids.size(1) : 0, table = pos.weight.size(0);
  if (ids.dim() != 2 || ids.numel() == 0 || first + T > table)
    throw_error<ShapeError>(
        "{}: needs ids [B,T] with B and T at least 1 and at most {} positions, got {} at position "
        "{}",
        type_name(), table, ids.shape(), first);
  return drop(tok(ids) + pos.weight.slice(0, first, first + T));
}

void Transformer::visit(Visitor& visitor) {
  visitor("tok", tok);
  visitor("pos", pos);
  visitor("drop", drop);
  for (std::size_t i = 0; i < blocks.size(); ++i) visitor(fmt::format("blocks.{}", i), blocks[i]);
  visitor("norm", norm);
  visitor("head", head);
}

// ---------------------------------------------------------------------- language model

TransformerLM::TransformerLM(const Options& o)
    : Transformer("TransformerLM", o, true, {o.d_model, o.vocab_size, false}), options(o) {
  NoGradGuard guard;
  apply([](Module& module) {
    auto normal = [](const Tensor& weight) { weight.copy_(randn(weight.shape()) * 0.02); };
    if (auto* linear = dynamic_cast<Linear*>(&module)) {
      normal(linear->weight);
      if (linear->bias.defined()) linear->bias.fill_(0);
    } else if (auto* table = dynamic_cast<Embedding*>(&module)) {
      normal(table->weight);
    }
  });
  pos.weight.copy_(randn(pos.weight.shape()) * 0.01);
  if (o.tie_weights) head.weight = tok.weight;
}

Tensor TransformerLM::operator()(const Tensor& ids) {
  Tensor x = embed(ids);
  for (TransformerBlock& block : blocks) x = block(x);
  return head(norm(x));
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

// ---------------------------------------------------------------------- classifier

TransformerClassifier::TransformerClassifier(const Options& o)
    : Transformer("TransformerClassifier", o, false, {o.d_model, o.classes}), options(o) {}

Tensor TransformerClassifier::operator()(const Tensor& ids, const Tensor& token_mask) {
  Tensor x = embed(ids);
  for (TransformerBlock& block : blocks) x = block(x, {.token_mask = token_mask});
  x = norm(x);
  if (!token_mask.defined()) return head(mean(x, {1}));
  Tensor weight = token_mask.to(x.dtype()).unsqueeze(-1);
  Tensor count = maximum(sum(weight, {1}), ones({}, {.dtype = x.dtype(), .device = x.device()}));
  return head(sum(x * weight, {1}) / count);
}

}  // namespace triad::nn
