// Head lists and the hybrid layer: names, order, counts, and every error.
#include <triad/tests/module_checks.h>

using namespace triad;
using nn::HeadType;
using enum nn::HeadType;

namespace {

using Types = std::vector<HeadType>;

template <class E, class F> void check_error(const std::string& text, F&& f) {
  CHECK(message_of<E>(f) == text);
}

nn::HybridAttentionLayer layer_of(const std::string& heads, std::int64_t d_model = 12,
                                  bool causal = false) {
  return nn::HybridAttentionLayer(
      {.d_model = d_model, .head_types = nn::heads(heads), .max_seq_len = 8, .causal = causal});
}

}  // namespace

TEST_CASE("the 4-2-2 layer at d_model 512: names, sizes and counts") {
  manual_seed(1);
  nn::HybridAttentionLayer layer({.d_model = 512,
                                  .head_types = nn::heads("standard*4, spectral*2, holonomy*2"),
                                  .max_seq_len = 1024});
  const std::string inner = "attention_modules.spectral.spectral_attn.";
  const std::vector<std::pair<std::string, Shape>> expected = {
      {"W_qkv.weight", {1536, 512}},
      {"W_qkv.bias", {1536}},
      {"W_o.weight", {512, 512}},
      {"W_o.bias", {512}},
      {inner + "W_qkv.weight", {384, 128}},
      {inner + "W_qkv.bias", {384}},
      {inner + "W_o.weight", {128, 128}},
      {inner + "W_o.bias", {128}},
      {inner + "log_gain", {2, 513}},
      {inner + "phase", {2, 513}},
      {"attention_modules.holonomy.curvature", {2, 64, 64}},
  };
  const auto parameters = layer.named_parameters();
  REQUIRE(parameters.size() == expected.size());
  std::int64_t count = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(parameters[i].first == expected[i].first);
    CHECK(parameters[i].second.shape() == expected[i].second);
    count += expected[i].second.numel();
  }
  CHECK(layer.parameter_count() == count);
  CHECK(layer.n_heads == 8);
  CHECK(layer.d_head == 64);
  CHECK(layer.head_types ==
        Types{standard, standard, standard, standard, spectral, spectral, holonomy, holonomy});
  CHECK(layer.head_type_counts ==
        std::map<HeadType, int>{{standard, 4}, {spectral, 2}, {holonomy, 2}});
  CHECK(layer.attention_modules.size() == 3);
  CHECK(layer(randn({1, 5, 512})).shape() == Shape{1, 5, 512});
}

TEST_CASE("token_gate adds alpha; a type that does not occur has no module") {
  nn::HybridAttentionLayer layer({.d_model = 12,
                                  .head_types = {spectral, standard, spectral},
                                  .max_seq_len = 8,
                                  .token_gate = true});
  const nn::StateDict state = layer.state_dict();
  const std::string alpha = "attention_modules.spectral.spectral_attn.alpha.";
  REQUIRE(state.contains(alpha + "weight"));
  CHECK(state.at(alpha + "weight").shape() == Shape{1, 4});
  CHECK(values(state.at(alpha + "weight")) == std::vector<double>(4, 0));
  CHECK(values(state.at(alpha + "bias")) == std::vector<double>{double(0.01f)});
  CHECK(!layer.attention_modules.contains(holonomy));
  CHECK(!state.contains("attention_modules.holonomy.curvature"));
}

TEST_CASE("heads lie grouped by type, whatever the order of the list") {
  manual_seed(2);
  nn::HybridAttentionLayer mixed =
      layer_of("holonomy, spectral, standard, spectral, holonomy, standard");
  nn::HybridAttentionLayer sorted = layer_of("standard*2, spectral*2, holonomy*2");
  sorted.load_state_dict(mixed.state_dict());
  Tensor x = randn({2, 7, 12});
  CHECK(same_bits(mixed(x), sorted(x)));
  CHECK(mixed.head_types[0] == holonomy);  // readable as it was given
}

TEST_CASE("a grouped layer is its groups, side by side") {
  manual_seed(3);
  nn::HybridAttentionLayer layer = layer_of("holonomy, spectral, standard");
  Tensor x = randn({2, 7, 12});
  auto head = [&](std::int64_t part, std::int64_t h) {
    return layer.W_qkv(x)
        .reshape({2, 7, 3, 3, 4})
        .select(2, part)
        .slice(2, h, h + 1)
        .transpose(1, 2);
  };
  Tensors outputs;
  std::int64_t h = 0;
  for (auto& [type, group] : layer.attention_modules) {
    outputs.push_back((*group)(head(0, h), head(1, h), head(2, h)));
    ++h;
  }
  Tensor concat = cat(outputs, 1).transpose(1, 2).reshape({2, 7, 12});
  CHECK(largest_difference(layer(x), x + layer.W_o(concat)) < 1e-5);
}

TEST_CASE("lists of heads") {
  CHECK(nn::heads("standard*4, spectral*2, holonomy*2").size() == 8);
  CHECK(nn::heads("spectral") == Types{spectral});
  CHECK(nn::heads(" holonomy * 2 ,standard") == Types{holonomy, holonomy, standard});
  CHECK(nn::heads("standard,spectral,standard") == Types{standard, spectral, standard});
  for (const char* text :
       {"standard*4, spectral*2, holonomy", "spectral", "standard, spectral*3, standard"})
    CHECK(nn::heads_text(nn::heads(text)) == text);
  for (HeadType type : {standard, spectral, holonomy})
    CHECK(nn::heads(nn::name(type)) == Types{type});

  auto unknown = [](const std::string& word, const std::string& text) {
    check_error<ValueError>("heads: unknown head type '" + word + "' in '" + text +
                                "'; allowed are standard, spectral, holonomy",
                            [&] { nn::heads(text); });
  };
  unknown("linear", "standard*2, linear");
  unknown("Standard", "Standard");
  unknown("", "");
  unknown("", "standard,");
  unknown("", ",standard");
  unknown("", "*3");
  unknown("standard spectral", "standard spectral");
  auto bad_count = [](const std::string& count, const std::string& text) {
    check_error<ValueError>(
        "heads: needs a count of 1 to 1024 after '*', got '" + count + "' in '" + text + "'",
        [&] { nn::heads(text); });
  };
  bad_count("0", "standard*0");
  bad_count("-1", "standard*-1");
  bad_count("", "standard*");
  bad_count("2x", "standard*2x");
  bad_count("1.5", "standard*1.5");
  bad_count("2*2", "standard*2*2");
  bad_count("99999999999999999999", "spectral*99999999999999999999");
  bad_count("1025", "spectral*1025");
}

TEST_CASE("layers that cannot be made") {
  check_error<ValueError>(
      "HybridAttentionLayer: needs a d_model that the number of heads divides, got 12 and 0",
      [] { nn::HybridAttentionLayer({.d_model = 12}); });
  check_error<ValueError>(
      "HybridAttentionLayer: needs a d_model that the number of heads divides, got 12 and 5",
      [] { layer_of("standard*5"); });
  check_error<ValueError>(
      "HybridAttentionLayer: needs a d_model that the number of heads divides, got 0 and 1",
      [] { layer_of("standard", 0); });
  check_error<ValueError>(
      "HybridAttentionLayer: unknown head type 7; allowed are standard, spectral, holonomy",
      [] { nn::HybridAttentionLayer({.d_model = 12, .head_types = {HeadType(7)}}); });
  const std::string dct = "SpectralAttention: use_dct goes with neither causal nor token_gate";
  for (bool causal : {true, false}) {
    check_error<ValueError>(dct, [&] {
      nn::HybridAttentionLayer({.d_model = 12,
                                .head_types = {standard, spectral},
                                .causal = causal,
                                .token_gate = !causal,
                                .use_dct = true});
    });
    check_error<ValueError>(dct, [&] {
      nn::SpectralAttention(
          {.d_model = 12, .causal = causal, .token_gate = !causal, .use_dct = true});
    });
  }
  check_error<ValueError>("SpectralAttention: needs a d_model that n_heads divides, got 12 and 5",
                          [] { nn::SpectralAttention({.d_model = 12, .n_heads = 5}); });
  check_error<ValueError>("SpectralAttention: needs a d_model that n_heads divides, got 12 and 0",
                          [] { nn::SpectralAttention({.d_model = 12, .n_heads = 0}); });
  check_error<ValueError>("SpectralAttention: needs a max_seq_len of at least 1, got 0",
                          [] { nn::SpectralAttention({.d_model = 12, .max_seq_len = 0}); });
  check_error<ValueError>("Dropout: needs 0 <= p < 1, got 1.5", [] {
    nn::HybridAttentionLayer({.d_model = 12, .head_types = {standard}, .dropout = 1.5});
  });
}

TEST_CASE("inputs that a layer cannot take") {
  manual_seed(4);
  nn::HybridAttentionLayer layer = layer_of("standard, spectral, holonomy");
  auto needs_x = [&](const Tensor& x, const std::string& shape) {
    check_error<ShapeError>(
        "HybridAttentionLayer: needs x [B,T,12] with B and T at least 1, got " + shape,
        [&] { layer(x); });
  };
  needs_x(randn({2, 12}), "[2,12]");
  needs_x(randn({2, 5, 11}), "[2,5,11]");
  needs_x(randn({2, 0, 12}), "[2,0,12]");
  needs_x(randn({0, 5, 12}), "[0,5,12]");
  check_error<DTypeError>("linear: the types differ, f64 and f32; write .to(f64) or .to(f32)", [&] {
    layer(randn({2, 5, 12}, {.dtype = f64}));
  });
  check_error<DTypeError>("linear: needs f32 or f64, got i64; write x.to(f32)", [&] {
    layer(zeros({2, 5, 12}, {.dtype = i64}));
  });
  nn::SpectralAttention spectral({.d_model = 12, .n_heads = 3});
  check_error<ShapeError>("SpectralAttention: needs x [B,T,12] with B and T at least 1, got [2,12]",
                          [&] {
                            spectral(randn({2, 12}));
                          });
  // A fault leaves the layer as it was.
  CHECK(std::isfinite(largest(layer(randn({2, 5, 12})))));
}

TEST_CASE("masks that a layer cannot honour are errors, never ignored") {
  manual_seed(5);
  const Tensor x = randn({2, 5, 12}), mask = tril_mask(5, 5);
  const std::string honours = "honours no mask [T,T]; use the option causal, or a token_mask";
  for (const char* text : {"spectral", "standard, spectral, holonomy"}) {
    nn::HybridAttentionLayer with_spectral = layer_of(text);
    check_error<ValueError>(
        "HybridAttentionLayer: spectral heads honour no mask [T,T]; use the option causal, or a "
        "token_mask",
        [&] { with_spectral(x, {.mask = mask}); });
  }
  nn::SpectralAttention spectral({.d_model = 12, .n_heads = 3});
  check_error<ValueError>("SpectralAttention: " + honours, [&] { spectral(x, {.mask = mask}); });
  check_error<ShapeError>("SpectralAttention: needs a token_mask [2,5], got [5,2]", [&] {
    spectral(x, {.token_mask = ones({5, 2}, {.dtype = boolean})});
  });
  check_error<DTypeError>("logical_not: needs bool, got f32; write x != 0", [&] {
    spectral(x, {.token_mask = ones({2, 5})});
  });

  nn::HybridAttentionLayer layer = layer_of("standard, holonomy, standard");
  const std::string op = "scaled_dot_product_attention: ";
  auto bad_mask = [&](const Shape& shape, const std::string& heads) {
    check_error<ShapeError>(op +
                                "needs a mask [T,S], [B,T,S], [B,1,T,S] or [B,H,T,S] with B 2, H " +
                                heads + ", T 5, S 5, got " + shape.str(),
                            [&] { layer(x, {.mask = ones(shape, {.dtype = boolean})}); });
  };
  bad_mask({5, 4}, "2");
  bad_mask({5}, "2");
  bad_mask({3, 5, 5}, "2");
  bad_mask({2, 1, 4, 5}, "2");
  check_error<ShapeError>("HybridAttentionLayer: needs a mask for 1 or 3 heads, got [2,2,5,5]",
                          [&] {
                            layer(x, {.mask = ones({2, 2, 5, 5}, {.dtype = boolean})});
                          });
  check_error<DTypeError>(op + "needs a bool mask, true where a query may attend, got f32", [&] {
    layer(x, {.mask = ones({5, 5})});
  });
  check_error<ShapeError>(op + "needs a token_mask [2,5], got [2,4]", [&] {
    layer(x, {.token_mask = ones({2, 4}, {.dtype = boolean})});
  });
  check_error<DTypeError>(op + "needs bool, got i64; write x != 0", [&] {
    layer(x, {.token_mask = ones({2, 5}, {.dtype = i64})});
  });
}

TEST_CASE("a mask for each head goes to that head, in grouped order") {
  manual_seed(6);
  constexpr std::int64_t T = 5;
  nn::HybridAttentionLayer layer = layer_of("holonomy, standard, holonomy, standard");
  const Tensor x = randn({1, T, 12}), everything = ones({1, 4, T, T}, {.dtype = boolean});
  // What reaches W_o: with W_o the identity, the heads' outputs themselves.
  layer.load_state_dict({{"W_o.weight", tril_mask(12, 12).to(f32) - tril_mask(12, 12, -1).to(f32)},
                         {"W_o.bias", zeros({12})}},
                        false);
  for (std::int64_t h = 0; h < 4; ++h) {
    Tensor mask = everything.clone();
    mask.select(1, h).fill_(0);
    Tensor changed = (layer(x, {.mask = mask}) - x).reshape({T, 4, 3});
    Tensor full = (layer(x, {.mask = everything}) - x).reshape({T, 4, 3});
    for (std::int64_t other = 0; other < 4; ++other) {
      const double difference = largest_difference(changed.select(1, other), full.select(1, other));
      if (other == h) {
        CHECK(largest(changed.select(1, other)) < 1e-6);  // nothing to attend to: zeros
        CHECK(difference > 1e-3);
      } else {
        CHECK(difference < 1e-6);
      }
    }
  }
}

TEST_CASE("models that cannot be made, ids they cannot take") {
  auto lm = [](std::int64_t vocab, std::int64_t d_model, std::int64_t layers, std::int64_t length) {
    return nn::TransformerLM({.vocab_size = vocab,
                              .d_model = d_model,
                              .layers = layers,
                              .head_types = {standard, spectral},
                              .max_seq_len = length});
  };
  check_error<ValueError>("TransformerLM: needs vocab_size >= 1, got 0", [&] { lm(0, 4, 1, 8); });
  check_error<ValueError>("TransformerLM: needs d_model >= 1, got 0", [&] { lm(7, 0, 1, 8); });
  check_error<ValueError>("TransformerLM: needs layers >= 1, got 0", [&] { lm(7, 4, 0, 8); });
  check_error<ValueError>("TransformerLM: needs max_seq_len >= 1, got 0", [&] { lm(7, 4, 1, 0); });
  check_error<ValueError>(
      "HybridAttentionLayer: needs a d_model that the number of heads divides, got 5 and 2",
      [&] { lm(7, 5, 1, 8); });
  check_error<ValueError>("TransformerClassifier: needs classes >= 1, got 0", [] {
    nn::TransformerClassifier(
        {.vocab_size = 7, .d_model = 4, .layers = 1, .head_types = {standard}, .max_seq_len = 8});
  });
  nn::TransformerLM model = lm(7, 4, 1, 8);
  const std::string needs =
      "TransformerLM: needs ids [B,T] with B and T at least 1 and at most 8 positions, got ";
  check_error<ShapeError>(needs + "[1,9] at position 0", [&] { model(randint(0, 7, {1, 9})); });
  check_error<ShapeError>(needs + "[9] at position 0", [&] { model(randint(0, 7, {9})); });
  check_error<ShapeError>(needs + "[1,0] at position 0", [&] { model(randint(0, 7, {1, 0})); });
  check_error<IndexError>("embedding: needs indices in 0..6, got 7", [&] {
    model(full({1, 3}, 7, {.dtype = i64}));
  });
  check_error<DTypeError>("embedding: needs i64 indices, got f32; write x.to(i64)", [&] {
    model(zeros({1, 3}));
  });
}
