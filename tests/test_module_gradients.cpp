// Gradcheck of every module, in fp64, with respect to its input and to every parameter.
#include <triad/tests/module_checks.h>

using namespace triad;
using nn::HeadType;

namespace {

Tensor random_input(const Shape& shape) { return randn(shape, {.dtype = f64}); }

// Bools of which about two in three are true.
Tensor random_mask(const Shape& shape) { return rand(shape) < 0.67; }

// q, k and v lie as a projection leaves them, [B,T,H,D]. One token alone attends to itself whatever
// its query and key are: there they have no gradient to check.
void check_heads(nn::HeadGroup& group, std::int64_t H, std::int64_t T,
                 const nn::AttentionMasks& masks, const std::set<std::string>& unused = {}) {
  auto sequence = [&] { return random_input({2, T, H, 4}); };
  const Tensors fixed{sequence(), sequence()};
  Tensors inputs{sequence()};
  if (T > 1) inputs.insert(inputs.end(), {sequence(), sequence()});
  check_gradients(
      group, inputs,
      [&](const Tensors& x) {
        manual_seed(5);
        const Tensor &q = T > 1 ? x[1] : fixed[0], &k = T > 1 ? x[2] : fixed[1];
        return group(q.transpose(1, 2), k.transpose(1, 2), x[0].transpose(1, 2), masks);
      },
      unused);
}

const std::vector<std::int64_t> kLengths = {1, 2, 5, 6, 7};

}  // namespace

TEST_CASE("standard attention") {
  manual_seed(1);
  constexpr std::int64_t B = 2, H = 3;
  for (std::int64_t T : kLengths)
    for (bool causal : {false, true})
      for (double dropout : {0.0, 0.3}) {
        nn::StandardAttention group({.causal = causal, .dropout = dropout});
        check_heads(group, H, T, {});
        check_heads(group, H, T, {.mask = logical_or(random_mask({T, T}), tril_mask(T, T))});
        if (T < 5) continue;  // a random mask of few elements may leave nothing
        check_heads(group, H, T, {.mask = random_mask({B, T, T})});
        check_heads(group, H, T, {.mask = random_mask({B, 1, T, T})});
        check_heads(group, H, T, {.mask = random_mask({B, H, T, T})});
        check_heads(group, H, T, {.token_mask = random_mask({B, T})});
        check_heads(group, H, T,
                    {.mask = random_mask({B, H, T, T}), .token_mask = random_mask({B, T})});
      }
}

TEST_CASE("holonomy attention") {
  manual_seed(2);
  for (std::int64_t T : kLengths)
    for (bool causal : {false, true}) {
      nn::HolonomyAttention group({.d_head = 4, .n_heads = 2, .causal = causal, .dropout = 0.2});
      // One token alone attends to itself whatever its query is.
      const std::set<std::string> unused =
          T == 1 ? std::set<std::string>{"curvature"} : std::set<std::string>{};
      check_heads(group, 2, T, {}, unused);
      if (T >= 5) check_heads(group, 2, T, {.mask = random_mask({2, 2, T, T})});
    }
}

namespace {

struct SpectralCase {
  bool causal = false, token_gate = false, use_dct = false;
};
const std::vector<SpectralCase> kSpectralCases = {{},
                                                  {.causal = true},
                                                  {.token_gate = true},
                                                  {.causal = true, .token_gate = true},
                                                  {.use_dct = true}};

// The parameters that a filter of this kind does not read at length T.
std::set<std::string> unread(const SpectralCase& c) {
  return c.use_dct ? std::set<std::string>{"phase"} : std::set<std::string>{};
}

}  // namespace

TEST_CASE("spectral attention: every option, T below, at and above the number of taps") {
  manual_seed(3);
  for (const SpectralCase& c : kSpectralCases)
    for (std::int64_t T : {1, 2, 5, 6, 7, 97})
      for (bool masked : {false, true}) {
        if (masked && T < 5) continue;
        nn::SpectralAttention module({.d_model = 4,
                                      .n_heads = 2,
                                      .max_seq_len = 7,
                                      .causal = c.causal,
                                      .token_gate = c.token_gate,
                                      .use_dct = c.use_dct,
                                      .dropout = masked ? 0.2 : 0});
        const Tensor token_mask = masked ? random_mask({2, T}) : Tensor();
        check_gradients(
            module, {random_input({2, T, 4})},
            [&](const Tensors& x) {
              manual_seed(5);
              return module(x[0], {.token_mask = token_mask});
            },
            unread(c));
      }
}

TEST_CASE("spectral attention with few control points") {
  manual_seed(4);
  for (const SpectralCase& c : kSpectralCases)
    for (std::int64_t max_seq_len : {1, 2, 3, 16}) {
      nn::SpectralAttention module({.d_model = 3,
                                    .n_heads = 1,
                                    .max_seq_len = max_seq_len,
                                    .causal = c.causal,
                                    .token_gate = c.token_gate,
                                    .use_dct = c.use_dct});
      check_gradients(
          module, {random_input({1, 6, 3})}, [&](const Tensors& x) { return module(x[0]); },
          unread(c));
    }
}

TEST_CASE("the hybrid layer at every kind of length") {
  manual_seed(6);
  for (std::int64_t T : {1, 2, 5, 6, 7, 97})
    for (bool causal : {false, true})
      for (bool residual : {true, false}) {
        if (T == 97 && residual) continue;
        nn::HybridAttentionLayer layer({.d_model = 8,
                                        .head_types = {HeadType::holonomy, HeadType::spectral,
                                                       HeadType::standard, HeadType::spectral},
                                        .max_seq_len = 8,
                                        .causal = causal,
                                        .residual = residual,
                                        .token_gate = T % 2 == 1,
                                        .dropout = T < 5 ? 0 : 0.2});  // it may drop all of a few
        std::set<std::string> unused;
        if (T == 1) unused.insert("attention_modules.holonomy.curvature");
        check_gradients(
            layer, {random_input({1, T, 8})},
            [&](const Tensors& x) {
              manual_seed(5);
              return layer(x[0]);
            },
            unused);
      }
}

TEST_CASE("the hybrid layer with masks, and of one type") {
  manual_seed(7);
  constexpr std::int64_t B = 2, T = 6, M = 8;
  const Tensor token_mask = from_vector<bool>(
      {true, true, true, true, false, false, true, true, true, true, true, false}, {B, T});
  auto check = [&](std::vector<HeadType> types, const nn::AttentionMasks& masks, bool causal,
                   bool use_dct = false) {
    nn::HybridAttentionLayer layer({.d_model = M,
                                    .head_types = types,
                                    .max_seq_len = 8,
                                    .causal = causal,
                                    .use_dct = use_dct});
    std::set<std::string> unused;
    if (use_dct) unused.insert("attention_modules.spectral.spectral_attn.phase");
    check_gradients(
        layer, {random_input({B, T, M})}, [&](const Tensors& x) { return layer(x[0], masks); },
        unused);
  };
  using enum HeadType;
  for (bool causal : {false, true}) {
    for (HeadType type : {standard, spectral, holonomy})
      check({type, type}, {.token_mask = token_mask}, causal);
    check({holonomy, standard, spectral, standard}, {.token_mask = token_mask}, causal);
    check({holonomy, standard, holonomy, standard}, {.mask = random_mask({B, 4, T, T})}, causal);
    check({holonomy, standard}, {.mask = random_mask({T, T}), .token_mask = token_mask}, causal);
  }
  check({standard, spectral}, {.token_mask = token_mask}, false, true);
}

TEST_CASE("small layers") {
  manual_seed(8);
  const Tensor x = random_input({2, 3, 4});
  auto check = [&](nn::Layer& layer) {
    check_gradients(layer, {x}, [&](const Tensors& inputs) {
      manual_seed(5);
      return layer(inputs[0]);
    });
  };
  nn::Linear linear(4, 3), without_bias(4, 3, false);
  nn::LayerNorm norm(4);
  nn::Dropout drop(0.3);
  nn::GELU activation;
  nn::MLP mlp(4, 0.3);
  nn::Sequential sequence(nn::Linear(4, 5), nn::GELU(), nn::LayerNorm(5), nn::Linear(5, 2));
  check(linear);
  check(without_bias);
  check(norm);
  check(drop);
  check(activation);
  check(mlp);
  check(sequence);
  nn::Embedding table(5, 3);
  const Tensor ids = from_vector<std::int64_t>({4, 0, 4, 2, 2, 1}, {2, 3});
  check_gradients(table, {}, [&](const Tensors&) { return table(ids); });
}

TEST_CASE("a transformer block") {
  manual_seed(9);
  using enum HeadType;
  for (bool causal : {false, true}) {
    nn::TransformerBlock block({.d_model = 6,
                                .head_types = {holonomy, standard, spectral},
                                .max_seq_len = 6,
                                .causal = causal,
                                .dropout = 0.2});
    check_gradients(block, {random_input({2, 5, 6})}, [&](const Tensors& x) {
      manual_seed(5);
      return block(x[0]);
    });
  }
}

TEST_CASE("whole models, through their loss") {
  manual_seed(10);
  using enum HeadType;
  const Tensor ids = randint(0, 7, {2, 5}), targets = randint(0, 7, {2, 5});
  for (bool tied : {false, true}) {
    nn::TransformerLM model({.vocab_size = 7,
                             .d_model = 6,
                             .layers = 2,
                             .head_types = {standard, spectral, holonomy},
                             .max_seq_len = 6,
                             .dropout = 0.1,
                             .tie_weights = tied});
    check_gradients(model, {}, [&](const Tensors&) {
      manual_seed(5);
      return cross_entropy(model(ids), targets);
    });
  }
  nn::TransformerClassifier classifier({.vocab_size = 7,
                                        .d_model = 6,
                                        .layers = 1,
                                        .head_types = {standard, spectral, holonomy},
                                        .max_seq_len = 6,
                                        .classes = 3,
                                        .dropout = 0.1});
  const Tensor token_mask =
      from_vector<bool>({true, true, true, false, false, true, true, true, true, true}, {2, 5});
  for (const Tensor& mask : {Tensor(), token_mask})
    check_gradients(classifier, {}, [&](const Tensors&) {
      manual_seed(5);
      return classifier(ids, mask);
    });
}
