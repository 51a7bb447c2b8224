// The causal spectral filter: its taps, by minimum phase, and the convolution with them.
//
// A. Oppenheim and R. Schafer, Discrete-Time Signal Processing, ch. 13: the logarithm of a causal
// filter of minimum phase has a causal inverse transform (the cepstrum), so that the phase follows
// from the gain: keep the even cepstrum of log_gain at t >= 0, doubled, and transform it back.
#include <algorithm>

#include <triad/backends/cpu/fft.h>
#include <triad/backends/cpu/spectral_convolution.h>
#include <triad/backends/kernels.h>

namespace triad::kernels {
namespace {

using namespace cpu;

// Of 2K values: the ends of t >= 0 stay, what is between is doubled, t < 0 is dropped.
void fold_cepstrum(Index heads, Index taps, Reals& cepstrum) {
  for (Index h = 0; h < heads; ++h) {
    double* c = &cepstrum[h * 2 * taps];
    for (Index t = 1; t < taps; ++t) c[t] *= 2;
    std::fill(c + taps + 1, c + 2 * taps, 0.0);
  }
}

// exp(log_gain + i (theta + phase)) on K+1 bins, theta the minimum phase.
template <class T>
Spectra causal_spectrum(Index heads, Index taps, const T* log_gain, const T* phase) {
  const Index size = heads * (taps + 1);
  Reals cepstrum = irfft(heads, 2 * taps, Spectra(log_gain, log_gain + size));
  fold_cepstrum(heads, taps, cepstrum);
  const Spectra minimum_phase = rfft(heads, 2 * taps, cepstrum);
  Reals gains(log_gain, log_gain + size), angles(phase, phase + size);
  for (Index i = 0; i < size; ++i) angles[i] += minimum_phase[i].imag();
  return polar(size, gains.data(), angles.data());
}

// The first `taps` samples of each head's sequence of n, and such a sequence from its first
// samples.
template <class T>
void cut(Index heads, Index n, const Reals& from, Index taps, T* to, Index stride) {
  for (Index h = 0; h < heads; ++h)
    for (Index t = 0; t < taps; ++t) to[h * stride + t] = T(from[h * n + t]);
}
template <class T>
Reals pad(Index heads, Index taps, const T* from, Index stride, Index n) {
  Reals result(heads * n);
  for (Index h = 0; h < heads; ++h) std::copy_n(from + h * stride, taps, &result[h * n]);
  return result;
}

// What takes part of taps [H,K] at length T, and the size at which nothing wraps around.
struct Sizes {
  Index heads, stride, taps, n;

  Sizes(const Tensor& v, const Tensor& h)
      : heads(h.shape()[0]),
        stride(h.shape()[1]),
        taps(std::min(v.shape()[1], stride)),
        n(good_fft_size(v.shape()[1] + taps - 1)) {}
};

template <class T>
Response<T> causal_response(const Sizes& s, const Tensor& taps) {
  return make_response<T>(s.n,
                          rfft(s.heads, s.n, pad(s.heads, s.taps, taps.data<T>(), s.stride, s.n)));
}

}  // namespace

void causal_taps(Cpu, const Tensor& log_gain, const Tensor& phase, const Tensor& taps) {
  const Index heads = taps.shape()[0], count = taps.shape()[1];
  visit_float("causal_taps", taps.dtype(), [&]<class T>(T) {
    const Spectra filter = causal_spectrum(heads, count, log_gain.data<T>(), phase.data<T>());
    cut(heads, 2 * count, irfft(heads, 2 * count, filter), count, taps.data<T>(), count);
  });
}

// Every step is linear but the exponential, and the transposed transforms are transforms again:
//   x = irfft(X) of n points: dX_k = (c_k / n) rfft(dx)_k, c_k the multiplicity of k (real parts
//   and imaginary parts as two numbers); theta = Im rfft(x): dx = irfft((n / c) i dtheta).
void causal_taps_backward(Cpu, const Tensor& dtaps, const Tensor& log_gain, const Tensor& phase,
                          const Tensor& dlog_gain, const Tensor& dphase) {
  const Index heads = dtaps.shape()[0], count = dtaps.shape()[1];
  const Index n = 2 * count, bins = count + 1, size = heads * bins;
  visit_float("causal_taps", dtaps.dtype(), [&]<class T>(T) {
    const Spectra filter = causal_spectrum(heads, count, log_gain.data<T>(), phase.data<T>());
    const Spectra gradient = rfft(heads, n, pad(heads, count, dtaps.data<T>(), count, n));
    Reals direct(size);    // of log_gain, the phase held
    Spectra turned(size);  // (n / c) i dtheta
    for (Index i = 0; i < size; ++i) {
      const double c = multiplicity(i % bins, n) / double(n);
      const std::complex<double> a = std::conj(gradient[i]) * filter[i];
      direct[i] = c * a.real();
      turned[i] = {0, -a.imag()};
      if (dphase.defined()) dphase.data<T>()[i] = T(-c * a.imag());
    }
    if (!dlog_gain.defined()) return;
    Reals cepstrum = irfft(heads, n, turned);
    fold_cepstrum(heads, count, cepstrum);
    const Spectra indirect = rfft(heads, n, cepstrum);
    for (Index i = 0; i < size; ++i) {
      const double c = multiplicity(i % bins, n) / double(n);
      dlog_gain.data<T>()[i] = T(direct[i] + c * indirect[i].real());
    }
  });
}

void causal_convolution(Cpu, const Tensor& v, const Tensor& taps, const Tensor& y) {
  if (v.numel() == 0) return;
  visit_float("causal_convolution", v.dtype(),
              [&]<class T>(T) { convolve(v, causal_response<T>(Sizes(v, taps), taps), y); });
}

void causal_convolution_backward(Cpu, const Tensor& dy, const Tensor& v, const Tensor& taps,
                                 const Tensor& dv, const Tensor& dtaps) {
  visit_float("causal_convolution", dy.dtype(), [&]<class T>(T) {
    if (dtaps.defined()) std::fill_n(dtaps.data<T>(), dtaps.numel(), T(0));
    if (dy.numel() == 0) return;
    const Sizes s(dy, taps);
    Spectra correlation;
    convolve_backward(dy, v, causal_response<T>(s, taps), dv,
                      dtaps.defined() ? &correlation : nullptr);
    if (!dtaps.defined()) return;
    cut(s.heads, s.n, irfft(s.heads, s.n, correlation), s.taps, dtaps.data<T>(), s.stride);
  });
}

}  // namespace triad::kernels
