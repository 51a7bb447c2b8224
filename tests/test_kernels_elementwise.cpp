// Elementwise kernels against their definitions: every op, type and way to lie in memory, the
// values that break formulas, and the same bits at any number of threads.
#include <functional>

#include <triad/tests/kernel_checks.h>

using namespace kernel_checks;
using triad::Cpu;
using triad::DType;
using triad::kernels::Binary;
using triad::kernels::Unary;

namespace {

struct UnaryCase {
  const char* name;
  Unary f;
  std::function<double(double)> define;
  double bound_f32, bound_f64;  // relative, and to an absolute scale where the result passes zero
  double absolute;
};

// Binary ops, of ones.
constexpr auto kGeluGrad = Unary(int(Unary::last) + 1);
constexpr auto kGeluTanhGrad = Unary(int(Unary::last) + 2);

const UnaryCase kUnary[] = {
    {"neg", Unary::neg, [](double x) { return -x; }, 0, 0, 0},
    {"abs", Unary::abs, [](double x) { return std::abs(x); }, 0, 0, 0},
    {"exp", Unary::exp, [](double x) { return std::exp(x); }, 2.5e-7, 4e-16, 0},
    {"log", Unary::log, [](double x) { return std::log(x); }, 2.5e-7, 4e-16, 0},
    {"sqrt", Unary::sqrt, [](double x) { return std::sqrt(x); }, 1e-7, 2e-16, 0},
    {"square", Unary::square, [](double x) { return x * x; }, 1e-7, 2e-16, 0},
    {"tanh", Unary::tanh, [](double x) { return std::tanh(x); }, 4e-7, 1e-15, 0},
    {"sin", Unary::sin, [](double x) { return std::sin(x); }, 4e-7, 1e-15, 1e-3},
    {"cos", Unary::cos, [](double x) { return std::cos(x); }, 4e-7, 1e-15, 1e-3},
    {"gelu", Unary::gelu, reference::gelu, 6e-7, 2e-15, 1e-30},
    {"gelu_grad", kGeluGrad, reference::gelu_grad, 6e-7, 2e-15, 0.2},
    {"sign", Unary::sign, reference::sign, 0, 0, 0},
    {"floor", Unary::floor, [](double x) { return std::floor(x); }, 0, 0, 0},
    {"round", Unary::round, [](double x) { return std::nearbyint(x); }, 0, 0, 0},
    {"relu", Unary::relu, [](double x) { return x > 0 || x != x ? x : 0; }, 0, 0, 0},
    {"expm1", Unary::expm1, [](double x) { return std::expm1(x); }, 4e-7, 1e-15, 0},
    {"log1p", Unary::log1p, [](double x) { return std::log1p(x); }, 4e-7, 1e-15, 0},
    {"erf", Unary::erf, [](double x) { return std::erf(x); }, 4e-7, 1e-15, 0},
    {"sigmoid", Unary::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, 4e-7, 1e-15,
     1e-37},
    {"softplus", Unary::softplus,
     [](double x) { return x > 30 ? x + std::exp(-x) : std::log1p(std::exp(x)); }, 4e-7, 1e-15,
     1e-37},
    {"silu", Unary::silu, [](double x) { return x / (1 + std::exp(-x)); }, 4e-7, 1e-15, 1e-35},
    {"gelu_tanh", Unary::gelu_tanh, reference::gelu_tanh, 1e-6, 3e-15, 1e-3},
    {"gelu_tanh_grad", kGeluTanhGrad, reference::gelu_tanh_grad, 1e-6, 3e-15, 0.2},
};

Tensor unary(Unary f, const Tensor& x) {
  Tensor y = triad::empty(x.shape(), x.dtype());
  if (f > Unary::last)
    triad::kernels::binary(Cpu{}, f == kGeluGrad ? Binary::gelu_grad : Binary::gelu_tanh_grad,
                           expand(tensor({1}, {1}, x.dtype()), x.shape()), x, y);
  else triad::kernels::unary(Cpu{}, f, x, y);
  return y;
}

bool gives_bool(Binary f) { return f >= Binary::eq; }

Tensor binary(Binary f, const Tensor& a, const Tensor& b) {
  Tensor y = triad::empty(a.shape(), gives_bool(f) ? triad::boolean : a.dtype());
  triad::kernels::binary(Cpu{}, f, a, b, y);
  return y;
}

double define(Binary f, double a, double b) {
  const bool nan = std::isnan(a) || std::isnan(b);
  switch (f) {
    case Binary::add: return a + b;
    case Binary::sub: return a - b;
    case Binary::mul: return a * b;
    case Binary::div: return a / b;
    case Binary::pow: return std::pow(a, b);
    case Binary::max: return nan ? kNan : std::max(a, b);
    case Binary::min: return nan ? kNan : std::min(a, b);
    case Binary::eq: return a == b;
    case Binary::ne: return a != b;
    case Binary::lt: return a < b;
    case Binary::le: return a <= b;
    case Binary::gt: return a > b;
    case Binary::ge: return a >= b;
    case Binary::logical_and: return a != 0 && b != 0;
    case Binary::logical_or: return a != 0 || b != 0;
    default: return kNan;  // in the table above
  }
}

std::vector<Binary> binaries(DType dtype) {
  using enum Binary;
  if (dtype == triad::boolean) return {eq, ne, lt, le, gt, ge, logical_and, logical_or};
  if (dtype == triad::i64) return {add, sub, mul, max, min, eq, ne, lt, le, gt, ge};
  return {add, sub, mul, div, max, min, eq, ne, lt, le, gt, ge};
}

reference::Values define(Binary f, const Tensor& a, const Tensor& b) {
  const auto x = values(a), y = values(b);
  reference::Values want;
  for (std::size_t i = 0; i < x.size(); ++i) want.push_back(define(f, x[i], y[i]));
  return want;
}

}  // namespace

TEST_CASE("unary ops are what they are called") {
  for (DType dtype : {triad::f32, triad::f64})
    for (double scale : {0.01, 1.0, 8.0})
      for (const UnaryCase& c : kUnary) {
        Tensor x = random_tensor({4001}, dtype, 1, scale);
        if (c.f == Unary::log || c.f == Unary::sqrt) x = unary(Unary::abs, x);
        reference::Values want;
        for (double v : values(x)) want.push_back(c.define(v));
        const double bound = dtype == triad::f32 ? c.bound_f32 : c.bound_f64;
        check_close(unary(c.f, x), want, bound, std::string(c.name) + " " + name(dtype),
                    c.absolute);
      }
}

TEST_CASE("unary ops at infinities, NaN, zeros, denormals and far out") {
  for (DType dtype : {triad::f32, triad::f64}) {
    const bool single = dtype == triad::f32;
    const double tiny = single ? 0x1p-149 : 0x1p-1074, huge = single ? 0x1p127 : 0x1p1023;
    const Tensor x =
        tensor({0.0,  -0.0, kInf,  -kInf, kNan,  tiny,   -tiny, huge, -huge, 200, -200, 1e4,
                -1e4, 1e6,  39001, 12.5,  -12.5, -14.45, -38,   745,  -745,  3e9, 1},
               {23}, dtype);
    for (const UnaryCase& c : kUnary) {
      reference::Values want;
      for (double v : values(x)) {
        double exact = c.define(v);
        if (single) exact = double(float(exact));
        if (v == -kInf && c.f == Unary::gelu) exact = 0;  // the limit
        if (std::isinf(v) && c.f > Unary::last) exact = v > 0;
        want.push_back(exact);
      }
      const Tensor y = unary(c.f, x);
      // A denormal may be off by a few of its steps.
      const double bound = std::max(single ? c.bound_f32 : c.bound_f64, single ? 2e-7 : 2e-15);
      check_close(y, want, bound, std::string(c.name) + " " + name(dtype), 1e-30);
    }
    for (Unary odd : {Unary::tanh, Unary::sin, Unary::sqrt, Unary::gelu, Unary::sign}) {
      const auto zeros = values(unary(odd, tensor({0.0, -0.0}, {2}, dtype)));
      CHECK(!std::signbit(zeros[0]));
      CHECK(std::signbit(zeros[1]));
    }
  }
}

TEST_CASE("unary ops on integers") {
  const Tensor x = tensor({0, -3, 7, 1e15}, {4}, triad::i64);
  check_close(unary(Unary::neg, x), {0, 3, -7, -1e15}, 0, "neg");
  check_close(unary(Unary::abs, x), {0, 3, 7, 1e15}, 0, "abs");
  check_close(unary(Unary::sign, x), {0, -1, 1, 1}, 0, "sign");
  check_close(unary(Unary::square, tensor({-3, 1e6}, {2}, triad::i64)), {9, 1e12}, 0, "square");
  CHECK_THROWS_AS(unary(Unary::exp, x), triad::DTypeError);
}

TEST_CASE("binary ops of every type, lying in every way") {
  const Shape shape{5, 7, 67};
  for (DType dtype : {triad::f32, triad::f64, triad::i64, triad::boolean})
    for (Lie lie_a : kLies)
      for (Lie lie_b : kLies) {
        const Tensor a = laid(lie_a, random_tensor(shape, dtype, 1)),
                     b = laid(lie_b, random_tensor(shape, dtype, 2));
        for (Binary f : binaries(dtype))
          check_close(binary(f, a, b), define(f, a, b), dtype == triad::f32 ? 1e-7 : 0,
                      "binary " + std::to_string(int(f)) + " " + name(dtype), 0);
      }
}

TEST_CASE("binary ops broadcast along any axes") {
  for (Shape shape :
       {Shape{3, 5, 64}, Shape{2, 3, 1031}, Shape{4001}, Shape{17, 2}, Shape{2, 3, 4, 5}})
    for (int axes = 0; axes < 1 << shape.rank(); ++axes) {
      Shape small = shape;
      for (int i = 0; i < shape.rank(); ++i)
        if (axes >> i & 1) small[i] = 1;
      const Tensor a = expand(random_tensor(small, triad::f32, 1), shape),
                   b = random_tensor(shape, triad::f32, 2);
      check_close(binary(Binary::sub, a, b), define(Binary::sub, a, b), 1e-7, "broadcast left", 0);
      check_close(binary(Binary::sub, b, a), define(Binary::sub, b, a), 1e-7, "broadcast right", 0);
      for (double left : {2.5, -0.125})
        for (bool swapped : {false, true}) {
          Tensor y = triad::empty(shape, triad::f32);
          triad::kernels::binary_scalar(Cpu{}, Binary::div, b, left, swapped, y);
          reference::Values want;
          for (double v : values(b)) want.push_back(swapped ? left / v : v / left);
          check_close(y, want, 1e-7, "a number on one side", 0);
        }
    }
}

TEST_CASE("binary ops with NaN and infinities") {
  reference::Values left, right;
  for (double a : {kNan, kInf, -kInf, 0.0, -0.0, 1.0})
    for (double b : {kNan, kInf, -kInf, 0.0, -0.0, 1.0}) left.push_back(a), right.push_back(b);
  for (DType dtype : {triad::f32, triad::f64}) {
    const Tensor a = tensor(left, {36}, dtype), b = tensor(right, {36}, dtype);
    for (Binary f : binaries(dtype))
      check_close(binary(f, a, b), define(f, a, b), 0, "binary " + std::to_string(int(f)));
  }
}

TEST_CASE("a number beyond the integers compares as the end of their range") {
  const Tensor x = tensor({-5, 0, 5}, {3}, triad::i64);
  Tensor y = triad::empty({3}, triad::boolean);
  triad::kernels::binary_scalar(Cpu{}, Binary::lt, x, kInf, false, y);
  check_close(y, {1, 1, 1}, 0, "x < inf");
  triad::kernels::binary_scalar(Cpu{}, Binary::lt, x, -kInf, false, y);
  check_close(y, {0, 0, 0}, 0, "x < -inf");
}

TEST_CASE("where chooses") {
  const Shape shape{3, 11, 130};
  for (DType dtype : {triad::f32, triad::f64, triad::i64, triad::boolean})
    for (Lie lie : kLies) {
      const Tensor condition = laid(lie, random_tensor(shape, triad::boolean, 1)),
                   a = expand(random_tensor({11, 1}, dtype, 2), shape),
                   b = laid(lie, random_tensor(shape, dtype, 3));
      const auto c = values(condition), x = values(a), z = values(b);
      reference::Values want;
      for (std::size_t i = 0; i < c.size(); ++i) want.push_back(c[i] != 0 ? x[i] : z[i]);
      Tensor y = triad::empty(shape, dtype);
      triad::kernels::where(Cpu{}, condition, a, b, y);
      check_close(y, want, 0, "where");
    }
}

TEST_CASE("scalars and empty tensors") {
  check_close(unary(Unary::exp, tensor({1}, {}, triad::f64)), {std::exp(1)}, 1e-15, "0-d");
  check_close(binary(Binary::add, tensor({1}, {}), tensor({2}, {})), {3}, 0, "0-d");
  check_close(binary(Binary::add, tensor({}, {3, 0}), tensor({}, {3, 0})), {}, 0, "empty");
  check_close(binary(Binary::eq, tensor({}, {0, 3}), expand(tensor({2}, {1}), {0, 3})), {}, 0,
              "empty");
}

TEST_CASE("the same bits at any number of threads") {
  const Shape shape{7, 100003};
  for (DType dtype : {triad::f32, triad::f64}) {
    const Tensor x = random_tensor(shape, dtype, 1, 3);
    const Tensor row = expand(random_tensor({shape[1]}, dtype, 2), shape);
    for (Unary f : {Unary::exp, Unary::gelu, Unary::sin, Unary::tanh})
      check_threads("unary", [&] { return unary(f, x); });
    check_threads("binary", [&] { return binary(Binary::div, x, row); });
    check_threads("strided", [&] { return binary(Binary::mul, laid(Lie::sliced, x), x); });
  }
}
