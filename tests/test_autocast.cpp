// Mixed precision: what runs in bf16 under Autocast, and that training in it learns as in f32.
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

using namespace triad;
using enum nn::HeadType;

namespace {

double last_loss(bool mixed) {
  manual_seed(1);
  nn::TransformerLM model({.vocab_size = 17,
                           .d_model = 32,
                           .layers = 2,
                           .head_types = {standard, spectral, holonomy, spectral},
                           .max_seq_len = 16});
  model.to(test_device());
  nn::AdamW optimizer(nn::decay_groups(model, 0.01), {.lr = 3e-3});
  double last = 0;
  for (int step = 0; step < (is_simulated() ? 6 : 60); ++step) {
    std::vector<std::int64_t> text;  // 5 times the token before it, plus 3
    for (std::int64_t token : randint(0, 17, {4}).to_vector<std::int64_t>())
      for (int t = 0; t <= 16; ++t, token = (5 * token + 3) % 17) text.push_back(token);
    const Tensor ids = from_vector(text, {4, 17}).to(test_device());
    optimizer.zero_grad();
    Tensor loss;
    {
      std::optional<Autocast> guard;
      if (mixed) guard.emplace();
      loss = cross_entropy(model(ids.slice(1, 0, 16)), ids.slice(1, 1));
    }
    loss.backward();
    optimizer.step();
    last = loss.item<double>();
    CHECK(loss.dtype() == f32);
  }
  for (const auto& [name, p] : model.named_parameters()) {
    CHECK_MESSAGE(p.dtype() == f32, name);
    CHECK_MESSAGE((!p.grad().defined() || p.grad().dtype() == f32), name);
  }
  return last;
}

}  // namespace

TEST_CASE("what is narrowed, what is widened, and what is left alone") {
  const auto made = [](const Shape& shape, DType dtype) {
    return randn(shape).to(dtype).to(test_device());
  };
  const Tensor a = made({4, 4}, f32), b = made({4, 4}, f32), h = made({4, 4}, bf16);
  const Tensor q = made({1, 2, 4, 8}, f32);
  CHECK(!autocast_enabled());
  {
    const Autocast guard;
    CHECK(autocast_enabled());
    CHECK(matmul(a, b).dtype() == bf16);
    CHECK(matmul(h, b).dtype() == bf16);
    CHECK(linear(a, b, a.select(0, 0)).dtype() == bf16);
    CHECK(scaled_dot_product_attention(q, q, q).dtype() == bf16);
    CHECK(matmul(a.to(f64), b.to(f64)).dtype() == f64);
    CHECK((h + a).dtype() == f32);
    CHECK((a * h).dtype() == f32);
    CHECK((h + h).dtype() == bf16);
    CHECK(where(a > 0.0, a, h).dtype() == f32);
    CHECK(cat({h, a, h}).dtype() == f32);
    CHECK(gelu(h).dtype() == bf16);
    CHECK(softmax(h, -1).dtype() == f32);
    CHECK(layer_norm(h, a.select(0, 0), b.select(0, 0)).dtype() == f32);
    CHECK(sum(h).dtype() == f32);
    // The gradients are of the leaves' type.
    Tensor x = a.detach().clone().requires_grad_(), w = b.detach().clone().requires_grad_();
    sum(square(linear(x, w))).backward();
    CHECK(x.grad().dtype() == f32);
    CHECK(w.grad().dtype() == f32);
    const Tensor want = matmul(2.0 * linear(a, b), b);
    CHECK(largest_difference(x.grad(), want) < 0.05 * largest(want));
  }
  CHECK(matmul(a, b).dtype() == f32);
  CHECK(softmax(h, -1).dtype() == bf16);
  CHECK_THROWS_AS(h + a, DTypeError);
}

TEST_CASE("a model trained in mixed precision learns what it learns in f32") {
  const double f32_loss = last_loss(false), mixed_loss = last_loss(true);
  MESSAGE("losses ", f32_loss, " in f32, ", mixed_loss, " under Autocast");
  CHECK(mixed_loss == doctest::Approx(f32_loss).epsilon(0.05));
}
