#include <cmath>
#include <iterator>
#include <numbers>

#include <triad/autograd/op_helpers.h>

namespace triad {

using kernels::Binary;
using kernels::Unary;

namespace {

Tensor apply(Unary f, const Tensor& x);

// The name of each op in errors and in the history, in the order of the enums, and its derivative,
// written with x or with the result y; of those without, the function below has the rule.
struct UnaryOp {
  const char* name;
  Tensor (*by_x)(const Tensor& x) = nullptr;
  Tensor (*by_y)(const Tensor& y) = nullptr;
};
// clang-format off
constexpr UnaryOp kUnary[] = {
  {"neg"}, {"abs"},
  {"square", [](auto& x) { return conj(x) * 2.0; }},
  {"sign"}, {"conj"},
  {"sqrt", {}, [](auto& y) { return 0.5 / y; }},
  {"floor"}, {"round"},
  {"relu", [](auto& x) { return (x > 0.0).to(x.dtype()); }},
  {"exp", {}, conj},
  {"expm1", {}, [](auto& y) { return y + 1.0; }},
  {"log"}, {"log1p"},
  {"sin", cos},
  {"cos", [](auto& x) { return -sin(x); }},
  {"tanh", {}, [](auto& y) { return 1.0 - square(y); }},
  {"erf", [](auto& x) { return exp(-square(x)) * (2 * std::numbers::inv_sqrtpi); }},
  {"sigmoid", {}, [](auto& y) { return y * (1.0 - y); }},
  {"silu", [](auto& x) {
    Tensor s = sigmoid(x);
    return s * (x * (1.0 - s) + 1.0);
  }},
  {"gelu"}, {"gelu"},
  {"softplus", sigmoid},
};
constexpr const char* kBinaryNames[] = {
  "add", "sub", "mul", "div", "maximum", "minimum", "pow", "gelu_grad", "gelu_grad",
  "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or"
};
// clang-format on
static_assert(std::size(kUnary) == int(Unary::last) + 1);
static_assert(std::size(kBinaryNames) == int(Binary::last) + 1);
const char* name(Unary f) { return kUnary[int(f)].name; }
const char* name(Binary f) { return kBinaryNames[int(f)]; }

bool gives_bool(Binary f) { return f >= Binary::eq; }

// Numbers of what kind f takes; comparisons of two tensors alone take bool, too.
void check(const char* op, Binary f, const Tensor& x) {
  if (f == Binary::div) check_inexact(op, x);
  else if (f < Binary::div) check_number(op, x);
  else if (f < Binary::pow) check_ordered(op, x);
  else if (f < Binary::eq) check_float(op, x);
  else if (f >= Binary::logical_and) check_bool(op, x);
  else if (check_defined(op, x); is_complex(x.dtype()) && f > Binary::ne) check_ordered(op, x);
}

Tensor expanded(const Tensor& x, const Shape& shape) {
  return x.shape() == shape ? x.detach() : x.with_layout(expanded(x.layout(), shape));
}

// Under Autocast: does CUDA add a narrow b to an f32 a as they are?
bool adds_mixed(Binary f, const Tensor& a, const Tensor& b) {
  return f == Binary::add && a.dtype() == f32 && mixes(a, b) && a.device() != Device::cpu();
}

Tensor compute(Binary f, const Tensor& a, const Tensor& b) {
  check(name(f), f, a);
  if (adds_mixed(f, a, b)) check_same_device(name(f), a, b);
  else check_same_type(name(f), a, b);
  if (a.shape() != b.shape()) {
    const Shape shape = broadcast_shapes(name(f), a.shape(), b.shape());
    return compute(f, expanded(a, shape), expanded(b, shape));
  }
  Tensor y = empty(a.shape(), gives_bool(f) ? boolean : a.dtype(), a.device(), name(f));
  on(a.device(), name(f), [&](auto device) { kernels::binary(device, f, a, b, y); });
  return y;
}

// f(a, b), or f(b, a) when swapped.
Tensor compute(const char* op, Binary f, const Tensor& a, double b, bool swapped = false) {
  check(op, f, a);
  check_number(op, a);
  if (wide_type(a.dtype()) == i64 && b != std::floor(b))
    throw_error<DTypeError>("{}: {} is no whole number and the tensor is {}; write x.to(f32)", op,
                            b, a.dtype());
  Tensor y = empty(a.shape(), gives_bool(f) ? boolean : a.dtype(), a.device(), op);
  on(a.device(), op, [&](auto device) { kernels::binary_scalar(device, f, a, b, swapped, y); });
  return y;
}

Tensor compute(Unary f, const Tensor& x) {
  if (f < Unary::sign) check_number(name(f), x);
  else if (f == Unary::sign) check_ordered(name(f), x);
  else if (f == Unary::conj || f == Unary::exp) check_inexact(name(f), x);
  else check_float(name(f), x);
  const DType dtype = f == Unary::abs ? real_type(x.dtype()) : x.dtype();
  Tensor y = empty(x.shape(), dtype, x.device(), name(f));
  on(x.device(), name(f), [&](auto device) { kernels::unary(device, f, x, y); });
  return y;
}

// Below, ops with their gradients. Partial: that of a or b, from the gradient g of the result.

using Partial = Tensor (*)(const Tensor& g, const Tensor& a, const Tensor& b);

Tensor apply(Binary f, const Tensor& a, const Tensor& b, Partial da, Partial db) {
  if (mixes(a, b)) return apply(f, a.to(f32), b.to(f32), da, db);
  return record(name(f), compute(f, a, b), {a, b}, [=](const Tensor& g) {
    return Tensors{a.requires_grad() ? sum_to(da(g, a, b), a.shape()) : Tensor(),
                   b.requires_grad() ? sum_to(db(g, a, b), b.shape()) : Tensor()};
  });
}

// add and sub, whose rule keeps sizes alone: a and b need not stay in memory until backward.
Tensor apply(Binary f, const Tensor& a, const Tensor& b) {
  if (mixes(a, b) && !adds_mixed(f, a, b)) return apply(f, a.to(f32), b.to(f32));
  auto rule = [f, as = a.shape(), bs = b.shape(), type = b.dtype()](const Tensor& g) {
    return Tensors{sum_to(g, as), sum_to(f == Binary::sub ? -g : g, bs).to(type)};
  };
  return record(name(f), compute(f, a, b), {a, b}, rule);
}

// Half of the gradient where both are equal, as the mean of the two one-sided derivatives.
Tensor extremum(Binary f, Binary winner, const Tensor& a, const Tensor& b) {
  return record(name(f), compute(f, a, b), {a, b}, [=](const Tensor& g) {
    Tensor half = (a == b).to(g.dtype()) * 0.5;
    Tensor share = compute(winner, a, b).to(g.dtype()) + half;
    return Tensors{sum_to(g * share, a.shape()), sum_to(g * (1.0 - share), b.shape())};
  });
}

template <class Gradient>
Tensor apply(Binary f, const Tensor& a, double b, Gradient da, bool swapped = false) {
  return record_unary(name(f), compute(name(f), f, a, b, swapped), a, da);
}

template <class Gradient> Tensor apply(Unary f, const Tensor& x, Gradient dx) {
  return record_unary(name(f), compute(f, x), x, dx);
}

// By the derivative in the table. Under create_graph y is computed again from x, with a history.
Tensor apply(Unary f, const Tensor& x) {
  const auto by_x = kUnary[int(f)].by_x, by_y = kUnary[int(f)].by_y;
  if (by_x) return apply(f, x, [x, by_x](auto& g) { return g * by_x(x); });
  Tensor y = compute(f, x);
  return record_unary(name(f), y, x, [f, x, y, by_y](auto& g) {
    return g * by_y(grad_enabled() ? apply(f, x) : y);
  });
}

constexpr auto same = [](const Tensor& g, auto&...) { return g; };
constexpr auto minus = [](const Tensor& g, auto&...) { return -g; };
constexpr auto nothing = [](const Tensor& g) { return zeros_like(g); };

}  // namespace

// ---------------------------------------------------------------------- of two tensors

Tensor operator+(const Tensor& a, const Tensor& b) { return apply(Binary::add, a, b); }
Tensor operator-(const Tensor& a, const Tensor& b) { return apply(Binary::sub, a, b); }

Tensor operator*(const Tensor& a, const Tensor& b) {
  return apply(
      Binary::mul, a, b, [](auto& g, auto&, auto& b) { return g * conj(b); },
      [](auto& g, auto& a, auto&) { return g * conj(a); });
}

Tensor operator/(const Tensor& a, const Tensor& b) {
  return apply(
      Binary::div, a, b, [](auto& g, auto&, auto& b) { return g / conj(b); },
      [](auto& g, auto& a, auto& b) { return -(g * conj(a / b / b)); });
}

Tensor maximum(const Tensor& a, const Tensor& b) { return extremum(Binary::max, Binary::gt, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return extremum(Binary::min, Binary::lt, a, b); }

Tensor pow(const Tensor& x, const Tensor& exponent) {
  return record("pow", compute(Binary::pow, x, exponent), {x, exponent}, [=](const Tensor& g) {
    Tensor zero = scalar_like(0, g), y = pow(x, exponent);
    Tensor dx = where(exponent == 0.0, zero, g * exponent * pow(x, exponent - 1.0));
    Tensor dexponent = where(logical_and(x == 0.0, exponent >= 0.0), zero, g * y * log(x));
    return Tensors{sum_to(dx, x.shape()), sum_to(dexponent, exponent.shape())};
  });
}

Tensor operator+(const Tensor& a, double b) { return apply(Binary::add, a, b, same); }
Tensor operator-(const Tensor& a, double b) { return apply(Binary::sub, a, b, same); }
Tensor operator-(double a, const Tensor& b) { return apply(Binary::sub, b, a, minus, true); }

Tensor operator*(const Tensor& a, double b) {
  return apply(Binary::mul, a, b, [b](auto& g) { return g * b; });
}
Tensor operator/(const Tensor& a, double b) {
  return apply(Binary::div, a, b, [b](auto& g) { return g / b; });
}
Tensor operator/(double a, const Tensor& b) {
  return apply(
      Binary::div, b, a, [a, b](auto& g) { return g * -a / conj(b) / conj(b); }, true);
}

// Common exponents by what is faster, as in PyTorch. Of exponent 0 the derivative is 0, at 0 too.
Tensor pow(const Tensor& x, double exponent) {
  check_float("pow", x);
  if (exponent == 0.5) return sqrt(x);
  if (exponent == 2) return square(x);
  if (exponent == 3) return square(x) * x;
  if (exponent == -1) return reciprocal(x);
  return apply(Binary::pow, x, exponent, [x, exponent](auto& g) {
    return exponent == 0 ? zeros_like(g) : g * pow(x, exponent - 1) * exponent;
  });
}
Tensor pow(double x, const Tensor& exponent) { return pow(scalar_like(x, exponent), exponent); }

// The gradient passes at the bounds, too.
Tensor clamp(const Tensor& x, std::optional<double> low, std::optional<double> high) {
  check_ordered("clamp", x);
  if (!low && !high) throw_error<ValueError>("clamp: needs a bound");
  Tensor y = low ? compute("clamp", Binary::max, x, *low) : x.detach();
  if (high) y = compute("clamp", Binary::min, y, *high);
  return record_unary("clamp", y, x, [=](auto& g) {
    Tensor inside = logical_and(x >= low.value_or(-HUGE_VAL), x <= high.value_or(HUGE_VAL));
    return where(inside, g, scalar_like(0, g));
  });
}

Tensor operator==(const Tensor& a, const Tensor& b) { return compute(Binary::eq, a, b); }
Tensor operator!=(const Tensor& a, const Tensor& b) { return compute(Binary::ne, a, b); }
Tensor operator<(const Tensor& a, const Tensor& b) { return compute(Binary::lt, a, b); }
Tensor operator<=(const Tensor& a, const Tensor& b) { return compute(Binary::le, a, b); }
Tensor operator>(const Tensor& a, const Tensor& b) { return compute(Binary::gt, a, b); }
Tensor operator>=(const Tensor& a, const Tensor& b) { return compute(Binary::ge, a, b); }
Tensor operator==(const Tensor& a, double b) { return compute("eq", Binary::eq, a, b); }
Tensor operator!=(const Tensor& a, double b) { return compute("ne", Binary::ne, a, b); }
Tensor operator<(const Tensor& a, double b) { return compute("lt", Binary::lt, a, b); }
Tensor operator<=(const Tensor& a, double b) { return compute("le", Binary::le, a, b); }
Tensor operator>(const Tensor& a, double b) { return compute("gt", Binary::gt, a, b); }
Tensor operator>=(const Tensor& a, double b) { return compute("ge", Binary::ge, a, b); }
Tensor logical_and(const Tensor& a, const Tensor& b) { return compute(Binary::logical_and, a, b); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return compute(Binary::logical_or, a, b); }

Tensor logical_xor(const Tensor& a, const Tensor& b) {
  check_bool("logical_xor", a);
  return a != b;
}

Tensor logical_not(const Tensor& x) {
  check_bool("logical_not", x);
  Tensor y = empty(x.shape(), boolean, x.device());
  on(x.device(), [&](auto dev) { kernels::binary_scalar(dev, Binary::eq, x, 0, false, y); });
  return y;
}

static bool whole(const Tensor& x) { return wide_type(x.dtype()) == i64; }
Tensor isinf(const Tensor& x) {
  if (is_complex(x.dtype())) return any(isinf(view_as_real(x)), {-1});
  return whole(x) ? isnan(x) : abs(x.detach()) == HUGE_VAL;
}
Tensor isfinite(const Tensor& x) {
  if (is_complex(x.dtype())) return all(isfinite(view_as_real(x)), {-1});
  return whole(x) ? x == x : abs(x.detach()) < HUGE_VAL;
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check_bool("where", condition);
  if (mixes(a, b)) return where(condition, a.to(f32), b.to(f32));
  check_same_type("where", a, b);
  check_same_device("where", condition, a);
  Shape shape = a.shape();
  if (b.shape() != shape) shape = broadcast_shapes("where", shape, b.shape());
  if (condition.shape() != shape) shape = broadcast_shapes("where", condition.shape(), shape);
  Tensor y = empty(shape, a.dtype(), a.device());
  on(a.device(), [&](auto device) {
    kernels::where(device, expanded(condition, shape), expanded(a, shape), expanded(b, shape), y);
  });
  return record("where", y, {a, b, condition}, [condition, a, b](const Tensor& g) {
    Tensor zero = scalar_like(0, g);
    return Tensors{a.requires_grad() ? sum_to(where(condition, g, zero), a.shape()) : Tensor(),
                   b.requires_grad() ? sum_to(where(condition, zero, g), b.shape()) : Tensor()};
  });
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  check_defined("masked_fill", x);
  check_bool("masked_fill", mask);
  return where(mask, scalar_like(value, x), x);
}

Tensor operator-(const Tensor& x) { return apply(Unary::neg, x, minus); }
Tensor sign(const Tensor& x) { return apply(Unary::sign, x, nothing); }
Tensor floor(const Tensor& x) { return apply(Unary::floor, x, nothing); }
Tensor round(const Tensor& x) { return apply(Unary::round, x, nothing); }
Tensor square(const Tensor& x) { return apply(Unary::square, x); }
Tensor sqrt(const Tensor& x) { return apply(Unary::sqrt, x); }
Tensor exp(const Tensor& x) { return apply(Unary::exp, x); }
Tensor expm1(const Tensor& x) { return apply(Unary::expm1, x); }
Tensor sin(const Tensor& x) { return apply(Unary::sin, x); }
Tensor cos(const Tensor& x) { return apply(Unary::cos, x); }
Tensor tanh(const Tensor& x) { return apply(Unary::tanh, x); }
Tensor erf(const Tensor& x) { return apply(Unary::erf, x); }
Tensor sigmoid(const Tensor& x) { return apply(Unary::sigmoid, x); }
Tensor softplus(const Tensor& x) { return apply(Unary::softplus, x); }
Tensor relu(const Tensor& x) { return apply(Unary::relu, x); }
Tensor silu(const Tensor& x) { return apply(Unary::silu, x); }

// g times gelu'(x), of either formula.
template <Binary f> static Tensor gelu_grad(const Tensor& g, const Tensor& x) {
  return apply(
      f, g, x, [](auto& gg, auto&, auto& x) { return gelu_grad<f>(gg, x); },
      [](auto& gg, auto& g, auto& x) {  // gelu''(x), which is 0 farther out
        const double end = f == Binary::gelu_grad ? 40 : 10;
        Tensor near = clamp(x, -end, end), squares = square(near);
        if (f == Binary::gelu_grad)  // phi(x) (2 - x^2)
          return gg * g * exp(squares * -0.5) * (2.0 - squares) * (1 / std::sqrt(2 * M_PI));
        constexpr double a = 0.7978845608028653559, b = 0.044715 * a;  // u = a x + b x^3
        Tensor u = near * (squares * b + a), s = sigmoid(u * 2.0), r = sigmoid(u * -2.0);
        Tensor cubic = squares * (3 * b), slope = cubic + a;
        return gg * g * (s * r * 4.0) * (slope + cubic - near * (s - r) * square(slope));
      });
}

Tensor gelu(const Tensor& x, Gelu approximate) {
  if (approximate == Gelu::none) return gelu(x);
  return apply(Unary::gelu_tanh, x,
               [x](auto& g) { return gelu_grad<Binary::gelu_tanh_grad>(g, x); });
}
Tensor gelu(const Tensor& x) {
  return apply(Unary::gelu, x, [x](auto& g) { return gelu_grad<Binary::gelu_grad>(g, x); });
}
Tensor log(const Tensor& x) {
  return apply(Unary::log, x, [x](auto& g) { return g / x; });
}
Tensor log1p(const Tensor& x) {
  return apply(Unary::log1p, x, [x](auto& g) { return g / (x + 1.0); });
}

Tensor abs(const Tensor& x) {
  Tensor y = compute(Unary::abs, x);
  return record_unary("abs", y, x, [x, y](auto& g) {
    if (!is_complex(x.dtype())) return g * sign(x);
    Tensor size = grad_enabled() ? abs(x) : y;
    return x * (g / where(size == 0.0, scalar_like(1, size), size)).to(x.dtype());
  });
}

Tensor conj(const Tensor& z) {
  check_defined("conj", z);
  return is_complex(z.dtype()) ? apply(Unary::conj, z, [](auto& g) { return conj(g); }) : z;
}

}  // namespace triad
