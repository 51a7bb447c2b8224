#include <triad/autograd/fourier.h>

#include <cmath>
#include <numbers>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {
namespace {

double scale_of(Norm norm, bool inverse, std::int64_t n) {
  if (norm == Norm::ortho) return 1 / std::sqrt(double(n));
  return (norm == Norm::backward) == inverse ? 1 / double(n) : 1;
}

Shape with_last(Shape shape, std::int64_t size) {
  shape[shape.rank() - 1] = size;
  return shape;
}

// Below, all work on the last axis, and every rule is a transform again: the conjugate transpose.

Tensor transform(const char* name, const Tensor& x, bool inverse, double scale) {
  Tensor y = empty_like(x);
  on(x.device(), [&](auto device) { kernels::fft(device, x, inverse, scale, y); });
  return record(name, y, {x},
                [=](const Tensor& g) { return Tensors{transform(name, g, !inverse, scale)}; });
}

Tensor from_half(const Tensor& x, std::int64_t n, double scale);

// How often a frequency k of 0..n/2 stands among all n, [n/2+1]: once at 0 and n/2, else twice.
Tensor multiplicity(std::int64_t n, const Tensor& like) {
  std::vector<double> counts(std::size_t(n / 2 + 1), 2);
  counts[0] = 1;
  if (n % 2 == 0) counts.back() = 1;
  return from_vector(counts).to(like.device()).to(like.dtype());
}

Tensor to_half(const Tensor& x, double scale) {
  const std::int64_t n = x.size(-1);
  Tensor y = empty(with_last(x.shape(), n / 2 + 1), complex_type(x.dtype()), x.device());
  on(x.device(), [&](auto device) { kernels::rfft(device, x, scale, y); });
  return record("rfft", y, {x}, [=](const Tensor& g) {
    return Tensors{from_half(g / multiplicity(n, g), n, scale)};
  });
}

Tensor from_half(const Tensor& x, std::int64_t n, double scale) {
  Tensor y = empty(with_last(x.shape(), n), real_type(x.dtype()), x.device());
  on(x.device(), [&](auto device) { kernels::irfft(device, x, scale, y); });
  return record("irfft", y, {x}, [=](const Tensor& g) {
    Tensor half = to_half(g, scale);
    return Tensors{half * multiplicity(n, half)};
  });
}

// x with `axis` last and of n elements, cut or padded with zeros; op on that; and the axis back.
template <class Op>
Tensor along(const char* name, const Tensor& x, std::int64_t axis, std::int64_t n, Op op) {
  const int i = normalize_axis(name, axis, x.dim());
  if (n < 1) throw_error<ShapeError>("{}: needs a length of at least 1, got {}", name, n);
  Tensor last = x.transpose(i, -1);
  if (last.size(-1) > n) last = last.slice(-1, 0, n);
  if (last.size(-1) < n) last = pad(last, {0, n - last.size(-1)});
  return op(last).transpose(i, -1);
}

// In bf16 nothing is left of a spectrum: only f32, f64 and the complex types of both.
void check_real(const char* name, const Tensor& x) {
  check_float(name, x);
  if (x.dtype() == bf16)
    throw_error<DTypeError>("{}: needs f32 or f64, got bf16; write x.to(f32)", name);
}

Tensor to_complex(const char* name, const Tensor& x) {
  check_defined(name, x);
  if (!is_complex(x.dtype())) check_real(name, x);
  return x.to(complex_type(x.dtype()));
}

}  // namespace

Tensor fft(const Tensor& x, std::optional<std::int64_t> n, std::int64_t axis, Norm norm) {
  const Tensor z = to_complex("fft", x);
  const std::int64_t size = n ? *n : z.size(axis);
  return along("fft", z, axis, size, [&](const Tensor& last) {
    return transform("fft", last, false, scale_of(norm, false, size));
  });
}

Tensor ifft(const Tensor& x, std::optional<std::int64_t> n, std::int64_t axis, Norm norm) {
  const Tensor z = to_complex("ifft", x);
  const std::int64_t size = n ? *n : z.size(axis);
  return along("ifft", z, axis, size, [&](const Tensor& last) {
    return transform("ifft", last, true, scale_of(norm, true, size));
  });
}

Tensor rfft(const Tensor& x, std::optional<std::int64_t> n, std::int64_t axis, Norm norm) {
  check_real("rfft", x);
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

namespace {

// sqrt(2/n) exp(-i pi k / 2n), k < n, the first divided by sqrt 2: with it the real part of the
// Fourier transform of the reordered samples is the cosine transform.
Tensor turns(std::int64_t n, const Tensor& like) {
  Tensor angle = arange(double(n), {.dtype = f64}) * (-std::numbers::pi / (2 * double(n)));
  Tensor norm = full({n}, std::sqrt(2 / double(n)), {.dtype = f64});
  norm.slice(0, 0, 1).fill_(std::sqrt(1 / double(n)));
  return polar(norm, angle).to(like.device()).to(complex_type(like.dtype()));
}

}  // namespace

Tensor dct(const Tensor& x, std::int64_t axis) {
  check_real("dct", x);
  return along("dct", x, axis, x.size(axis), [](const Tensor& t) {
    // the even samples, and behind them the odd ones in reverse
    Tensor v = cat({t.slice(-1, 0, kEnd, 2), flip(t.slice(-1, 1, kEnd, 2), -1)}, -1);
    return real(fft(v) * turns(t.size(-1), t));
  });
}

Tensor idct(const Tensor& x, std::int64_t axis) {
  check_real("idct", x);
  return along("idct", x, axis, x.size(axis), [](const Tensor& c) {
    const std::int64_t n = c.size(-1), half = (n + 1) / 2;
    Tensor v = real(ifft(c.to(complex_type(c.dtype())) * conj(turns(n, c)), {}, -1, Norm::forward));
    Tensor odd = flip(v.slice(-1, half), -1), even = v.slice(-1, 0, half);
    if (odd.size(-1) < half) odd = pad(odd, {0, half - odd.size(-1)});
    return stack({even, odd}, -1).flatten(-2, -1).slice(-1, 0, n);
  });
}

}  // namespace triad
