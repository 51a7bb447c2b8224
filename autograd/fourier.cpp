#include <cmath>
#include <numbers>

#include <triad/autograd/op_helpers.h>

namespace triad {

static double scale_of(Norm norm, bool inverse, std::int64_t n) {
  if (norm == Norm::ortho) return 1 / std::sqrt(double(n));
  return (norm == Norm::backward) == inverse ? 1 / double(n) : 1;
}

// Empty, of x's sizes but for the last.
static Tensor with_last(const char* op, const Tensor& x, std::int64_t size, DType dtype) {
  Shape shape = x.shape();
  shape[x.dim() - 1] = size;
  return empty(shape, dtype, x.device(), op);
}

// Below, all work on the last axis, and every rule is a transform again: the conjugate transpose.

static Tensor transform(const char* name, const Tensor& x, bool inverse, double scale) {
  Tensor y = empty_like(x, name);
  on(x.device(), name, [&](auto device) { kernels::fft(device, x, inverse, scale, y); });
  return record_unary(name, y, x, [=](auto& g) { return transform(name, g, !inverse, scale); });
}

static Tensor from_half(const Tensor& x, std::int64_t n, double scale);

// How often a frequency k of 0..n/2 stands among all n, [n/2+1]: once at 0 and n/2, else twice.
static Tensor multiplicity(std::int64_t n, const Tensor& like) {
  std::vector<double> counts(std::size_t(n / 2 + 1), 2);
  counts[0] = 1;
  if (n % 2 == 0) counts.back() = 1;
  return from_vector(counts).to(like.device()).to(like.dtype());
}

static Tensor to_half(const Tensor& x, double scale) {
  const std::int64_t n = x.size(-1);
  Tensor y = with_last("rfft", x, n / 2 + 1, complex_type(x.dtype()));
  on(x.device(), "rfft", [&](auto device) { kernels::rfft(device, x, scale, y); });
  return record_unary("rfft", y, x,
                      [=](auto& g) { return from_half(g / multiplicity(n, g), n, scale); });
}

static Tensor from_half(const Tensor& x, std::int64_t n, double scale) {
  Tensor y = with_last("irfft", x, n, real_type(x.dtype()));
  on(x.device(), "irfft", [&](auto device) { kernels::irfft(device, x, scale, y); });
  return record_unary("irfft", y, x, [=](auto& g) {
    Tensor half = to_half(g, scale);
    return half * multiplicity(n, half);
  });
}

// x with `axis` last and of n elements, cut or padded with zeros; op on that; and the axis back.
template <class Op>
static Tensor along(const char* name, const Tensor& x, std::int64_t axis, std::int64_t n, Op op) {
  const int i = normalize_axis(name, axis, x.dim());
  if (n < 1) throw_error<ShapeError>("{}: needs a length of at least 1, got {}", name, n);
  Tensor last = x.transpose(i, -1);
  if (last.size(-1) > n) last = last.slice(-1, 0, n);
  if (last.size(-1) < n) last = pad(last, {0, n - last.size(-1)});
  return op(last).transpose(i, -1);
}

// In narrow types little is left of a spectrum: only f32, f64 and the complex types of both.
static Tensor to_complex(const char* name, const Tensor& x) {
  check_defined(name, x);
  if (!is_complex(x.dtype())) check_precise(name, x);
  return x.to(complex_type(x.dtype()));
}

static Tensor complex_fft(const char* name, const Tensor& x, std::optional<std::int64_t> n,
                          std::int64_t axis, Norm norm, bool inverse) {
  const Tensor z = to_complex(name, x);
  const std::int64_t size = n ? *n : z.size(axis);
  return along(name, z, axis, size, [&](const Tensor& last) {
    return transform(name, last, inverse, scale_of(norm, inverse, size));
  });
}

Tensor fft(const Tensor& x, std::optional<std::int64_t> n, std::int64_t axis, Norm norm) {
  return complex_fft("fft", x, n, axis, norm, false);
}
Tensor ifft(const Tensor& x, std::optional<std::int64_t> n, std::int64_t axis, Norm norm) {
  return complex_fft("ifft", x, n, axis, norm, true);
}

Tensor rfft(const Tensor& x, std::optional<std::int64_t> n, std::int64_t axis, Norm norm) {
  check_precise("rfft", x);
  const std::int64_t size = n ? *n : x.size(axis);
  return along("rfft", x, axis, size,
               [&](const Tensor& last) { return to_half(last, scale_of(norm, false, size)); });
}

Tensor irfft(const Tensor& x, std::optional<std::int64_t> n, std::int64_t axis, Norm norm) {
  const Tensor z = to_complex("irfft", x);
  const std::int64_t size = n ? *n : 2 * (z.size(axis) - 1);
  if (size < 1) throw_error<ShapeError>("irfft: needs a length of at least 1, got {}", size);
  return along("irfft", z, axis, size / 2 + 1, [&](const Tensor& last) {
    return from_half(last, size, scale_of(norm, true, size));
  });
}

// ---------------------------------------------------------------------- cosine transforms

// sqrt(2/n) exp(-i pi k / 2n), k < n, the first divided by sqrt 2: with it the real part of the
// Fourier transform of the reordered samples is the cosine transform.
static Tensor turns(std::int64_t n, const Tensor& like) {
  Tensor angle = arange(double(n), {.dtype = f64}) * (-std::numbers::pi / (2 * double(n)));
  Tensor norm = full({n}, std::sqrt(2 / double(n)), {.dtype = f64});
  norm.slice(0, 0, 1).fill_(std::sqrt(1 / double(n)));
  return polar(norm, angle).to(like.device()).to(complex_type(like.dtype()));
}

Tensor dct(const Tensor& x, std::int64_t axis) {
  check_precise("dct", x);
  return along("dct", x, axis, x.size(axis), [](const Tensor& t) {
    // the even samples, and behind them the odd ones in reverse
    Tensor v = cat({t.slice(-1, 0, kEnd, 2), flip(t.slice(-1, 1, kEnd, 2), -1)}, -1);
    return real(fft(v) * turns(t.size(-1), t));
  });
}

Tensor idct(const Tensor& x, std::int64_t axis) {
  check_precise("idct", x);
  return along("idct", x, axis, x.size(axis), [](const Tensor& c) {
    const std::int64_t n = c.size(-1), half = (n + 1) / 2;
    Tensor v = real(ifft(c.to(complex_type(c.dtype())) * conj(turns(n, c)), {}, -1, Norm::forward));
    Tensor odd = flip(v.slice(-1, half), -1), even = v.slice(-1, 0, half);
    if (odd.size(-1) < half) odd = pad(odd, {0, half - odd.size(-1)});
    return stack({even, odd}, -1).flatten(-2, -1).slice(-1, 0, n);
  });
}

// ---------------------------------------------------------------------- filters

static void check_sequence(const char* op, const Tensor& x) {
  check_float(op, x);
  if (x.dim() != 4 || x.numel() == 0)
    throw_error<ShapeError>("{}: needs a sequence [B,T,H,D] with no axis empty, got {}", op,
                            x.shape());
}

static void check_filter(const char* op, const Tensor& log_gain, const Tensor& phase) {
  check_float(op, log_gain);
  check_same_type(op, log_gain, phase);
  if (log_gain.dim() != 2 || log_gain.numel() == 0 || log_gain.shape() != phase.shape())
    throw_error<ShapeError>("{}: needs log_gain and phase of the same sizes [H,F], got {} and {}",
                            op, log_gain.shape(), phase.shape());
}

static std::int64_t fast_fft_size(const Tensor& x, std::int64_t n) {
  return on(x.device(), [&](auto device) { return kernels::fast_fft_size(device, n); });
}

// y_t = sum over s < T of f_h[(t - s) mod n] v_s, spectrum = rfft(f) [H,n/2+1] in c128.
static Tensor cyclic_convolution(const char* name, const Tensor& v, const Tensor& spectrum,
                                 std::int64_t n) {
  if (is_narrow(v.dtype()) && v.device() == Device::cpu())  // which has no such kernel
    return cyclic_convolution(name, v.to(f32), spectrum, n).to(v.dtype());
  Tensor y = empty_like(v, name), input = with_packed_rows(v), filter = packed(spectrum);
  on(v.device(), name,
     [&](auto device) { kernels::cyclic_convolution(device, input, filter, n, y); });
  auto rule = [v, spectrum, filter, n](const Tensor& g) {
    Tensors grads{empty_gradient(v), empty_gradient(spectrum)};
    on(g.device(), [&](auto device) {
      kernels::cyclic_convolution_backward(device, with_packed_rows(g), with_packed_rows(v), filter,
                                           n, grads[0], grads[1]);
    });
    return grads;
  };
  return record_fused(name, y, {v, spectrum}, rule, "rfft and irfft");
}

Tensor at_bins(const Tensor& values, std::int64_t bins) {
  check_float("at_bins", values);
  if (values.dim() != 2 || values.size(1) == 0 || bins < 1)
    throw_error<ShapeError>("at_bins: needs values [H,F] and at least one bin, got {} and {}",
                            values.shape(), bins);
  if (bins == values.size(1)) return values;
  const double last = double(values.size(1) - 1), steps = std::max(double(bins - 1), 1.0);
  // In whole numbers up to the share of the point on the right: bin k lies at k last / steps.
  Tensor at = arange(double(bins), {.dtype = f64, .device = values.device()}) * last;
  Tensor left = floor(at / steps), right = clamp(left + 1.0, {}, last);
  Tensor share = ((at - left * steps) / steps).to(values.dtype());
  return lerp(index_select(values, 1, left.to(i64)), index_select(values, 1, right.to(i64)), share);
}

// A filter is small beside the data it is applied to, so all that is done to filters is written
// like its formula, in double whatever the data's type.

// Where T has only small factors it is a cyclic convolution of size T. For another T it is one of a
// good size n >= 2T - 1: the filter's T taps are repeated at negative times, where t - s looks for
// them. That takes transforms of T points of the filter alone, never of the data.
Tensor spectral_filter(const Tensor& v, const Tensor& log_gain, const Tensor& phase) {
  check_sequence("spectral_filter", v);
  check_filter("spectral_filter", log_gain, phase);
  if (!mixes(v, log_gain)) check_same_type("spectral_filter", v, log_gain);
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
  if (!mixes(v, taps)) check_same_type("causal_convolution", v, taps);
  if (taps.dim() != 2 || taps.size(0) != v.size(2) || taps.size(1) == 0)
    throw_error<ShapeError>("causal_convolution: needs taps [H,K] for v [B,T,H,D] = {}, got {}",
                            v.shape(), taps.shape());
  const std::int64_t T = v.size(1), heard = std::min(T, taps.size(1));
  const std::int64_t n = fast_fft_size(v, T + heard - 1);  // nothing wraps around
  return cyclic_convolution("causal_convolution", v, rfft(taps.slice(1, 0, heard).to(f64), n), n);
}

}  // namespace triad
