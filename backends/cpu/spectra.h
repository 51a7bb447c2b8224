// Spectra of a few real sequences, one per head, in double: what filters are made of.
//
// A filter is small beside the data it is applied to, so all that is done to filters is written
// like its formula, in double whatever the data's type. Conventions are torch.fft's.
#pragma once

#include <complex>
#include <vector>

#include <triad/backends/cpu/index.h>

namespace triad::cpu {

using Reals = std::vector<double>;                  // [count, n]
using Spectra = std::vector<std::complex<double>>;  // [count, n/2 + 1], frequencies 0..n/2

Spectra rfft(Index count, Index n, const Reals& x);

// With the factor 1/n. The imaginary parts at DC and, for even n, at Nyquist take no part.
Reals irfft(Index count, Index n, const Spectra& spectra);

// exp(log_gain + i phase), value by value.
template <class T>
Spectra polar(Index size, const T* log_gain, const T* phase);

// How often a frequency k of 0..n/2 occurs among all n: once at DC and Nyquist, else twice.
inline double multiplicity(Index k, Index n) { return k == 0 || 2 * k == n ? 1 : 2; }

}  // namespace triad::cpu
