// The fused ops of neural networks: values against fp64 twins, gradients by gradcheck, and the
// message of those that cannot be differentiated twice.
#include <triad/tests/op_test.h>

#include <cmath>

using namespace op_test;

namespace {

// Applies a twin for rows, f(values, C), along another axis.
template <class Twin> Values along(const Tensor& x, std::int64_t axis, Twin twin) {
  const Tensor rows = x.transpose(axis, -1);
  const Values y = twin(values(rows), std::size_t(x.size(axis)));
  return values(tensor(y, rows.shape(), f64).transpose(axis, -1));
}

// Differentiating twice throws the op's message.
void check_once_only(const std::string& op, const TensorFunction& f, const Tensors& inputs) {
  Tensors leaves;
  for (const Tensor& x : inputs) leaves.push_back(x.clone().requires_grad_());
  const Tensor y = f(leaves);
  const Tensors g = grad({y}, leaves, {noise(y.shape())}, {.create_graph = true});
  for (const Tensor& first : g)
    check_error<AutogradError>(
        [&] { grad({sum(square(first))}, leaves, {}, {.retain_graph = true}); },
        op + ": the gradient of this fused op cannot be differentiated again");
}

}  // namespace

TEST_CASE("softmax and log_softmax along any axis") {
  for (DType dtype : {f32, f64})
    for (Lie lie : kLies)
      for (std::int64_t axis : {0, 1, 2, -1, -3}) {
        const Tensor x = laid(lie, noise({3, 5, 7}, dtype, 3));
        check_close(softmax(x, axis), along(x, axis, reference::softmax), bound(dtype), "softmax",
                    0.1);
        check_close(log_softmax(x, axis), along(x, axis, reference::log_softmax), bound(dtype),
                    "log_softmax");
      }
  for (std::int64_t axis : {0, 1, -1}) {
    const auto soft = [&](const Tensors& x) { return softmax(x[0], axis); };
    const auto log_soft = [&](const Tensors& x) { return log_softmax(x[0], axis); };
    check_gradient("softmax", soft, {noise({3, 5, 2})});
    check_gradient("log_softmax", log_soft, {noise({3, 5, 2})});
    check_once_only("softmax", soft, {noise({3, 5, 2})});
    check_second_gradient("log_softmax", log_soft, {noise({3, 5, 2})});
  }
}

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
  CHECK(log_softmax(zeros({3, 0}), 1).shape() == Shape{3, 0});
  CHECK(values(softmax(zeros({4, 1}), -1)) == Values{1, 1, 1, 1});
  CHECK(softmax(zeros({0, 3}), 1).shape() == Shape{0, 3});
  CHECK(softmax(zeros({3, 0}), 1).shape() == Shape{3, 0});
  check_error<IndexError>([] { softmax(zeros({2}), 1); }, "softmax: axis 1 is out of range");
  check_error<DTypeError>([] { softmax(arange(2, {.dtype = i64}), 0); }, "softmax: needs f32");
  check_error<IndexError>([] { log_softmax(zeros({2}), -2); }, "log_softmax: axis -2");
}

TEST_CASE("layer_norm") {
  for (DType dtype : {f32, f64})
    for (std::int64_t C : {1, 2, 5, 31, 64})
      for (Lie lie : kLies) {
        const Tensor x = laid(lie, noise({3, 2, C}, dtype, 2) + 0.5);
        const Tensor w = laid(lie, noise({C}, dtype)), b = laid(lie, noise({C}, dtype));
        Values want = reference::normalize(values(x), std::size_t(C), 1e-5).h;
        check_close(layer_norm(x), want, 4 * bound(dtype), "layer_norm alone");
        for (std::size_t i = 0; i < want.size(); ++i)
          want[i] = want[i] * values(w)[i % std::size_t(C)] + values(b)[i % std::size_t(C)];
        check_close(layer_norm(x, w, b), want, 4 * bound(dtype), "layer_norm");
      }
  const auto full = [](const Tensors& x) { return layer_norm(x[0], x[1], x[2]); };
  check_gradient("layer_norm", full, {noise({3, 2, 5}), noise({5}), noise({5})});
  check_gradient("one row", full, {noise({7}), noise({7}), noise({7})});
  check_gradient("weight only", [](const Tensors& x) { return layer_norm(x[0], x[1]); },
                 {noise({3, 5}), noise({5})});
  check_gradient("bias only", [](const Tensors& x) { return layer_norm(x[0], {}, x[1]); },
                 {noise({3, 5}), noise({5})});
  check_gradient("large eps", [](const Tensors& x) { return layer_norm(x[0], {}, {}, 0.5); },
                 {noise({3, 5})});
  check_once_only("layer_norm", full, {noise({3, 5}), noise({5}), noise({5})});
  CHECK(layer_norm(zeros({0, 5})).shape() == Shape{0, 5});
  const Tensor x = zeros({2, 3});
  check_error<ShapeError>([] { layer_norm(zeros({})); }, "layer_norm: needs at least one axis");
  check_error<ShapeError>([&] { layer_norm(x, zeros({2})); },
                          "layer_norm: needs weight and bias [3] for x [2,3], got [2]");
  check_error<ShapeError>([&] { layer_norm(x, {}, zeros({1, 3})); }, "got [1,3]");
  check_error<DTypeError>([&] { layer_norm(x, zeros({3}, {.dtype = f64})); }, "the types differ");
}

TEST_CASE("embedding") {
  const Tensor ids = from_vector<std::int64_t>({4, 0, 2, 2, 1, 4}, {2, 3});
  for (DType dtype : {f32, f64})
    for (Lie lie : kLies) {
      const Tensor weight = laid(lie, noise({5, 3}, dtype)), where = laid(lie, ids);
      const Tensor y = embedding(where, weight);
      CHECK(y.shape() == Shape{2, 3, 3});
      Values want;
      for (double id : values(ids))
        for (int j = 0; j < 3; ++j) want.push_back(values(weight)[std::size_t(id * 3 + j)]);
      CHECK(values(y) == want);
    }
  const auto f = [&](const Tensors& x) { return embedding(ids, x[0]); };
  check_gradient("embedding", f, {noise({5, 3})});
  CHECK(embedding(scalar(3, {.dtype = i64}), noise({5, 3})).shape() == Shape{3});
  CHECK(embedding(zeros({0, 2}, {.dtype = i64}), noise({5, 3})).shape() == Shape{0, 2, 3});
  const Tensor weight = zeros({5, 3});
  const auto with = [&](std::int64_t id) {
    return embedding(full({2}, double(id), {.dtype = i64}), weight);
  };
  check_error<IndexError>([&] { with(5); }, "embedding: needs indices in 0..4, got 5");
  check_error<IndexError>([&] { with(-1); }, "embedding: needs indices in 0..4, got -1");
  check_error<DTypeError>([&] { embedding(weight, weight); }, "needs i64 indices, got f32");
  check_error<ShapeError>([&] { embedding(ids, zeros({5})); }, "needs weight [V,C], got [5]");
  check_error<DTypeError>([&] { embedding(ids, ids); }, "embedding: needs f32 or f64");
}

TEST_CASE("dropout") {
  const RandomStream before = random_state();
  const Tensor x = noise({3, 35}) + 10.0;
  const Tensor y = dropout(x, 0.25);
  const Values in = values(x), out = values(y);
  for (std::size_t i = 0; i < in.size(); ++i) {
    const bool kept = reference::uniform_f32(before, i) >= 0.25f;
    CHECK(out[i] == doctest::Approx(kept ? in[i] / 0.75 : 0).epsilon(1e-14));
  }
  CHECK(random_state().stream == before.stream + 1);
  const auto f = [](const Tensors& t) {
    manual_seed(3);
    return dropout(t[0], 0.5);
  };
  check_gradient("dropout", f, {noise({5, 7})});
  check_second_gradient("dropout", f, {noise({5, 7})});
  CHECK(dropout(x, 0).storage() == x.storage());
  CHECK(dropout(x, 0.9, false).storage() == x.storage());
  CHECK(dropout(zeros({0, 3}), 0.5).shape() == Shape{0, 3});
  for (double p : {-0.1, 1., 2., kNan})
    check_error<ValueError>([&] { dropout(x, p); }, "dropout: needs 0 <= p < 1, got ");
  check_error<DTypeError>([&] { dropout(x.to(i64), 0.5); }, "dropout: needs f32 or f64");
}

TEST_CASE("cross_entropy") {
  const std::vector<std::int64_t> ids = {0, 4, kIgnoreIndex, 2, 2, 1};
  const Tensor target = from_vector(ids, {2, 3});
  for (DType dtype : {f32, f64})
    for (Lie lie : kLies) {
      const Tensor logits = laid(lie, noise({2, 3, 5}, dtype, 3));
      double total = 0;
      for (double loss : reference::cross_entropy(values(logits), ids, kIgnoreIndex)) total += loss;
      check_close(cross_entropy(logits, laid(lie, target)), {total / 5}, bound(dtype), "loss");
    }
  const auto f = [&](const Tensors& x) { return cross_entropy(x[0], target); };
  check_gradient("cross_entropy", f, {noise({2, 3, 5})});
  check_once_only("cross_entropy", f, {noise({2, 3, 5})});
  check_gradient("another index to ignore",
                 [&](const Tensors& x) { return cross_entropy(x[0], target.select(0, 1), 2); },
                 {noise({3, 5})});
  check_gradient("one position",
                 [&](const Tensors& x) { return cross_entropy(x[0], scalar(1, {.dtype = i64})); },
                 {noise({5})});

  const Tensor x = noise({2, 5}, f32).requires_grad_();
  const Tensor none = full({2}, double(kIgnoreIndex), {.dtype = i64});
  const Tensor nan = cross_entropy(x, none);
  CHECK(std::isnan(nan.item<float>()));
  nan.backward();  // what it gives is not defined; it must not write outside
  CHECK(x.grad().shape() == x.shape());
  const Tensor sure = from_vector<float>({100, 0, 0}, {1, 3});
  CHECK(cross_entropy(sure, zeros({1}, {.dtype = i64})).item<float>() == 0);

  check_error<ShapeError>(
      [&] { cross_entropy(x, target); },
      "cross_entropy: needs logits [...,C] and target [...], got [2,5] and [2,3]");
  check_error<DTypeError>([&] { cross_entropy(x, zeros({2})); },
                          "cross_entropy: needs i64 indices, got f32; write x.to(i64)");
  for (std::int64_t id : {5, -1})
    check_error<IndexError>(
        [&] {
          cross_entropy(x, from_vector<std::int64_t>({0, id}));
        },
        "cross_entropy: needs indices in 0..4, got " + std::to_string(id));
}

TEST_CASE("mse_loss") {
  const Tensor a = noise({3, 5}), b = noise({5, 3}).transpose(0, 1);
  double total = 0;
  for (std::size_t i = 0; i < 15; ++i) total += std::pow(values(a)[i] - values(b)[i], 2) / 15;
  check_close(mse_loss(a, b), {total}, 1e-14, "mse_loss");
  const auto f = [](const Tensors& x) { return mse_loss(x[0], x[1]); };
  check_gradient("mse_loss", f, {a, b});
  check_second_gradient("mse_loss", f, {a, b});
  check_error<ShapeError>([&] { mse_loss(a, noise({5})); },
                          "mse_loss: the sizes differ, [3,5] and [5]");
  check_error<DTypeError>([&] { mse_loss(a, a.to(f32)); }, "mse_loss: the types differ");
}

TEST_CASE("rms_norm") {
  for (DType dtype : {f32, f64})
    for (Lie lie : kLies) {
      const Tensor x = laid(lie, noise({3, 7}, dtype)), weight = noise({7}, dtype);
      Values want = values(x);
      const Values w = values(weight);
      for (std::size_t r = 0; r < 3; ++r) {
        double squares = 0;
        for (std::size_t j = 0; j < 7; ++j) squares += want[r * 7 + j] * want[r * 7 + j] / 7;
        for (std::size_t j = 0; j < 7; ++j) want[r * 7 + j] *= w[j] / std::sqrt(squares + 1e-6);
      }
      check_close(rms_norm(x, weight), want, bound(dtype), "rms_norm");
    }
  const auto f = [](const Tensors& x) { return rms_norm(x[0], x[1]); };
  check_gradient("rms_norm", f, {noise({3, 5}), noise({5})});
  check_second_gradient("rms_norm", f, {noise({3, 5}), noise({5})});
  check_error<ShapeError>(
      [] {
        rms_norm(zeros({2, 3}), zeros({2}));
      },
      "rms_norm: needs x [...,C] and weight [C], got [2,3] and [2]");
}

TEST_CASE("causal_conv1d hears the past alone") {
  const Tensor x = noise({2, 6, 3}), weight = noise({3, 4}), bias = noise({3});
  const Values v = values(x), w = values(weight), b = values(bias);
  Values want;
  for (std::int64_t n = 0; n < 2; ++n)
    for (std::int64_t t = 0; t < 6; ++t)
      for (std::int64_t c = 0; c < 3; ++c) {
        double y = b[std::size_t(c)];
        for (std::int64_t k = 0; k < 4; ++k)
          if (t - 3 + k >= 0)
            y += w[std::size_t(c * 4 + k)] * v[std::size_t((n * 6 + t - 3 + k) * 3 + c)];
        want.push_back(y);
      }
  check_close(causal_conv1d(x, weight, bias), want, 1e-14, "causal_conv1d");
  const auto f = [](const Tensors& t) { return causal_conv1d(t[0], t[1], t[2]); };
  check_gradient("causal_conv1d", f, {x, weight, bias});
  check_second_gradient("causal_conv1d", f, {noise({1, 3, 2}), noise({2, 2}), noise({2})});
  check_error<ShapeError>(
      [&] {
        causal_conv1d(x, zeros({2, 4}, {.dtype = f64}));
      },
      "causal_conv1d: needs x [B,T,C] and weight [C,K]");
}

TEST_CASE("losses and their reductions") {
  const Tensor a = noise({3, 5}) * 2.0, b = noise({3, 5});
  const Values x = values(a), y = values(b);
  Values squares, huber, kl;
  const Tensor p = softmax(b, -1);
  const Values target = values(p);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = std::abs(x[i] - y[i]);
    squares.push_back(d * d);
    huber.push_back(d <= 1.5 ? d * d / 2 : 1.5 * (d - 0.75));
    kl.push_back(target[i] * (std::log(target[i]) - x[i]));
  }
  const auto check = [](const Tensor& none, const Tensor& total, const Tensor& mean,
                        const Values& want, const char* what) {
    double sum = 0;
    for (double v : want) sum += v;
    check_close(none, want, 1e-14, what);
    check_close(total, {sum}, 1e-14, what);
    check_close(mean, {sum / double(want.size())}, 1e-14, what);
  };
  using enum Reduction;
  check(mse_loss(a, b, none), mse_loss(a, b, Reduction::sum), mse_loss(a, b), squares, "mse");
  check(huber_loss(a, b, 1.5, none), huber_loss(a, b, 1.5, Reduction::sum), huber_loss(a, b, 1.5),
        huber, "huber");
  check(kl_div(a, p, none), kl_div(a, p, Reduction::sum), kl_div(a, p), kl, "kl_div");
  CHECK(values(kl_div(zeros({2}), zeros({2}))) == Values{0});  // 0 log 0 is 0
  check_gradient("huber", [](const Tensors& t) { return huber_loss(t[0], t[1], 0.7); }, {a, b});
  check_gradient("kl_div", [](const Tensors& t) { return kl_div(t[0], softmax(t[1], -1)); },
                 {a, b});
  check_error<ShapeError>([&] { huber_loss(a, b.slice(0, 0, 2)); }, "huber_loss: the sizes differ");
  check_error<ValueError>([&] { huber_loss(a, b, 0); }, "huber_loss: needs delta > 0");

  // Label smoothing is cross entropy with a target that is not one class alone.
  const Tensor classes = tensor({4, -100, 0}, {3}, i64);
  const Values logp = values(log_softmax(a, -1));
  double smooth = 0;
  for (std::size_t r : {std::size_t(0), std::size_t(2)})
    for (std::size_t c = 0; c < 5; ++c)
      smooth -= ((c == (r == 0 ? 4u : 0u) ? 0.8 : 0.0) + 0.2 / 5) * logp[r * 5 + c] / 2;
  check_close(cross_entropy(a, classes, kIgnoreIndex, 0.2), {smooth}, 1e-13, "label smoothing");
  check_gradient("label smoothing",
                 [&](const Tensors& t) { return cross_entropy(t[0], classes, kIgnoreIndex, 0.2); },
                 {a});
  check_error<ValueError>([&] { cross_entropy(a, classes, -100, 1.5); },
                          "needs 0 <= label_smoothing <= 1");
}
