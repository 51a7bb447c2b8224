// Elementwise ops. Two tensors broadcast against each other (NumPy's rule) and must have the same
// dtype: there is no silent promotion, an error says which cast to write.
#pragma once

#include <optional>

#include <triad/core/tensor.h>

namespace triad {

Tensor operator+(const Tensor& a, const Tensor& b);
Tensor operator-(const Tensor& a, const Tensor& b);
Tensor operator*(const Tensor& a, const Tensor& b);
Tensor operator/(const Tensor& a, const Tensor& b);  // no integers
// NaN where either is; a tie's gradient is halved.
Tensor maximum(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);

// With a number, in the type that is computed in: for bf16 and f16 that is f32.
Tensor operator+(const Tensor& a, double b);
Tensor operator-(const Tensor& a, double b);
Tensor operator*(const Tensor& a, double b);
Tensor operator/(const Tensor& a, double b);
inline Tensor operator+(double a, const Tensor& b) { return b + a; }
Tensor operator-(double a, const Tensor& b);
inline Tensor operator*(double a, const Tensor& b) { return b * a; }
Tensor operator/(double a, const Tensor& b);

// Comparisons give bool and carry no history.
Tensor operator==(const Tensor& a, const Tensor& b);
Tensor operator!=(const Tensor& a, const Tensor& b);
Tensor operator<(const Tensor& a, const Tensor& b);
Tensor operator<=(const Tensor& a, const Tensor& b);
Tensor operator>(const Tensor& a, const Tensor& b);
Tensor operator>=(const Tensor& a, const Tensor& b);
Tensor operator==(const Tensor& a, double b);
Tensor operator!=(const Tensor& a, double b);
Tensor operator<(const Tensor& a, double b);
Tensor operator<=(const Tensor& a, double b);
Tensor operator>(const Tensor& a, double b);
Tensor operator>=(const Tensor& a, double b);

// Of bool tensors.
Tensor logical_and(const Tensor& a, const Tensor& b);
Tensor logical_or(const Tensor& a, const Tensor& b);
Tensor logical_xor(const Tensor& a, const Tensor& b);
Tensor logical_not(const Tensor& x);

inline Tensor isnan(const Tensor& x) { return x != x; }
Tensor isinf(const Tensor& x);
Tensor isfinite(const Tensor& x);

// Functions of one tensor. Of i32 and i64 too: neg, abs, sign, square, clamp; of complex numbers:
// neg, abs, square, exp, reciprocal. All others of floating types.
Tensor operator-(const Tensor& x);
Tensor abs(const Tensor& x);
Tensor sign(const Tensor& x);  // sign, floor and round have gradient zero
Tensor floor(const Tensor& x);
Tensor round(const Tensor& x);  // ties to even
Tensor square(const Tensor& x);
Tensor sqrt(const Tensor& x);
inline Tensor rsqrt(const Tensor& x) { return 1.0 / sqrt(x); }
inline Tensor reciprocal(const Tensor& x) { return 1.0 / x; }
Tensor exp(const Tensor& x);
Tensor expm1(const Tensor& x);
Tensor log(const Tensor& x);
Tensor log1p(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor erf(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor softplus(const Tensor& x);  // log(1 + exp(x))
Tensor relu(const Tensor& x);
Tensor silu(const Tensor& x);  // x sigmoid(x)
// Exact, x/2 (1 + erf(x / sqrt 2)), or by tanh. Hendrycks & Gimpel 2016, arXiv 1606.08415.
enum class Gelu { none, tanh };
Tensor gelu(const Tensor& x);
Tensor gelu(const Tensor& x, Gelu approximate);

Tensor clamp(const Tensor& x, std::optional<double> low, std::optional<double> high = {});
Tensor pow(const Tensor& x, double exponent);
Tensor pow(const Tensor& x, const Tensor& exponent);
Tensor pow(double x, const Tensor& exponent);
inline Tensor lerp(const Tensor& a, const Tensor& b, double weight) {
  return weight < 0.5 ? a + weight * (b - a) : b - (1.0 - weight) * (b - a);
}
inline Tensor lerp(const Tensor& a, const Tensor& b, const Tensor& weight) {
  return a + weight * (b - a);
}

// condition ? a : b, all three broadcast; condition is bool.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);  // value where mask is true

}  // namespace triad
