// The elementwise ops and the formulas behind them, written once: X is float or double, on any
// device, or a whole register of them (backends/cpu/vec.h, which brings its own exp, select, ...).
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>

#include <triad/core/dtype.h>
#include <triad/core/random.h>

namespace triad::math {

using std::abs, std::cos, std::exp, std::expm1, std::floor, std::fma, std::log, std::log1p,
    std::pow, std::sin, std::sqrt, std::tanh;

// float for float and for a register of floats.
template <class X> struct NumberOf { using type = X; };
template <template <class> class V, class T> struct NumberOf<V<T>> { using type = T; };

template <class X> TRIAD_HD X select(bool condition, X yes, X no) { return condition ? yes : no; }

// Ties to even.
template <std::floating_point X> TRIAD_HD X round(X x) { return std::nearbyint(x); }

// exp where what underflows may be 0; registers have a faster one.
template <std::floating_point X> TRIAD_HD X exp_weight(X x) { return exp(x); }

// c[0] + c[1] x + ... + c[N-1] x^(N-1)
template <class X, class T, int N> TRIAD_HD X polynomial(X x, const T (&c)[N]) {
  X y(c[N - 1]);
  for (int i = N - 2; i >= 0; --i) y = fma(y, x, X(c[i]));
  return y;
}

// ---------------------------------------------------------------------- the longer formulas

// The normal distribution at |x|: its density phi(|x|) without the factor 1 / sqrt(2 pi), and its
// upper tail Phi(-|x|), both to a few ulp of themselves unless they underflow. a is |x| up to where
// the tail is 0, which keeps inf * 0 away, also for NaN.
//
// tail = exp(-a^2/2) Q(a) with Q smooth. Substituting u = (k - a) / (k + a), which takes [0, inf)
// to (-1, 1], Q = (1 + u)/2 P(u) with a polynomial P, fitted at Chebyshev nodes (relative error
// 1.3e-8 for float, 1.2e-17 for double) after Shepherd and Laframboise, "Chebyshev approximation of
// (1 + 2x) exp(x^2) erfc x", Math. Comp. 36 (1981).
template <class X> struct NormalTail { X a, density, tail; };

template <class T> struct TailFit;
template <> struct TailFit<float> {
  static constexpr float k = 4, end = 14.5f;  // beyond `end` the tail is 0
  TRIAD_HD static auto& coefficients() {
    static constexpr float c[] = {
        0.188821285f,   0.151974152f,     0.0967841699f,    0.0466307515f,  0.0151016174f,
        0.00188180323f, -0.000880893514f, -0.000392328411f, 4.87004628e-5f, 3.07457893e-5f};
    return c;
  }
};
template <> struct TailFit<double> {
  static constexpr double k = 5, end = 39;
  TRIAD_HD static auto& coefficients() {
    static constexpr double c[] = {
        0.15383860995001259,     0.13307650057801134,    0.099061123193995283,
        0.062706631334260909,    0.033004073234076944,   0.013823727741262033,
        0.0041590133599766359,   0.00059867535410170849, -0.00015957387969321402,
        -0.00010897981295462598, -1.1875145601983173e-5, 9.952562854117161e-6,
        3.3362427484084123e-6,   -7.9618043157360822e-7, -5.5385341919948605e-7,
        6.7323073620249423e-8,   8.6628207137251699e-8,  -8.4549987480130697e-9,
        -1.3188443324954446e-8,  1.8627121988652118e-9,  1.5326143601520082e-9,
        -3.506096802816464e-10,  -3.1754937654946731e-11};
    return c;
  }
};

template <class X> TRIAD_HD NormalTail<X> normal_tail(X x) {
  using Fit = TailFit<typename NumberOf<X>::type>;
  const X end(Fit::end), a = select(abs(x) < end, abs(x), end);
  const X square = a * a, lost = fma(a, a, -square);  // exp would magnify the rounding of a^2
  const X density = exp_weight(X(-0.5) * square) * fma(X(-0.5), lost, X(1));
  const X t = X(1) / (X(Fit::k) + a);
  const X u = (X(Fit::k) - a) * t;
  return {a, density, density * (X(Fit::k) * t) * polynomial(u, Fit::coefficients())};
}

// x Phi(x) = x/2 (1 + erf(x / sqrt 2)), without cancellation where x is far below 0.
template <class X> TRIAD_HD X gelu(X x, const NormalTail<X>& normal) {
  const X lower = -normal.a * normal.tail;  // gelu(-a)
  return select(x < X(0), lower, x + lower);
}

// Phi(x) + x phi(x)
template <class X> TRIAD_HD X gelu_grad(X x, const NormalTail<X>& normal) {
  const X scale = normal.a * X(-0.3989422804014326779);  // -a / sqrt(2 pi)
  const X lower = fma(scale, normal.density, normal.tail);
  return select(x < X(0), lower, select(x == x, X(1) - lower, x));
}

// x/2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
template <class X> TRIAD_HD X gelu_tanh(X x) {
  const X u = X(0.7978845608028653559) * x * fma(X(0.044715), x * x, X(1));
  return x / (X(1) + exp(X(-2) * u));
}

// s (1 + 2 x (1 - s) u') with s = 1 / (1 + exp(-2u)). Beyond +-100 it is 1 or 0, not inf * 0.
template <class X> TRIAD_HD X gelu_tanh_grad(X x) {
  const X end(100), near = select(x > end, end, select(x < -end, -end, x));
  const X square = near * near, twice = X(1.5957691216057307118);
  const X u2 = twice * near * fma(X(0.044715), square, X(1));
  const X e = exp_weight(-abs(u2)), upper = X(1) / (X(1) + e), lower = e * upper;
  const X s = select(u2 < X(0), lower, upper), rest = select(u2 < X(0), upper, lower);
  return s * fma(near * twice * fma(X(0.134145), square, X(1)), rest, X(1));
}

// 1 / (1 + exp(-x)), the exponential never above 1.
template <class X> TRIAD_HD X sigmoid(X x) {
  const X e = exp_weight(-abs(x));
  return select(x < X(0), e, X(1)) / (X(1) + e);
}

// By its series near 0, where 2 Phi(x sqrt 2) - 1 would cancel.
template <class X> TRIAD_HD X erf(X x) {
  constexpr double series[] = {
      1.12837916709551257,     -0.376126389031837525,   0.112837916709551257,
      -0.0268661706451312518,  0.00522397762544218784,  -8.54832702345085283e-4,
      1.20553329817896643e-4,  -1.49256503584062510e-5, 1.64621143658892468e-6,
      -1.63658446912349243e-7, 1.48071928158792180e-8,  -1.22905553017179279e-9,
      9.42275906465040971e-11, -6.71136685516411038e-12};
  const X tail = normal_tail(x * X(1.41421356237309504880)).tail, large = fma(X(-2), tail, X(1));
  const X far = select(x < X(0), -large, select(x == x, large, x));
  return select(abs(x) < X(0.75), x * polynomial(x * x, series), far);
}

// a b; of complex numbers without C's search for infinities among NaNs, and with the same bits in a
// loop that the compiler makes registers of and in its rest.
template <class X> TRIAD_HD X times(X a, X b) {
  if constexpr (is_complex_v<X>)
    return {fma(-a.imag(), b.imag(), a.real() * b.real()),
            fma(a.imag(), b.real(), a.real() * b.imag())};
  else return a * b;
}

// ---------------------------------------------------------------------- the elementwise ops

// clang-format off
enum class Unary {
  neg, abs, square, sign, conj, sqrt, floor, round, relu,  // as fast as memory
  exp, expm1, log, log1p, sin, cos, tanh, erf, sigmoid, silu, gelu, gelu_tanh, softplus,
  last = softplus
};
enum class Binary {
  add, sub, mul, div, max, min, pow, gelu_grad, gelu_tanh_grad,  // a gelu'(b)
  eq, ne, lt, le, gt, ge, logical_and, logical_or,  // these give bool
  last = logical_or
};
// clang-format on

// f(x); void where f is not defined for such an x. Integers wrap around, as unsigned ones do.
template <Unary f, class X> TRIAD_HD auto evaluate(X x) {
  constexpr bool whole = std::is_integral_v<X>, complex = is_complex_v<X>;
  if constexpr (std::is_same_v<X, bool>) return;
  else if constexpr (std::is_same_v<X, std::int64_t> && (f == Unary::neg || f == Unary::square))
    return X(evaluate<f>(std::uint64_t(x)));
  else if constexpr (f == Unary::neg) return -x;
  else if constexpr (f == Unary::square) return times(x, x);
  else if constexpr (f == Unary::abs && whole) return x < 0 ? evaluate<Unary::neg>(x) : x;
  else if constexpr (f == Unary::abs) return abs(x);
  else if constexpr (f == Unary::conj && complex) return conj(x);
  else if constexpr (f == Unary::exp && !whole) return exp(x);
  else if constexpr (complex) return;
  else if constexpr (f == Unary::sign)  // of zero itself, of NaN NaN
    return select(x > X(0), X(1), select(x < X(0), X(-1), x));
  else if constexpr (whole) return;
  else if constexpr (f == Unary::sqrt) return sqrt(x);
  else if constexpr (f == Unary::floor) return floor(x);
  else if constexpr (f == Unary::round) return round(x);
  else if constexpr (f == Unary::relu) return select(x > X(0), x, select(x == x, X(0), x));
  else if constexpr (f == Unary::expm1) return expm1(x);
  else if constexpr (f == Unary::log) return log(x);
  else if constexpr (f == Unary::log1p) return log1p(x);
  else if constexpr (f == Unary::sin) return sin(x);
  else if constexpr (f == Unary::cos) return cos(x);
  else if constexpr (f == Unary::tanh) return tanh(x);
  else if constexpr (f == Unary::erf) return erf(x);
  else if constexpr (f == Unary::sigmoid) return sigmoid(x);
  else if constexpr (f == Unary::softplus) {  // relu(x) + log(1 + e), and what 1 + e has lost
    const X e = exp_weight(-abs(x)), u = X(1) + e;
    return evaluate<Unary::relu>(x) + (log(u) + (e - (u - X(1))) / u);
  } else if constexpr (f == Unary::silu) return x * sigmoid(x);
  else if constexpr (f == Unary::gelu) return gelu(x, normal_tail(x));
  else if constexpr (f == Unary::gelu_tanh) return gelu_tanh(x);
}

// f(a, b) in the same way; of registers, arithmetic alone.
template <Binary f, class X> TRIAD_HD auto evaluate(X a, X b) {
  constexpr bool whole = std::is_integral_v<X>, ordered = !is_complex_v<X>;
  if constexpr (f == Binary::eq) return a == b;
  else if constexpr (f == Binary::ne) return a != b;
  else if constexpr (f == Binary::lt && ordered) return a < b;
  else if constexpr (f == Binary::le && ordered) return a <= b;
  else if constexpr (f == Binary::gt && ordered) return a > b;
  else if constexpr (f == Binary::ge && ordered) return a >= b;
  else if constexpr (std::is_same_v<X, bool> && f == Binary::logical_and) return bool(a & b);
  else if constexpr (std::is_same_v<X, bool> && f == Binary::logical_or) return bool(a | b);
  else if constexpr (std::is_same_v<X, bool>) return;
  else if constexpr (std::is_same_v<X, std::int64_t> && f <= Binary::mul)
    return X(evaluate<f>(std::uint64_t(a), std::uint64_t(b)));
  else if constexpr (f == Binary::add) return a + b;
  else if constexpr (f == Binary::sub) return a - b;
  else if constexpr (f == Binary::mul) return times(a, b);
  else if constexpr (f == Binary::div && !whole) return a / b;
  else if constexpr (f == Binary::max && ordered)  // NaN where either is, unlike the machine's
    return select(a > b, a, select(a == a, b, a));
  else if constexpr (f == Binary::min && ordered) return select(a < b, a, select(a == a, b, a));
  else if constexpr (f == Binary::gelu_grad && ordered && !whole)
    return a * gelu_grad(b, normal_tail(b));
  else if constexpr (f == Binary::gelu_tanh_grad && ordered && !whole) return a * gelu_tanh_grad(b);
  else if constexpr (f == Binary::pow && std::is_floating_point_v<X>) return pow(a, b);
}

// ---------------------------------------------------------------------- normal random numbers

// cos and sin of 2 pi u for u in [0, 1), in double: exact reduction to an eighth of a turn, then
// the polynomials of fdlibm (Sun Microsystems 1993, k_sin.c and k_cos.c).
template <class X> struct CosSin { X cos, sin; };

template <class X> TRIAD_HD CosSin<X> cos_sin_turns(X u) {
  constexpr double sine[] = {-1.66666666666666324348e-01, 8.33333333332248946124e-03,
                             -1.98412698298579493134e-04, 2.75573137070700676789e-06,
                             -2.50507602534068634195e-08, 1.58969099521155010221e-10};
  constexpr double cosine[] = {4.16666666666666019037e-02, -1.38888888888741095749e-03,
                               2.48015872894767294178e-05, -2.75573143513906633035e-07,
                               2.08757232129817482790e-09, -1.13596475577881948265e-11};
  const X quarter = floor(fma(u, X(4), X(0.5)));  // the nearest quarter of a turn, 0 .. 4
  const X x = (u - quarter * X(0.25)) * X(6.283185307179586477), z = x * x;
  const X s = fma(x * z, polynomial(z, sine), x);
  const X c = fma(z * z, polynomial(z, cosine), fma(z, X(-0.5), X(1)));
  const X odd = quarter - X(2) * floor(quarter * X(0.5));
  const X cos = select(odd == X(1), s, c), sin = select(odd == X(1), c, s);
  const X left = quarter - X(1.5), below = quarter - X(2.5);
  return {select(left * left < X(1), -cos, cos), select(below * below < X(1), -sin, sin)};
}

// Box and Muller, "A note on the generation of random normal deviates" (1958): two independent
// standard normals from u1 in (0, 1] and u2 in [0, 1), in double. For a pair of floats
// u1 = (w[0] + 1) 2^-32 and u2 = w[1] 2^-32 from two random words; for a pair of doubles
// u1 = 1 - uniform_double(w[0], w[1]) and u2 = uniform_double(w[2], w[3]) from four.
template <class X> TRIAD_HD CosSin<X> normal_pair(X u1, X u2) {
  const X radius = sqrt(X(-2) * log(u1));
  const CosSin<X> angle = cos_sin_turns(u2);
  return {radius * angle.cos, radius * angle.sin};
}

}  // namespace triad::math
