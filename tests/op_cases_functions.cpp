// Cases of functions of one tensor, element by element.
#include <triad/tests/op_cases.h>
#include <triad/tests/reference.h>

#include <cmath>

namespace op_cases {

using namespace triad;

namespace {

using Op = Tensor (*)(const Tensor&);

Case complex_function(const char* name, Op op, C (*twin)(C), double low, double high) {
  std::vector<Inputs> inputs;
  for (const Shape& shape : {Shape{3, 5}, {}, {1}, {7}, {13, 17}, {0}, {2, 0, 3}})
    inputs.push_back({{.shape = shape, .low = low, .high = high}});
  return {.name = name,
          .inputs = inputs,
          .call = [op](X x) { return Tensors{op(x[0])}; },
          .twin = [twin](A x) { return Arrays{map(x[0], twin)}; },
          .large = {{.shape = {311, 307}, .low = low, .high = high}}};
}

Case function(const char* name, Op op, double (*twin)(double), double low, double high) {
  Case c = complex_function(name, op, nullptr, low, high);
  c.twin = [twin](A x) { return Arrays{map(x[0], [=](C v) { return C(twin(v.real())); })}; };
  return c;
}

Case test_of_kind(const char* name, Op op, double (*twin)(double)) {
  Case c = function(name, op, twin, -2, 2);
  c.inputs.push_back({{.shape = {5, 7}, .special = true}});
  c.types = kNumbers;
  c.results = {Gives::boolean};
  c.gradient = Gradient::none;
  c.said = {"abs"};
  return c;
}

void of_numbers(Cases& cases) {
  cases.push_back(complex_function(
      "operator-", operator-, [](C x) { return -x; }, -3, 3));
  cases.back().said = {"neg"};
  cases.back().types = kNumbers;
  cases.push_back(complex_function(
      "abs", abs, [](C x) { return C(std::abs(x)); }, -3, 3));
  cases.back().types = kNumbers;
  cases.back().results = {Gives::real};
  cases.push_back(complex_function(
      "square", square, [](C x) { return x * x; }, -3, 3));
  cases.back().types = kNumbers;
  cases.push_back(function("sign", sign, reference::sign, -3, 3));
  cases.back().types = kOrdered;
  cases.back().gradient = Gradient::zero;
  cases.push_back(function(
      "floor", floor, [](double x) { return std::floor(x); }, -3, 3));
  cases.back().gradient = Gradient::zero;
  cases.push_back(function(
      "round", round, [](double x) { return std::nearbyint(x); }, -3, 3));
  cases.back().gradient = Gradient::zero;
  cases.push_back(test_of_kind("isnan", isnan, [](double x) { return double(std::isnan(x)); }));
  cases.back().types = kAll;
  cases.back().said = {"ne"};
  cases.push_back(test_of_kind("isinf", isinf, [](double x) { return double(std::isinf(x)); }));
  cases.push_back(
      test_of_kind("isfinite", isfinite, [](double x) { return double(std::isfinite(x)); }));
}

void smooth(Cases& cases) {
  auto push = [&](const char* name, Op op, double (*twin)(double), double low,
                  double high) -> Case& {
    return cases.emplace_back(function(name, op, twin, low, high));
  };
  push(
      "sqrt", sqrt, [](double x) { return std::sqrt(x); }, 0.1, 9);
  push(
      "rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }, 0.1, 9)
      .said = {"rsqrt", "sqrt"};
  cases.push_back(complex_function(
      "reciprocal", reciprocal, [](C x) { return 1.0 / x; }, 0.2, 9));
  cases.back().types = kInexact;
  cases.back().said = {"reciprocal", "div"};
  cases.push_back(complex_function(
      "exp", exp, [](C x) { return std::exp(x); }, -3, 3));
  cases.back().types = kInexact;
  cases.back().bound = 2;
  push(
      "expm1", expm1, [](double x) { return std::expm1(x); }, -3, 3);
  push(
      "log", log, [](double x) { return std::log(x); }, 0.1, 9);
  push(
      "log1p", log1p, [](double x) { return std::log1p(x); }, -0.9, 9);
  push(
      "sin", sin, [](double x) { return std::sin(x); }, -9, 9);
  push(
      "cos", cos, [](double x) { return std::cos(x); }, -9, 9);
  push(
      "tanh", tanh, [](double x) { return std::tanh(x); }, -3, 3);
  push(
      "erf", erf, [](double x) { return std::erf(x); }, -3, 3);
  push(
      "sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -9, 9);
  push(
      "softplus", softplus, [](double x) { return std::log1p(std::exp(x)); }, -9, 9);
  push(
      "relu", relu, [](double x) { return x > 0 ? x : 0; }, -3, 3);
  push(
      "silu", silu, [](double x) { return x / (1 + std::exp(-x)); }, -9, 9);
  push("gelu", gelu, reference::gelu, -4, 4);
  push(
      "gelu", [](const Tensor& x) { return gelu(x, Gelu::tanh); }, reference::gelu_tanh, -4, 4)
      .detail = "by tanh";
}

}  // namespace

Cases function_cases() {
  Cases cases;
  of_numbers(cases);
  smooth(cases);
  return cases;
}

}  // namespace op_cases
