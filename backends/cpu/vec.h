// Vec<T>: one SIMD register of T as a number, over Highway; and loops over arrays by registers.
//
// A formula written as a template over its number type (backends/math.h) runs on float, on double
// and, through this file, on a register at a time. Static dispatch: the widest that -march allows.
#pragma once

#define HWY_COMPILE_ONLY_STATIC  // no run-time choice: one build, one machine
#define HWY_DISABLE_PCLMUL_AES   // -march=x86-64-v3 has no AES, and nothing here needs it
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <limits>

#include <triad/backends/cpu/parallel.h>

namespace triad::cpu {

namespace hn = hwy::HWY_NAMESPACE;

template <class T> struct Vec {
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
  friend Vec select(hn::Mask<Tag> m, Vec yes, Vec no) { return hn::IfThenElse(m, yes.raw, no.raw); }

  friend T sum_lanes(Vec a) { return hn::GetLane(hn::SumOfLanes(tag, a.raw)); }
  friend T max_lanes(Vec a) { return hn::GetLane(hn::MaxOfLanes(tag, a.raw)); }

  // Highway's functions, within 3 ulp of the exact value, completed where IEEE asks for more: its
  // exp turns NaN into 0 and is garbage where it overflows, its log is finite at 0, at infinity and
  // below zero, its sin and cos hold up to 39000 and forget the sign of -0.
  HWY_INLINE friend Vec exp(Vec x) {
    constexpr T overflow = sizeof(T) == 4 ? T(104) : T(710);
    return select(x == x, hn::Exp(tag, min(x, Vec(overflow)).raw), x);
  }
  friend Vec log(Vec x) {
    constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    const Vec zero, y = select(x < Vec(inf), hn::Log(tag, x.raw), x);  // of inf and NaN: themselves
    return select(x > zero, y, select(x == zero, Vec(-inf), select(x == x, Vec(nan), x)));
  }
  // Where the argument leaves the functions' range, that of exp and log.
  friend Vec expm1(Vec x) {
    return select(abs(x) < Vec(T(80)), hn::Expm1(tag, x.raw), exp(x) - Vec(T(1)));
  }
  friend Vec log1p(Vec x) {
    const Vec y = select(abs(x) < Vec(T(0.5)), hn::Log1p(tag, x.raw), log(x + Vec(T(1))));
    return select(x == Vec(), x, y);  // -0
  }
  friend Vec tanh(Vec x) { return hn::Tanh(tag, x.raw); }
  friend Vec sin(Vec x) {
    return select(x == Vec(), x, hn::Sin(tag, x.raw)).completed(x, [](T a) { return std::sin(a); });
  }
  friend Vec cos(Vec x) {
    return Vec(hn::Cos(tag, x.raw)).completed(x, [](T a) { return std::cos(a); });
  }

  // This, with the lanes where |x| > 39000 or x is NaN replaced by f(x).
  template <class F> Vec completed(Vec x, F f) const {
    if (hn::AllTrue(tag, abs(x) <= Vec(T(39000)))) return *this;
    T in[lanes], out[lanes];
    x.store(in);
    store(out);
    for (Index i = 0; i < lanes; ++i)
      if (!(std::abs(in[i]) <= T(39000))) out[i] = f(in[i]);
    return load(out);
  }
};

// The first and the second half of the lanes, in double; of doubles all are in the first.
inline Vec<double> widen_low(Vec<double> a) { return a; }
inline Vec<double> widen_low(Vec<float> a) {
  return hn::PromoteTo(Vec<double>::tag, hn::LowerHalf(a.raw));
}
inline Vec<double> widen_high(Vec<float> a) {
  return hn::PromoteTo(Vec<double>::tag, hn::UpperHalf(hn::Half<Vec<float>::Tag>(), a.raw));
}

// A register of doubles from as many numbers in memory.
inline Vec<double> load_double(const double* p) { return Vec<double>::load(p); }
inline Vec<double> load_double(const float* p) {
  return hn::PromoteTo(Vec<double>::tag, hn::LoadU(hn::Rebind<float, Vec<double>::Tag>(), p));
}

// A register of whole numbers below 2^24 as floating-point ones.
template <class T, class Ints> Vec<T> to_floating(Ints ints) {
  if constexpr (sizeof(T) == 4) return hn::ConvertTo(Vec<T>::tag, ints);
  else return hn::PromoteTo(Vec<T>::tag, ints);
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

// ---- Loops over arrays a register at a time, the last one perhaps in part, and their sums.

template <class T> struct FullRegister {
  Vec<T> load(const T* p, T = T(0)) const { return Vec<T>::load(p); }
  void store(Vec<T> v, T* p) const { v.store(p); }
  Vec<T> keep(Vec<T> v) const { return v; }
};

// The first `count` lanes, not all. The others read as `rest`, are not written, and kept as zero.
template <class T> struct PartOfRegister {
  Index count;

  Vec<T> load(const T* p, T rest = T(0)) const {
    return select(mask(), Vec<T>::load_first(p, count), Vec<T>(rest));
  }
  void store(Vec<T> v, T* p) const { v.store_first(p, count); }
  Vec<T> keep(Vec<T> v) const { return select(mask(), v, Vec<T>()); }
  auto mask() const { return hn::FirstN(Vec<T>::tag, count); }
};

// Calls f(i, part) for the registers of n elements; part loads and stores at an address + i.
template <class T, class F> inline void for_each_register(Index n, F f) {
  constexpr Index lanes = Vec<T>::lanes;
  Index i = 0;
  for (; i + lanes <= n; i += lanes) f(i, FullRegister<T>());
  if (i < n) f(i, PartOfRegister<T>{n - i});
}

// A running sum of registers of T, in double, which makes the order of a sum of floats all but
// irrelevant. Sums of doubles go over blocks of kSumBlock, added in pairs: rounding grows with the
// log of the length.
template <class T> class Accumulator {
 public:
  void add(Vec<T> x) {
    low_ += widen_low(x);
    if constexpr (sizeof(T) == sizeof(float)) high_ += widen_high(x);
  }
  void add_product(Vec<T> a, Vec<T> b) {
    low_ = fma(widen_low(a), widen_low(b), low_);
    if constexpr (sizeof(T) == sizeof(float)) high_ = fma(widen_high(a), widen_high(b), high_);
  }
  double total() const { return sum_lanes(low_ + high_); }

 private:
  Vec<double> low_, high_;  // doubles use the first alone
};

inline constexpr Index kSumBlock = 4096;

// The sum of p[0], p[stride], ..., n of them, in pairs.
template <class S> S pairwise_sum(const S* p, Index n, Index stride) {
  if (n == 1) return *p;
  const Index half = n / 2;
  return pairwise_sum(p, half, stride) + pairwise_sum(p + half * stride, n - half, stride);
}

}  // namespace triad::cpu
