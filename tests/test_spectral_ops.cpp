// The ops of spectral attention against their definitions, term by term in fp64, and gradients by
// gradcheck; at lengths even, odd, prime, 1 and 2.
#include <triad/tests/op_test.h>

#include <cmath>
#include <complex>
#include <numbers>

using namespace op_test;

namespace {

using Complex = std::complex<double>;
constexpr double kPi = std::numbers::pi;
const std::int64_t kLengths[] = {1, 2, 3, 5, 8, 12, 31, 64, 97, 101};

// The signal of n real numbers whose spectrum at bin k of 0..n/2 is bins[k], an imaginary part at
// DC and Nyquist left out.
Values irfft(const std::vector<Complex>& bins, std::int64_t n) {
  Values y(static_cast<std::size_t>(n));
  for (std::int64_t t = 0; t < n; ++t)
    for (std::int64_t k = 0; k <= n / 2; ++k) {
      const bool single = k == 0 || 2 * k == n;
      const Complex turn = std::polar(1.0, 2 * kPi * double(k * t % n) / double(n));
      y[std::size_t(t)] += (single ? 1 : 2) * (bins[std::size_t(k)] * turn).real() / double(n);
    }
  return y;
}

// Row h of [H,N], as numbers.
Values row(const Tensor& x, std::int64_t h) { return values(x.select(0, h)); }

std::vector<Complex> filter(const Values& log_gain, const Values& phase) {
  std::vector<Complex> bins;
  for (std::size_t k = 0; k < log_gain.size(); ++k)
    bins.push_back(std::polar(std::exp(log_gain[k]), phase[k]));
  return bins;
}

// y[b,t,h,d] = sum over s of matrix(h, t, s) x[b,s,h,d].
template <class Matrix> Values along_time(const Tensor& x, Matrix matrix) {
  Tensor y = zeros(x.shape(), {.dtype = f64});
  const std::int64_t T = x.size(1), H = x.size(2), D = x.size(3);
  const Values in = values(x);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const std::int64_t d = i % D, h = i / D % H, t = i / (D * H) % T, b = i / (D * H * T);
    for (std::int64_t s = 0; s < T; ++s)
      y.first<double>()[i] += matrix(h, t, s) * in[std::size_t(((b * T + s) * H + h) * D + d)];
  }
  return values(y);
}

Values interpolated(const Values& points, std::int64_t bins) {
  Values y;
  for (std::int64_t k = 0; k < bins; ++k) {
    const double at = bins == 1 ? 0 : double(k) * double(points.size() - 1) / double(bins - 1);
    const std::size_t below = std::min(std::size_t(at), points.size() - 1);
    const std::size_t above = std::min(below + 1, points.size() - 1);
    y.push_back(points[below] + (at - double(below)) * (points[above] - points[below]));
  }
  return y;
}

// Section 2 of docs/attention.md, "Causal spectral attention", steps 1 to 3.
Values taps_of(const Values& points_gain, const Values& points_phase) {
  const std::int64_t K = 2 * (std::int64_t(points_gain.size()) - 1);
  if (K == 0) return {std::exp(points_gain[0]) * std::cos(points_phase[0])};
  const Values gain = interpolated(points_gain, K + 1), phase = interpolated(points_phase, K + 1);
  const Values c = irfft({gain.begin(), gain.end()}, 2 * K);
  std::vector<Complex> bins;
  for (std::int64_t k = 0; k <= K; ++k) {
    double theta = 0;
    for (std::int64_t t = 1; t < K; ++t)
      theta -= 2 * c[std::size_t(t)] * std::sin(kPi * double(k * t % (2 * K)) / double(K));
    bins.push_back(std::polar(std::exp(gain[std::size_t(k)]), theta + phase[std::size_t(k)]));
  }
  Values h = irfft(bins, 2 * K);
  h.resize(std::size_t(K));
  return h;
}

double dct_entry(std::int64_t T, std::int64_t k, std::int64_t t) {
  return std::sqrt((k == 0 ? 1.0 : 2.0) / double(T)) *
         std::cos(kPi * double(k * (2 * t + 1) % (4 * T)) / double(2 * T));
}

void check_once_only(const std::string& op, const TensorFunction& f, const Tensors& inputs) {
  Tensors leaves;
  for (const Tensor& x : inputs) leaves.push_back(x.clone().requires_grad_());
  const Tensor g = grad({sum(f(leaves))}, {leaves[0]}, {}, {.create_graph = true})[0];
  check_error<AutogradError>([&] { grad({sum(square(g))}, {leaves[0]}); },
                             op + ": the gradient of this fused op cannot be differentiated again; "
                                  "compose it of rfft and irfft");
}

}  // namespace

TEST_CASE("at_bins reads control points by linear interpolation") {
  for (DType dtype : {f32, f64})
    for (std::int64_t F : {1, 2, 3, 17, 33})
      for (std::int64_t bins : {1, 2, 3, 16, 17, 32, 50, 97})
        for (Lie lie : kLies) {
          const Tensor x = laid(lie, noise({2, F}, dtype));
          const Tensor y = at_bins(x, bins);
          CHECK(y.shape() == Shape{2, bins});
          for (std::int64_t h : {0, 1})
            check_close(y.select(0, h), interpolated(row(x, h), bins), dtype == f32 ? 2e-6 : 1e-13,
                        "at_bins");
        }
  const Tensor x = noise({2, 5});
  CHECK(same_bits(at_bins(x, 5), x));
  for (std::int64_t bins : {1, 2, 4, 5, 7, 11})
    check_gradient("at_bins", [&](const Tensors& t) { return at_bins(t[0], bins); }, {x});
  check_second_gradient("at_bins", [](const Tensors& t) { return at_bins(t[0], 7); }, {x});
  check_error<ShapeError>([&] { at_bins(x, 0); },
                          "at_bins: needs values [H,F] and at least one bin");
  check_error<ShapeError>([&] { at_bins(x.select(0, 0), 3); }, "got [5] and 3");
  check_error<ShapeError>([&] { at_bins(zeros({2, 0}), 3); }, "got [2,0] and 3");
}

TEST_CASE("spectral_filter is multiplication of the spectrum") {
  for (DType dtype : {f32, f64})
    for (std::int64_t T : kLengths)
      for (Lie lie : kLies) {
        const Tensor v = laid(lie, noise({2, T, 3, 5}, dtype));
        const Tensor gain = laid(lie, noise({3, T / 2 + 1}, dtype, 0.5));
        const Tensor phase = laid(lie, noise({3, T / 2 + 1}, dtype));
        std::vector<Values> impulse;
        for (std::int64_t h = 0; h < 3; ++h)
          impulse.push_back(irfft(filter(row(gain, h), row(phase, h)), T));
        const Tensor y = spectral_filter(v, gain, phase);
        CHECK(y.shape() == v.shape());
        check_close(y,
                    along_time(v,
                               [&](std::int64_t h, std::int64_t t, std::int64_t s) {
                                 return impulse[std::size_t(h)][std::size_t((t - s + T) % T)];
                               }),
                    dtype == f32 ? 5e-6 : 2e-14, "T " + std::to_string(T));
      }
  const auto f = [](const Tensors& x) { return spectral_filter(x[0], x[1], x[2]); };
  for (std::int64_t T : {2, 3, 4, 5, 7})
    check_gradient("spectral_filter, T " + std::to_string(T), f,
                   {noise({2, T, 2, 3}), noise({2, T / 2 + 1}), noise({2, T / 2 + 1})});
  check_gradient("spectral_filter, T 1", f, {noise({2, 1, 2, 3}), noise({2, 1}), noise({2, 1})});
  check_once_only("spectral_filter", f, {noise({1, 4, 2, 3}), noise({2, 3}), noise({2, 3})});
}

TEST_CASE("the phase at DC and Nyquist has no imaginary part to give") {
  const Tensor v = noise({1, 2, 1, 1}), zero = zeros({1, 2}, {.dtype = f64});
  const Tensor phase = from_vector<double>({0.4, 1.1}, {1, 2});
  const Values x = values(v);
  const double dc = (x[0] + x[1]) / 2 * std::cos(0.4), nyquist = (x[0] - x[1]) / 2 * std::cos(1.1);
  check_close(spectral_filter(v, zero, phase), {dc + nyquist, dc - nyquist}, 1e-15, "T 2");
}

TEST_CASE("causal_taps are those of the minimum-phase filter") {
  for (DType dtype : {f32, f64})
    for (std::int64_t F : {1, 2, 3, 4, 9, 17, 33})
      for (Lie lie : kLies) {
        const Tensor gain = laid(lie, noise({2, F}, dtype, 0.3));
        const Tensor phase = laid(lie, noise({2, F}, dtype, 0.3));
        const Tensor taps = causal_taps(gain, phase);
        CHECK(taps.shape() == Shape{2, std::max<std::int64_t>(1, 2 * (F - 1))});
        for (std::int64_t h : {0, 1})
          check_close(taps.select(0, h), taps_of(row(gain, h), row(phase, h)),
                      dtype == f32 ? 2e-6 : 1e-14, "F " + std::to_string(F));
      }
  const auto f = [](const Tensors& x) { return causal_taps(x[0], x[1]); };
  for (std::int64_t F : {1, 2, 3, 5, 6})
    check_gradient("causal_taps, F " + std::to_string(F), f,
                   {noise({2, F}, f64, 0.4), noise({2, F}, f64, 0.4)});
  check_second_gradient("causal_taps", f, {noise({2, 3}, f64, 0.4), noise({2, 3}, f64, 0.4)});
}

TEST_CASE("causal_convolution is the direct sum over the past") {
  for (DType dtype : {f32, f64})
    for (std::int64_t T : kLengths)
      for (std::int64_t K : {std::int64_t(1), std::int64_t(2), std::int64_t(7), T, T + 5})
        for (Lie lie : {Lie::contiguous, Lie::sliced, Lie::transposed}) {
          const Tensor v = laid(lie, noise({2, T, 3, 4}, dtype));
          const Tensor taps = laid(lie, noise({3, K}, dtype));
          const Values h = values(taps);
          check_close(
              causal_convolution(v, taps),
              along_time(v,
                         [&](std::int64_t head, std::int64_t t, std::int64_t s) {
                           return s <= t && t - s < K ? h[std::size_t(head * K + t - s)] : 0;
                         }),
              dtype == f32 ? 4e-6 : 2e-14, "T " + std::to_string(T) + ", K " + std::to_string(K),
              std::sqrt(double(std::min(T, K))));
        }
  const auto f = [](const Tensors& x) { return causal_convolution(x[0], x[1]); };
  for (std::int64_t T : {1, 2, 3, 5, 8})
    for (std::int64_t K : {1, 2, 5, 9})
      check_gradient("causal_convolution, T " + std::to_string(T) + ", K " + std::to_string(K), f,
                     {noise({2, T, 2, 3}), noise({2, K})});
  check_once_only("causal_convolution", f, {noise({1, 4, 2, 3}), noise({2, 3})});
}

TEST_CASE("dct and idct are the orthonormal matrix and its transpose") {
  for (DType dtype : {f32, f64})
    for (std::int64_t T : kLengths)
      for (Lie lie : kLies) {
        const Tensor x = laid(lie, noise({2, T, 2, 3}, dtype));
        const double close = dtype == f32 ? 4e-6 : 1e-13;
        check_close(dct(x, 1),
                    along_time(x, [&](std::int64_t, std::int64_t k,
                                      std::int64_t t) { return dct_entry(T, k, t); }),
                    close, "dct, T " + std::to_string(T));
        check_close(idct(x, 1),
                    along_time(x, [&](std::int64_t, std::int64_t t,
                                      std::int64_t k) { return dct_entry(T, k, t); }),
                    close, "idct, T " + std::to_string(T));
        check_close(idct(dct(x, 1), 1), values(x), close, "inverse");
        const double before = norm(x).item<double>(), after = norm(dct(x, 1)).item<double>();
        CHECK(after == doctest::Approx(before).epsilon(close));
      }
  for (std::int64_t T : {1, 2, 3, 5, 8}) {
    for (const TensorFunction& f :
         {TensorFunction([](const Tensors& x) { return dct(x[0], 1); }),
          TensorFunction([](const Tensors& x) { return idct(x[0], 1); })}) {
      check_gradient("dct, T " + std::to_string(T), f, {noise({2, T, 2, 3})});
      check_second_gradient("dct, T " + std::to_string(T), f, {noise({1, T, 2, 2})});
    }
  }
}

TEST_CASE("the same bits at any number of threads") {
  const Tensor v = noise({2, 257, 3, 8}, f32), c = noise({2, 257, 3, 8}, f32);
  const Tensor gain = noise({3, 129}, f32, 0.2), taps = noise({3, 64}, f32);
  const auto check = [&](const std::string& what, const TensorFunction& f, const Tensors& inputs) {
    for (std::size_t i = 0; i <= inputs.size(); ++i)
      check_threads(what, [&] {
        Tensors x;
        for (const Tensor& input : inputs) x.push_back(input.detach().requires_grad_());
        const Tensor y = f(x);
        return (i == x.size() ? y.detach() : grad({y}, {x[i]}, {c})[0]).contiguous();
      });
  };
  check("spectral_filter", [](const Tensors& x) { return spectral_filter(x[0], x[1], x[2]); },
        {v, gain, gain * 2.0});
  check("causal_convolution", [](const Tensors& x) { return causal_convolution(x[0], x[1]); },
        {v, taps});
  check("dct", [](const Tensors& x) { return dct(x[0], 1); }, {v});
}

TEST_CASE("errors") {
  const Tensor v = zeros({2, 6, 3, 4}), f = zeros({3, 4});
  check_error<ShapeError>([&] { spectral_filter(v.select(0, 0), f, f); },
                          "spectral_filter: needs a sequence [B,T,H,D] with no axis empty");
  check_error<ShapeError>([&] { spectral_filter(v.slice(1, 6), f, f); }, "got [2,0,3,4]");
  check_error<ShapeError>(
      [&] {
        spectral_filter(v, f, zeros({3, 5}));
      },
      "spectral_filter: needs log_gain and phase of the same sizes [H,F], got "
      "[3,4] and [3,5]");
  check_error<ShapeError>(
      [&] {
        spectral_filter(v, zeros({3, 5}), zeros({3, 5}));
      },
      "needs log_gain and phase [H,T/2+1] for v [B,T,H,D] = [2,6,3,4], got [3,5]");
  check_error<DTypeError>([&] { spectral_filter(v, f.to(f64), f.to(f64)); }, "the types differ");
  check_error<ShapeError>([&] { causal_taps(f, zeros({2, 4})); }, "causal_taps: needs log_gain");
  check_error<ShapeError>([&] { causal_taps(zeros({3, 0}), zeros({3, 0})); }, "causal_taps: needs");
  check_error<ShapeError>(
      [&] {
        causal_convolution(v, zeros({2, 5}));
      },
      "causal_convolution: needs taps [H,K] for v [B,T,H,D] = [2,6,3,4], got [2,5]");
  check_error<ShapeError>([&] { causal_convolution(v, zeros({3, 0})); }, "got [3,0]");
  check_error<DTypeError>([&] { causal_convolution(v, zeros({3, 5}, {.dtype = f64})); }, "differ");
  check_error<ShapeError>([&] { dct(zeros({2, 0})); }, "dct: needs a length of at least 1");
  check_error<DTypeError>([&] { idct(v.to(i64)); }, "idct: needs f32 or f64, got i64");
}
