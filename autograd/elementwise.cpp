#include <triad/autograd/elementwise.h>

#include <cmath>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {

using kernels::Binary;

namespace {

bool gives_bool(Binary f) { return f >= Binary::eq; }

void check_order(const char* op, Binary f, DType dtype) {
  const bool unordered = f <= Binary::div || f == Binary::eq || f == Binary::ne;
  if (is_complex(dtype) && !unordered)
    throw_error<DTypeError>("{}: complex numbers have no order", op);
}

Tensor compute(const char* op, Binary f, const Tensor& a, const Tensor& b) {
  check_same_type(op, a, b);
  check_order(op, f, a.dtype());
  if (const DType wide = wide_type(a.dtype()); wide != a.dtype()) {
    Tensor y = compute(op, f, a.detach().to(wide), b.detach().to(wide));
    return gives_bool(f) ? y : y.to(a.dtype());
  }
  const Shape shape = broadcast_shapes(op, a.shape(), b.shape());
  Tensor y = empty(shape, gives_bool(f) ? boolean : a.dtype(), a.device());
  Tensor wide_a = a.with_layout(expanded(a.layout(), shape)),
         wide_b = b.with_layout(expanded(b.layout(), shape));
  on(a.device(), [&](auto device) { kernels::binary(device, f, wide_a, wide_b, y); });
  return y;
}

Tensor compute(const char* op, Binary f, const Tensor& a, double b, bool swapped = false) {
  check_number(op, a);
  check_order(op, f, a.dtype());
  if ((a.dtype() == i64 || a.dtype() == i32) && b != std::floor(b))
    throw_error<DTypeError>("{}: {} is no whole number and the tensor is {}; write x.to(f32)", op,
                            b, a.dtype());
  if (const DType wide = wide_type(a.dtype()); wide != a.dtype()) {
    Tensor y = compute(op, f, a.detach().to(wide), b, swapped);
    return gives_bool(f) ? y : y.to(a.dtype());
  }
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
    return Tensors{a.requires_grad() ? sum_to(g * conj(b), a.shape()) : Tensor(),
                   b.requires_grad() ? sum_to(g * conj(a), b.shape()) : Tensor()};
  });
}

Tensor operator/(const Tensor& a, const Tensor& b) {
  check_inexact("div", a);
  return record("div", compute("div", Binary::div, a, b), {a, b}, [a, b](const Tensor& g) {
    return Tensors{a.requires_grad() ? sum_to(g / conj(b), a.shape()) : Tensor(),
                   b.requires_grad() ? sum_to(-(g * conj(a / square(b))), b.shape()) : Tensor()};
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
  check_inexact("div", a);
  return record("div", compute("div", Binary::div, a, b), {a},
                [b](const Tensor& g) { return Tensors{g / b}; });
}

Tensor operator/(double a, const Tensor& b) {
  check_inexact("div", b);
  return record("div", compute("div", Binary::div, b, a, true), {b},
                [a, b](const Tensor& g) { return Tensors{g * -a / square(conj(b))}; });
}

Tensor lerp(const Tensor& a, const Tensor& b, const Tensor& weight) { return a + weight * (b - a); }
Tensor lerp(const Tensor& a, const Tensor& b, double weight) { return a + (b - a) * weight; }

// Common exponents by what is faster, as in PyTorch. Where the exponent is 0 the derivative is 0, at
// x = 0 too.
Tensor pow(const Tensor& x, double exponent) {
  check_float("pow", x);
  if (exponent == 0.5) return sqrt(x);
  if (exponent == 2) return square(x);
  if (exponent == 3) return square(x) * x;
  if (exponent == -1) return reciprocal(x);
  return record("pow", compute("pow", Binary::pow, x, exponent), {x},
                [x, exponent](const Tensor& g) {
                  if (exponent == 0) return Tensors{g * 0.0};
                  return Tensors{g * pow(x, exponent - 1) * exponent};
                });
}

Tensor pow(const Tensor& x, const Tensor& exponent) {
  check_float("pow", x);
  Tensor y = compute("pow", Binary::pow, x, exponent);
  return record("pow", y, {x, exponent}, [x, exponent](const Tensor& g) {
    Tensor zero = scalar_like(0, g), y = pow(x, exponent);
    Tensor dx = where(exponent == 0.0, zero, g * exponent * pow(x, exponent - 1.0));
    Tensor dexponent = where(logical_and(x == 0.0, exponent >= 0.0), zero, g * y * log(x));
    return Tensors{sum_to(dx, x.shape()), sum_to(dexponent, exponent.shape())};
  });
}

Tensor pow(double x, const Tensor& exponent) { return pow(scalar_like(x, exponent), exponent); }

// The gradient passes at the bounds, too.
Tensor clamp(const Tensor& x, std::optional<double> low, std::optional<double> high) {
  check_number("clamp", x);
  Tensor y = low ? compute("clamp", Binary::max, x, *low) : x.detach();
  if (high) y = compute("clamp", Binary::min, y, *high);
  return record("clamp", y, {x}, [=](const Tensor& g) {
    return Tensors{
        g * logical_and(x >= low.value_or(-HUGE_VAL), x <= high.value_or(HUGE_VAL)).to(g.dtype())};
  });
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

Tensor logical_xor(const Tensor& a, const Tensor& b) {
  check_bool("logical_xor", a);
  return a != b;
}

Tensor isnan(const Tensor& x) { return x != x; }
Tensor isinf(const Tensor& x) { return abs(x.detach()) == HUGE_VAL; }
Tensor isfinite(const Tensor& x) { return abs(x.detach()) < HUGE_VAL; }

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
