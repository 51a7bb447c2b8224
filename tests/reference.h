// What a kernel computes, as one would write it down: in fp64, one number after the other, with no
// thought of speed. A definition to read first, and what the tests compare the kernels with. Those
// of attention, products and filters stand in test_attention_kernels, test_matmul_kernel, test_fft.
//
// Arrays are flat and in row-major order; R rows of C columns.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <triad/core/random.h>

namespace reference {

using Values = std::vector<double>;
using Indices = std::vector<std::int64_t>;

// ---------------------------------------------------------------------- elementwise

// In long double, since erfc far out magnifies the rounding of its argument.
inline double gelu(double x) { return double(x * std::erfc(-x * std::sqrt(0.5L)) / 2); }

inline double gelu_grad(double x) {
  const long double density = std::exp(-0.5L * x * x) / std::sqrt(2 * std::acos(-1.0L));
  return double(std::erfc(-x * std::sqrt(0.5L)) / 2 + x * density);
}

// x/2 (1 + tanh(u)), written so that nothing cancels.
inline double gelu_tanh(double x) {
  const long double u = std::sqrt(2 / std::acos(-1.0L)) * (x + 0.044715L * x * x * x);
  return double(x / (1 + std::exp(-2 * u)));
}
inline double gelu_tanh_grad(double x) {
  const long double a = std::sqrt(2 / std::acos(-1.0L)), square = (long double)(x)*x;
  const long double u = a * x * (1 + 0.044715L * square), slope = a * (1 + 0.134145L * square);
  return double((1 + 2 * slope * x / (1 + std::exp(2 * u))) / (1 + std::exp(-2 * u)));
}

inline double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }

// ---------------------------------------------------------------------- random numbers

// Element i of a stream, in [0, 1).
inline float uniform_f32(triad::RandomStream random, std::uint64_t i) {
  return triad::uniform_float(triad::philox(random.seed, random.stream, i / 4).lane[i % 4]);
}
inline double uniform_f64(triad::RandomStream random, std::uint64_t i) {
  const triad::Philox4 word = triad::philox(random.seed, random.stream, i / 2);
  return triad::uniform_double(word.lane[i % 2 * 2], word.lane[i % 2 * 2 + 1]);
}

// Box and Muller: elements 2j and 2j + 1 from two uniforms.
inline double normal(double u1, double u2, std::uint64_t i) {
  const long double radius = std::sqrt(-2 * std::log((long double)u1));
  const long double angle = 2 * std::acos(-1.0L) * u2;
  return double(radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle)));
}
inline double normal_f32(triad::RandomStream random, std::uint64_t i) {
  const triad::Philox4 word = triad::philox(random.seed, random.stream, i / 4);
  const std::uint32_t* pair = word.lane + i % 4 / 2 * 2;
  return normal((pair[0] + 1.0) * 0x1p-32, pair[1] * 0x1p-32, i);
}
inline double normal_f64(triad::RandomStream random, std::uint64_t i) {
  const triad::Philox4 word = triad::philox(random.seed, random.stream, i / 2);
  return normal(1 - triad::uniform_double(word.lane[0], word.lane[1]),
                triad::uniform_double(word.lane[2], word.lane[3]), i);
}

inline std::int64_t random_integer(triad::RandomStream random, std::int64_t low, std::int64_t high,
                                   std::uint64_t i) {
  const triad::Philox4 word = triad::philox(random.seed, random.stream, i / 2);
  const std::uint64_t bits = std::uint64_t(word.lane[i % 2 * 2]) << 32 | word.lane[i % 2 * 2 + 1];
  const unsigned __int128 range = std::uint64_t(high) - std::uint64_t(low);
  return low + std::int64_t(range * bits >> 64);
}

// ---------------------------------------------------------------------- rows

inline Values log_softmax(const Values& x, std::size_t C) {
  Values y(x.size());
  for (std::size_t r = 0; r < x.size(); r += C) {
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::size_t j = 0; j < C; ++j) top = std::max(top, x[r + j]);
    for (std::size_t j = 0; j < C; ++j) sum += std::exp(x[r + j] - top);
    for (std::size_t j = 0; j < C; ++j) y[r + j] = x[r + j] - top - std::log(sum);
  }
  return y;
}

inline Values softmax(const Values& x, std::size_t C) {
  Values y = log_softmax(x, C);
  for (double& value : y) value = std::exp(value);
  return y;
}

// dx_j = y_j (dy_j - sum over k of dy_k y_k)
inline Values softmax_backward(const Values& dy, const Values& y, std::size_t C) {
  Values dx(y.size());
  for (std::size_t r = 0; r < y.size(); r += C) {
    double dot = 0;
    for (std::size_t j = 0; j < C; ++j) dot += dy[r + j] * y[r + j];
    for (std::size_t j = 0; j < C; ++j) dx[r + j] = y[r + j] * (dy[r + j] - dot);
  }
  return dx;
}

inline Values cross_entropy(const Values& logits, const Indices& target, std::int64_t ignore) {
  const std::size_t R = target.size(), C = logits.size() / R;
  const Values log_p = log_softmax(logits, C);
  Values losses(R);
  for (std::size_t r = 0; r < R; ++r)
    if (target[r] != ignore) losses[r] = -log_p[r * C + std::size_t(target[r])];
  return losses;
}

inline Values cross_entropy_backward(const Values& logits, const Indices& target,
                                     const Values& scale) {
  const std::size_t R = target.size(), C = logits.size() / R;
  Values d = softmax(logits, C);
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t j = 0; j < C; ++j)
      d[r * C + j] = scale[r] * (d[r * C + j] - (std::int64_t(j) == target[r]));
  return d;
}

// ---------------------------------------------------------------------- layer norm

struct Normalized {
  Values h;           // (x - mean) rstd
  Values mean, rstd;  // of each row
};

inline Normalized normalize(const Values& x, std::size_t C, double eps) {
  Normalized result;
  for (std::size_t r = 0; r < x.size(); r += C) {
    double mean = 0, variance = 0;
    for (std::size_t j = 0; j < C; ++j) mean += x[r + j] / double(C);
    for (std::size_t j = 0; j < C; ++j)
      variance += (x[r + j] - mean) * (x[r + j] - mean) / double(C);
    const double rstd = 1 / std::sqrt(variance + eps);
    for (std::size_t j = 0; j < C; ++j) result.h.push_back((x[r + j] - mean) * rstd);
    result.mean.push_back(mean);
    result.rstd.push_back(rstd);
  }
  return result;
}

// With g = dy weight: dx = rstd (g - mean(g) - h mean(g h)).
inline Values layer_norm_backward(const Values& dy, const Normalized& x, const Values& weight) {
  const std::size_t C = weight.size();
  Values dx(dy.size());
  for (std::size_t r = 0; r < dy.size(); r += C) {
    double mean_g = 0, mean_gh = 0;
    for (std::size_t j = 0; j < C; ++j) {
      mean_g += dy[r + j] * weight[j] / double(C);
      mean_gh += dy[r + j] * weight[j] * x.h[r + j] / double(C);
    }
    for (std::size_t j = 0; j < C; ++j)
      dx[r + j] = x.rstd[r / C] * (dy[r + j] * weight[j] - mean_g - x.h[r + j] * mean_gh);
  }
  return dx;
}

// ---------------------------------------------------------------------- optimizers

// One element of a parameter with its state, after torch.optim.Adam, AdamW and SGD.
struct AdamElement {
  double p, m, v;

  void step(double g, double lr, double beta1, double beta2, double eps, double weight_decay,
            double l2, int t) {
    g += l2 * p;
    p -= lr * weight_decay * p;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    p -= lr * (m / (1 - std::pow(beta1, t))) / (std::sqrt(v / (1 - std::pow(beta2, t))) + eps);
  }
};

}  // namespace reference
