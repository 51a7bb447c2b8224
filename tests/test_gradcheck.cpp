// gradcheck must fail where a gradient is wrong: a check that cannot is worth nothing.
#include <triad/tests/op_test.h>

using namespace op_test;

namespace {

// x^3 element by element, with the gradient that `rule` makes of it.
Tensor cube_with(const Tensor& x, std::function<Tensor(const Tensor& g, const Tensor& x)> rule) {
  const Tensor y = x.detach() * x.detach() * x.detach();
  return record("cube", y, {x},
                [x, rule](const Tensor& g) { return Tensors{rule(g, x.detach())}; });
}

Tensor right(const Tensor& g, const Tensor& x) { return g * 3.0 * x * x; }

// 1 at element `at`, else 0.
Tensor one_hot(const Shape& shape, std::size_t at) {
  Values v(std::size_t(shape.numel()));
  v[at] = 1;
  return tensor(v, shape, f64);
}

}  // namespace

TEST_CASE("a right gradient passes") {
  const auto result =
      gradcheck([](const Tensors& x) { return cube_with(x[0], right); }, {noise({3, 5})});
  CHECK(result.passed);
  CHECK(bool(result));
  CHECK(result.worst < 1e-7);
  CHECK(result.worst >= 0);
}

TEST_CASE("one wrong element fails, and is named") {
  const Tensor x = noise({3, 5});
  for (double wrong : {1e-5, -1e-4, 0.1, 1e6, kInf, kNan}) {
    const auto result = gradcheck(
        [&](const Tensors& t) {
          return cube_with(t[0], [&](const Tensor& g, const Tensor& at) {
            const Tensor exact = right(g, at);
            return where(one_hot({3, 5}, 7) != 0.0, exact + 10 * wrong, exact);
          });
        },
        {x});
    CHECK_MESSAGE(!result.passed, wrong);
    CHECK_MESSAGE(result.message.starts_with("input 0 [3,5], element 7: gradient "),
                  result.message);
  }
}

TEST_CASE("errors that a sum would hide are found") {
  const Tensor x = noise({4});
  // softmax under sum() has the gradient zero, which any scaled rule gives too.
  const auto scaled = [](const Tensors& t) {
    const Tensor y = softmax(t[0].detach(), 0);
    return record("soft", y, {t[0]},
                  [y](const Tensor& g) { return Tensors{(g - sum(g * y)) * y * 1.001}; });
  };
  CHECK(!gradcheck(scaled, {x}));
  // Right whenever all elements of g are the same, as they are under sum().
  const auto averaged = [](const Tensors& t) {
    return cube_with(
        t[0], [](const Tensor& g, const Tensor& at) { return right(g * 0.0 + mean(g), at); });
  };
  CHECK(!gradcheck(averaged, {x}));
}

TEST_CASE("comparing nothing but zeros is no check") {
  const auto zero = [](const Tensors& x) { return sign(x[0]); };
  auto result = gradcheck(zero, {noise({3})});
  CHECK(!result.passed);
  CHECK(result.message == "input 0 [3]: nothing but zeros was compared");
  result = gradcheck([](const Tensors& x) { return x[0] + x[1] * 0.0; }, {noise({3}), noise({3})});
  CHECK(!result.passed);
  CHECK(result.message == "input 1 [3]: nothing but zeros was compared");
  result = gradcheck([](const Tensors& x) { return x[0] * 2.0; }, {noise({0, 2})});
  CHECK(!result.passed);
  CHECK(result.message == "input 0 [0,2]: nothing but zeros was compared");
  // A gradient of zeros where the function does change.
  result = gradcheck(
      [](const Tensors& x) {
        return cube_with(x[0], [](const Tensor& g, const Tensor&) { return g * 0.0; });
      },
      {noise({3})});
  CHECK(!result.passed);
  CHECK(result.worst == 1);
}

TEST_CASE("NaN fails even where the gradient is NaN too") {
  const auto result = gradcheck([](const Tensors& x) { return sqrt(x[0]); },
                                {from_vector<double>({1, -1, 2}, {3})});
  CHECK(!result.passed);
  CHECK_MESSAGE(result.message.ends_with("nan"), result.message);  // the sum is NaN everywhere
  const auto all =
      gradcheck([](const Tensors& x) { return sqrt(x[0]); }, {from_vector<double>({-1}, {1})});
  CHECK(!all.passed);
  CHECK_MESSAGE(all.message.starts_with("input 0 [1], element 0: gradient "), all.message);
}

TEST_CASE("the worst of several inputs is named") {
  const auto f = [](const Tensors& x) {
    const Tensor good = cube_with(x[0], right);
    const Tensor bad =
        cube_with(x[1], [](const Tensor& g, const Tensor& at) { return right(g, at) * 1.01; });
    const Tensor worse =
        cube_with(x[2], [](const Tensor& g, const Tensor& at) { return right(g, at) * 1.5; });
    return good + bad + worse;
  };
  const auto result = gradcheck(f, {noise({3}), noise({3}), noise({3})});
  CHECK(!result.passed);
  CHECK_MESSAGE(result.message.starts_with("input 2 [3], element "), result.message);
  CHECK(result.worst == doctest::Approx(1.0 / 3).epsilon(1e-3));
}

TEST_CASE("options: step and tolerance") {
  const TensorFunction off = [](const Tensors& x) {
    return cube_with(x[0], [](const Tensor& g, const Tensor& at) { return right(g, at) * 1.001; });
  };
  CHECK(!gradcheck(off, {noise({3})}));
  CHECK(gradcheck(off, {noise({3})}, {.tolerance = 2e-3}));
  CHECK(!gradcheck([](const Tensors& x) { return exp(x[0]); }, {noise({3})}, {.eps = 0.1}));
}

TEST_CASE("inputs stay as they were, and so does the generator") {
  const Tensor x = noise({3, 5}), kept = x.clone();
  const RandomStream before = random_state();
  CHECK(gradcheck([](const Tensors& t) { return exp(t[0]); }, {x}));
  CHECK(same_bits(x, kept));
  CHECK(!x.requires_grad());
  CHECK(random_state().stream == before.stream);
  const Tensor leaf = noise({2}).requires_grad_();
  CHECK(gradcheck([](const Tensors& t) { return square(t[0]); }, {leaf}));
  CHECK(!leaf.grad().defined());
}

TEST_CASE("misuse is an error") {
  const auto same = [](const Tensors& x) { return x[0] * 1.0; };
  check_error<DTypeError>([&] { gradcheck(same, {zeros({2})}); },
                          "gradcheck: needs f64 inputs, got f32");
  check_error<DTypeError>(
      [&] { gradcheck([](const Tensors& x) { return x[0].to(f32); }, {noise({2})}); },
      "gradcheck: the function must give f64, not f32");
  check_error<AutogradError>(
      [&] {
        gradcheck(same, {noise({2}), noise({2})});
      },
      "no output depends on input 1");
  const auto none = gradcheck([](const Tensors&) { return noise({2}).requires_grad_() * 1.0; }, {});
  CHECK(!none.passed);
  CHECK(none.message == "no input was given");
}

TEST_CASE("gradgradcheck finds a rule that is wrong only when it is differentiated") {
  const auto right = [](const Tensors& x) { return exp(x[0]) * x[1]; };
  CHECK(gradgradcheck(right, {noise({3}), noise({3})}));
  // A cube whose rule treats x as a constant: right once, wrong twice.
  const auto wrong = [](const Tensors& x) {
    const Tensor value = x[0].detach();
    return record("cube", value * value * value, {x[0]},
                  [value](const Tensor& g) { return Tensors{g * value * value * 3.0}; });
  };
  CHECK(gradcheck(wrong, {noise({3})}));
  CHECK(!gradgradcheck(wrong, {noise({3})}));
}
