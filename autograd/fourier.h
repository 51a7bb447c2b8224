// Discrete Fourier and cosine transforms along one axis, of any length (conventions are torch.fft's
// and scipy.fft's), and the filters that are made of them.
#pragma once

#include <optional>

#include <triad/core/tensor.h>

namespace triad {

// Which direction is divided: the inverse by n; both by sqrt(n); the forward one by n.
enum class Norm { backward, ortho, forward };

// Complex to complex; `n` cuts the axis or pads it with zeros first.
Tensor fft(const Tensor& x, std::optional<std::int64_t> n = {}, std::int64_t axis = -1,
           Norm norm = Norm::backward);
Tensor ifft(const Tensor& x, std::optional<std::int64_t> n = {}, std::int64_t axis = -1,
            Norm norm = Norm::backward);
// Real to the frequencies 0..n/2, and back to n = 2 (size - 1) real numbers unless given. irfft
// does not read the imaginary parts at 0 and, for even n, n/2.
Tensor rfft(const Tensor& x, std::optional<std::int64_t> n = {}, std::int64_t axis = -1,
            Norm norm = Norm::backward);
Tensor irfft(const Tensor& x, std::optional<std::int64_t> n = {}, std::int64_t axis = -1,
             Norm norm = Norm::backward);

// Orthonormal DCT-II and its inverse, DCT-III. J. Makhoul, "A fast cosine transform in one and two
// dimensions", IEEE Trans. ASSP 28 (1980).
Tensor dct(const Tensor& x, std::int64_t axis = -1);
Tensor idct(const Tensor& x, std::int64_t axis = -1);

// Filters along time in the frequency domain: the ops of spectral attention. docs/attention.md has
// the derivations. Sequences are [B,T,H,D]; the D channels of a head share one filter.

// values [H,F], control points spread evenly over the frequencies 0..pi, read at `bins` even points
// by linear interpolation -> [H,bins]; one bin reads point 0.
Tensor at_bins(const Tensor& values, std::int64_t bins);

// irfft(rfft(v over T) * exp(log_gain + i phase)), circular in T; log_gain and phase [H, T/2+1].
// The imaginary part of the filter is dropped at DC and, for even T, at Nyquist. Two channels share
// one complex transform, here and below: a NaN in one shows in both.
Tensor spectral_filter(const Tensor& v, const Tensor& log_gain, const Tensor& phase);

// [H,F] control points -> [H,K], K = 2 (F - 1): the taps of the minimum-phase filter of that gain,
// the only causal one, with `phase` added (Oppenheim & Schafer, Discrete-Time Signal Processing,
// ch. 13). F = 1 gives the one tap exp(log_gain) cos(phase).
Tensor causal_taps(const Tensor& log_gain, const Tensor& phase);

// y_t = sum over s <= t of taps[t-s] v_s, per head; taps [H,K]. Taps past T take no part.
Tensor causal_convolution(const Tensor& v, const Tensor& taps);

}  // namespace triad
