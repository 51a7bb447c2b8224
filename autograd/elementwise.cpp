#include <triad/autograd/elementwise.h>

#include <cmath>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {

using kernels::Binary;
using kernels::Unary;

// ---------------------------------------------------------------------- one tensor

namespace {

Tensor compute(Unary f, const Tensor& x) {
  Tensor y = empty_like(x);
  on(x.device(), [&](auto device) { kernels::unary(device, f, x, y); });
  return y;
}

Tensor compute_float(const char* op, Unary f, const Tensor& x) {
  check_float(op, x);
  return compute(f, x);
}

// In a rule: the saved result, or one with a history when the gradient is to be differentiated
// again.
template <class F>
Tensor again(const Tensor& saved, F recompute) {
  return grad_enabled() ? recompute() : saved;
}

Tensor gelu_derivative(const Tensor& x) {
  return record("gelu_derivative", compute(Unary::gelu_grad, x), {x}, [x](const Tensor& g) {
    // d/dx (Phi(x) + x phi(x)) = phi(x) (2 - x^2)
    Tensor density = exp(square(x) * -0.5) * (1 / std::sqrt(2 * M_PI));
    return Tensors{g * density * (2.0 - square(x))};
  });
}

}  // namespace

Tensor operator-(const Tensor& x) {
  check_number("neg", x);
  return record("neg", compute(Unary::neg, x), {x}, [](const Tensor& g) { return Tensors{-g}; });
}

Tensor abs(const Tensor& x) {
  check_number("abs", x);
  return record("abs", compute(Unary::abs, x), {x},
                [x](const Tensor& g) { return Tensors{g * sign(x)}; });
}

Tensor sign(const Tensor& x) {
  check_number("sign", x);
  return record("sign", compute(Unary::sign, x), {x},
                [](const Tensor& g) { return Tensors{g * 0.0}; });
}

Tensor exp(const Tensor& x) {
  Tensor y = compute_float("exp", Unary::exp, x);
  return record("exp", y, {x},
                [x, y](const Tensor& g) { return Tensors{g * again(y, [&] { return exp(x); })}; });
}

Tensor log(const Tensor& x) {
  return record("log", compute_float("log", Unary::log, x), {x},
                [x](const Tensor& g) { return Tensors{g / x}; });
}

Tensor sqrt(const Tensor& x) {
  Tensor y = compute_float("sqrt", Unary::sqrt, x);
  return record("sqrt", y, {x}, [x, y](const Tensor& g) {
    return Tensors{g * 0.5 / again(y, [&] { return sqrt(x); })};
  });
}

Tensor square(const Tensor& x) {
  check_number("square", x);
  return record("square", compute(Unary::square, x), {x},
                [x](const Tensor& g) { return Tensors{g * x * 2.0}; });
}

Tensor tanh(const Tensor& x) {
  Tensor y = compute_float("tanh", Unary::tanh, x);
  return record("tanh", y, {x}, [x, y](const Tensor& g) {
    return Tensors{g * (1.0 - square(again(y, [&] { return tanh(x); })))};
  });
}

Tensor sin(const Tensor& x) {
  return record("sin", compute_float("sin", Unary::sin, x), {x},
                [x](const Tensor& g) { return Tensors{g * cos(x)}; });
}

Tensor cos(const Tensor& x) {
  return record("cos", compute_float("cos", Unary::cos, x), {x},
                [x](const Tensor& g) { return Tensors{-(g * sin(x))}; });
}

Tensor gelu(const Tensor& x) {
  return record("gelu", compute_float("gelu", Unary::gelu, x), {x},
                [x](const Tensor& g) { return Tensors{g * gelu_derivative(x)}; });
}

// ---------------------------------------------------------------------- two tensors

namespace {

bool gives_bool(Binary f) { return f >= Binary::eq; }

Tensor compute(const char* op, Binary f, const Tensor& a, const Tensor& b) {
  check_same_type(op, a, b);
  const Shape shape = broadcast_shapes(op, a.shape(), b.shape());
  Tensor y = empty(shape, gives_bool(f) ? boolean : a.dtype(), a.device());
  Tensor wide_a = a.with_layout(expanded(a.layout(), shape)),
         wide_b = b.with_layout(expanded(b.layout(), shape));
  on(a.device(), [&](auto device) { kernels::binary(device, f, wide_a, wide_b, y); });
  return y;
}

Tensor compute(const char* op, Binary f, const Tensor& a, double b, bool swapped = false) {
  check_number(op, a);
  if (a.dtype() == i64 && b != std::floor(b))
    throw_error<DTypeError>("{}: {} is no whole number and the tensor is i64; write x.to(f32)", op,
                            b);
  Tensor y = empty(a.shape(), gives_bool(f) ? boolean : a.dtype(), a.device());
  on(a.device(), [&](auto device) { kernels::binary_scalar(device, f, a, b, swapped, y); });
  return y;
}

Tensor arithmetic(const char* op, Binary f, const Tensor& a, const Tensor& b) {
  check_number(op, a);
  return compute(op, f, a, b);
}

// Half of the gradient where both are equal, as the mean of the two one-sided derivatives.
Rule extremum_rule(const Tensor& a, const Tensor& b, Binary winner) {
  return [a, b, winner](const Tensor& g) {
    Tensor half = (a == b).to(g.dtype()) * 0.5;
    Tensor share = compute("extremum", winner, a.detach(), b.detach()).to(g.dtype()) + half;
    return Tensors{sum_to(g * share, a.shape()), sum_to(g * (1.0 - share), b.shape())};
  };
}

}  // namespace

Tensor operator+(const Tensor& a, const Tensor& b) {
  return record("add", arithmetic("add", Binary::add, a, b), {a, b}, [a, b](const Tensor& g) {
    return Tensors{sum_to(g, a.shape()), sum_to(g, b.shape())};
  });
}

Tensor operator-(const Tensor& a, const Tensor& b) {
  return record("sub", arithmetic("sub", Binary::sub, a, b), {a, b}, [a, b](const Tensor& g) {
    return Tensors{sum_to(g, a.shape()), b.requires_grad() ? sum_to(-g, b.shape()) : Tensor()};
  });
}

Tensor operator*(const Tensor& a, const Tensor& b) {
  return record("mul", arithmetic("mul", Binary::mul, a, b), {a, b}, [a, b](const Tensor& g) {
    return Tensors{a.requires_grad() ? sum_to(g * b, a.shape()) : Tensor(),
                   b.requires_grad() ? sum_to(g * a, b.shape()) : Tensor()};
  });
}

Tensor operator/(const Tensor& a, const Tensor& b) {
  check_float("div", a);
  return record("div", compute("div", Binary::div, a, b), {a, b}, [a, b](const Tensor& g) {
    return Tensors{a.requires_grad() ? sum_to(g / b, a.shape()) : Tensor(),
                   b.requires_grad() ? sum_to(-(g * a / square(b)), b.shape()) : Tensor()};
  });
}

Tensor maximum(const Tensor& a, const Tensor& b) {
  return record("maximum", arithmetic("maximum", Binary::max, a, b), {a, b},
                extremum_rule(a, b, Binary::gt));
}

Tensor minimum(const Tensor& a, const Tensor& b) {
  return record("minimum", arithmetic("minimum", Binary::min, a, b), {a, b},
                extremum_rule(a, b, Binary::lt));
}

Tensor operator+(const Tensor& a, double b) {
  return record("add", compute("add", Binary::add, a, b), {a},
                [](const Tensor& g) { return Tensors{g}; });
}

Tensor operator*(const Tensor& a, double b) {
  return record("mul", compute("mul", Binary::mul, a, b), {a},
                [b](const Tensor& g) { return Tensors{g * b}; });
}

Tensor operator-(const Tensor& a, double b) {
  return record("sub", compute("sub", Binary::sub, a, b), {a},
                [](const Tensor& g) { return Tensors{g}; });
}

Tensor operator+(double a, const Tensor& b) { return b + a; }
Tensor operator*(double a, const Tensor& b) { return b * a; }

Tensor operator-(double a, const Tensor& b) {
  return record("sub", compute("sub", Binary::sub, b, a, true), {b},
                [](const Tensor& g) { return Tensors{-g}; });
}

Tensor operator/(const Tensor& a, double b) {
  check_float("div", a);
  return record("div", compute("div", Binary::div, a, b), {a},
                [b](const Tensor& g) { return Tensors{g / b}; });
}

Tensor operator/(double a, const Tensor& b) {
  check_float("div", b);
  return record("div", compute("div", Binary::div, b, a, true), {b},
                [a, b](const Tensor& g) { return Tensors{g * -a / square(b)}; });
}

// ---------------------------------------------------------------------- comparisons

Tensor operator==(const Tensor& a, const Tensor& b) { return compute("eq", Binary::eq, a, b); }
Tensor operator!=(const Tensor& a, const Tensor& b) { return compute("ne", Binary::ne, a, b); }
Tensor operator<(const Tensor& a, const Tensor& b) { return compute("lt", Binary::lt, a, b); }
Tensor operator<=(const Tensor& a, const Tensor& b) { return compute("le", Binary::le, a, b); }
Tensor operator>(const Tensor& a, const Tensor& b) { return compute("gt", Binary::gt, a, b); }
Tensor operator>=(const Tensor& a, const Tensor& b) { return compute("ge", Binary::ge, a, b); }
Tensor operator==(const Tensor& a, double b) { return compute("eq", Binary::eq, a, b); }
Tensor operator!=(const Tensor& a, double b) { return compute("ne", Binary::ne, a, b); }
Tensor operator<(const Tensor& a, double b) { return compute("lt", Binary::lt, a, b); }
Tensor operator<=(const Tensor& a, double b) { return compute("le", Binary::le, a, b); }
Tensor operator>(const Tensor& a, double b) { return compute("gt", Binary::gt, a, b); }
Tensor operator>=(const Tensor& a, double b) { return compute("ge", Binary::ge, a, b); }

Tensor logical_and(const Tensor& a, const Tensor& b) {
  check_bool("logical_and", a);
  return compute("logical_and", Binary::logical_and, a, b);
}

Tensor logical_not(const Tensor& x) {
  check_bool("logical_not", x);
  Tensor y = empty(x.shape(), boolean, x.device());
  on(x.device(), [&](auto dev) { kernels::binary_scalar(dev, Binary::eq, x, 0, false, y); });
  return y;
}

Tensor logical_or(const Tensor& a, const Tensor& b) {
  check_bool("logical_or", a);
  return compute("logical_or", Binary::logical_or, a, b);
}

// ---------------------------------------------------------------------- choosing

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check_bool("where", condition);
  check_same_type("where", a, b);
  const Shape shape =
      broadcast_shapes("where", condition.shape(), broadcast_shapes("where", a.shape(), b.shape()));
  auto wide = [&](const Tensor& x) { return x.with_layout(expanded(x.layout(), shape)); };
  Tensor y = empty(shape, a.dtype(), a.device());
  on(a.device(),
     [&](auto device) { kernels::where(device, wide(condition), wide(a), wide(b), y); });
  return record("where", y, {a, b}, [condition, a, b](const Tensor& g) {
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

}  // namespace triad
