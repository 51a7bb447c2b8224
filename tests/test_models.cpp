// Transformers: how they start, what their parts are called, and that they are made of these parts.
#include <triad/tests/module_checks.h>

using namespace triad;
using nn::HeadType;
using enum nn::HeadType;

namespace {

nn::TransformerLM make_lm(bool tied = false) {
  return nn::TransformerLM({.vocab_size = 50,
                            .d_model = 32,
                            .layers = 2,
                            .head_types = {standard, spectral, holonomy, standard},
                            .max_seq_len = 40,
                            .tie_weights = tied});
}

std::set<std::string> names_of(const nn::Module& module) {
  std::set<std::string> names;
  for (const auto& [name, p] : module.named_parameters()) names.insert(name);
  return names;
}

double spread(const Tensor& x) { return sqrt(var(x.detach())).item<double>(); }

// An attention of the user's own: each position takes the mean of all.
struct Mean : nn::SelfAttention {
  Tensor scale = nn::parameter(full({1}, 0.5));
  Tensor forward(const Tensor& x, const nn::AttentionMasks&) override {
    return mean(x, {1}, true) * scale.expand(x.shape());
  }
  Tensor step(const Tensor&, nn::LayerCache&) override { throw ValueError("step: not causal"); }
  void visit(nn::Visitor& v) override { v("scale", scale); }
};

}  // namespace

TEST_CASE("a language model's names") {
  manual_seed(1);
  std::set<std::string> expected = {"tok.weight", "pos.weight", "norm.weight", "norm.bias",
                                    "head.weight"};
  for (std::string block : {"blocks.0.", "blocks.1."}) {
    const std::string inner = "attn.attention_modules.spectral.spectral_attn.";
    for (const std::string& name :
         {std::string("norm1"), std::string("norm2"), std::string("attn.W_qkv"),
          std::string("attn.W_o"), std::string("mlp.fc1"), std::string("mlp.fc2"), inner + "W_qkv",
          inner + "W_o"})
      for (const char* leaf : {".weight", ".bias"}) expected.insert(block + name + leaf);
    expected.insert(block + inner + "log_gain");
    expected.insert(block + inner + "phase");
    expected.insert(block + "attn.attention_modules.holonomy.curvature");
  }
  CHECK(names_of(make_lm()) == expected);
  expected.erase("head.weight");  // which is tok.weight
  CHECK(names_of(make_lm(true)) == expected);
  CHECK(make_lm(true).state_dict().contains("head.weight"));
  CHECK(make_lm().parameter_count() - make_lm(true).parameter_count() == 50 * 32);
}

TEST_CASE("a language model starts with weights 0.02 N(0,1), positions 0.01, biases 0") {
  manual_seed(2);
  nn::TransformerLM model = make_lm();
  CHECK(spread(model.tok.weight) == doctest::Approx(0.02).epsilon(0.05));
  CHECK(spread(model.pos.weight) == doctest::Approx(0.01).epsilon(0.05));
  CHECK(spread(model.head.weight) == doctest::Approx(0.02).epsilon(0.05));
  for (const auto& [name, p] : model.named_parameters()) {
    const bool norm = name.find("norm") != name.npos;
    if (name.ends_with(".bias")) CHECK_MESSAGE(largest(p) == 0, name);
    else if (norm) CHECK_MESSAGE(values(p) == std::vector<double>(32, 1), name);
    else if (name.ends_with("curvature") || name.ends_with("W_qkv.weight"))
      CHECK_MESSAGE(spread(p) == doctest::Approx(0.02).epsilon(0.2), name);
  }
  // So the first loss is that of guessing.
  const Tensor ids = randint(0, 50, {4, 40});
  CHECK(cross_entropy(model(ids), ids).item<double>() ==
        doctest::Approx(std::log(50.0)).epsilon(0.02));
}

TEST_CASE("a model is its parts") {
  manual_seed(3);
  nn::TransformerLM model = make_lm();
  const Tensor ids = randint(0, 50, {2, 17});
  Tensor x = model.tok(ids) + model.pos.weight.slice(0, 0, 17);
  for (nn::TransformerBlock& block : model.blocks) {
    x = x + (*block.attn)(block.norm1(x));
    x = x + block.mlp.fc2(gelu(block.mlp.fc1(block.norm2(x))));
  }
  CHECK(largest_difference(model(ids), model.head(model.norm(x))) < 1e-6);
  nn::check_causal(model);

  const nn::TransformerLM::Options by_tanh{.vocab_size = 50,
                                           .d_model = 32,
                                           .layers = 1,
                                           .head_types = {standard, standard},
                                           .max_seq_len = 40,
                                           .gelu = Gelu::tanh};
  nn::TransformerLM other(by_tanh);
  nn::TransformerBlock& block = other.blocks[0];
  x = other.tok(ids) + other.pos.weight.slice(0, 0, 17);
  x = x + (*block.attn)(block.norm1(x));
  x = x + block.mlp.fc2(gelu(block.mlp.fc1(block.norm2(x)), Gelu::tanh));
  CHECK(largest_difference(other(ids), other.head(other.norm(x))) < 1e-6);

  nn::TransformerClassifier classifier({.vocab_size = 50,
                                        .d_model = 32,
                                        .layers = 1,
                                        .head_types = {standard, spectral, holonomy, standard},
                                        .max_seq_len = 40,
                                        .classes = 3});
  Tensor token_mask = tril_mask(2, 17, 11);  // 12 and 13 real tokens
  x = classifier.tok(ids) + classifier.pos.weight.slice(0, 0, 17);
  x = classifier.norm(classifier.blocks[0](x, {.token_mask = token_mask}));
  Tensor logits = classifier(ids, token_mask);
  CHECK(logits.shape() == Shape{2, 3});
  for (std::int64_t b = 0; b < 2; ++b) {
    Tensor real = mean(x.select(0, b).slice(0, 0, 12 + b), {0});
    CHECK(largest_difference(logits.select(0, b), classifier.head(real)) < 1e-5);
  }
}

TEST_CASE("a block takes any attention") {
  manual_seed(4);
  nn::TransformerBlock block(8, std::make_unique<Mean>());
  CHECK(names_of(block).contains("attn.scale"));
  Tensor x = randn({2, 5, 8});
  Tensor y = x + mean(block.norm1(x), {1}, true) * 0.5;
  CHECK(largest_difference(block(x), y + block.mlp(block.norm2(y))) < 1e-6);
  block(x).backward(randn({2, 5, 8}));
  CHECK(largest(block.parameters()[2].grad()) > 0);  // after norm1's two: scale
}

TEST_CASE("a state with two values for one table is refused") {
  nn::TransformerLM tied = make_lm(true), loose = make_lm();
  CHECK_THROWS_WITH_AS(tied.load_state_dict(loose.state_dict()),
                       doctest::Contains("tok.weight (tied to a name that has other values)"),
                       ValueError);
}

TEST_CASE("a block needs an attention") {
  CHECK_THROWS_WITH_AS(nn::TransformerBlock(16, nullptr), doctest::Contains("needs an attention"),
                       ValueError);
}

TEST_CASE("a tied model trains its one table from both ends") {
  manual_seed(5);
  nn::TransformerLM tied = make_lm(true), loose = make_lm();
  loose.load_state_dict(tied.state_dict());
  const Tensor ids = randint(0, 50, {2, 9}), targets = randint(0, 50, {2, 9});
  for (nn::TransformerLM* model : {&tied, &loose}) cross_entropy((*model)(ids), targets).backward();
  Tensor both = loose.tok.weight.grad() + loose.head.weight.grad();
  CHECK(largest_difference(tied.tok.weight.grad(), both) < 1e-6 * largest(both));
  CHECK(same_bits(tied.head.weight.grad(), tied.tok.weight.grad()));
}
