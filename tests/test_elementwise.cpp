// What is special about elementwise ops; all else that they do is in op_cases.
#include <triad/tests/op_test.h>

#include <cmath>

using namespace op_test;

TEST_CASE("the same tensor on both sides") {
  const std::pair<const char*, Tensor (*)(const Tensor&, const Tensor&)> ops[] = {
      {"add", operator+ },
       {"sub", operator- },
        {"mul", operator* }, {"div", operator/ }, {"maximum", maximum}, {"minimum", minimum}};
  for (const auto& [name, op] : ops)
    check_gradient(name, [op = op](const Tensors& x) { return op(x[0], x[0] * x[0]); },
                   {between(0.5, 3, {5})});
}

TEST_CASE("NaN is nothing's equal") {
  const Tensor nan = scalar(kNan).requires_grad_();
  CHECK(!(nan == nan).item<bool>());
  CHECK((nan != nan).item<bool>());
  CHECK(!(nan < nan).item<bool>());
  CHECK(!(nan >= nan).item<bool>());
  CHECK(!(nan == nan).requires_grad());
}

TEST_CASE("sign, and abs at zero") {
  const Tensor x = from_vector<double>({-2, -0.0, 0, 3, kNan}, {5}).requires_grad_();
  CHECK(values(sign(x.slice(0, 0, 4))) == Values{-1, 0, 0, 1});
  CHECK(std::isnan(values(sign(x))[4]));
  CHECK(values(grad({sum(sign(x.slice(0, 0, 4)))}, {x})[0]) == Values{0, 0, 0, 0, 0});
  CHECK(values(grad({sum(abs(x.slice(0, 0, 4)))}, {x})[0]) == Values{-1, 0, 0, 1, 0});
  const Tensor whole = from_vector<std::int64_t>({-3, 0, 4}, {3});
  CHECK(values(sign(whole)) == Values{-1, 0, 1});
  CHECK(values(abs(whole)) == Values{3, 0, 4});
  CHECK(values(-whole) == Values{3, 0, -4});
  CHECK(values(square(whole)) == Values{9, 0, 16});
}

TEST_CASE("integers are exact") {
  const std::int64_t big = (std::int64_t(1) << 60) + 1;
  const Tensor a = from_vector<std::int64_t>({big, -big}, {2});
  const Tensor b = from_vector<std::int64_t>({1, 3}, {2});
  using Whole = std::vector<std::int64_t>;
  CHECK((a + b).to_vector<std::int64_t>() == Whole{big + 1, 3 - big});
  CHECK((a - b).to_vector<std::int64_t>() == Whole{big - 1, -3 - big});
  CHECK((a * b).to_vector<std::int64_t>() == Whole{big, -3 * big});
  CHECK(maximum(a, b).to_vector<std::int64_t>() == Whole{big, 3});
  CHECK(minimum(a, b).to_vector<std::int64_t>() == Whole{1, -big});
  CHECK((a == a - 1.0).to_vector<bool>() == std::vector<bool>{false, false});
}

TEST_CASE("maximum and minimum: NaN wins, and equals share their gradient") {
  const Tensor a = from_vector<double>({1, 2, kNan, 4}, {4}).requires_grad_();
  const Tensor b = from_vector<double>({1, 3, 5, kNan}, {4}).requires_grad_();
  CHECK(std::isnan(values(maximum(a, b))[2]));
  CHECK(std::isnan(values(minimum(a, b))[3]));
  const auto half = [&](const Tensor& y, const Tensor& x) {
    const Values g = values(grad({sum(y.slice(0, 0, 2))}, {x}, {}, {.retain_graph = true})[0]);
    return Values{g[0], g[1]};
  };
  CHECK(half(maximum(a, b), a) == Values{0.5, 0});
  CHECK(half(maximum(a, b), b) == Values{0.5, 1});
  CHECK(half(minimum(a, b), a) == Values{0.5, 1});
  CHECK(half(minimum(a, b), b) == Values{0.5, 0});
}

TEST_CASE("special values") {
  const Tensor x = from_vector<double>({kInf, -kInf, 0, kNan}, {4});
  CHECK(values(exp(x))[1] == 0);
  CHECK(values(exp(x))[0] == kInf);
  CHECK(values(log(x))[2] == -kInf);
  CHECK(std::isnan(values(log(x))[1]));
  CHECK(values(tanh(x))[1] == -1);
  CHECK(values(gelu(x))[0] == kInf);
  CHECK(values(gelu(x))[2] == 0);
  CHECK(std::isnan(values(sqrt(x))[1]));
  CHECK(values(1.0 / x)[0] == 0);
  CHECK(values(1.0 / x)[2] == kInf);
  for (const Tensor& y : {exp(x), log(x), sqrt(x), tanh(x), sin(x), cos(x), gelu(x), abs(x), -x})
    CHECK(std::isnan(values(y)[3]));
}

TEST_CASE("gradients where numbers are very large") {
  const Tensor a = full({1}, 1e20).requires_grad_(), b = full({1}, 1e20).requires_grad_();
  sum(a / b + 1e20 / b).backward();  // 1/b^2 would underflow
  CHECK(a.grad().item<float>() == doctest::Approx(1e-20));
  CHECK(b.grad().item<float>() == doctest::Approx(-2e-20));
  const Tensor x = from_vector<float>({-3, 0.5, 3}).requires_grad_();
  clamp(x, -1, 1).backward(full({3}, HUGE_VAL));  // no NaN outside the bounds
  CHECK(x.grad().to_vector<float>() == std::vector<float>{0, HUGE_VALF, 0});
  const Tensor ends = full({2}, 1e30, {.dtype = i64});  // the nearest there is
  CHECK(ends.to_vector<std::int64_t>() == std::vector<std::int64_t>(2, INT64_MAX));
  CHECK(all(isfinite(ends)).item<bool>());
  CHECK(!any(isinf(ends)).item<bool>());
}

TEST_CASE("lerp reaches its end, and an infinity is in a part of a complex number") {
  CHECK(lerp(full({1}, 1e8), ones({1}), 1).item<float>() == 1);
  const Tensor z =
      complex(from_vector<float>({3e38f, HUGE_VALF, 1}), from_vector<float>({3e38f, 0, 2}));
  CHECK(isfinite(z).to_vector<bool>() == std::vector<bool>{true, false, true});
  CHECK(isinf(z).to_vector<bool>() == std::vector<bool>{false, true, false});
}
