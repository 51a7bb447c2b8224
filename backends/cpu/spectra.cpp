#include <triad/backends/cpu/spectra.h>

#include <algorithm>

#include <triad/backends/cpu/fft_bluestein.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/scratch.h>

namespace triad::cpu {
namespace {

constexpr Index kLanes = Vec<double>::lanes, kRow = Row<double>::size;

// f(first, size, x) for groups of sequences that share a transform in x: sequence first + i lies in
// the real parts of lane i, sequence first + kLanes + i in the imaginary parts.
template <class F>
void for_groups(Index count, Index rows, F f) {
  parallel_for(ceil_div(count, kRow), 1, [&](Index group) {
    const Index first = kRow * group, size = std::min(kRow, count - first);
    f(first, size, scratch<double>(rows * kRow));
  });
}

}  // namespace

Spectra rfft(Index count, Index n, const Reals& x) {
  const Index bins = n / 2 + 1;
  Spectra result(count * bins);
  const auto plan = cached_plan<AnyFft<double>>(n);
  for_groups(count, plan->rows(), [&](Index first, Index size, double* z) {
    for (Index t = 0; t < n; ++t)
      for (Index i = 0; i < kRow; ++i) z[t * kRow + i] = i < size ? x[(first + i) * n + t] : 0;
    plan->forward(z);
    // Z = A + i B, and both spectra are Hermitian: A_k = (Z_k + conj Z_-k) / 2, and so on.
    for (Index k = 0; k < bins; ++k) {
      const double* p = z + plan->row_of(k) * kRow;
      const double* q = z + plan->row_of((n - k) % n) * kRow;
      for (Index i = 0; i < size; ++i) {
        const Index lane = i % kLanes;
        const std::complex<double> a(p[lane], p[lane + kLanes]), b(q[lane], -q[lane + kLanes]);
        const std::complex<double> d = a - b;
        result[(first + i) * bins + k] =
            i < kLanes ? 0.5 * (a + b) : std::complex<double>(0.5 * d.imag(), -0.5 * d.real());
      }
    }
  });
  return result;
}

Reals irfft(Index count, Index n, const Spectra& spectra) {
  const Index bins = n / 2 + 1;
  Reals result(count * n);
  const auto plan = cached_plan<AnyFft<double>>(n);
  for_groups(count, plan->rows(), [&](Index first, Index size, double* z) {
    for (Index k = 0; k < bins; ++k) {
      double* p = z + plan->row_of(k) * kRow;
      double* q = z + plan->row_of((n - k) % n) * kRow;
      const bool real = k == 0 || 2 * k == n;
      for (Index lane = 0; lane < kLanes; ++lane) {
        auto value = [&](Index i) {
          const auto v = i < size ? spectra[(first + i) * bins + k] : 0.0;
          return real ? v.real() : v;
        };
        const std::complex<double> a = value(lane), b = value(lane + kLanes);
        q[lane] = a.real() + b.imag(), q[lane + kLanes] = b.real() - a.imag();
        p[lane] = a.real() - b.imag(), p[lane + kLanes] = b.real() + a.imag();
      }
    }
    plan->inverse(z);
    for (Index t = 0; t < n; ++t) {
      for (Index i = 0; i < size; ++i) result[(first + i) * n + t] = z[t * kRow + i] / double(n);
    }
  });
  return result;
}

template <class T>
Spectra polar(Index size, const T* log_gain, const T* phase) {
  Spectra result(size);
  for (Index at = 0; at < size; at += kLanes) {
    const Index some = std::min(kLanes, size - at);
    double g[kLanes] = {}, p[kLanes] = {};
    std::copy_n(log_gain + at, some, g);
    std::copy_n(phase + at, some, p);
    const Vec<double> gain = exp(Vec<double>::load(g)), angle = Vec<double>::load(p);
    (gain * cos(angle)).store(g);
    (gain * sin(angle)).store(p);
    for (Index i = 0; i < some; ++i) result[at + i] = {g[i], p[i]};
  }
  return result;
}

template Spectra polar(Index, const float*, const float*);
template Spectra polar(Index, const double*, const double*);

}  // namespace triad::cpu
