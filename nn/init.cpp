#include <triad/nn/init.h>

#include <cmath>

#include <triad/autograd/ops.h>
#include <triad/core/format.h>

namespace triad::nn::init {

static Tensor write(const Tensor& to, const Tensor& values) {
  NoGradGuard guard;
  to.copy_(values);
  return to;
}
static Tensor normal(const Tensor& to, double std) { return write(to, randn_like(to) * std); }
static Tensor uniform(const Tensor& to, double std) {
  return write(to, (rand_like(to) * 2.0 - 1.0) * (std * std::sqrt(3.0)));
}

// `op` is the function that calls.
static double fan(const Tensor& w, Mode mode, const char* op = __builtin_FUNCTION()) {
  if (w.dim() < 2) throw_error<ValueError>("{}: needs weight [out,in,...], got {}", op, w.shape());
  const double skipped = double(w.size(mode == Mode::fan_in ? 0 : 1));
  return skipped == 0 ? 0 : double(w.numel()) / skipped;
}
static double xavier(const Tensor& w, double gain, const char* op = __builtin_FUNCTION()) {
  return gain * std::sqrt(2 / (fan(w, Mode::fan_in, op) + fan(w, Mode::fan_out, op)));
}
using Options = KaimingOptions;
static double kaiming(const Tensor& w, const Options& o, const char* op = __builtin_FUNCTION()) {
  return calculate_gain(o.nonlinearity, o.a) / std::sqrt(fan(w, o.mode, op));
}

double calculate_gain(Nonlinearity nonlinearity, double slope) {
  const double gains[] = {1, 1, 5.0 / 3, std::sqrt(2.0), std::sqrt(2 / (1 + slope * slope)), 0.75};
  return gains[int(nonlinearity)];
}
Tensor xavier_uniform_(const Tensor& w, double gain) { return uniform(w, xavier(w, gain)); }
Tensor xavier_normal_(const Tensor& w, double gain) { return normal(w, xavier(w, gain)); }
Tensor kaiming_uniform_(const Tensor& w, const Options& o) { return uniform(w, kaiming(w, o)); }
Tensor kaiming_normal_(const Tensor& w, const Options& o) { return normal(w, kaiming(w, o)); }

Tensor trunc_normal_(const Tensor& x, double mean, double std, double a, double b) {
  if (!(std > 0 && a < b))
    throw_error<ValueError>("trunc_normal_: needs std > 0 and a < b, got {}, {}, {}", std, a, b);
  const double scale = std * std::sqrt(2.0), edge = 1 - 0x1p-53;  // erfinv(1) is infinite
  const double low = std::erf((a - mean) / scale), high = std::erf((b - mean) / scale);
  Tensor u = rand(x.shape(), {.dtype = f64, .device = x.device()}) * (high - low) + low;
  u = clamp(u, -edge, edge);
  // erfinv(u) by Winitzki's formula, right to 2e-3, and two of Halley's steps: to the last bits.
  const Tensor l = log((1.0 - u) * (1.0 + u)), t = l / 2.0 + 2 / (M_PI * 0.147);
  Tensor y = sign(u) * sqrt(sqrt(square(t) - l / 0.147) - t);
  for (int i = 0; i < 2; ++i) {
    const Tensor step = (erf(y) - u) * exp(square(y)) * (std::sqrt(M_PI) / 2);
    y = y - step / (y * step + 1.0);
  }
  return write(x, clamp(y * scale + mean, a, b));
}

// Gram-Schmidt, twice: where little is left of a row, the first pass loses digits. The rows of a
// block go together against what lies before it.
Tensor orthogonal_(const Tensor& weight, double gain) {
  const std::int64_t width = std::int64_t(fan(weight, Mode::fan_in)), height = weight.size(0);
  const bool tall = height > width;
  const Tensor q = randn(tall ? Shape{width, height} : Shape{height, width}, {.dtype = f64});
  auto subtract = [](const Tensor& rows, const Tensor& before) {
    for (int pass = 0; pass < 2; ++pass)
      rows.copy_(rows - matmul(matmul(rows, before.transpose(0, 1)), before));
  };
  for (std::int64_t i = 0, block = 0; i < q.size(0); ++i) {
    if (i % 32 == 0) subtract(q.slice(0, block = i, i + 32), q.slice(0, 0, i));
    const Tensor row = q.slice(0, i, i + 1);
    subtract(row, q.slice(0, block, i));
    row.copy_(row / norm(row));
  }
  return write(weight,
               ((tall ? q.transpose(0, 1) : q) * gain).reshape(weight.shape()).to(weight.device()));
}

}  // namespace triad::nn::init
