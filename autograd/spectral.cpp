#include <triad/autograd/spectral.h>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {
namespace {

void check_sequence(const char* op, const Tensor& x) {
  check_float(op, x);
  if (x.dim() != 4 || x.numel() == 0)
    throw_error<ShapeError>("{}: needs a sequence [B,T,H,D] with no axis empty, got {}", op,
                            x.shape());
}

void check_filter(const char* op, const Tensor& log_gain, const Tensor& phase) {
  check_float(op, log_gain);
  check_same_type(op, log_gain, phase);
  if (log_gain.dim() != 2 || log_gain.numel() == 0 || log_gain.shape() != phase.shape())
    throw_error<ShapeError>("{}: needs log_gain and phase of the same sizes [H,F], got {} and {}",
                            op, log_gain.shape(), phase.shape());
}

std::int64_t fast_fft_size(const Tensor& x, std::int64_t n) {
  return on(x.device(), [&](auto device) { return kernels::fast_fft_size(device, n); });
}

// y_t = sum over s < T of f_h[(t - s) mod n] v_s, spectrum = rfft(f) [H,n/2+1] in c128.
Tensor cyclic_convolution(const char* name, const Tensor& v, const Tensor& spectrum,
                          std::int64_t n) {
  if (v.dtype() == bf16) return cyclic_convolution(name, v.to(f32), spectrum, n).to(bf16);
  Tensor y = empty_like(v), input = with_packed_rows(v), filter = spectrum.detach().contiguous();
  on(v.device(), [&](auto device) { kernels::cyclic_convolution(device, input, filter, n, y); });
  return record_fused(name, y, {v, spectrum}, [v, spectrum, filter, n](const Tensor& g) {
    Tensors grads{empty_gradient(v), empty_gradient(spectrum)};
    on(g.device(), [&](auto device) {
      kernels::cyclic_convolution_backward(device, with_packed_rows(g), with_packed_rows(v), filter,
                                           n, grads[0], grads[1]);
    });
    return grads;
  });
}

}  // namespace

Tensor at_bins(const Tensor& values, std::int64_t bins) {
  check_float("at_bins", values);
  if (values.dim() != 2 || values.size(1) == 0 || bins < 1)
    throw_error<ShapeError>("at_bins: needs values [H,F] and at least one bin, got {} and {}",
                            values.shape(), bins);
  const std::int64_t points = values.size(1), steps = std::max<std::int64_t>(bins - 1, 1);
  if (bins == points) return values;
  std::vector<std::int64_t> left, right;
  std::vector<double> share;  // of the point on the right
  for (std::int64_t k = 0; k < bins; ++k) {
    const std::int64_t position = k * (points - 1);
    left.push_back(position / steps);
    right.push_back(std::min(left.back() + 1, points - 1));
    share.push_back(double(position % steps) / double(steps));
  }
  Tensor a = index_select(values, 1, from_vector(left).to(values.device()));
  Tensor b = index_select(values, 1, from_vector(right).to(values.device()));
  return lerp(a, b, from_vector(share).to(values.device()).to(values.dtype()));
}

// A filter is small beside the data it is applied to, so all that is done to filters is written
// like its formula, in double whatever the data's type.

// Where T has only small factors it is a cyclic convolution of size T. For another T it is one of a
// good size n >= 2T - 1: the filter's T taps are repeated at negative times, where t - s looks for
// them. That takes transforms of T points of the filter alone, never of the data.
Tensor spectral_filter(const Tensor& v, const Tensor& log_gain, const Tensor& phase) {
  check_sequence("spectral_filter", v);
  check_filter("spectral_filter", log_gain, phase);
  check_same_type("spectral_filter", v, log_gain);
  const std::int64_t T = v.size(1);
  if (log_gain.shape() != Shape{v.size(2), T / 2 + 1})
    throw_error<ShapeError>(
        "spectral_filter: needs log_gain and phase [H,T/2+1] for v [B,T,H,D] = {}, got {}",
        v.shape(), log_gain.shape());
  std::int64_t n = fast_fft_size(v, T);
  Tensor spectrum = polar(exp(log_gain.to(f64)), phase.to(f64));
  if (n != T) {
    n = fast_fft_size(v, 2 * T - 1);
    Tensor taps = irfft(spectrum, T);
    spectrum = rfft(cat({pad(taps, {0, n - 2 * T + 1}), taps.slice(1, 1)}, 1));
  }
  return cyclic_convolution("spectral_filter", v, spectrum, n);
}

Tensor causal_taps(const Tensor& log_gain, const Tensor& phase) {
  check_filter("causal_taps", log_gain, phase);
  const std::int64_t taps = 2 * (log_gain.size(1) - 1);
  if (taps == 0) return exp(log_gain) * cos(phase);
  Tensor gain = at_bins(log_gain.to(f64), taps + 1), extra = at_bins(phase.to(f64), taps + 1);
  // The logarithm of a filter of minimum phase has an inverse transform (the cepstrum) that is
  // causal: keep that of log_gain at t >= 0, doubled, and its phase follows.
  std::vector<double> fold(std::size_t(2 * taps), 0);
  std::fill_n(fold.begin(), taps + 1, 2);
  fold[0] = fold[std::size_t(taps)] = 1;
  Tensor cepstrum = irfft(gain, 2 * taps) * from_vector(fold).to(gain.device());
  Tensor filter = polar(exp(gain), imag(rfft(cepstrum)) + extra);
  return irfft(filter, 2 * taps).slice(1, 0, taps).to(log_gain.dtype());
}

Tensor causal_convolution(const Tensor& v, const Tensor& taps) {
  check_sequence("causal_convolution", v);
  check_same_type("causal_convolution", v, taps);
  if (taps.dim() != 2 || taps.size(0) != v.size(2) || taps.size(1) == 0)
    throw_error<ShapeError>("causal_convolution: needs taps [H,K] for v [B,T,H,D] = {}, got {}",
                            v.shape(), taps.shape());
  const std::int64_t T = v.size(1), heard = std::min(T, taps.size(1));
  const std::int64_t n = fast_fft_size(v, T + heard - 1);  // nothing wraps around
  return cyclic_convolution("causal_convolution", v, rfft(taps.slice(1, 0, heard).to(f64), n), n);
}

}  // namespace triad
