// check_causal lets causal models pass and finds every kind of leak.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include <triad/nn/transformer.h>
#include <triad/tests/module_checks.h>

using namespace triad;

namespace {

constexpr std::int64_t kVocabulary = 16, kLength = 24, kChannels = 16;

// Embedding, one hybrid layer, and the channels as logits.
struct OneLayer {
  explicit OneLayer(const std::string& heads, bool causal)
      : tok(kVocabulary, kChannels), attn({.d_model = kChannels,
                                           .head_types = nn::heads(heads),
                                           .max_seq_len = kLength,
                                           .causal = causal}) {}
  std::string check() {
    return message_of<ValueError>([&] {
      nn::check_causal([&](const Tensor& ids) { return attn(tok(ids)); }, kVocabulary, kLength);
    });
  }
  nn::Embedding tok;
  nn::HybridAttentionLayer attn;
};

}  // namespace

TEST_CASE("causal models pass, those that hear the future do not") {
  manual_seed(5);
  for (const char* heads :
       {"standard*2", "spectral*2", "holonomy*2", "standard, spectral*2, holonomy"}) {
    CAPTURE(heads);
    CHECK(OneLayer(heads, true).check() == "no error");
    CHECK(OneLayer(heads, false)
              .check()
              .starts_with("check_causal: the model sees the future: other ids from position "));
  }
}

TEST_CASE("a language model passes, with dropout and as it was before") {
  manual_seed(6);
  nn::TransformerLM model({.vocab_size = 32,
                           .d_model = 32,
                           .layers = 3,
                           .head_types = nn::heads("standard*4, spectral*2, holonomy*2"),
                           .max_seq_len = 65,
                           .dropout = 0.3});
  const RandomStream before = random_state();
  CHECK(message_of<ValueError>([&] { nn::check_causal(model); }) == "no error");
  CHECK(model.training());
  CHECK(random_state().stream == before.stream);
  model.eval();
  nn::check_causal(model);
  CHECK_FALSE(model.training());
}

TEST_CASE("small leaks at either end are found, and rounding is none") {
  manual_seed(7);
  const Tensor table = randn({kVocabulary, 4});
  auto with_leak = [&](std::int64_t from, std::int64_t to, double size) {
    return message_of<ValueError>([&] {
      nn::check_causal(
          [&](const Tensor& ids) {
            Tensor logits = embedding(ids, table);
            Tensor heard = logits.select(1, from) * size;
            logits.select(1, to).copy_(logits.select(1, to) + heard);
            return logits;
          },
          kVocabulary, kLength);
    });
  };
  CHECK(with_leak(kLength - 1, 0, 1e-3)
            .find("from position 23 on change the logits at position 0 by") != std::string::npos);
  CHECK(with_leak(1, 0, 1e-3).find("from position 1 on change") != std::string::npos);
  CHECK(with_leak(12, 11, 1e-3).find("from position 12 on change") != std::string::npos);
  CHECK(with_leak(kLength - 1, 0, 1e-6) == "no error");
  CHECK(with_leak(0, kLength - 1, 1) == "no error");  // the past may be heard
}

TEST_CASE("logits that are not finite, or of other sizes, are refused") {
  auto check = [](double value, const Shape& shape) {
    return message_of<ValueError>([&] {
      nn::check_causal([&](const Tensor&) { return full(shape, value); }, kVocabulary, kLength);
    });
  };
  CHECK(check(std::nan(""), {4, kLength, 2}) == "check_causal: the logits are not finite");
  CHECK(check(1, {4, kLength, 2}) == "no error");
  CHECK(check(1, {4, 2}) ==
        "another type of error: check_causal: needs logits [4,24,C], got [4,2]");
}

TEST_CASE("where there is no other future there is nothing to check") {
  auto refuse = [](const Tensor&) -> Tensor { throw ValueError("called"); };
  CHECK(message_of<ValueError>([&] { nn::check_causal(refuse, 1, 8); }) == "no error");
  CHECK(message_of<ValueError>([&] { nn::check_causal(refuse, 8, 1); }) == "no error");
  CHECK(message_of<ValueError>([&] { nn::check_causal(refuse, 8, 2); }) == "called");
}
