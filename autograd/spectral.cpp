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

}  // namespace

Tensor at_bins(const Tensor& values, std::int64_t bins) {
  check_float("at_bins", values);
  if (values.dim() != 2 || values.size(1) == 0 || bins < 1)
    throw_error<ShapeError>("at_bins: needs values [H,F] and at least one bin, got {} and {}",
                            values.shape(), bins);
  if (bins == values.size(1)) return values;
  Tensor input = values.detach().contiguous();
  Tensor out = empty({values.size(0), bins}, values.dtype(), values.device());
  on(values.device(), [&](auto device) { kernels::interpolate_linear(device, input, out); });
  return record_fused("at_bins", out, {values}, [values](const Tensor& g) {
    Tensor dvalues = empty_like(values);
    on(g.device(),
       [&](auto device) { kernels::interpolate_linear_backward(device, g.contiguous(), dvalues); });
    return Tensors{dvalues};
  });
}

Tensor spectral_filter(const Tensor& v, const Tensor& log_gain, const Tensor& phase) {
  check_sequence("spectral_filter", v);
  check_filter("spectral_filter", log_gain, phase);
  check_same_type("spectral_filter", v, log_gain);
  if (log_gain.shape() != Shape{v.size(2), v.size(1) / 2 + 1})
    throw_error<ShapeError>(
        "spectral_filter: needs log_gain and phase [H,T/2+1] for v [B,T,H,D] = {}, got {}",
        v.shape(), log_gain.shape());
  Tensor y = empty_like(v), input = with_packed_rows(v);
  Tensor gain = log_gain.detach().contiguous(), turn = phase.detach().contiguous();
  on(v.device(), [&](auto device) { kernels::spectral_filter(device, input, gain, turn, y); });
  auto rule = [v, log_gain, phase, gain, turn](const Tensor& g) {
    Tensors grads{empty_gradient(v), empty_gradient(log_gain), empty_gradient(phase)};
    on(g.device(), [&](auto device) {
      kernels::spectral_filter_backward(device, with_packed_rows(g), with_packed_rows(v), gain,
                                        turn, grads[0], grads[1], grads[2]);
    });
    return grads;
  };
  return record_fused("spectral_filter", y, {v, log_gain, phase}, rule);
}

namespace {

// log_gain and phase [H,K+1] at the bins of the grid of 2K points.
Tensor minimum_phase_taps(const Tensor& log_gain, const Tensor& phase) {
  Tensor gain = log_gain.detach().contiguous(), turn = phase.detach().contiguous();
  Tensor taps = empty({gain.size(0), gain.size(1) - 1}, gain.dtype(), gain.device());
  on(gain.device(), [&](auto device) { kernels::causal_taps(device, gain, turn, taps); });
  return record_fused(
      "causal_taps", taps, {log_gain, phase}, [log_gain, phase, gain, turn](const Tensor& g) {
        Tensors grads{empty_gradient(log_gain), empty_gradient(phase)};
        on(g.device(), [&](auto device) {
          kernels::causal_taps_backward(device, g.contiguous(), gain, turn, grads[0], grads[1]);
        });
        return grads;
      });
}

}  // namespace

Tensor causal_taps(const Tensor& log_gain, const Tensor& phase) {
  check_filter("causal_taps", log_gain, phase);
  const std::int64_t taps = 2 * (log_gain.size(1) - 1);
  if (taps == 0) return exp(log_gain) * cos(phase);
  return minimum_phase_taps(at_bins(log_gain, taps + 1), at_bins(phase, taps + 1));
}

Tensor causal_convolution(const Tensor& v, const Tensor& taps) {
  check_sequence("causal_convolution", v);
  check_same_type("causal_convolution", v, taps);
  if (taps.dim() != 2 || taps.size(0) != v.size(2) || taps.size(1) == 0)
    throw_error<ShapeError>("causal_convolution: needs taps [H,K] for v [B,T,H,D] = {}, got {}",
                            v.shape(), taps.shape());
  Tensor y = empty_like(v), input = with_packed_rows(v), h = taps.detach().contiguous();
  on(v.device(), [&](auto device) { kernels::causal_convolution(device, input, h, y); });
  return record_fused("causal_convolution", y, {v, taps}, [v, taps, h](const Tensor& g) {
    Tensors grads{empty_gradient(v), empty_gradient(taps)};
    on(g.device(), [&](auto device) {
      kernels::causal_convolution_backward(device, with_packed_rows(g), with_packed_rows(v), h,
                                           grads[0], grads[1]);
    });
    return grads;
  });
}

// ---------------------------------------------------------------------- DCT

namespace {

// The matrix is orthonormal: the inverse is the transpose, and so the gradient.
Tensor dct_op(const char* name, const Tensor& x, bool inverse) {
  check_sequence(name, x);
  Tensor y = empty_like(x), input = with_packed_rows(x);
  on(x.device(), [&](auto device) { kernels::dct(device, input, inverse, y); });
  return record(name, y, {x},
                [inverse](const Tensor& g) { return Tensors{inverse ? dct(g) : idct(g)}; });
}

}  // namespace

Tensor dct(const Tensor& x) { return dct_op("dct", x, false); }
Tensor idct(const Tensor& x) { return dct_op("idct", x, true); }

}  // namespace triad
