// Vec<T>: one SIMD register of T with the operators and functions of a number, over Highway.
//
// A formula written as a template over its number type (backends/math.h) runs on float, on double
// and, through this file, on a whole register at a time. Static dispatch: the widest instructions
// that the compiler's -march allows.
#pragma once

#define HWY_COMPILE_ONLY_STATIC  // no run-time choice: one build, one machine
#define HWY_DISABLE_PCLMUL_AES   // -march=x86-64-v3 has no AES, and nothing here needs it
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstddef>
#include <limits>

#include <triad/backends/cpu/index.h>

namespace triad::cpu {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
struct Vec {
  using Tag = hn::ScalableTag<T>;
  using Raw = hn::Vec<Tag>;
  static constexpr Tag tag{};
  static constexpr Index lanes = hn::MaxLanes(Tag());

  Raw raw;

  Vec() : raw(hn::Zero(tag)) {}
  Vec(Raw r) : raw(r) {}
  Vec(T value) : raw(hn::Set(tag, value)) {}

  // n, rounded up to whole registers.
  static Index whole(Index n) { return ceil_div(n, lanes) * lanes; }

  static Vec load(const T* p) { return hn::LoadU(tag, p); }
  void store(T* p) const { hn::StoreU(raw, tag, p); }

  // The first n lanes, 0 <= n <= lanes; the others read as zero and are not touched in memory.
  static Vec load_first(const T* p, Index n) { return hn::MaskedLoad(hn::FirstN(tag, n), tag, p); }
  void store_first(T* p, Index n) const { hn::BlendedStore(raw, hn::FirstN(tag, n), tag, p); }

  Vec& operator+=(Vec b) { return *this = *this + b; }
  Vec& operator*=(Vec b) { return *this = *this * b; }

  friend Vec operator+(Vec a, Vec b) { return hn::Add(a.raw, b.raw); }
  friend Vec operator-(Vec a, Vec b) { return hn::Sub(a.raw, b.raw); }
  friend Vec operator*(Vec a, Vec b) { return hn::Mul(a.raw, b.raw); }
  friend Vec operator/(Vec a, Vec b) { return hn::Div(a.raw, b.raw); }
  friend Vec operator-(Vec a) { return hn::Neg(a.raw); }

  friend auto operator<(Vec a, Vec b) { return hn::Lt(a.raw, b.raw); }
  friend auto operator<=(Vec a, Vec b) { return hn::Le(a.raw, b.raw); }
  friend auto operator>(Vec a, Vec b) { return hn::Gt(a.raw, b.raw); }
  friend auto operator>=(Vec a, Vec b) { return hn::Ge(a.raw, b.raw); }
  friend auto operator==(Vec a, Vec b) { return hn::Eq(a.raw, b.raw); }

  // a * b + c and c - a * b, rounded once where the machine can.
  friend Vec fma(Vec a, Vec b, Vec c) { return hn::MulAdd(a.raw, b.raw, c.raw); }
  friend Vec fnma(Vec a, Vec b, Vec c) { return hn::NegMulAdd(a.raw, b.raw, c.raw); }
  friend Vec max(Vec a, Vec b) { return hn::Max(a.raw, b.raw); }
  friend Vec min(Vec a, Vec b) { return hn::Min(a.raw, b.raw); }
  friend Vec abs(Vec a) { return hn::Abs(a.raw); }
  friend Vec sqrt(Vec a) { return hn::Sqrt(a.raw); }
  friend Vec floor(Vec a) { return hn::Floor(a.raw); }
  friend Vec round(Vec a) { return hn::Round(a.raw); }  // ties to even

  // Lane by lane: yes where the mask holds, else no.
  friend Vec select(hn::Mask<Tag> mask, Vec yes, Vec no) {
    return hn::IfThenElse(mask, yes.raw, no.raw);
  }

  friend T sum_lanes(Vec a) { return hn::GetLane(hn::SumOfLanes(tag, a.raw)); }
  friend T max_lanes(Vec a) { return hn::GetLane(hn::MaxOfLanes(tag, a.raw)); }
};

// The first and the second half of the lanes, in double.
inline Vec<double> widen_low(Vec<float> a) {
  return hn::PromoteTo(Vec<double>::tag, hn::LowerHalf(a.raw));
}
inline Vec<double> widen_high(Vec<float> a) {
  return hn::PromoteTo(Vec<double>::tag, hn::UpperHalf(hn::Half<Vec<float>::Tag>(), a.raw));
}

// A register of whole numbers below 2^24 as floating-point ones.
template <class T, class Ints>
Vec<T> to_floating(Ints ints) {
  if constexpr (sizeof(T) == 4) return hn::ConvertTo(Vec<T>::tag, ints);
  else return hn::PromoteTo(Vec<T>::tag, ints);
}

// Highway's functions, within 3 ulp of the exact value, completed where IEEE asks for more: its exp
// turns NaN into 0 and is garbage where it overflows, its log is finite at 0, at infinity and below
// zero, its sin and cos hold up to 39000 and forget the sign of -0.
template <class T>
HWY_INLINE Vec<T> exp(Vec<T> x) {
  constexpr T overflow = sizeof(T) == 4 ? T(104) : T(710);
  return select(x == x, Vec<T>(hn::Exp(Vec<T>::tag, min(x, Vec<T>(overflow)).raw)), x);
}
// exp for weights, such as of scores minus the largest one: right to 2 ulp for -87 < x < 87, 0
// below that, NaN for NaN. The infinities and denormals of the general exp cost up to as much again
// (on an AVX-512 machine softmax took 0.31 ns an element with it, 0.21 with this).
inline Vec<float> exp_weight(Vec<float> x) {
  using V = Vec<float>;
  constexpr hn::RebindToSigned<V::Tag> ints;
  // exp(x) = 2^n exp(r), n the integer nearest to x / ln 2. Adding 1.5 * 2^23 + 127 to x / ln 2
  // rounds it to an integer and leaves n + 127, the exponent bits of 2^n, at the low end.
  const V magic(12582912.0f + 127.0f);
  const V shifted = fma(x, V(1.44269504f), magic), n = shifted - magic;
  const V power = hn::BitCast(V::tag, hn::ShiftLeft<23>(hn::BitCast(ints, shifted.raw)));
  const V r = fnma(n, V(-2.12194440e-4f), fnma(n, V(0.693359375f), x));  // ln 2 in two parts
  V p(1.9875691500e-4f);  // on |r| < ln 2 / 2; coefficients of Cephes' expf (Moshier)
  p = fma(p, r, V(1.3981999507e-3f));
  p = fma(p, r, V(8.3334519073e-3f));
  p = fma(p, r, V(4.1665795894e-2f));
  p = fma(p, r, V(1.6666665459e-1f));
  p = fma(p, r, V(5.0000001201e-1f));
  p = fma(p * r, r, r) + V(1.0f);
  return select(x < V(-87.0f), V(), p * power);
}
inline Vec<double> exp_weight(Vec<double> x) { return exp(x); }

template <class T>
Vec<T> log(Vec<T> x) {
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  Vec<T> y = hn::Log(Vec<T>::tag, x.raw);
  y = select(x < Vec<T>(inf), y, x);  // log(inf) = inf, log(nan) = nan
  return select(x > Vec<T>(T(0)), y,
                select(x == Vec<T>(T(0)), Vec<T>(-inf), select(x == x, Vec<T>(nan), x)));
}
// Where the argument leaves the functions' range, that of exp and log.
template <class T>
Vec<T> expm1(Vec<T> x) {
  return select(abs(x) < Vec<T>(T(80)), Vec<T>(hn::Expm1(Vec<T>::tag, x.raw)),
                exp(x) - Vec<T>(T(1)));
}
template <class T>
Vec<T> log1p(Vec<T> x) {
  const Vec<T> y =
      select(abs(x) < Vec<T>(T(0.5)), Vec<T>(hn::Log1p(Vec<T>::tag, x.raw)), log(x + Vec<T>(T(1))));
  return select(x == Vec<T>(), x, y);  // -0
}
template <class T>
Vec<T> tanh(Vec<T> x) {
  return hn::Tanh(Vec<T>::tag, x.raw);
}

// y, with the lanes where |x| > 39000 or x is NaN replaced by f(x).
template <class T, class F>
Vec<T> complete_large(Vec<T> x, Vec<T> y, F f) {
  if (hn::AllTrue(Vec<T>::tag, abs(x) <= Vec<T>(T(39000)))) return y;
  T in[Vec<T>::lanes], out[Vec<T>::lanes];
  x.store(in);
  y.store(out);
  for (Index i = 0; i < Vec<T>::lanes; ++i)
    if (!(std::abs(in[i]) <= T(39000))) out[i] = f(in[i]);
  return Vec<T>::load(out);
}
template <class T>
Vec<T> sin(Vec<T> x) {
  Vec<T> y = select(x == Vec<T>(T(0)), x, Vec<T>(hn::Sin(Vec<T>::tag, x.raw)));
  return complete_large(x, y, [](T lane) { return std::sin(lane); });
}
template <class T>
Vec<T> cos(Vec<T> x) {
  Vec<T> y = hn::Cos(Vec<T>::tag, x.raw);
  return complete_large(x, y, [](T lane) { return std::cos(lane); });
}

}  // namespace triad::cpu
