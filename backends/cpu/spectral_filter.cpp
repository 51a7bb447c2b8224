// The circular spectral filter, y = irfft(rfft(v over T) exp(log_gain + i phase)), for any T.
//
// Where T has only the factors 2, 3 and 5 it is a cyclic convolution of size T. For another T it is
// one of a good size n >= 2T - 1: the filter's T taps are repeated at negative times, where t - s
// looks for them. That takes transforms of T points of the filter alone, never of the data.
#include <triad/backends/cpu/fft.h>
#include <triad/backends/cpu/spectral_convolution.h>
#include <triad/backends/kernels.h>

namespace triad::kernels {
namespace {

using namespace cpu;

// The size of the convolution.
Index filter_size(Index length) {
  return good_fft_size(length) == length ? length : good_fft_size(2 * length - 1);
}

// f(i, j) where tap i of [heads, length] goes to place j of [heads, n]: tap t to t and to t -
// length, modulo n.
template <class F>
void for_each_tap(Index heads, Index length, Index n, F f) {
  for (Index h = 0; h < heads; ++h)
    for (Index t = 0; t < length; ++t) {
      f(h * length + t, h * n + t);
      if (t > 0) f(h * length + t, h * n + n - length + t);
    }
}

// The filter's spectrum at size n from its spectrum at size `length`.
Spectra extend(Index heads, Index length, Index n, const Spectra& spectrum) {
  const Reals taps = irfft(heads, length, spectrum);
  Reals extended(heads * n);
  for_each_tap(heads, length, n, [&](Index i, Index j) { extended[j] = taps[i]; });
  return rfft(heads, n, extended);
}

// The transpose of extend, as a map between taps, on their spectra.
Spectra fold(Index heads, Index length, Index n, const Spectra& spectrum) {
  const Reals extended = irfft(heads, n, spectrum);
  Reals taps(heads * length);
  for_each_tap(heads, length, n, [&](Index i, Index j) { taps[i] += extended[j]; });
  return rfft(heads, length, taps);
}

template <class T>
Response<T> circular_response(Index heads, Index length, Spectra spectrum) {
  const Index n = filter_size(length);
  return make_response<T>(n, n == length ? spectrum : extend(heads, length, n, spectrum));
}

}  // namespace

void spectral_filter(Cpu, const Tensor& v, const Tensor& log_gain, const Tensor& phase,
                     const Tensor& y) {
  if (v.numel() == 0) return;
  visit_float("spectral_filter", v.dtype(), [&]<class T>(T) {
    const Spectra filter = polar(log_gain.numel(), log_gain.data<T>(), phase.data<T>());
    convolve(v, circular_response<T>(v.shape()[2], v.shape()[1], filter), y);
  });
}

void spectral_filter_backward(Cpu, const Tensor& dy, const Tensor& v, const Tensor& log_gain,
                              const Tensor& phase, const Tensor& dv, const Tensor& dlog_gain,
                              const Tensor& dphase) {
  const Index length = dy.shape()[1], heads = dy.shape()[2], bins = length / 2 + 1;
  visit_float("spectral_filter", dy.dtype(), [&]<class T>(T) {
    const Spectra filter = polar(log_gain.numel(), log_gain.data<T>(), phase.data<T>());
    const bool of_filter = dlog_gain.defined() || dphase.defined();
    Spectra correlation(filter.size());  // of a convolution of nothing
    if (dy.numel() > 0) {
      const Response<T> response = circular_response<T>(heads, length, filter);
      convolve_backward(dy, v, response, dv, of_filter ? &correlation : nullptr);
      if (of_filter && response.n != length)
        correlation = fold(heads, length, response.n, correlation);
    }
    for (Index i = 0; of_filter && i < heads * bins; ++i) {
      const std::complex<double> a = std::conj(correlation[i]) * filter[i];
      const double c = length == 0 ? 0 : multiplicity(i % bins, length) / double(length);
      if (dlog_gain.defined()) dlog_gain.data<T>()[i] = T(c * a.real());
      if (dphase.defined()) dphase.data<T>()[i] = T(-c * a.imag());
    }
  });
}

}  // namespace triad::kernels
