// Fourier transforms and cyclic convolutions on a CUDA device, against the sums that define them
// and against the CPU's kernels in fp64.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include <triad/tests/kernel_checks.h>
#include <triad/tests/test_device.h>
#include <triad/triad.h>

using namespace triad;
using kernel_checks::kNan;
using kernel_checks::values;
using reference::Values;
using Number = std::complex<double>;
using Numbers = std::vector<Number>;

namespace {

const Device kCpu = Device::cpu();

// Enough of a batch for every multiprocessor of a large device, or of the simulated one.
std::int64_t multiprocessors() {
#ifdef TRIAD_CUDA_ON_CPU
  return 3;
#else
  return 160;
#endif
}

// On the CPU; `there` it is on the device, lying as it does here.
Tensor random(const Shape& shape, DType dtype) {
  static unsigned seed = 1;
  if (!is_complex(dtype)) return kernel_checks::random_tensor(shape, dtype, seed++).to(kCpu);
  const Tensor re = random(shape, f64), im = random(shape, f64);
  return complex(re, im).to(dtype);
}
Tensor there(const Tensor& x) { return kernel_checks::moved(x, kCuda); }
Tensor unwritten(const Shape& shape, DType dtype) {
  return full(shape, kNan, {.dtype = real_type(dtype), .device = kCuda}).to(dtype);
}

// A [..., n] with gaps between its elements, or between its rows, or contiguous.
Tensor random_rows(std::int64_t n, DType dtype, int variant) {
  if (variant == 0) return random({3, n}, dtype);
  if (variant == 1) return random({3, n + 3}, dtype).slice(1, 1, n + 1);
  return random({n, 2, 3}, dtype).permute({2, 1, 0}).slice(0, 0, 2);
}

// A [B,T,H,D] view with gaps along every axis but D. Where D and `first` are even, its channels lie
// in pairs that one access takes: else there is no kernel for them.
Tensor random_view(std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t D, DType dtype,
                   std::int64_t first = 2) {
  const Tensor x = random({B, T, 3, H + 1, D + 4}, dtype);
  return x.select(2, 1).slice(2, 1, H + 1).slice(3, first, D + first);
}

Numbers numbers(const Tensor& x) {
  const auto all = x.to(kCpu).to(c128).to_vector<Number>();
  return {all.begin(), all.end()};
}

// The largest difference, relative to the largest value wanted.
double difference(const Numbers& got, const Numbers& wanted) {
  REQUIRE(got.size() == wanted.size());
  double error = 0, largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double apart = std::abs(got[i] - wanted[i]);
    error = std::max(error, std::isfinite(apart) ? apart : 1e9);
    largest = std::max(largest, std::abs(wanted[i]));
  }
  return largest > 0 ? error / largest : error;
}
double difference(const Tensor& got, const Tensor& wanted) {
  return difference(numbers(got), numbers(wanted));
}

double bound(DType dtype) {
  if (is_narrow(dtype)) return dtype == bf16 ? 4e-3 : 5e-4;
  return real_type(dtype) == f32 ? 1e-6 : 1e-14;
}

// sum over t of x_t exp(sign 2 pi i k t / n) for every row of n
Numbers direct(const Numbers& x, std::int64_t n, double sign) {
  Numbers roots, y(x.size());
  for (std::int64_t i = 0; i < n; ++i)
    roots.push_back(std::polar(1.0, sign * 2 * std::numbers::pi * double(i) / double(n)));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::int64_t k = std::int64_t(i) % n, row = std::int64_t(i) - k;
    for (std::int64_t t = 0; t < n; ++t) y[i] += x[row + t] * roots[k * t % n];
  }
  return y;
}

// What f returns is the same under every schedule, bit for bit.
template <class F> void check_schedules(F f) {
  const Tensors first = f();
  for_schedules([&] {
    const Tensors again = f();
    for (std::size_t i = 0; i < first.size(); ++i)
      CHECK(kernel_checks::same_bits(again[i], first[i]));
  });
}

struct Gradients {
  Tensor dv, dspectrum;
};

Tensor convolved(const Tensor& v, const Tensor& spectrum, std::int64_t n) {
  const Tensor y = unwritten(v.shape(), v.dtype());
  on(kCuda, [&](auto device) { kernels::cyclic_convolution(device, v, spectrum, n, y); });
  return y;
}
Gradients backward(const Tensor& dy, const Tensor& v, const Tensor& spectrum, std::int64_t n,
                   bool want_v = true, bool want_spectrum = true) {
  Gradients result;
  if (want_v) result.dv = unwritten(v.shape(), v.dtype());
  if (want_spectrum) result.dspectrum = unwritten(spectrum.shape(), c128);
  on(kCuda, [&](auto device) {
    kernels::cyclic_convolution_backward(device, dy, v, spectrum, n, result.dv, result.dspectrum);
  });
  return result;
}

// The same in fp64 on the CPU, where n may be any size: as it is one of the CPU's, or by the sums.
Tensor expected(const Tensor& v, const Tensor& spectrum, std::int64_t n) {
  const std::int64_t T = v.size(1), H = v.size(2), D = v.size(3);
  const Tensor x = v.to(f64).contiguous(), y = empty(v.shape(), f64);
  if (kernels::fast_fft_size(Cpu(), n) == n) {
    kernels::cyclic_convolution(Cpu(), x, spectrum, n, y);
    return y;
  }
  const Tensor taps = empty({H, n}, f64);
  kernels::irfft(Cpu(), spectrum, 1 / double(n), taps);
  for (std::int64_t i = 0; i < y.numel(); ++i) {
    const std::int64_t h = i / D % H, t = i / D / H % T, b = i / D / H / T;
    double sum = 0;
    for (std::int64_t s = 0; s < T; ++s)
      sum += taps.data<double>()[h * n + (t - s + n) % n] *
             x.data<double>()[((b * T + s) * H + h) * D + i % D];
    y.data<double>()[i] = sum;
  }
  return y;
}
Gradients expected_backward(const Tensor& dy, const Tensor& v, const Tensor& spectrum,
                            std::int64_t n) {
  const Gradients result{empty(v.shape(), f64), empty(spectrum.shape(), c128)};
  kernels::cyclic_convolution_backward(Cpu(), dy.to(f64).contiguous(), v.to(f64).contiguous(),
                                       spectrum, n, result.dv, result.dspectrum);
  return result;
}

}  // namespace

TEST_CASE("fft on CUDA is the sum that defines it") {
  for (DType dtype : {c64, c128})
    for (std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 13, 16, 30, 31, 64, 97, 100, 128})
      for (int variant : {0, 1, 2}) {
        CAPTURE(n);
        CAPTURE(variant);
        const Tensor x = random_rows(n, dtype, variant), on_device = there(x);
        for (bool inverse : {false, true}) {
          const double scale = inverse ? 1 / double(n) : 1;
          const Tensor y = unwritten(x.shape(), dtype);
          on(kCuda, [&](auto device) { kernels::fft(device, on_device, inverse, scale, y); });
          Numbers wanted = direct(numbers(x), n, inverse ? 1 : -1);
          for (Number& z : wanted) z *= scale;
          CHECK(difference(numbers(y), wanted) < bound(dtype));
        }
        CHECK(numbers(on_device) == numbers(x));
      }
}

TEST_CASE("rfft and irfft on CUDA are halves of it") {
  for (DType dtype : {f32, f64})
    for (std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 13, 16, 30, 31, 64, 97, 100, 128})
      for (int variant : {0, 1, 2}) {
        CAPTURE(n);
        CAPTURE(variant);
        const std::int64_t bins = n / 2 + 1;
        const Tensor x = random_rows(n, dtype, variant), on_device = there(x);
        Shape shape = x.shape();
        shape[x.dim() - 1] = bins;
        const Tensor half = unwritten(shape, complex_type(dtype));
        on(kCuda, [&](auto device) { kernels::rfft(device, on_device, 0.5, half); });
        const Numbers whole = direct(numbers(x), n, -1);
        Numbers wanted;
        for (std::size_t i = 0; i < whole.size(); ++i)
          if (std::int64_t(i) % n < bins) wanted.push_back(whole[i] * 0.5);
        CHECK(difference(numbers(half), wanted) < bound(dtype));
        CHECK(values(on_device) == values(x));

        // Back from any spectrum, also one with imaginary parts where a real row has none.
        const Tensor z = random_rows(bins, complex_type(dtype), variant), spectrum = there(z);
        shape[x.dim() - 1] = n;
        const Tensor y = unwritten(shape, dtype);
        on(kCuda, [&](auto device) { kernels::irfft(device, spectrum, 2 / double(n), y); });
        const Numbers given = numbers(z);
        Numbers full;
        for (std::size_t row = 0; row < given.size() / bins; ++row)
          for (std::int64_t k = 0; k < n; ++k) {
            const Number value = given[row * bins + std::min(k, n - k)];
            full.push_back(k == 0 || 2 * k == n ? value.real()
                           : 2 * k < n          ? value
                                                : std::conj(value));
          }
        wanted = direct(full, n, 1);
        for (Number& value : wanted) value = value.real() * 2 / double(n);
        CHECK(difference(numbers(y), wanted) < bound(dtype));
        CHECK(numbers(spectrum) == given);
      }
}

TEST_CASE("sizes on CUDA: powers of two as long as one kernel takes them") {
  on(kCuda, [&]<class Tag>(Tag device) {
    if constexpr (std::is_same_v<Tag, Cpu>) return;
    for (std::int64_t n : {1, 2, 3, 17, 1000, 1024, 16383, 16384, 32768, 32769, 100003}) {
      const std::int64_t size = kernels::fast_fft_size(device, n);
      CHECK(size >= n);
      CHECK(kernels::fast_fft_size(device, size) == size);
      if (n <= 32768) CHECK((size & (size - 1)) == 0);
      if (n <= 32768) CHECK((size < 2 * n || size == 1));
    }
  });
}

TEST_CASE("cyclic_convolution on CUDA") {
  // By cuFFT where n is no power of two, or too small a one, or the type is f64.
  for (DType dtype : {f32, f64, bf16, f16})
    for (std::int64_t n : {1, 2, 3, 7, 8, 16, 30, 31, 32, 64, 90, 128})
      for (std::int64_t T : {n, n - n / 2, std::int64_t(1)})
        for (std::int64_t D : {1, 2, 5, 12}) {
          if (T == 1 && D != 5) continue;
          CAPTURE(name(dtype));
          CAPTURE(n);
          CAPTURE(T);
          CAPTURE(D);
          const Tensor v = random_view(2, T, 3, D, dtype), filter = random({3, n / 2 + 1}, c128);
          const Tensor y = convolved(there(v), there(filter), n);
          CHECK(difference(y, expected(v, filter, n)) < bound(dtype));
        }
}

TEST_CASE("cyclic_convolution on CUDA in one kernel, at all of its sizes") {
  for (std::int64_t n = 16; n <= 32768; n *= 2)
    for (DType dtype : {f32, bf16, f16}) {
      CAPTURE(name(dtype));
      CAPTURE(n);
      const std::int64_t T = n - n / 3, D = n > 1024 ? 6 : 70;
      const Tensor v = random_view(1, T, 2, D, dtype), filter = random({2, n / 2 + 1}, c128);
      const Tensor wanted = expected(v, filter, n);
      CHECK(difference(convolved(there(v), there(filter), n), wanted) < bound(dtype));
      // In halves, where zeros fill the second one.
      for (std::int64_t half : {n / 2, n / 2 - n / 7}) {
        const Tensor short_v = random_view(1, half, 2, D, dtype);
        CHECK(difference(convolved(there(short_v), there(filter), n),
                         expected(short_v, filter, n)) < bound(dtype));
      }
      if (n > 1024) continue;
      const Tensor odd = random_view(1, T, 2, 4, dtype, 1);
      CHECK(difference(convolved(there(odd), there(filter), n), expected(odd, filter, n)) <
            bound(dtype));
      // f64 goes by cuFFT.
      if (n <= 256 && dtype == f32) {
        const Tensor exact = convolved(there(v.to(f64)), there(filter), n);
        CHECK(difference(exact, wanted) < 1e-14);
      }
    }
}

TEST_CASE("cyclic_convolution on CUDA writes nothing outside its view") {
  for (std::int64_t n : {6, 32})
    for (DType dtype : {f32, f64, bf16, f16}) {
      const Tensor v = random_view(2, 6, 2, 4, dtype), y = there(random_view(2, 6, 2, 4, dtype));
      const Tensor whole = y.with_layout(contiguous_layout({2, 6, 3, 3, 8}));
      const Values before = values(whole), before_view = values(y);
      on(kCuda, [&](auto device) {
        kernels::cyclic_convolution(device, there(v), there(random({2, n / 2 + 1}, c128)), n, y);
      });
      const Values after = values(whole), after_view = values(y);
      std::int64_t changed = 0, changed_view = 0;
      for (std::size_t i = 0; i < before.size(); ++i) changed += before[i] != after[i];
      for (std::size_t i = 0; i < before_view.size(); ++i)
        changed_view += before_view[i] != after_view[i];
      CHECK(changed == changed_view);
      CHECK(changed > 60);
    }
}

TEST_CASE("cyclic_convolution_backward on CUDA") {
  for (DType dtype : {f32, f64, bf16, f16})
    for (std::int64_t n : {1, 2, 3, 8, 16, 30, 32, 64, 128, 512, 4096, 16384, 32768})
      for (std::int64_t D : {1, 6}) {
        if (n > 1000 && (D != 6 || dtype != f32)) continue;
        for (bool halves : {false, true}) {
          CAPTURE(name(dtype));
          CAPTURE(n);
          CAPTURE(D);
          CAPTURE(halves);
          const std::int64_t B = n < 100 ? 5 : 2, T = halves ? (n + 1) / 2 : n - n / 3;
          const Tensor v = random_view(B, T, 2, D, dtype), dy = random_view(B, T, 2, D, dtype);
          const Tensor filter = random({2, n / 2 + 1}, c128);
          const Gradients wanted = expected_backward(dy, v, filter, n);
          const Gradients both = backward(there(dy), there(v), there(filter), n);
          CHECK(difference(both.dv, wanted.dv) < bound(dtype));
          CHECK(difference(both.dspectrum, wanted.dspectrum) < (dtype == f64 ? 1e-14 : 1e-6));
          // Each alone, and none.
          const Tensor dv = backward(there(dy), there(v), there(filter), n, true, false).dv;
          CHECK(difference(dv, wanted.dv) < bound(dtype));
          const Gradients other = backward(there(dy), there(v), there(filter), n, false, true);
          CHECK(kernel_checks::same_bits(other.dspectrum, both.dspectrum));
          backward(there(dy), there(v), there(filter), n, false, false);
        }
      }
}

#ifdef TRIAD_CUDA_ON_CPU
TEST_CASE("sequences that do not fit into a block's shared memory on every device go by cuFFT") {
  for (std::size_t shared : {48 << 10, 99 << 10, 163 << 10}) {
    cuda::shared_bytes_shown = shared;
    for (std::int64_t n : {2048, 8192, 16384, 32768})
      for (DType dtype : {f32, bf16}) {
        CAPTURE(shared);
        CAPTURE(n);
        const Tensor v = random_view(1, n / 2, 1, 2, dtype),
                     dy = random_view(1, n / 2, 1, 2, dtype);
        const Tensor filter = random({1, n / 2 + 1}, c128);
        const Gradients wanted = expected_backward(dy, v, filter, n);
        const Gradients got = backward(there(dy), there(v), there(filter), n);
        CHECK(difference(got.dv, wanted.dv) < bound(dtype));
        CHECK(difference(got.dspectrum, wanted.dspectrum) < 1e-6);
      }
  }
  cuda::shared_bytes_shown = 227 << 10;
}
#endif

TEST_CASE("cyclic_convolution_backward on CUDA of so many that a block takes several") {
  const std::int64_t n = 2048, batch = 8 * multiprocessors() + 7, T = 33;  // not a multiple
  const Tensor v = random_view(batch, T, 1, 2, f32), dy = random_view(batch, T, 1, 2, f32);
  const Tensor filter = random({1, n / 2 + 1}, c128);
  const Gradients wanted = expected_backward(dy, v, filter, n);
  for (bool want_v : {true, false}) {
    const Gradients got = backward(there(dy), there(v), there(filter), n, want_v);
    CHECK(difference(got.dspectrum, wanted.dspectrum) < 1e-6);
    if (want_v) CHECK(difference(got.dv, wanted.dv) < 1e-6);
  }
}

TEST_CASE("what CUDA computes of sequences depends on no schedule") {
  for (std::int64_t n : {20, 16, 64, 512, 4096, 8192, 16384, 32768})
    for (DType dtype : {f32, bf16, f16}) {
      if (dtype != f32 && n < 512) continue;
      CAPTURE(n);
      for (std::int64_t T : {n / 2, n - 3}) {
        const std::int64_t D = n > 512 ? 2 : 6;
        const Tensor v = there(random_view(2, T, 1, D, dtype));
        const Tensor dy = there(random_view(2, T, 1, D, dtype));
        const Tensor filter = there(random({1, n / 2 + 1}, c128));
        check_schedules([&] {
          const Gradients gradients = backward(dy, v, filter, n);
          const Tensor back = unwritten({2, 3}, f64);
          on(kCuda, [&](auto device) {
            kernels::irfft(device, filter.slice(1, 0, 2).expand({2, 2}), 1, back);
          });
          return Tensors{convolved(v, filter, n), gradients.dv, gradients.dspectrum, back};
        });
      }
    }
}
