// The canary: a language model on uniform random tokens. There is nothing to learn, and so the loss
// of a model that sees only the past stays at ln 16 for ever. One that sees the future copies the
// answer; that one falls shows that the test would notice.
#include <triad/nn/optimizer.h>
#include <triad/tests/module_checks.h>

using namespace triad;
using nn::HeadType;
using enum nn::HeadType;

namespace {

constexpr std::int64_t kVocabulary = 16, kBatch = 8, kLength = 32, kModel = 32;
constexpr int kSteps = 400, kLast = 50;  // the mean over the last steps is judged

// The parts of a TransformerLM, with blocks that may be circular.
struct Model : nn::Module {
  nn::Embedding tok{kVocabulary, kModel}, pos{kLength, kModel};
  nn::TransformerBlock block;
  nn::LayerNorm norm{kModel};
  nn::Linear head{kModel, kVocabulary, false};

  Model(std::vector<HeadType> types, bool causal)
      : block({.d_model = kModel,
               .head_types = std::move(types),
               .max_seq_len = kLength,
               .causal = causal}) {
    NoGradGuard guard;
    for (nn::Embedding* table : {&tok, &pos})
      table->weight.copy_(randn(table->weight.shape()) * 0.02);
  }
  void visit(nn::Visitor& v) override {
    v("tok", tok);
    v("pos", pos);
    v("block", block);
    v("norm", norm);
    v("head", head);
  }
  Tensor operator()(const Tensor& ids) { return head(norm(block(tok(ids) + pos.weight))); }
};

// Each position predicts the token after it, in fresh random tokens at every step.
double loss_after_training(std::vector<HeadType> types, bool causal) {
  manual_seed(1);
  Model model(std::move(types), causal);
  nn::AdamW optimizer(model.named_parameters(), {.lr = 3e-3});
  double sum = 0;
  for (int step = 0; step < kSteps; ++step) {
    const Tensor tokens = randint(0, kVocabulary, {kBatch, kLength + 1});
    optimizer.zero_grad();
    Tensor loss = cross_entropy(model(tokens.slice(1, 0, kLength)), tokens.slice(1, 1));
    loss.backward();
    optimizer.step();
    if (step >= kSteps - kLast) sum += loss.item<double>();
  }
  return sum / kLast;
}

}  // namespace

TEST_CASE("a causal model never beats chance on random tokens") {
  const double chance = std::log(double(kVocabulary));
  for (const auto& types : {std::vector<HeadType>{spectral, spectral},
                            {standard, holonomy},
                            {standard, spectral, holonomy, spectral}}) {
    const double loss = loss_after_training(types, true);
    CHECK_MESSAGE(loss >= chance - 0.005, nn::heads_text(types));
    CHECK(loss < chance + 0.2);  // it trained
  }
}

TEST_CASE("a circular one does: it sees the answer") {
  for (const auto& types :
       {std::vector<HeadType>{spectral, spectral}, {standard, spectral, holonomy, spectral}}) {
    const double loss = loss_after_training(types, false);
    CHECK(loss < 1);
  }
}
