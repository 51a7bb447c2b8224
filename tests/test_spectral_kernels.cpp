// Filters along time at the precision of their types, against the sums that define them, and their
// gradients against central differences and the adjoint identity; and the kernel below them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <vector>

#include <triad/tests/kernel_checks.h>
#include <triad/triad.h>

using namespace triad;

namespace {

using kernel_checks::values;
using reference::Values;

Tensor random(const Shape& shape, DType dtype, double scale = 1) {
  static unsigned seed = 7;
  return kernel_checks::random_tensor(shape, dtype, seed++, scale);
}

// A [B,T,H,D] view with gaps along every axis but D, filled with noise.
Tensor random_view(std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t D, DType dtype) {
  const Tensor x = random({B, T, 3, H + 1, D + 2}, dtype);
  return x.with_layout(sliced(sliced(selected(x.layout(), 2, 1), 2, 1, H + 1, 1), 3, 1, D + 1, 1));
}

// Writes the gradients of f at `inputs` with the cotangent dy into `out`, where those are defined;
// no others are asked for.
void gradients(const std::function<Tensor(const Tensors&)>& f, const Tensors& inputs,
               const Tensor& dy, const Tensors& out) {
  Tensors x, wanted;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    x.push_back(inputs[i].detach());
    if (out[i].defined()) wanted.push_back(x.back().requires_grad_());
  }
  const Tensors found = grad({f(x)}, wanted, {dy});
  std::size_t next = 0;
  for (const Tensor& place : out)
    if (place.defined()) place.copy_(found[next++]);
}

Tensor filtered(const Tensors& x) { return spectral_filter(x[0], x[1], x[2]); }
Tensor convolved(const Tensors& x) { return causal_convolution(x[0], x[1]); }

double dot(const Tensor& a, const Tensor& b) {
  const Values x = values(a), y = values(b);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

// The largest difference, relative to the largest value wanted.
double difference(const Values& got, const Values& wanted) {
  REQUIRE(got.size() == wanted.size());
  double error = 0, largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error = std::max(error, std::isfinite(got[i]) ? std::abs(got[i] - wanted[i]) : INFINITY);
    largest = std::max(largest, std::abs(wanted[i]));
  }
  return largest > 0 ? error / largest : error;
}

double bound(DType dtype) { return dtype == f32 ? 1e-6 : 1e-14; }

// irfft of exp(gain + i angle), by its definition; the first `taps` samples.
Values direct_taps(const double* gain, const double* angle, std::int64_t n, std::int64_t taps) {
  Values result(taps);
  for (std::int64_t t = 0; t < taps; ++t) {
    for (std::int64_t k = 0; k <= n / 2; ++k) {
      const double c = k == 0 || 2 * k == n ? 1 : 2;
      const double turn = 2 * std::numbers::pi * double(k * t % n) / double(n);
      const double re = std::exp(gain[k]) * std::cos(angle[k]);
      const double im = c == 1 ? 0 : std::exp(gain[k]) * std::sin(angle[k]);
      result[t] += c / double(n) * (re * std::cos(turn) - im * std::sin(turn));
    }
  }
  return result;
}

// y[b,t,h,d] = sum over s < T of matrix(h, t, s) v[b,s,h,d].
Values apply(const Tensor& v,
             const std::function<double(std::int64_t, std::int64_t, std::int64_t)>& matrix) {
  const std::int64_t B = v.size(0), T = v.size(1), H = v.size(2), D = v.size(3);
  const Values x = values(v);
  Values y(x.size());
  for (std::int64_t h = 0; h < H; ++h) {
    for (std::int64_t t = 0; t < T; ++t) {
      for (std::int64_t s = 0; s < T; ++s) {
        const double weight = matrix(h, t, s);
        if (weight == 0) continue;
        for (std::int64_t b = 0; b < B; ++b) {
          for (std::int64_t d = 0; d < D; ++d) {
            y[((b * T + t) * H + h) * D + d] += weight * x[((b * T + s) * H + h) * D + d];
          }
        }
      }
    }
  }
  return y;
}

// Central differences of f = <result, cotangent> in every element of x agree with `gradient`.
void check_gradient(const Tensor& x, const Tensor& gradient, const std::function<double()>& f) {
  Values wanted;
  double* p = x.first<double>();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const double kept = p[i], step = 1e-5;
    p[i] = kept + step;
    const double above = f();
    p[i] = kept - step;
    const double below = f();
    p[i] = kept;
    wanted.push_back((above - below) / (2 * step));
  }
  CHECK(difference(values(gradient), wanted) < 1e-7);
}

const std::vector<std::int64_t> kLengths{1, 2, 3, 4, 5, 7, 8, 13, 16, 30, 31, 64, 97, 100};

}  // namespace

TEST_CASE("spectral_filter is the circular convolution with the filter's taps") {
  for (DType dtype : {f32, f64}) {
    for (std::int64_t T : kLengths) {
      for (std::int64_t D : {1, 5, 32, 37}) {
        CAPTURE(T);
        CAPTURE(D);
        const std::int64_t B = 2, H = 3, bins = T / 2 + 1;
        const Tensor v = random_view(B, T, H, D, dtype), y = random_view(B, T, H, D, dtype);
        const Tensor gain = random({H, bins}, dtype, 0.3), phase = random({H, bins}, dtype);
        y.copy_(spectral_filter(v, gain, phase));
        const Values g = values(gain), p = values(phase);
        std::vector<Values> taps;
        for (std::int64_t h = 0; h < H; ++h) {
          taps.push_back(direct_taps(&g[h * bins], &p[h * bins], T, T));
        }
        const Values wanted = apply(v, [&](std::int64_t h, std::int64_t t, std::int64_t s) {
          return taps[h][(t - s + T) % T];
        });
        CHECK(difference(values(y), wanted) < bound(dtype));
      }
    }
  }
}

TEST_CASE("cyclic_convolution writes nothing outside its view") {
  const Tensor v = random_view(2, 6, 2, 3, f32), y = random_view(2, 6, 2, 3, f32);
  const Tensor whole = y.with_layout(contiguous_layout({2, 6, 3, 3, 5}));
  const Tensor spectrum = polar(random({2, 4}, f64), random({2, 4}, f64));
  const Values before = values(whole), before_view = values(y);
  kernels::cyclic_convolution(Cpu{}, v, spectrum, 6, y);
  const Values after = values(whole), after_view = values(y);
  std::int64_t changed = 0, changed_view = 0;
  for (std::size_t i = 0; i < before.size(); ++i) changed += before[i] != after[i];
  for (std::size_t i = 0; i < before_view.size(); ++i)
    changed_view += before_view[i] != after_view[i];
  CHECK(changed == 2 * 6 * 2 * 3);
  CHECK(changed_view == changed);
}

TEST_CASE("spectral_filter_backward") {
  for (std::int64_t T : {1, 2, 3, 4, 7, 12, 13, 30}) {
    for (std::int64_t D : {1, 19}) {
      CAPTURE(T);
      const std::int64_t B = 3, H = 2, bins = T / 2 + 1;
      const Tensor v = random_view(B, T, H, D, f64), dy = random_view(B, T, H, D, f64);
      const Tensor gain = random({H, bins}, f64, 0.3), phase = random({H, bins}, f64);
      const Tensor y = empty({B, T, H, D}, f64), dv = random_view(B, T, H, D, f64);
      const Tensor dgain = empty({H, bins}, f64), dphase = empty({H, bins}, f64);
      auto loss = [&] {
        y.copy_(spectral_filter(v, gain, phase));
        return dot(y, dy);
      };
      gradients(filtered, {v, gain, phase}, dy, {dv, dgain, dphase});
      CHECK(dot(v, dv) == doctest::Approx(loss()).epsilon(1e-12));
      check_gradient(gain, dgain, loss);
      check_gradient(phase, dphase, loss);

      // Each output alone is the same.
      const Tensor dv2 = empty({B, T, H, D}, f64), dgain2 = empty({H, bins}, f64);
      const Tensor dphase2 = empty({H, bins}, f64);
      gradients(filtered, {v, gain, phase}, dy, {dv2, {}, {}});
      gradients(filtered, {v, gain, phase}, dy, {{}, dgain2, {}});
      gradients(filtered, {v, gain, phase}, dy, {{}, {}, dphase2});
      CHECK(values(dv2) == values(dv));
      CHECK(values(dgain2) == values(dgain));
      CHECK(values(dphase2) == values(dphase));
    }
  }
}

TEST_CASE("causal_taps in f32 is the f64 result, rounded") {
  const std::int64_t H = 3, F = 33;
  const Tensor gain = random({H, F}, f32, 0.5), phase = random({H, F}, f32, 0.3);
  const Tensor taps = causal_taps(gain, phase), exact = causal_taps(gain.to(f64), phase.to(f64));
  CHECK(difference(values(taps), values(exact)) < 1e-7);
}

TEST_CASE("causal_convolution is the sum over the past") {
  for (DType dtype : {f32, f64}) {
    for (std::int64_t T : kLengths) {
      for (std::int64_t K : {1, 2, 16, 64, 128}) {
        CAPTURE(T);
        CAPTURE(K);
        const std::int64_t B = 2, H = 3, D = 37;
        const Tensor v = random_view(B, T, H, D, dtype), y = random_view(B, T, H, D, dtype);
        const Tensor taps = random({H, K}, dtype);
        y.copy_(causal_convolution(v, taps));
        const Values tap = values(taps);
        const Values wanted = apply(v, [&](std::int64_t h, std::int64_t t, std::int64_t s) {
          return s <= t && t - s < K ? tap[h * K + t - s] : 0;
        });
        CHECK(difference(values(y), wanted) < bound(dtype));
      }
    }
  }
}

TEST_CASE("causal_convolution_backward") {
  for (std::int64_t T : {1, 2, 7, 16, 30}) {
    for (std::int64_t K : {1, 2, 16, 40}) {
      CAPTURE(T);
      CAPTURE(K);
      const std::int64_t B = 2, H = 3, D = 21;
      const Tensor v = random_view(B, T, H, D, f64), dy = random_view(B, T, H, D, f64);
      const Tensor taps = random({H, K}, f64), y = empty({B, T, H, D}, f64);
      const Tensor dv = random_view(B, T, H, D, f64), dtaps = random({H, K}, f64);
      auto loss = [&] {
        y.copy_(causal_convolution(v, taps));
        return dot(y, dy);
      };
      gradients(convolved, {v, taps}, dy, {dv, dtaps});
      CHECK(dot(v, dv) == doctest::Approx(loss()).epsilon(1e-12));
      check_gradient(taps, dtaps, loss);

      const Tensor dv2 = empty({B, T, H, D}, f64), dtaps2 = empty({H, K}, f64);
      gradients(convolved, {v, taps}, dy, {dv2, {}});
      gradients(convolved, {v, taps}, dy, {{}, dtaps2});
      CHECK(values(dv2) == values(dv));
      CHECK(values(dtaps2) == values(dtaps));
    }
  }
}

TEST_CASE("long sequences keep their precision") {
  // An impulse in each channel, so that the sum over the past is the taps themselves.
  const std::int64_t T = 4096, H = 2, D = 40;
  for (DType dtype : {f32, f64}) {
    const Tensor v = empty({1, T, H, D}, dtype), y = empty({1, T, H, D}, dtype);
    const Tensor taps = random({H, T}, dtype);
    visit_float("test", dtype, [&]<class F>(F) {
      std::fill_n(v.first<F>(), v.numel(), F(0));
      for (std::int64_t i = 0; i < H * D; ++i) v.first<F>()[i * H * D + i] = 1;  // at time h D + d
    });
    y.copy_(causal_convolution(v, taps));
    const Values tap = values(taps);
    Values wanted(T * H * D);
    for (std::int64_t i = 0; i < H * D; ++i) {
      for (std::int64_t t = i; t < T; ++t) wanted[t * H * D + i] = tap[i / D * T + t - i];
    }
    CHECK(difference(values(y), wanted) < bound(dtype));
  }
}

TEST_CASE("dct is the orthonormal cosine transform, its inverse the transpose") {
  for (DType dtype : {f32, f64}) {
    for (std::int64_t T : kLengths) {
      for (std::int64_t D : {1, 37}) {
        CAPTURE(T);
        const std::int64_t B = 2, H = 2;
        const Tensor x = random_view(B, T, H, D, dtype), y = random_view(B, T, H, D, dtype);
        Values cosine;  // of quarters of a turn / T, so that angles stay small
        for (std::int64_t i = 0; i < 4 * T; ++i) {
          cosine.push_back(std::cos(std::numbers::pi / 2 * double(i) / double(T)));
        }
        auto basis = [&](std::int64_t k, std::int64_t t) {
          const double norm = std::sqrt((k == 0 ? 1.0 : 2.0) / double(T));
          return norm * cosine[(2 * t + 1) * k % (4 * T)];
        };
        for (bool inverse : {false, true}) {
          y.copy_(inverse ? idct(x, 1) : dct(x, 1));
          const Values wanted = apply(x, [&](std::int64_t, std::int64_t to, std::int64_t from) {
            return inverse ? basis(from, to) : basis(to, from);
          });
          CHECK(difference(values(y), wanted) < bound(dtype));
        }
      }
    }
  }
}

TEST_CASE("the number of threads changes no bit") {
  const std::int64_t B = 5, H = 3, D = 70, K = 64;
  for (std::int64_t T : {13, 96}) {
    const std::int64_t bins = T / 2 + 1;
    const Tensor v = random({B, T, H, D}, f32), dy = random({B, T, H, D}, f32);
    const Tensor gain = random({H, bins}, f32), phase = random({H, bins}, f32);
    const Tensor taps = random({H, K}, f32);
    std::vector<Values> runs;
    for (int count : {1, 2, 3}) {
      set_num_threads(count);
      const Tensor y = empty({B, T, H, D}), dv = empty({B, T, H, D}), dgain = empty({H, bins});
      const Tensor dphase = empty({H, bins}), dtaps = empty({H, K});
      Values& all = runs.emplace_back();
      auto keep = [&](const Tensor& x) {
        for (double value : values(x)) all.push_back(value);
      };
      y.copy_(spectral_filter(v, gain, phase));
      gradients(filtered, {v, gain, phase}, dy, {dv, dgain, dphase});
      keep(y), keep(dv), keep(dgain), keep(dphase);
      y.copy_(causal_convolution(v, taps));
      gradients(convolved, {v, taps}, dy, {dv, dtaps});
      keep(y), keep(dv), keep(dtaps), keep(dct(v, 1));
    }
    set_num_threads(2);
    CHECK(runs[0] == runs[1]);
    CHECK(runs[0] == runs[2]);
  }
}
