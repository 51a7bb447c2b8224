// Elementwise ops: values against the C++ standard library in fp64, gradients by gradcheck.
#include <triad/tests/op_test.h>

#include <cmath>

using namespace op_test;

namespace {

const Shape kShapes[] = {{}, {1}, {7}, {3, 5}, {13, 17}, {0}, {2, 0, 3}};

struct UnaryOp {
  const char* name;
  Tensor (*op)(const Tensor&);
  double (*twin)(double);
  double low, high;  // of the inputs
};
const UnaryOp kUnary[] = {
    {"neg", operator-, [](double x) { return -x; }, -3, 3},
    {"abs", abs, [](double x) { return std::abs(x); }, -3, 3},
    {"exp", exp, [](double x) { return std::exp(x); }, -5, 5},
    {"log", log, [](double x) { return std::log(x); }, 0.1, 9},
    {"sqrt", sqrt, [](double x) { return std::sqrt(x); }, 0.1, 9},
    {"square", square, [](double x) { return x * x; }, -3, 3},
    {"tanh", tanh, [](double x) { return std::tanh(x); }, -3, 3},
    {"sin", sin, [](double x) { return std::sin(x); }, -9, 9},
    {"cos", cos, [](double x) { return std::cos(x); }, -9, 9},
    {"gelu", gelu, reference::gelu, -4, 4},
    {"gelu tanh", [](const Tensor& x) { return gelu(x, Gelu::tanh); }, reference::gelu_tanh, -4, 4},
    {"expm1", expm1, [](double x) { return std::expm1(x); }, -3, 3},
    {"log1p", log1p, [](double x) { return std::log1p(x); }, -0.9, 9},
    {"erf", erf, [](double x) { return std::erf(x); }, -3, 3},
    {"sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -9, 9},
    {"softplus", softplus, [](double x) { return std::log1p(std::exp(x)); }, -9, 9},
    {"relu", relu, [](double x) { return x > 0 ? x : 0; }, -3, 3},
    {"silu", silu, [](double x) { return x / (1 + std::exp(-x)); }, -9, 9},
    {"rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }, 0.1, 9},
    {"reciprocal", reciprocal, [](double x) { return 1 / x; }, 0.1, 9},
    {"pow 2.5", [](const Tensor& x) { return pow(x, 2.5); },
     [](double x) { return std::pow(x, 2.5); }, 0.1, 9},
    {"pow 3", [](const Tensor& x) { return pow(x, 3); }, [](double x) { return x * x * x; }, -3, 3},
    {"2 pow", [](const Tensor& x) { return pow(2, x); }, [](double x) { return std::exp2(x); }, -3,
     3},
    {"clamp", [](const Tensor& x) { return clamp(x, -1, 2) * x; },
     [](double x) { return std::clamp(x, -1.0, 2.0) * x; }, -3, 3},
};

struct BinaryOp {
  const char* name;
  Tensor (*op)(const Tensor&, const Tensor&);
  Tensor (*with_number)(const Tensor&, double);  // or null
  Tensor (*number_first)(double, const Tensor&);
  double (*twin)(double, double);
};
const BinaryOp kArithmetic[] = {
    {"add", operator+, operator+, operator+, [](double a, double b) { return a + b; }},
    {"sub", operator-, operator-, operator-, [](double a, double b) { return a - b; }},
    {"mul", operator*, operator*, operator*, [](double a, double b) { return a * b; }},
    {"div", operator/, operator/, operator/, [](double a, double b) { return a / b; }},
    {"maximum", maximum, nullptr, nullptr, [](double a, double b) { return std::max(a, b); }},
    {"minimum", minimum, nullptr, nullptr, [](double a, double b) { return std::min(a, b); }},
};
const BinaryOp kComparisons[] = {
    {"eq", operator==, operator==, nullptr, [](double a, double b) { return double(a == b); }},
    {"ne", operator!=, operator!=, nullptr, [](double a, double b) { return double(a != b); }},
    {"lt", operator<, operator<, nullptr, [](double a, double b) { return double(a < b); }},
    {"le", operator<=, operator<=, nullptr, [](double a, double b) { return double(a <= b); }},
    {"gt", operator>, operator>, nullptr, [](double a, double b) { return double(a > b); }},
    {"ge", operator>=, operator>=, nullptr, [](double a, double b) { return double(a >= b); }},
};

const std::pair<Shape, Shape> kBroadcasts[] = {
    {{3, 5}, {3, 5}}, {{3, 5}, {5}}, {{5}, {3, 5}},       {{3, 1}, {1, 5}}, {{}, {3, 5}},
    {{3, 5}, {}},     {{}, {}},      {{2, 3, 5}, {3, 1}}, {{1}, {7}},       {{2, 1, 4}, {7, 1}},
};

// Element i, in row-major order, of x repeated to the sizes `to`.
double repeated(const Values& x, const Shape& from, const Shape& to, std::int64_t i) {
  std::int64_t at = 0, stride = 1;
  for (int axis = to.rank(); axis-- > 0; i /= to[axis]) {
    const int own = axis - (to.rank() - from.rank());
    if (own < 0) continue;
    at += from[own] == 1 ? 0 : i % to[axis] * stride;
    stride *= from[own];
  }
  return x[std::size_t(at)];
}

template <class Twin> Values twin_of(Twin twin, const Tensor& a, const Tensor& b) {
  const Shape to = broadcast_shapes("twin", a.shape(), b.shape());
  const Values x = values(a), y = values(b);
  Values out;
  for (std::int64_t i = 0; i < to.numel(); ++i)
    out.push_back(twin(repeated(x, a.shape(), to, i), repeated(y, b.shape(), to, i)));
  return out;
}

// Random numbers none of which is near zero.
Tensor away_from_zero(const Shape& shape, DType dtype) {
  Values v = values(noise(shape, dtype));
  for (double& x : v) x += x < 0 ? -0.5 : 0.5;
  return tensor(v, shape, dtype);
}

}  // namespace

TEST_CASE("one tensor: values, at any sizes and strides") {
  for (const UnaryOp& op : kUnary)
    for (DType dtype : {f32, f64})
      for (const Shape& shape : kShapes)
        for (Lie lie : kLies) {
          const Tensor x = laid(lie, between(op.low, op.high, shape, dtype));
          Values want = values(x);
          for (double& v : want) v = op.twin(v);
          const Tensor y = op.op(x);
          CHECK(y.shape() == shape);
          CHECK(y.dtype() == dtype);
          check_close(y, want, bound(dtype), op.name);
        }
}

TEST_CASE("one tensor: first and second derivatives") {
  for (const UnaryOp& op : kUnary) {
    const auto f = [&op](const Tensors& x) { return op.op(x[0]); };
    check_gradient(op.name, f, {between(op.low, op.high, {3, 5})});
    check_second_gradient(op.name, f, {between(op.low, op.high, {7})});
  }
}

TEST_CASE("third derivatives") {
  for (const UnaryOp& op : kUnary) {
    if (op.op == static_cast<Tensor (*)(const Tensor&)>(abs)) continue;
    const auto second = [&op](const Tensors& x) {
      const Tensor y = op.op(x[0]) * exp(x[0]);
      const Tensor first = grad({sum(y)}, x, {}, {.create_graph = true})[0];
      return grad({sum(square(first))}, x, {}, {.create_graph = true})[0];
    };
    const auto result =
        gradcheck(second, {between(std::max(op.low, -1.), 1, {5})}, {.tolerance = 1e-5});
    CHECK_MESSAGE(result.passed, std::string(op.name), ": ", result.message, ", error ",
                  result.worst);
  }
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

TEST_CASE("two tensors: values, broadcast in both directions") {
  for (const BinaryOp& op : kArithmetic)
    for (DType dtype : {f32, f64})
      for (const auto& [left, right] : kBroadcasts)
        for (Lie lie : kLies) {
          const Tensor a = laid(lie, noise(left, dtype));
          const Tensor b = laid(lie, away_from_zero(right, dtype));
          check_close(op.op(a, b), twin_of(op.twin, a, b), bound(dtype), op.name);
        }
  CHECK((zeros({0, 3}) + ones({1, 3})).shape() == Shape{0, 3});
  CHECK((zeros({1}) * ones({0})).shape() == Shape{0});
}

TEST_CASE("two tensors: first and second derivatives, summed over what was repeated") {
  for (const BinaryOp& op : kArithmetic) {
    // Of a maximum one side may have no gradient at all; the product gives it one.
    const auto f = [&op](const Tensors& x) { return op.op(x[0], x[1]) + x[0] * x[1]; };
    for (const auto& [left, right] : kBroadcasts)
      check_gradient(op.name, f, {noise(left), away_from_zero(right, f64)});
    check_second_gradient(op.name, f, {noise({3, 1}), away_from_zero({2, 1, 2}, f64)});
    check_gradient("both the same", [&op](const Tensors& x) { return op.op(x[0], x[0] * x[0]); },
                   {away_from_zero({5}, f64)});
  }
  const Tensor none = zeros({1, 3}).requires_grad_();
  CHECK(values(grad({sum(none + zeros({0, 3}))}, {none})[0]) == Values{0, 0, 0});
}

TEST_CASE("with a number on either side") {
  const Tensor x = away_from_zero({3, 5}, f64);
  for (const BinaryOp& op : kArithmetic) {
    if (!op.with_number) continue;
    const Tensor number = scalar(1.7, {.dtype = f64});
    check_close(op.with_number(x, 1.7), twin_of(op.twin, x, number), 1e-15, op.name);
    check_close(op.number_first(1.7, x), twin_of(op.twin, number, x), 1e-15, op.name);
    for (const TensorFunction& f :
         {TensorFunction([&](const Tensors& t) { return op.with_number(t[0], 1.7); }),
          TensorFunction([&](const Tensors& t) { return op.number_first(1.7, t[0]); })}) {
      check_gradient(op.name, f, {x});
      check_second_gradient(op.name, f, {x});
    }
  }
  const Tensor whole = from_vector<std::int64_t>({7, -7}, {2});
  CHECK(values(whole * 2.0 - 1.0) == Values{13, -15});
  CHECK((whole + 1.0).dtype() == i64);
  check_error<DTypeError>([&] { whole * 0.5; },
                          "mul: 0.5 is no whole number and the tensor is i64");
  check_error<DTypeError>([&] { whole / 2.0; }, "div: needs f32 or f64, got i64");
  check_error<DTypeError>([&] { 2.0 / whole; }, "div: needs f32 or f64, got i64");
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

TEST_CASE("comparisons give bool without history, and NaN is nothing's equal") {
  for (const BinaryOp& op : kComparisons)
    for (DType dtype : {f32, f64, i64}) {
      Values some = values(noise({3, 5}, i64));
      some[4] = 2;
      const Tensor a = tensor(some, {3, 5}, dtype).transpose(0, 1), b = tensor({2}, {}, dtype);
      CHECK(op.op(a, b).dtype() == boolean);
      CHECK(values(op.op(a, b)) == twin_of(op.twin, a, b));
      CHECK(values(op.op(b, a)) == twin_of(op.twin, b, a));
      CHECK(values(op.with_number(a, 2)) == twin_of(op.twin, a, b));
    }
  const Tensor nan = scalar(kNan).requires_grad_();
  CHECK(!(nan == nan).item<bool>());
  CHECK((nan != nan).item<bool>());
  CHECK(!(nan < nan).item<bool>());
  CHECK(!(nan >= nan).item<bool>());
  CHECK(!(nan == nan).requires_grad());
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

TEST_CASE("where and masked_fill") {
  const Tensor a = noise({3, 5}), b = noise({5}), condition = noise({3, 1}, boolean);
  const auto twin = [&](double x, double y) { return x > 0 ? y : -100; };
  check_close(where(condition, a, scalar(-100, {.dtype = f64})), twin_of(twin, condition, a), 0,
              "where");
  check_close(masked_fill(a, condition, 7), values(where(condition, a * 0.0 + 7.0, a)), 0, "fill");
  CHECK(values(masked_fill(zeros({2}), ones({3, 1}, {.dtype = boolean}), 7)) == Values(6, 7));
  const Tensor mixed = tensor({1, 0, 1}, {3, 1}, boolean);
  const auto f = [&](const Tensors& x) { return where(mixed, x[0], x[1]); };
  check_gradient("where", f, {a, b});
  check_second_gradient("where", f, {a, b});
  check_gradient("masked_fill", [&](const Tensors& x) { return masked_fill(x[0], mixed, 3); },
                 {noise({1})});
  const Tensor whole = arange(3, {.dtype = i64});
  CHECK(values(where(whole > 0.0, whole, whole + 5.0)) == Values{5, 1, 2});
  check_error<DTypeError>([&] { where(a, a, a); }, "where: needs bool, got f64; write x != 0");
  check_error<DTypeError>([&] { where(mixed, a, a.to(f32)); }, "where: the types differ");
  check_error<ShapeError>([&] { where(mixed, noise({2, 5}), a); }, "where: [2,5] and [3,5]");
}

TEST_CASE("logical ops") {
  const Tensor a = tensor({0, 0, 1, 1}, {4}, boolean), b = tensor({0, 1, 0, 1}, {4}, boolean);
  CHECK(values(logical_and(a, b)) == Values{0, 0, 0, 1});
  CHECK(values(logical_or(a, b)) == Values{0, 1, 1, 1});
  CHECK(values(logical_not(a)) == Values{1, 1, 0, 0});
  CHECK(values(a == b) == Values{1, 0, 0, 1});
  CHECK(values(logical_and(a.reshape({2, 2}), b.slice(0, 1, 3))) == Values{0, 0, 1, 0});
  check_error<DTypeError>([&] { logical_and(a, ones({4})); }, "logical_and: the types differ");
  check_error<DTypeError>([&] { logical_or(ones({4}), a); }, "logical_or: needs bool, got f32");
  check_error<DTypeError>([&] { logical_not(ones({4})); }, "logical_not: needs bool, got f32");
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
