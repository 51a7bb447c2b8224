// Functions of one tensor, element by element.
#include <cmath>
#include <numbers>

#include <triad/autograd/autograd.h>
#include <triad/autograd/elementwise.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>

namespace triad {

using kernels::Unary;

namespace {

Tensor compute(Unary f, const Tensor& x) {
  if (const DType wide = wide_type(x.dtype()); wide != x.dtype())
    return compute(f, x.detach().to(wide)).to(x.dtype());
  Tensor y = empty(x.shape(), f == Unary::abs ? real_type(x.dtype()) : x.dtype(), x.device());
  on(x.device(), [&](auto device) { kernels::unary(device, f, x, y); });
  return y;
}

// A function of real numbers with its rule, which is given the gradient.
template <class Rule>
Tensor function(const char* name, Unary f, const Tensor& x, Rule rule) {
  check_float(name, x);
  return record(name, compute(f, x), {x}, [rule](const Tensor& g) { return Tensors{rule(g)}; });
}

// One whose derivative is written with its result y: rule(g, y). When the gradient is to be
// differentiated again, y is one with a history.
template <class Rule>
Tensor function_of_result(const char* name, Unary f, const Tensor& x,
                          Tensor (*again)(const Tensor&), Rule rule) {
  Tensor y = compute(f, x);
  return record(name, y, {x},
                [=](const Tensor& g) { return Tensors{rule(g, grad_enabled() ? again(x) : y)}; });
}

}  // namespace

Tensor operator-(const Tensor& x) {
  check_number("neg", x);
  return record("neg", compute(Unary::neg, x), {x}, [](const Tensor& g) { return Tensors{-g}; });
}

Tensor abs(const Tensor& x) {
  check_number("abs", x);
  return function_of_result("abs", Unary::abs, x, abs, [x](const Tensor& g, const Tensor& y) {
    if (!is_complex(x.dtype())) return g * sign(x);
    return x * (g / where(y == 0.0, scalar_like(1, y), y)).to(x.dtype());
  });
}

Tensor sign(const Tensor& x) {
  check_number("sign", x);
  return record("sign", compute(Unary::sign, x), {x},
                [](const Tensor& g) { return Tensors{g * 0.0}; });
}

Tensor square(const Tensor& x) {
  check_number("square", x);
  return record("square", compute(Unary::square, x), {x},
                [x](const Tensor& g) { return Tensors{g * conj(x) * 2.0}; });
}

Tensor conj(const Tensor& z) {
  check_defined("conj", z);
  if (!is_complex(z.dtype())) return z;
  return record("conj", compute(Unary::conj, z), {z},
                [](const Tensor& g) { return Tensors{conj(g)}; });
}

Tensor exp(const Tensor& x) {
  check_inexact("exp", x);
  return function_of_result("exp", Unary::exp, x, exp,
                            [](const Tensor& g, const Tensor& y) { return g * conj(y); });
}

Tensor expm1(const Tensor& x) {
  check_float("expm1", x);
  return function_of_result("expm1", Unary::expm1, x, expm1,
                            [](const Tensor& g, const Tensor& y) { return g * (y + 1.0); });
}

Tensor sqrt(const Tensor& x) {
  check_float("sqrt", x);
  return function_of_result("sqrt", Unary::sqrt, x, sqrt,
                            [](const Tensor& g, const Tensor& y) { return g * 0.5 / y; });
}

Tensor tanh(const Tensor& x) {
  check_float("tanh", x);
  return function_of_result("tanh", Unary::tanh, x, tanh,
                            [](const Tensor& g, const Tensor& y) { return g * (1.0 - square(y)); });
}

Tensor sigmoid(const Tensor& x) {
  check_float("sigmoid", x);
  return function_of_result("sigmoid", Unary::sigmoid, x, sigmoid,
                            [](const Tensor& g, const Tensor& y) { return g * y * (1.0 - y); });
}

Tensor log(const Tensor& x) {
  return function("log", Unary::log, x, [x](const Tensor& g) { return g / x; });
}

Tensor log1p(const Tensor& x) {
  return function("log1p", Unary::log1p, x, [x](const Tensor& g) { return g / (x + 1.0); });
}

Tensor sin(const Tensor& x) {
  return function("sin", Unary::sin, x, [x](const Tensor& g) { return g * cos(x); });
}

Tensor cos(const Tensor& x) {
  return function("cos", Unary::cos, x, [x](const Tensor& g) { return -(g * sin(x)); });
}

Tensor erf(const Tensor& x) {
  return function("erf", Unary::erf, x, [x](const Tensor& g) {
    return g * exp(-square(x)) * (2 * std::numbers::inv_sqrtpi);
  });
}

Tensor floor(const Tensor& x) {
  return function("floor", Unary::floor, x, [](const Tensor& g) { return g * 0.0; });
}

Tensor round(const Tensor& x) {
  return function("round", Unary::round, x, [](const Tensor& g) { return g * 0.0; });
}

Tensor relu(const Tensor& x) {
  return function("relu", Unary::relu, x,
                  [x](const Tensor& g) { return g * (x > 0.0).to(g.dtype()); });
}

Tensor softplus(const Tensor& x) {
  return function("softplus", Unary::softplus, x, [x](const Tensor& g) { return g * sigmoid(x); });
}

Tensor silu(const Tensor& x) {
  return function("silu", Unary::silu, x, [x](const Tensor& g) {
    Tensor s = sigmoid(x);
    return g * s * (x * (1.0 - s) + 1.0);
  });
}

namespace {

Tensor gelu_derivative(const Tensor& x) {
  return function("gelu_derivative", Unary::gelu_grad, x, [x](const Tensor& g) {
    // d/dx (Phi(x) + x phi(x)) = phi(x) (2 - x^2)
    Tensor density = exp(square(x) * -0.5) * (1 / std::sqrt(2 * M_PI));
    return g * density * (2.0 - square(x));
  });
}

}  // namespace

Tensor gelu(const Tensor& x) {
  return function("gelu", Unary::gelu, x, [x](const Tensor& g) { return g * gelu_derivative(x); });
}

Tensor gelu(const Tensor& x, Gelu approximate) {
  if (approximate == Gelu::none) return gelu(x);
  return function("gelu", Unary::gelu_tanh, x, [x](const Tensor& g) {
    constexpr double a = 0.7978845608028653559, b = 0.044715 * a;  // u = a x + b x^3
    Tensor squares = square(x), t = tanh(x * (squares * b + a));
    return g * 0.5 * (1.0 + t + x * (1.0 - square(t)) * (squares * (3 * b) + a));
  });
}

Tensor reciprocal(const Tensor& x) { return 1.0 / x; }
Tensor rsqrt(const Tensor& x) { return 1.0 / sqrt(x); }

}  // namespace triad
