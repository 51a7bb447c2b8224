// Complex numbers that a GPU can compute with, laid out as std::complex, and from the C++ type of a
// dtype to that which kernels use.
#pragma once

#include <complex>

#include <triad/backends/math.h>

namespace triad::cuda {

template <class T> struct alignas(2 * sizeof(T)) Complex {  // one access of memory
  T re, im;

  Complex() = default;
  TRIAD_HD Complex(T re, T im = 0) : re(re), im(im) {}
  template <class Z>
  requires is_complex_v<Z> TRIAD_HD explicit Complex(const Z& z)
      : re(T(z.real())), im(T(z.imag())) {}
  TRIAD_HD T real() const { return re; }
  TRIAD_HD T imag() const { return im; }
  using value_type = T;

  TRIAD_HD friend bool operator==(Complex a, Complex b) { return a.re == b.re && a.im == b.im; }
  TRIAD_HD friend Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
  TRIAD_HD friend Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
  TRIAD_HD friend Complex operator-(Complex a) { return {-a.re, -a.im}; }
  TRIAD_HD friend Complex operator*(Complex a, Complex b) { return math::times(a, b); }
  // Smith, "Algorithm 116: Complex division", CACM 5 (1962): nothing overflows on the way.
  TRIAD_HD friend Complex operator/(Complex a, Complex b) {
    if (math::abs(b.re) < math::abs(b.im)) {
      const T ratio = b.re / b.im, scale = 1 / (b.im + b.re * ratio);
      return {(a.re * ratio + a.im) * scale, (a.im * ratio - a.re) * scale};
    }
    const T ratio = b.im / b.re, scale = 1 / (b.re + b.im * ratio);
    return {(a.re + a.im * ratio) * scale, (a.im - a.re * ratio) * scale};
  }
  TRIAD_HD friend Complex conj(Complex z) { return {z.re, -z.im}; }
  TRIAD_HD friend Complex exp(Complex z) {
    const T r = math::exp(z.re);
    return {r * math::cos(z.im), r * math::sin(z.im)};
  }
  TRIAD_HD friend T abs(Complex z) { return std::hypot(z.re, z.im); }
};

template <class T> struct OnDevice { using type = T; };
template <class T> struct OnDevice<std::complex<T>> { using type = Complex<T>; };

}  // namespace triad::cuda
