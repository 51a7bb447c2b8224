// What is special about the ops of neural networks; all else that they do is in op_cases.
#include <triad/tests/op_test.h>

#include <cmath>

using namespace op_test;

TEST_CASE("softmax at the edges") {
  const Tensor large = from_vector<float>({1e30f, 1e30f, -1e30f}, {3});
  CHECK(values(softmax(large, 0)) == Values{0.5, 0.5, 0});
  const Tensor masked = from_vector<double>({-kInf, 0, -kInf}, {3});
  CHECK(values(softmax(masked, 0)) == Values{0, 1, 0});
  CHECK(values(log_softmax(masked, 0)) == Values{-kInf, 0, -kInf});
  for (double odd : {-kInf, kInf, kNan})  // nothing but -inf, an infinity, a NaN
    check_close(log_softmax(from_vector<double>({-kInf, odd}, {2}), 0), {kNan, kNan}, 0, "odd");
  const Tensor far = from_vector<float>({1e6f, 1e6f}, {2});  // a large mean costs no digits
  check_close(log_softmax(far, 0), Values(2, -std::log(2.0)), bound(f32), "log_softmax");
}

TEST_CASE("layer_norm: gradients of any part alone") {
  for (DType dtype : {f32, f64})
    for (std::int64_t C : {1, 2, 5, 31, 64})
      for (Lie lie : kLies) {
        const Tensor x = laid(lie, noise({3, 2, C}, dtype, 2) + 0.5);
        check_close(layer_norm(x), reference::normalize(values(x), std::size_t(C), 1e-5).h,
                    4 * bound(dtype), "layer_norm of few");
      }
  check_gradient("weight only", [](const Tensors& x) { return layer_norm(x[0], x[1]); },
                 {noise({3, 5}), noise({5})});
  check_gradient("bias only", [](const Tensors& x) { return layer_norm(x[0], {}, x[1]); },
                 {noise({3, 5}), noise({5})});
}

TEST_CASE("dropout draws one stream, or none") {
  const RandomStream before = random_state();
  const Tensor x = noise({3, 35}) + 10.0;
  dropout(x, 0.25);
  CHECK(random_state().stream == before.stream + 1);
  CHECK(dropout(x, 0).storage() == x.storage());
  CHECK(dropout(x, 0.9, false).storage() == x.storage());
  CHECK(random_state().stream == before.stream + 1);
  for (double p : {-0.1, 1., 2., kNan})
    check_error<ValueError>([&] { dropout(x, p); }, "dropout: needs 0 <= p < 1, got ");
}

TEST_CASE("cross_entropy: positions that do not count") {
  const std::vector<std::int64_t> ids = {0, 4, kIgnoreIndex, 2, 2, 1};
  const Tensor target = from_vector(ids, {2, 3});
  for (DType dtype : {f32, f64})
    for (Lie lie : kLies) {
      const Tensor logits = laid(lie, noise({2, 3, 5}, dtype, 3));
      double total = 0;
      for (double loss : reference::cross_entropy(values(logits), ids, kIgnoreIndex)) total += loss;
      check_close(cross_entropy(logits, laid(lie, target)), {total / 5}, bound(dtype), "loss");
    }
  check_gradient("cross_entropy", [&](const Tensors& x) { return cross_entropy(x[0], target); },
                 {noise({2, 3, 5})});
  check_gradient("another index to ignore",
                 [&](const Tensors& x) { return cross_entropy(x[0], target.select(0, 1), 2); },
                 {noise({3, 5})});

  const Tensor x = noise({2, 5}, f32).requires_grad_();
  const Tensor none = full({2}, double(kIgnoreIndex), {.dtype = i64});
  const Tensor nan = cross_entropy(x, none);
  CHECK(std::isnan(nan.item<float>()));
  nan.backward();
  CHECK(values(x.grad()) == Values(10, 0));
  const Tensor sure = from_vector<float>({100, 0, 0}, {1, 3});
  CHECK(cross_entropy(sure, zeros({1}, {.dtype = i64})).item<float>() == 0);
  check_error<IndexError>(
      [&] {
        cross_entropy(x, from_vector<std::int64_t>({0, -1}));
      },
      "cross_entropy: needs indices in 0..4, got -1");
}

TEST_CASE("label smoothing leaves out what does not count") {
  const Tensor a = noise({3, 5}) * 2.0, classes = tensor({4, kIgnoreIndex, 0}, {3}, i64);
  const Values logp = values(log_softmax(a, -1));
  double smooth = 0;
  for (std::size_t r : {std::size_t(0), std::size_t(2)})
    for (std::size_t c = 0; c < 5; ++c)
      smooth -= ((c == (r == 0 ? 4u : 0u) ? 0.8 : 0.0) + 0.2 / 5) * logp[r * 5 + c] / 2;
  check_close(cross_entropy(a, classes, kIgnoreIndex, 0.2), {smooth}, 1e-13, "label smoothing");
  check_gradient("label smoothing",
                 [&](const Tensors& t) { return cross_entropy(t[0], classes, kIgnoreIndex, 0.2); },
                 {a});
}

TEST_CASE("kl_div: 0 log 0 is 0") { CHECK(values(kl_div(zeros({2}), zeros({2}))) == Values{0}); }
