// Cyclic convolution along T of every channel of [B,T,H,D] with its head's filter, and its adjoint:
// what the circular and the causal spectral filter have in common.
//
// Two real channels share one complex transform, z = v_a + i v_b: a filter that is real in time
// maps them to y_a + i y_b. One reads v once and writes y once; between the two, the transforms and
// the filter happen in cache. (A NaN or a much larger value in one channel is felt in its partner.)
#pragma once

#include <vector>

#include <triad/backends/cpu/spectra.h>
#include <triad/core/tensor.h>

namespace triad::cpu {

// Per head the value at each of n frequencies, divided by n, in the order of
// cached_plan<Fft<T>>(n)'s rows.
template <class T>
struct Response {
  Index n;
  std::vector<T> values;  // [H, n, 2]
};

// From the frequencies 0..n/2, [H, n/2 + 1]; n = good_fft_size(n).
template <class T>
Response<T> make_response(Index n, const Spectra& half);

// y[b,t,h,d] = sum over s < T of f_h[(t - s) mod n] v[b,s,h,d], for t < T <= n.
template <class T>
void convolve(const Tensor& v, const Response<T>& response, const Tensor& y);

// The adjoint, dv[b,s,h,d] = sum over t < T of f_h[(t - s) mod n] dy[b,t,h,d]; and into
// `correlation` the spectrum [H, n/2 + 1] of sum over b, d and t of dy_t v_(t - m), m mod n.
// dv may be undefined, correlation null: then it is not computed.
template <class T>
void convolve_backward(const Tensor& dy, const Tensor& v, const Response<T>& response,
                       const Tensor& dv, Spectra* correlation);

}  // namespace triad::cpu
