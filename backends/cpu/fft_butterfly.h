// Discrete Fourier transforms of 1, 2, 3, 4, 5 and 8 points, in registers.
//
// A Row holds one complex number for each of Vec<T>::lanes transforms that run side by side, so
// every line below is whole-register arithmetic and no value ever changes its lane. The formulas:
// C. Van Loan, Computational Frameworks for the Fast Fourier Transform, SIAM 1992, chapters 1, 2.
#pragma once

#include <utility>

#include <triad/backends/cpu/vec.h>

namespace triad::cpu {

template <class T> struct Row {
  static constexpr Index size = 2 * Index(Vec<T>::lanes);  // in memory: re..., im...

  Vec<T> re, im;

  static Row load(const T* p) { return {Vec<T>::load(p), Vec<T>::load(p + Vec<T>::lanes)}; }
  void store(T* p) const { re.store(p), im.store(p + Vec<T>::lanes); }

  friend Row operator+(Row a, Row b) { return {a.re + b.re, a.im + b.im}; }
  friend Row operator-(Row a, Row b) { return {a.re - b.re, a.im - b.im}; }

  // i z = (-im, re) and its mirror: an inverse transform is a forward one between two swaps.
  friend Row swapped(Row z) { return {z.im, z.re}; }

  // z times (re, im), and times its conjugate.
  friend Row times(Row z, Vec<T> re, Vec<T> im) {
    return {fnma(z.im, im, z.re * re), fma(z.im, re, z.re * im)};
  }
  friend Row times_conj(Row z, Vec<T> re, Vec<T> im) {
    return {fma(z.im, im, z.re * re), fnma(z.re, im, z.im * re)};
  }
  // One complex number for all lanes, (re, im) in memory.
  friend Row times_pair(Row z, const T* pair) { return times(z, Vec<T>(pair[0]), Vec<T>(pair[1])); }

  // a + s b for a real s, a - i b and a + i b.
  friend Row plus(Row a, Vec<T> s, Row b) { return {fma(s, b.re, a.re), fma(s, b.im, a.im)}; }
  friend Row minus_i(Row a, Row b) { return {a.re + b.im, a.im - b.re}; }
  friend Row plus_i(Row a, Row b) { return {a.re - b.im, a.im + b.re}; }
};

// f(0), ..., f(N - 1) written out, with indices the compiler knows: rows then stay in registers.
template <int N, class F> [[gnu::always_inline]] inline void unrolled(F f) {
  [&]<int... I>(std::integer_sequence<int, I...>) [[gnu::always_inline]] { (f(I), ...); }
  (std::make_integer_sequence<int, N>());
}

// x[k] <- sum over t of x[t] exp(-2 pi i k t / R).
template <int R, class T> [[gnu::always_inline]] inline void butterfly(Row<T>* x) {
  static_assert(R == 1 || R == 2 || R == 3 || R == 4 || R == 5 || R == 8);
  if constexpr (R == 2) {
    const Row<T> a = x[0], b = x[1];
    x[0] = a + b;
    x[1] = a - b;
  } else if constexpr (R == 3) {
    const Vec<T> half(T(-0.5)), s(T(0.866025403784438646763723170752936));  // sin(2 pi / 3)
    const Row<T> sum = x[1] + x[2], difference = x[1] - x[2];
    const Row<T> middle = plus(x[0], half, sum);
    const Row<T> turn{s * difference.re, s * difference.im};
    x[0] = x[0] + sum;
    x[1] = minus_i(middle, turn);
    x[2] = plus_i(middle, turn);
  } else if constexpr (R == 4) {
    const Row<T> a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = x[1] - x[3];
    x[0] = a + c;
    x[1] = minus_i(b, d);
    x[2] = a - c;
    x[3] = plus_i(b, d);
  } else if constexpr (R == 5) {
    const Vec<T> c1(T(0.309016994374947424102293417182819));   // cos(2 pi / 5)
    const Vec<T> c2(T(-0.809016994374947424102293417182819));  // cos(4 pi / 5)
    const Vec<T> s1(T(0.951056516295153572116439333379382));   // sin(2 pi / 5)
    const Vec<T> s2(T(0.587785252292473129168705954639073));   // sin(4 pi / 5)
    const Row<T> a = x[1] + x[4], b = x[2] + x[3], c = x[1] - x[4], d = x[2] - x[3];
    const Row<T> p = plus(plus(x[0], c1, a), c2, b), q = plus(plus(x[0], c2, a), c1, b);
    const Row<T> u{fma(s2, d.re, s1 * c.re), fma(s2, d.im, s1 * c.im)};
    const Row<T> v{fnma(s1, d.re, s2 * c.re), fnma(s1, d.im, s2 * c.im)};
    x[0] = x[0] + a + b;
    x[1] = minus_i(p, u);
    x[4] = plus_i(p, u);
    x[2] = minus_i(q, v);
    x[3] = plus_i(q, v);
  } else if constexpr (R == 8) {
    const Vec<T> s(T(0.707106781186547524400844362104849)), minus_s = -s;  // sqrt(1/2)
    Row<T> e[4] = {x[0], x[2], x[4], x[6]}, o[4] = {x[1], x[3], x[5], x[7]};
    butterfly<4>(e);
    butterfly<4>(o);
    const Row<T> o1{o[1].re + o[1].im, o[1].im - o[1].re};  // o[1] (1 - i)
    const Row<T> o3{o[3].im - o[3].re, o[3].re + o[3].im};  // o[3] (-1 - i), its im negated
    x[0] = e[0] + o[0];
    x[4] = e[0] - o[0];
    x[1] = plus(e[1], s, o1);
    x[5] = plus(e[1], minus_s, o1);
    x[2] = minus_i(e[2], o[2]);
    x[6] = plus_i(e[2], o[2]);
    x[3] = {fma(s, o3.re, e[3].re), fnma(s, o3.im, e[3].im)};
    x[7] = {fnma(s, o3.re, e[3].re), fma(s, o3.im, e[3].im)};
  }
}

}  // namespace triad::cpu
