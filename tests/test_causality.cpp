// No position of a causal layer may depend on what follows it, and none of any layer on padding.
// The checks are made to fail on the circular layer, which sees the future.
#include <triad/tests/module_checks.h>

using namespace triad;
using nn::HeadType;
using enum nn::HeadType;

namespace {

using Types = std::vector<HeadType>;

// Every mixture of the three types, with two heads of one of them.
const std::vector<Types> kMixtures = {{standard},
                                      {spectral},
                                      {holonomy},
                                      {standard, spectral},
                                      {spectral, holonomy},
                                      {holonomy, standard},
                                      {spectral, standard, holonomy},
                                      {spectral, spectral, standard, holonomy}};

constexpr std::int64_t kModel = 12;

struct Options {
  bool causal = true, token_gate = false, use_dct = false;
  std::int64_t max_seq_len = 16;
};

nn::HybridAttentionLayer make_layer(const Types& types, DType dtype, const Options& o = {}) {
  nn::HybridAttentionLayer layer({.d_model = kModel,
                                  .head_types = types,
                                  .max_seq_len = o.max_seq_len,
                                  .causal = o.causal,
                                  .token_gate = o.token_gate,
                                  .use_dct = o.use_dct});
  randomise(layer);
  layer.to(dtype);
  return layer;
}

struct Influence {
  double future = 0, any = 0;  // the largest |d out_t / d x_s| with s > t, and of all
};

// The derivatives of a random combination of the channels at each t, with respect to every x_s.
Influence influence(nn::HybridAttentionLayer& layer, std::int64_t T, DType dtype) {
  Tensor x = randn({1, T, kModel}, {.dtype = dtype, .requires_grad = true});
  Tensor y = layer(x);
  Influence found;
  for (std::int64_t t = 0; t < T; ++t) {
    Tensor c = zeros(y.shape(), {.dtype = dtype});
    c.select(1, t).copy_(randn({kModel}, {.dtype = dtype}));
    Tensor dx = grad({y}, {x}, {c}, {.retain_graph = true})[0];
    found.any = std::max(found.any, largest(dx));
    found.future = std::max(found.future, largest(dx.slice(1, t + 1)));
  }
  return found;
}

}  // namespace

TEST_CASE("no causal mixture lets a position see the future") {
  manual_seed(1);
  for (DType dtype : {f32, f64})
    for (const Types& types : kMixtures)
      for (bool token_gate : {false, true})
        for (std::int64_t T : {2, 9, 16, 41}) {  // below, at and above the 16 taps
          if (token_gate && T != 9) continue;
          auto layer = make_layer(types, dtype, {.token_gate = token_gate});
          const Influence found = influence(layer, T, dtype);
          CHECK(found.any > 0.1);
          CHECK_MESSAGE(found.future <= 1e-6 * found.any, nn::heads_text(types), ", T ", T, ": ",
                        found.future, " of ", found.any);
        }
}

TEST_CASE("without causal every type sees the future: the check above can fail") {
  manual_seed(2);
  for (HeadType type : {standard, spectral, holonomy})
    for (bool use_dct : {false, true}) {
      auto layer = make_layer({type}, f32, {.causal = false, .use_dct = use_dct});
      const Influence found = influence(layer, 9, f32);
      CHECK(found.future > 1e-3 * found.any);
    }
}

TEST_CASE("a causal output does not depend on how long the sequence is") {
  manual_seed(3);
  for (const Types& types : kMixtures) {
    auto layer = make_layer(types, f32, {.token_gate = true});
    auto exact = make_layer(types, f64, {.token_gate = true});
    const Tensor x = randn({2, 50, kModel}), x64 = randn({2, 50, kModel}, {.dtype = f64});
    const Tensor whole = layer(x), whole64 = exact(x64);
    for (std::int64_t T : {1, 2, 15, 16, 17, 31, 49}) {
      CHECK(largest_difference(layer(x.slice(1, 0, T)), whole.slice(1, 0, T)) <=
            2e-6 * largest(whole));
      CHECK(largest_difference(exact(x64.slice(1, 0, T)), whole64.slice(1, 0, T)) <=
            1e-13 * largest(whole64));
    }
  }
}

TEST_CASE("learned filters do not change because T changed") {
  manual_seed(4);
  for (bool causal : {false, true}) {
    nn::SpectralAttention module(
        {.d_model = kModel, .n_heads = 3, .max_seq_len = 16, .causal = causal});
    const Tensor log_gain = module.log_gain.detach().clone(), phase = module.phase.detach().clone();
    const Tensor x = randn({1, 16, kModel}), before = module(x);
    for (std::int64_t T : {1, 7, 64}) module(randn({2, T, kModel}));
    CHECK(module.log_gain.shape() == Shape{3, 9});
    CHECK(same_bits(module.log_gain, log_gain));
    CHECK(same_bits(module.phase, phase));
    CHECK(same_bits(module(x), before));
  }
}

TEST_CASE("padding is not heard") {
  manual_seed(5);
  constexpr std::int64_t B = 2, T = 9;
  const std::vector<bool> real = {true, true,  true, true, true, true, false, false, false,
                                  true, false, true, true, true, true, true,  true,  false};
  const Tensor token_mask = from_vector(real, {B, T});
  for (const Types& types : kMixtures)
    for (bool causal : {false, true}) {
      auto layer = make_layer(types, f32, {.causal = causal});
      Tensor x = randn({B, T, kModel}), noise = randn({B, T, kModel}) * 100.0;
      Tensor other = where(token_mask.unsqueeze(-1), x, noise);
      Tensor kept = token_mask.unsqueeze(-1).to(f32);
      Tensor a = layer(x, {.token_mask = token_mask}) * kept,
             b = layer(other, {.token_mask = token_mask}) * kept;
      CHECK_MESSAGE(largest_difference(a, b) <= 1e-6 * largest(a), nn::heads_text(types));
      CHECK(largest_difference(layer(x) * kept, layer(other) * kept) > 1e-3 * largest(a));
    }
}

TEST_CASE("padding at the end leaves the tokens before it as in a shorter sequence") {
  manual_seed(6);
  const Tensor token_mask = tril_mask(1, 9, 5);  // six real tokens
  for (const Types& types : {Types{standard}, Types{holonomy}, Types{standard, holonomy}}) {
    auto layer = make_layer(types, f32, {.causal = false});
    Tensor x = randn({1, 9, kModel});
    Tensor padded = layer(x, {.token_mask = token_mask}).slice(1, 0, 6);
    CHECK(largest_difference(padded, layer(x.slice(1, 0, 6))) <= 1e-6 * largest(padded));
  }
}

TEST_CASE("a query that may attend to nothing gives zeros, and its gradient is zero") {
  manual_seed(7);
  constexpr std::int64_t T = 6, D = 4;
  auto check = [&](nn::HeadGroup& group, const nn::AttentionMasks& masks, std::int64_t empty_row) {
    Tensor packed = randn({1, T, 3, 2, D}, {.requires_grad = true});
    auto part = [&](std::int64_t i) { return packed.select(2, i).transpose(1, 2); };
    Tensor y = group(part(0), part(1), part(2), masks);
    CHECK(largest(y.select(2, empty_row)) == 0);
    CHECK(largest(y) > 0.1);
    y.backward(randn(y.shape()));
    CHECK(all_finite(packed.grad()));
    CHECK(largest(packed.grad().select(1, empty_row).select(1, 0)) == 0);  // of its query
    CHECK(largest(packed.grad()) > 0.1);
  };
  Tensor mask = ones({T, T}, {.dtype = boolean});
  mask.select(0, 3).fill_(0);
  Tensor first_is_padding = ones({1, T}, {.dtype = boolean});
  first_is_padding.select(1, 0).fill_(0);
  for (bool causal : {false, true}) {
    nn::StandardAttention plain({.causal = causal});
    nn::HolonomyAttention curved({.d_head = D, .n_heads = 2, .causal = causal});
    check(plain, {.mask = mask}, 3);
    check(curved, {.mask = mask}, 3);
    if (causal) check(plain, {.token_mask = first_is_padding}, 0);
    if (causal) check(curved, {.token_mask = first_is_padding}, 0);
  }
}

TEST_CASE(
    "a sequence of padding alone: finite values and gradients, its own bias and nothing else") {
  manual_seed(8);
  constexpr std::int64_t B = 2, T = 7;
  Tensor token_mask = ones({B, T}, {.dtype = boolean});
  token_mask.select(0, 1).fill_(0);
  for (const Types& types : kMixtures)
    for (bool causal : {false, true}) {
      auto layer = make_layer(types, f32, {.causal = causal});
      Tensor x = randn({B, T, kModel}, {.requires_grad = true});
      Tensor y = layer(x, {.token_mask = token_mask});
      y.backward(randn(y.shape()));
      CHECK(all_finite(y));
      CHECK(all_finite(x.grad()));
      for (const Tensor& p : layer.parameters())
        if (p.grad().defined()) CHECK(all_finite(p.grad()));
    }
  nn::TransformerClassifier model({.vocab_size = 9,
                                   .d_model = kModel,
                                   .layers = 2,
                                   .head_types = {standard, spectral, holonomy},
                                   .max_seq_len = T,
                                   .classes = 4});
  Tensor logits = model(randint(0, 9, {B, T}), token_mask);
  CHECK(all_finite(logits));
  CHECK(same_bits(logits.select(0, 1), model.head.bias));
  CHECK(largest_difference(logits.select(0, 0), model.head.bias) > 0.01);
}
