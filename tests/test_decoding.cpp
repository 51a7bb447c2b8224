// Decoding step by step gives what the full pass gives.
#include <triad/tests/module_checks.h>

using namespace triad;
using nn::HeadType;
using enum nn::HeadType;

namespace {

using Types = std::vector<HeadType>;

const std::vector<Types> kMixtures = {{standard, standard},
                                      {spectral, spectral},
                                      {holonomy, holonomy},
                                      {holonomy, spectral, standard, spectral}};

}  // namespace

TEST_CASE("a language model, token by token over its whole length") {
  manual_seed(1);
  for (const Types& types : kMixtures)
    for (std::int64_t length : {1, 2, 16, 33}) {  // an odd one is a token longer than its filter
      nn::TransformerLM model({.vocab_size = 11,
                               .d_model = 16,
                               .layers = 2,
                               .head_types = types,
                               .max_seq_len = length,
                               .dropout = 0.3});
      randomise(model);
      model.eval();
      const Tensor ids = randint(0, 11, {3, length}), full = model(ids);
      nn::DecodeCache cache;
      for (std::int64_t t = 0; t < length; ++t) {
        const Tensor logits = model.step(ids.slice(1, t, t + 1), cache);
        REQUIRE(logits.shape() == Shape{3, 1, 11});
        CHECK(!logits.requires_grad());
        CHECK_MESSAGE(largest_difference(logits, full.slice(1, t, t + 1)) <= 1e-4 * largest(full),
                      nn::heads_text(types), ", token ", t, " of ", length);
      }
      CHECK(cache.length == length);
      CHECK(message_of<ShapeError>([&] { model.step(ids.slice(1, 0, 1), cache); }) ==
            "TransformerLM: needs ids [B,T] with B and T at least 1 and at most " +
                std::to_string(length) + " positions, got [3,1] at position " +
                std::to_string(length));
    }
}

TEST_CASE("a layer, far beyond the taps of its filter, with and without token_gate") {
  manual_seed(2);
  constexpr std::int64_t B = 2, T = 40;
  for (const Types& types : kMixtures)
    for (std::int64_t max_seq_len : {1, 2, 3, 8})
      for (bool token_gate : {false, true})
        for (DType dtype : {f32, f64}) {
          nn::HybridAttentionLayer layer({.d_model = 16,
                                          .head_types = types,
                                          .max_seq_len = max_seq_len,
                                          .causal = true,
                                          .residual = token_gate,
                                          .token_gate = token_gate});
          randomise(layer);
          layer.to(dtype);
          const Tensor x = randn({B, T, 16}, {.dtype = dtype}), full = layer(x);
          nn::LayerCache cache{.capacity = T};
          Tensors steps;
          for (std::int64_t t = 0; t < T; ++t)
            steps.push_back(layer.step(x.slice(1, t, t + 1), cache));
          CHECK_MESSAGE(largest_difference(cat(steps, 1), full) <=
                            (dtype == f32 ? 1e-5 : 1e-12) * largest(full),
                        nn::heads_text(types), ", max_seq_len ", max_seq_len);
        }
}

TEST_CASE("spectral attention by itself") {
  manual_seed(3);
  nn::SpectralAttention module({.d_model = 6, .n_heads = 2, .max_seq_len = 8, .causal = true});
  randomise(module);
  const Tensor x = randn({1, 20, 6}), full = module(x);
  nn::LayerCache cache{.capacity = 20};
  for (std::int64_t t = 0; t < 20; ++t)
    CHECK(largest_difference(module.step(x.slice(1, t, t + 1), cache), full.slice(1, t, t + 1)) <=
          1e-5 * largest(full));
}

TEST_CASE("steps that cannot be taken") {
  manual_seed(4);
  nn::TransformerLM model({.vocab_size = 11,
                           .d_model = 16,
                           .layers = 1,
                           .head_types = {standard, spectral},
                           .max_seq_len = 8});
  nn::DecodeCache cache;
  const Tensor one = randint(0, 11, {2, 1});
  CHECK(message_of<ValueError>([&] { model.step(one, cache); }) ==
        "TransformerLM: step is for eval mode; call eval() first");
  model.eval();
  CHECK(message_of<ShapeError>([&] {
          model.step(randint(0, 11, {2, 2}), cache);
        }) == "TransformerLM: step needs ids [B,1], got [2,2]");
  for (const Types& types : kMixtures) {
    nn::HybridAttentionLayer layer({.d_model = 16, .head_types = types});
    nn::LayerCache empty{.capacity = 4};
    CHECK(message_of<ValueError>([&] {
            layer.step(randn({1, 1, 16}), empty);
          }) == "step: needs causal attention");
  }
  for (const Types& types : kMixtures) {
    nn::HybridAttentionLayer layer({.d_model = 16, .head_types = types, .causal = true});
    nn::LayerCache cache{.capacity = 2};
    const Tensor x = randn({3, 2, 16}), full = layer(x);
    layer.step(x.slice(1, 0, 1), cache);
    CHECK(message_of<ShapeError>([&] { layer.step(x, cache); }) == "step: needs one token, got 2");
    CHECK(message_of<ShapeError>([&] { layer.step(x.slice(0, 0, 1).slice(1, 1), cache); }) ==
          "step: the cache holds 3 sequences, got 1");
    // None of it left a trace.
    CHECK(largest_difference(layer.step(x.slice(1, 1), cache), full.slice(1, 1)) < 1e-5);
    CHECK(message_of<ValueError>([&] { layer.step(x.slice(1, 1), cache); }) ==
          "step: the cache has room for 2 tokens and holds 2");
    nn::LayerCache without_room;
    CHECK(message_of<ValueError>([&] { layer.step(x.slice(1, 1), without_room); }) ==
          "step: the cache has room for 0 tokens and holds 0");
  }
}
