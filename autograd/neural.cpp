#include <triad/autograd/op_helpers.h>

namespace triad {

// The kernels below work on rows: x as contiguous [R,C], without history.
static Tensor as_rows(const Tensor& x) {
  const Shape outer(x.shape().begin(), x.shape().end() - 1);
  return packed(x).reshape({outer.numel(), x.shape().back()});
}

static Tensor dropout_with(const Tensor& x, double p, RandomStream random) {
  Tensor input = packed(x), y = empty_like(input, "dropout");
  on(x.device(), "dropout", [&](auto device) { kernels::dropout(device, random, p, input, y); });
  return record_unary("dropout", y, x, [=](auto& g) { return dropout_with(g, p, random); });
}

static Tensor reduced(const Tensor& losses, Reduction reduction) {
  if (reduction == Reduction::none) return losses;
  return reduction == Reduction::mean ? mean(losses) : sum(losses);
}

static void check_same_sizes(const char* op, const Tensor& input, const Tensor& target) {
  check_same_type(op, input, target);
  if (input.shape() != target.shape())
    throw_error<ShapeError>("{}: the sizes differ, {} and {}", op, input.shape(), target.shape());
}

Tensor softmax(const Tensor& x, std::int64_t axis) {
  check_float("softmax", x);
  if (is_widened(x)) return rounded(softmax(x.to(f32), axis), x);
  if (const int i = normalize_axis("softmax", axis, x.dim()); i != x.dim() - 1)
    return softmax(x.transpose(i, -1), -1).transpose(i, -1);
  Tensor rows = as_rows(x), y = empty_like(rows);
  on(x.device(), [&](auto device) { kernels::softmax(device, rows, y); });
  auto rule = [x, y](const Tensor& g) {
    Tensor dx = empty_like(y);
    on(g.device(), [&](auto device) { kernels::softmax_backward(device, as_rows(g), y, dx); });
    return Tensors{dx.reshape(x.shape())};
  };
  return record_fused("softmax", y.reshape(x.shape()), {x}, rule, "exp and log_softmax");
}

Tensor log_softmax(const Tensor& x, std::int64_t axis) {
  check_float("log_softmax", x);
  if (is_narrow(x.dtype())) return rounded(log_softmax(x.to(f32), axis), x);
  if (const int i = normalize_axis("log_softmax", axis, x.dim()); i != x.dim() - 1)
    return log_softmax(x.transpose(i, -1), -1).transpose(i, -1);
  Tensor rows = as_rows(x), y = empty_like(rows);
  on(x.device(), [&](auto device) { kernels::log_softmax(device, rows, y); });
  y = y.reshape(x.shape());
  return record_unary("log_softmax", y, x, [x, y](auto& g) {
    return g - exp(grad_enabled() ? log_softmax(x, -1) : y) * sum(g, {-1}, true);
  });
}

// layer_norm, or where rows are not `centered`, rms_norm.
static Tensor normalized(const char* op, bool centered, const Tensor& x, const Tensor& weight,
                         const Tensor& bias, double eps, bool narrow = false) {
  const auto in_f32 = [&] {
    return normalized(op, centered, x.to(f32), in_wide(weight), in_wide(bias), eps, narrow);
  };
  check_float(op, x);
  if (mixes(x, weight)) return in_f32();
  if (x.dim() < 1) throw_error<ShapeError>("{}: needs at least one axis, got {}", op, x.shape());
  for (const Tensor& p : {weight, bias}) {
    if (!p.defined()) continue;
    check_same_type(op, x, p);
    if (p.shape() != Shape{x.size(-1)})
      throw_error<ShapeError>("{}: needs weight{} [{}] for x {}, got {}", op,
                              centered ? " and bias" : "", x.size(-1), x.shape(), p.shape());
  }
  if (is_widened(x)) return rounded(in_f32(), x);
  narrow = narrow && x.dtype() == f32 && autocast_enabled();
  if (narrow && x.device() == Device::cpu())
    return narrowed(normalized(op, centered, x, weight, bias, eps));
  const Tensor gain = in_wide(weight), offset = in_wide(bias);
  Tensor rows = as_rows(x), w = packed(gain), b = packed(offset);
  Tensor y = empty(rows.shape(), narrow ? autocast_dtype() : x.dtype(), x.device(), op);
  Tensor rstd = empty({rows.size(0)}, wide_type(x.dtype()), x.device(), op);
  Tensor mean = centered ? empty_like(rstd, op) : Tensor();
  on(x.device(), op,
     [&](auto device) { kernels::layer_norm(device, rows, w, b, eps, y, mean, rstd); });
  auto rule = [x, gain, offset, rows, w, mean, rstd](const Tensor& g) {
    Tensor dx = x.requires_grad() ? empty_like(rows) : Tensor(), so_far;
    Tensor dw = empty_gradient(gain), db = empty_gradient(offset);
    if (dx.defined() && x.device() != Device::cpu()) so_far = packed(take_gradient(x));
    on(g.device(), [&](auto device) {
      kernels::layer_norm_backward(device, as_rows(g), rows, w, mean, rstd, dx, dw, db, so_far);
    });
    return Tensors{dx.defined() ? dx.reshape(x.shape()) : dx, dw, db};
  };
  return record_fused(op, y.reshape(x.shape()), {x, gain, offset}, rule, "mean and rsqrt");
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                  bool narrow) {
  return normalized("layer_norm", true, x, weight, bias, eps, narrow);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return normalized("rms_norm", false, x, weight, {}, eps);
}

Tensor dropout(const Tensor& x, double p, bool training) {
  check_float("dropout", x);
  if (!(p >= 0 && p < 1)) throw_error<ValueError>("dropout: needs 0 <= p < 1, got {}", p);
  if (!training || p == 0) return x;
  return dropout_with(in_wide(x), p, next_stream()).to(x.dtype());
}

Tensor causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_same_type("causal_conv1d", x, weight);
  if (bias.defined()) check_same_type("causal_conv1d", x, bias);
  if (x.dim() != 3 || weight.dim() != 2 || weight.size(0) != x.size(2) || weight.size(1) == 0 ||
      (bias.defined() && bias.shape() != Shape{x.size(2)}))
    throw_error<ShapeError>(
        "causal_conv1d: needs x [B,T,C], weight [C,K], bias [C], got {}, {}, {}", x.shape(),
        weight.shape(), bias.shape());
  if (is_narrow(x.dtype()))
    return causal_conv1d(x.to(f32), weight.to(f32), in_wide(bias)).to(x.dtype());
  const std::int64_t T = x.size(1), K = weight.size(1);
  Tensor wide = pad(x, {0, 0, K - 1, 0}), y;
  for (std::int64_t k = 0; k < K; ++k) {
    Tensor term = wide.slice(1, k, k + T) * weight.select(1, k);
    y = y.defined() ? y + term : term;
  }
  return bias.defined() ? y + bias : y;
}

// ---------------------------------------------------------------------- losses

Tensor cross_entropy(const Tensor& logits, const Tensor& target, std::int64_t ignore_index,
                     double label_smoothing) {
  check_float("cross_entropy", logits);
  check_defined("cross_entropy", target);
  if (is_narrow(logits.dtype()) && (label_smoothing != 0 || logits.device() == Device::cpu()))
    return rounded(cross_entropy(logits.to(f32), target, ignore_index, label_smoothing), logits);
  if (logits.dim() < 1 || target.shape() != Shape(logits.shape().begin(), logits.shape().end() - 1))
    throw_error<ShapeError>("cross_entropy: needs logits [...,C] and target [...], got {} and {}",
                            logits.shape(), target.shape());
  if (!(label_smoothing >= 0 && label_smoothing <= 1))
    throw_error<ValueError>("cross_entropy: needs 0 <= label_smoothing <= 1, got {}",
                            label_smoothing);
  Tensor ids = target.reshape({-1}).contiguous(), ignored = ids == double(ignore_index);
  checked_indices("cross_entropy", logits, masked_fill(ids, ignored, 0), logits.size(-1));
  ids = ids.to(i64);
  Tensor counts = logical_not(ignored), total = sum(counts.to(wide_type(logits.dtype())));
  Tensor rows = as_rows(logits), losses = empty({rows.size(0)}, total.dtype(), rows.device()),
         logsumexp = empty_like(losses);
  on(logits.device(), [&](auto device) {
    kernels::cross_entropy(device, rows, ids, ignore_index, losses, logsumexp);
  });
  auto rule = [logits, rows, ids, logsumexp, counts, total](const Tensor& g) {
    // Nothing counted: a NaN loss, but no gradient.
    Tensor scale = where(counts, g / total, scalar_like(0, g)), dlogits = empty_like(rows);
    on(g.device(), [&](auto device) {
      kernels::cross_entropy_backward(device, rows, ids, logsumexp, scale, dlogits);
    });
    return Tensors{dlogits.reshape(logits.shape())};
  };
  Tensor loss = record_fused("cross_entropy", sum(losses) / total, {logits, ids}, rule,
                             "log_softmax and gather");
  if (label_smoothing == 0) return rounded(loss, logits);
  Tensor even = -mean(log_softmax(logits, -1).reshape({-1, logits.size(-1)}), {1});
  Tensor spread = sum(where(counts, even, scalar_like(0, even))) / total;
  return loss * (1 - label_smoothing) + spread * label_smoothing;
}

Tensor mse_loss(const Tensor& input, const Tensor& target, Reduction reduction) {
  check_same_sizes("mse_loss", input, target);
  return reduced(square(input - target), reduction);
}

Tensor huber_loss(const Tensor& input, const Tensor& target, double delta, Reduction reduction) {
  check_same_sizes("huber_loss", input, target);
  if (!(delta > 0)) throw_error<ValueError>("huber_loss: needs delta > 0, got {}", delta);
  Tensor distance = abs(input - target), near = clamp(distance, {}, delta);
  return reduced(near * (distance - near * 0.5), reduction);
}

Tensor kl_div(const Tensor& input, const Tensor& target, Reduction reduction) {
  check_same_sizes("kl_div", input, target);
  Tensor none = target == 0.0, one = scalar_like(1, target);
  return reduced(target * (log(where(none, one, target)) - input), reduction);
}

}  // namespace triad
