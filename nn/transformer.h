// Pre-norm transformers: a block, a causal language model and its check, a classifier.
#pragma once

#include <triad/nn/attention.h>

namespace triad::nn {

// x + attn(norm1(x)), then x + mlp(norm2(x)): the residual path is never normalised.
struct TransformerBlock : Module {
  using Options = HybridAttentionLayer::Options;  // of its attention, which never adds the residual
  explicit TransformerBlock(const Options& options);
  // With any attention [B,T,d_model] -> [B,T,d_model] that leaves the residual to the block.
  TransformerBlock(std::int64_t d_model, std::unique_ptr<SelfAttention> attn, double dropout = 0);

  Tensor operator()(const Tensor& x, const AttentionMasks& masks = {}) {
    const Range range([&] { return type_name(); });
    const Tensor y = x + attn->forward(norm1(x), masks);
    return y + mlp(norm2(y));
  }
  Tensor step(const Tensor& x, LayerCache& cache) {
    NoGradGuard guard;
    const Tensor y = x + attn->step(norm1(x), cache);
    return y + mlp(norm2(y));
  }
  void visit(Visitor& visitor) override {
    visitor("norm1", norm1, "attn", *attn, "norm2", norm2, "mlp", mlp);
  }

  LayerNorm norm1, norm2;
  std::unique_ptr<SelfAttention> attn;
  MLP mlp;
};

// The state of step-by-step decoding; an empty one stands before the first token.
struct DecodeCache {
  std::vector<LayerCache> layers = {};
  std::int64_t length = 0;
};

struct TransformerOptions {
  std::int64_t vocab_size = 0, d_model = 0, layers = 0;
  std::vector<HeadType> head_types = {};
  std::int64_t max_seq_len = 0;
  std::int64_t classes = 0;  // of a classifier
  double dropout = 0;
  bool tie_weights = false;  // of a language model: head.weight is tok.weight
  Gelu gelu = Gelu::none;    // of the blocks; GPT-2 has tanh
};

// What the models below share: token and position embeddings, blocks, a norm and a head.
class Transformer : public Module {
 public:
  using Options = TransformerOptions;

  void visit(Visitor& visitor) override {
    visitor("tok", tok, "pos", pos, "drop", drop);
    for (std::size_t i = 0; i < blocks.size(); ++i)
      visitor("blocks." + std::to_string(i), blocks[i]);
    visitor("norm", norm, "head", head);
  }

  const Options options;
  Embedding tok, pos;
  Dropout drop;
  std::vector<TransformerBlock> blocks;
  LayerNorm norm;
  Linear head;

 protected:
  Transformer(const char* model, const Options& options, bool causal, const Linear::Options& head);
  Tensor embed(const Tensor& ids, std::int64_t first = 0);  // tok[ids] + pos[first, first + T)
  // What the blocks and the norm make of them, [B,T,d_model].
  Tensor features(const Tensor& ids, const AttentionMasks& masks = {}) {
    Tensor x = embed(ids);
    for (TransformerBlock& block : blocks) x = block(x, masks);
    return norm(x);
  }
};

// Token ids i64 [B,T] -> logits [B,T,vocab_size], T <= max_seq_len; position t sees ids 0..t.
// Weights start as 0.02 N(0,1), positions as 0.01 N(0,1), biases at 0.
struct TransformerLM : Transformer {
  explicit TransformerLM(const Options& options);

  Tensor operator()(const Tensor& ids) {
    const Range range([&] { return type_name(); });
    return head(features(ids));
  }
  // One more token a sequence, ids [B,1] -> logits [B,1,vocab_size]; in eval mode, without history.
  Tensor step(const Tensor& ids, DecodeCache& cache);
  std::string options_text() const override;
};

// Token ids i64 [B,T] and, with padding, token_mask bool [B,T] -> logits [B,classes]: the mean over
// real tokens of what the blocks make of them, then a Linear. Padding alone gives head.bias.
struct TransformerClassifier : Transformer {
  explicit TransformerClassifier(const Options& options);

  Tensor operator()(const Tensor& ids, const Tensor& token_mask = {});
};

// Does a language model see the future? One that does copies its answers, at a splendid loss.
//
// Changes the ids from several positions on and compares the logits before them. They may differ by
// what rounding explains (an FFT mixes all positions); more is a ValueError that says where and by
// how much. `logits` maps ids [B,T], 0 <= id < vocab_size, to [B,T,C]. Random state is left alone.
void check_causal(const Function<Tensor(const Tensor& ids)>& logits, std::int64_t vocab_size,
                  std::int64_t T);
void check_causal(TransformerLM& model);  // over all its positions, with dropout off

}  // namespace triad::nn
