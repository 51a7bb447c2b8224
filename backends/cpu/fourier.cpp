// Fourier transforms along the last axis: as many rows side by side as a register has lanes. Of
// real rows twice as many, half of them in the imaginary parts.
#include <algorithm>

#include <triad/backends/cpu/fft.h>
#include <triad/backends/cpu/strided.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::kernels {
namespace {

using namespace cpu;

// Calls f(plan of n points, z, first, size) for groups of at most `width` of `count` rows: `first`
// to first + size - 1; z is room for a transform.
template <class T, class F> void for_groups(Index n, Index count, Index width, F f) {
  const auto plan = cached_plan<AnyFft<T>>(n);
  parallel_for(ceil_div(count, width), 1 + 4096 / n, [&](Index group) {
    const Index first = group * width, size = std::min(width, count - first);
    f(*plan, scratch<T>(plan->rows() * Row<T>::size), first, size);
  });
}

template <class T> constexpr Index kLanes = Vec<T>::lanes;

template <class T> void transform(const Tensor& x, bool inverse, double scale, const Tensor& y) {
  using C = std::complex<T>;
  const RowsOf<C> in{x}, out{y};
  const Index n = in.length;
  for_groups<T>(n, in.count, kLanes<T>, [&](const auto& plan, T* z, Index first, Index size) {
    for (Index i = 0; i < kLanes<T>; ++i) {
      const C* row = in.at(first + std::min(i, size - 1));
      for (Index t = 0; t < n; ++t) {
        const Index place = (inverse ? plan.row_of(t) : t) * Row<T>::size + i;
        z[place] = row[t * in.step].real(), z[place + kLanes<T>] = row[t * in.step].imag();
      }
    }
    inverse ? plan.inverse(z) : plan.forward(z);
    for (Index i = 0; i < size; ++i) {
      C* row = out.at(first + i);
      for (Index t = 0; t < n; ++t) {
        const T* p = z + (inverse ? t : plan.row_of(t)) * Row<T>::size + i;
        row[t * out.step] = {T(scale) * p[0], T(scale) * p[kLanes<T>]};
      }
    }
  });
}

// Z = A + i B, and both spectra are Hermitian: A_k = (Z_k + conj Z_-k) / 2, i B_k what is left.
template <class T> void real_to_half(const Tensor& x, double scale, const Tensor& y) {
  const RowsOf<T> in{x};
  const RowsOf<std::complex<T>> out{y};
  const Index n = in.length;
  for_groups<T>(n, in.count, Row<T>::size, [&](const auto& plan, T* z, Index first, Index size) {
    for (Index i = 0; i < Row<T>::size; ++i) {
      const T* row = in.at(first + std::min(i, size - 1));
      for (Index t = 0; t < n; ++t) z[t * Row<T>::size + i] = i < size ? row[t * in.step] : T(0);
    }
    plan.forward(z);
    const T half = T(0.5 * scale);
    for (Index i = 0; i < size; ++i) {
      std::complex<T>* row = out.at(first + i);
      const T* lane = z + i % kLanes<T>;
      for (Index k = 0; k < out.length; ++k) {
        const T* p = lane + plan.row_of(k) * Row<T>::size;
        const T* q = lane + plan.row_of((n - k) % n) * Row<T>::size;
        if (i < kLanes<T>)
          row[k * out.step] = {half * (p[0] + q[0]), half * (p[kLanes<T>] - q[kLanes<T>])};
        else row[k * out.step] = {half * (p[kLanes<T>] + q[kLanes<T>]), half * (q[0] - p[0])};
      }
    }
  });
}

template <class T> void half_to_real(const Tensor& x, double scale, const Tensor& y) {
  using C = std::complex<T>;
  const RowsOf<C> in{x};
  const RowsOf<T> out{y};
  const Index n = out.length;
  for_groups<T>(n, out.count, Row<T>::size, [&](const auto& plan, T* z, Index first, Index size) {
    for (Index lane = 0; lane < kLanes<T>; ++lane) {
      const Index other = lane + kLanes<T>;
      const C* a_row = in.at(first + std::min(lane, size - 1));
      const C* b_row = other < size ? in.at(first + other) : nullptr;
      for (Index k = 0; k < n / 2 + 1; ++k) {
        C a = a_row[k * in.step], b = b_row ? b_row[k * in.step] : T(0);
        if (k == 0 || 2 * k == n) a = a.real(), b = b.real();
        T* p = z + plan.row_of(k) * Row<T>::size;
        T* q = z + plan.row_of((n - k) % n) * Row<T>::size;
        q[lane] = a.real() + b.imag(), q[other] = b.real() - a.imag();
        p[lane] = a.real() - b.imag(), p[other] = b.real() + a.imag();
      }
    }
    plan.inverse(z);
    for (Index i = 0; i < size; ++i) {
      T* row = out.at(first + i);
      for (Index t = 0; t < n; ++t) row[t * out.step] = T(scale) * z[t * Row<T>::size + i];
    }
  });
}

}  // namespace

void fft(Cpu, const Tensor& x, bool inverse, double scale, const Tensor& y) {
  visit_float("fft", real_type(x.dtype()), [&]<class T>(T) { transform<T>(x, inverse, scale, y); });
}

void rfft(Cpu, const Tensor& x, double scale, const Tensor& y) {
  visit_float("rfft", x.dtype(), [&]<class T>(T) { real_to_half<T>(x, scale, y); });
}

void irfft(Cpu, const Tensor& x, double scale, const Tensor& y) {
  visit_float("irfft", y.dtype(), [&]<class T>(T) { half_to_real<T>(x, scale, y); });
}

std::int64_t fast_fft_size(Cpu, std::int64_t n) { return good_fft_size(n); }

}  // namespace triad::kernels
