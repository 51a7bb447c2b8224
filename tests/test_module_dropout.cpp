// Dropout in modules: what it expects, when it acts, and that both passes drop the same.
#include <triad/tests/module_checks.h>

using namespace triad;
using enum nn::HeadType;

namespace {

constexpr double kP = 0.3;

nn::HybridAttentionLayer make_layer(double dropout) {
  return nn::HybridAttentionLayer({.d_model = 12,
                                   .head_types = {standard, spectral, holonomy},
                                   .max_seq_len = 8,
                                   .dropout = dropout});
}

}  // namespace

TEST_CASE("a share p is dropped, the rest grows so that the mean stays") {
  manual_seed(1);
  nn::Dropout drop(kP);
  const Tensor x = randn({200, 500}) + 3.0, y = drop(x);
  const std::vector<double> before = values(x), after = values(y);
  double dropped = 0;
  for (std::size_t i = 0; i < after.size(); ++i) {
    if (after[i] == 0) ++dropped;
    else REQUIRE(after[i] == doctest::Approx(before[i] / (1 - kP)).epsilon(1e-6));
  }
  CHECK(dropped / double(after.size()) == doctest::Approx(kP).epsilon(0.02));
  CHECK(mean(y).item<double>() == doctest::Approx(mean(x).item<double>()).epsilon(0.01));
}

TEST_CASE("backward drops what forward dropped") {
  manual_seed(2);
  nn::Dropout drop(kP);
  Tensor x = (randn({40, 50}) + 10.0).requires_grad_(), c = randn({40, 50});
  Tensor y = drop(x);
  randn({3});  // what is drawn in between changes nothing
  y.backward(c);
  CHECK(largest_difference(x.grad(), c * y.detach() / x.detach()) < 1e-5);
}

TEST_CASE("two calls drop different elements, the same seed the same ones") {
  nn::Dropout drop(kP);
  const Tensor x = ones({50, 50});
  manual_seed(3);
  const Tensor first = drop(x), second = drop(x);
  CHECK(!same_bits(first, second));
  manual_seed(3);
  CHECK(same_bits(drop(x), first));
  CHECK(same_bits(drop(x), second));
  const RandomStream state = random_state();
  const Tensor third = drop(x);
  set_random_state(state);
  CHECK(same_bits(drop(x), third));
}

TEST_CASE("not in evaluation, and not with p = 0") {
  manual_seed(4);
  const Tensor x = randn({20, 20});
  nn::Dropout drop(kP), none(0);
  CHECK(same_bits(none(x), x));
  drop.eval();
  const RandomStream before = random_state();
  CHECK(same_bits(drop(x), x));
  CHECK(random_state().stream == before.stream);
  drop.train();
  CHECK(!same_bits(drop(x), x));
}

TEST_CASE("a layer drops in training only, and then by the seed") {
  manual_seed(5);
  nn::HybridAttentionLayer layer = make_layer(kP), plain = make_layer(0);
  plain.load_state_dict(layer.state_dict());
  const Tensor x = randn({2, 8, 12});
  layer.eval();
  CHECK(same_bits(layer(x), plain(x)));
  layer.train();
  manual_seed(6);
  const Tensor once = layer(x);
  CHECK(!same_bits(once, plain(x)));
  CHECK(!same_bits(once, layer(x)));
  manual_seed(6);
  CHECK(same_bits(once, layer(x)));
}

TEST_CASE("dropped attention weights: their mean over many draws is the attention without") {
  manual_seed(7);
  nn::StandardAttention dropping({.dropout = kP}), plain({});
  auto heads = [] { return randn({1, 2, 5, 4}); };
  const Tensor q = heads(), k = heads(), v = heads(), expected = plain(q, k, v);
  constexpr int kDraws = 4000;
  Tensor sum = zeros(expected.shape());
  for (int i = 0; i < kDraws; ++i) sum = sum + dropping(q, k, v);
  // One draw has a standard deviation of about 0.65 times a weight times a value.
  CHECK(largest_difference(sum / kDraws, expected) < 0.06);
  CHECK(largest_difference(dropping(q, k, v), expected) > 0.1);
  dropping.eval();
  CHECK(same_bits(dropping(q, k, v), expected));
}
