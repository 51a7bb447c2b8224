#include <triad/backends/cpu/spectra.h>

#include <algorithm>

#include <triad/backends/cpu/fft_bluestein.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/scratch.h>

namespace triad::cpu {
namespace {

constexpr std::int64_t kLanes = Vec<double>::lanes, kRow = Row<double>::size;

// f(first, size, x) for groups of sequences that share a transform in x: sequence first + i lies in
// the real parts of lane i, sequence first + kLanes + i in the imaginary parts.
template <class F>
void for_groups(std::int64_t count, std::int64_t rows, F f) {
  const std::int64_t groups = (count + 2 * kLanes - 1) / (2 * kLanes);
  parallel_for(groups, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const std::int64_t first = 2 * kLanes * g, size = std::min(2 * kLanes, count - first);
      f(first, size, scratch<double>(rows * kRow));
    }
  });
}

}  // namespace

Spectra rfft(std::int64_t count, std::int64_t n, const Reals& x) {
  const std::int64_t bins = n / 2 + 1;
  Spectra result(count * bins);
  const auto plan = AnyFft<double>::plan(n);
  for_groups(count, plan->rows(), [&](std::int64_t first, std::int64_t size, double* z) {
    for (std::int64_t t = 0; t < n; ++t) {
      for (std::int64_t i = 0; i < kRow; ++i)
        z[t * kRow + i] = i < size ? x[(first + i) * n + t] : 0;
    }
    plan->forward(z);
    // Z = A + i B, and both spectra are Hermitian: A_k = (Z_k + conj Z_-k) / 2, and so on.
    for (std::int64_t k = 0; k < bins; ++k) {
      const double* p = z + plan->row_of(k) * kRow;
      const double* q = z + plan->row_of((n - k) % n) * kRow;
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t lane = i % kLanes;
        const std::complex<double> a(p[lane], p[lane + kLanes]), b(q[lane], -q[lane + kLanes]);
        const std::complex<double> d = a - b;
        result[(first + i) * bins + k] =
            i < kLanes ? 0.5 * (a + b) : std::complex<double>(0.5 * d.imag(), -0.5 * d.real());
      }
    }
  });
  return result;
}

Reals irfft(std::int64_t count, std::int64_t n, const Spectra& spectra) {
  const std::int64_t bins = n / 2 + 1;
  Reals result(count * n);
  const auto plan = AnyFft<double>::plan(n);
  for_groups(count, plan->rows(), [&](std::int64_t first, std::int64_t size, double* z) {
    for (std::int64_t k = 0; k < bins; ++k) {
      double* p = z + plan->row_of(k) * kRow;
      double* q = z + plan->row_of((n - k) % n) * kRow;
      const bool real = k == 0 || 2 * k == n;
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        auto value = [&](std::int64_t i) {
          const auto v = i < size ? spectra[(first + i) * bins + k] : 0.0;
          return real ? v.real() : v;
        };
        const std::complex<double> a = value(lane), b = value(lane + kLanes);
        q[lane] = a.real() + b.imag(), q[lane + kLanes] = b.real() - a.imag();
        p[lane] = a.real() - b.imag(), p[lane + kLanes] = b.real() + a.imag();
      }
    }
    plan->inverse(z);
    for (std::int64_t t = 0; t < n; ++t) {
      for (std::int64_t i = 0; i < size; ++i) {
        result[(first + i) * n + t] = z[t * kRow + i] / double(n);
      }
    }
  });
  return result;
}

template <class T>
Spectra polar(std::int64_t size, const T* log_gain, const T* phase) {
  Spectra result(size);
  for (std::int64_t at = 0; at < size; at += kLanes) {
    const std::int64_t some = std::min(kLanes, size - at);
    double g[kLanes] = {}, p[kLanes] = {};
    std::copy_n(log_gain + at, some, g);
    std::copy_n(phase + at, some, p);
    const Vec<double> gain = exp(Vec<double>::load(g)), angle = Vec<double>::load(p);
    (gain * cos(angle)).store(g);
    (gain * sin(angle)).store(p);
    for (std::int64_t i = 0; i < some; ++i) result[at + i] = {g[i], p[i]};
  }
  return result;
}

template Spectra polar(std::int64_t, const float*, const float*);
template Spectra polar(std::int64_t, const double*, const double*);

}  // namespace triad::cpu
