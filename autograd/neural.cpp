#include <triad/autograd/neural.h>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {
namespace {

// The kernels below work on rows: x as contiguous [R,C], without history.
Tensor as_rows(const Tensor& x) {
  const std::int64_t C = x.shape().back();
  return x.detach().contiguous().reshape(
      {Shape(x.shape().begin(), x.shape().end() - 1).numel(), C});
}

// Applies an op on the last axis to another one.
template <class Op>
Tensor along(const char* name, const Tensor& x, std::int64_t axis, Op op) {
  check_float(name, x);
  const int i = normalize_axis(name, axis, x.dim());
  return i == x.dim() - 1 ? op(x) : op(x.transpose(i, -1)).transpose(i, -1);
}

// softmax and log_softmax over the last axis: `forward` and `backward` call the kernels.
template <class Forward, class Backward>
Tensor normalized(const char* name, const Tensor& x, Forward forward, Backward backward) {
  Tensor rows = as_rows(x), y = empty_like(rows);
  on(x.device(), [&](auto device) { forward(device, rows, y); });
  return record_fused(name, y.reshape(x.shape()), {x}, [x, y, backward](const Tensor& g) {
    Tensor dx = empty_like(y);
    on(g.device(), [&](auto device) { backward(device, as_rows(g), y, dx); });
    return Tensors{dx.reshape(x.shape())};
  });
}

}  // namespace

Tensor softmax(const Tensor& x, std::int64_t axis) {
  return along("softmax", x, axis, [](const Tensor& last) {
    return normalized(
        "softmax", last, [](auto... args) { kernels::softmax(args...); },
        [](auto... args) { kernels::softmax_backward(args...); });
  });
}

Tensor log_softmax(const Tensor& x, std::int64_t axis) {
  return along("log_softmax", x, axis, [](const Tensor& last) {
    return normalized(
        "log_softmax", last, [](auto... args) { kernels::log_softmax(args...); },
        [](auto... args) { kernels::log_softmax_backward(args...); });
  });
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  check_float("layer_norm", x);
  if (x.dim() < 1)
    throw_error<ShapeError>("layer_norm: needs at least one axis, got {}", x.shape());
  for (const Tensor& p : {weight, bias}) {
    if (!p.defined()) continue;
    check_same_type("layer_norm", x, p);
    if (p.shape() != Shape{x.size(-1)})
      throw_error<ShapeError>("layer_norm: needs weight and bias [{}] for x {}, got {}", x.size(-1),
                              x.shape(), p.shape());
  }
  auto packed = [](const Tensor& p) { return p.defined() ? p.detach().contiguous() : p; };
  Tensor rows = as_rows(x), y = empty_like(rows), w = packed(weight), b = packed(bias);
  Tensor mean = empty({rows.size(0)}, x.dtype(), x.device()), rstd = empty_like(mean);
  on(x.device(), [&](auto device) { kernels::layer_norm(device, rows, w, b, eps, y, mean, rstd); });
  auto rule = [x, weight, bias, rows, w, mean, rstd](const Tensor& g) {
    Tensor dx = x.requires_grad() ? empty_like(rows) : Tensor(), dweight = empty_gradient(weight),
           dbias = empty_gradient(bias);
    on(g.device(), [&](auto device) {
      kernels::layer_norm_backward(device, as_rows(g), rows, w, mean, rstd, dx, dweight, dbias);
    });
    return Tensors{dx.defined() ? dx.reshape(x.shape()) : dx, dweight, dbias};
  };
  return record_fused("layer_norm", y.reshape(x.shape()), {x, weight, bias}, rule);
}

// ---------------------------------------------------------------------- embedding

namespace {

// Throws unless every id lies in 0..count-1.
void check_range(const char* op, const Tensor& ids, std::int64_t count) {
  if (ids.numel() == 0) return;
  Tensor range = empty({2}, i64, ids.device());
  on(ids.device(), [&](auto device) { kernels::index_range(device, ids, range); });
  const std::int64_t low = range.select(0, 0).item<std::int64_t>(),
                     high = range.select(0, 1).item<std::int64_t>();
  if (low < 0 || high >= count)
    throw_error<IndexError>("{}: needs indices in 0..{}, got {}", op, count - 1,
                            low < 0 ? low : high);
}

void check_i64(const char* op, const Tensor& x) {
  check_defined(op, x);
  if (x.dtype() != i64)
    throw_error<DTypeError>("{}: needs i64 indices, got {}; write x.to(i64)", op, x.dtype());
}

}  // namespace

Tensor embedding(const Tensor& ids, const Tensor& weight) {
  check_i64("embedding", ids);
  check_float("embedding", weight);
  if (weight.dim() != 2)
    throw_error<ShapeError>("embedding: needs weight [V,C], got {}", weight.shape());
  const std::int64_t C = weight.size(1);
  check_range("embedding", ids, weight.size(0));
  Tensor flat = ids.reshape({-1}).contiguous(),
         y = empty({flat.size(0), C}, weight.dtype(), weight.device());
  on(ids.device(),
     [&](auto device) { kernels::embedding(device, weight.detach().contiguous(), flat, y); });
  Shape shape = ids.shape();
  shape.push_back(C);
  return record_fused("embedding", y.reshape(shape), {weight}, [flat, weight](const Tensor& g) {
    Tensor dweight = empty_like(weight);
    on(g.device(),
       [&](auto device) { kernels::embedding_backward(device, as_rows(g), flat, dweight); });
    return Tensors{dweight};
  });
}

// ---------------------------------------------------------------------- dropout

namespace {

Tensor dropout_with(const Tensor& x, double p, RandomStream random) {
  Tensor input = x.detach().contiguous(), y = empty_like(input);
  on(x.device(), [&](auto device) { kernels::dropout(device, random, p, input, y); });
  return record("dropout", y, {x},
                [p, random](const Tensor& g) { return Tensors{dropout_with(g, p, random)}; });
}

}  // namespace

Tensor dropout(const Tensor& x, double p, bool training) {
  check_float("dropout", x);
  if (!(p >= 0 && p < 1)) throw_error<ValueError>("dropout: needs 0 <= p < 1, got {}", p);
  return training && p > 0 ? dropout_with(x, p, next_stream()) : x;
}

// ---------------------------------------------------------------------- losses

Tensor cross_entropy(const Tensor& logits, const Tensor& target, std::int64_t ignore_index) {
  check_float("cross_entropy", logits);
  check_i64("cross_entropy", target);
  if (logits.dim() < 1 || target.shape() != Shape(logits.shape().begin(), logits.shape().end() - 1))
    throw_error<ShapeError>("cross_entropy: needs logits [...,C] and target [...], got {} and {}",
                            logits.shape(), target.shape());
  Tensor flat = target.reshape({-1}).contiguous(), counts = flat != double(ignore_index);
  check_range("cross_entropy", where(counts, flat, scalar_like(0, flat)), logits.size(-1));
  Tensor rows = as_rows(logits);
  Tensor losses = empty({rows.size(0)}, logits.dtype(), logits.device()),
         logsumexp = empty_like(losses);
  on(logits.device(), [&](auto device) {
    kernels::cross_entropy(device, rows, flat, ignore_index, losses, logsumexp);
  });
  Tensor total = sum(counts.to(logits.dtype()));
  auto rule = [logits, rows, flat, logsumexp, counts, total](const Tensor& g) {
    // Nothing counted: a NaN loss, but no gradient.
    Tensor scale = where(counts, g / total, scalar_like(0, g)), dlogits = empty_like(rows);
    on(g.device(), [&](auto device) {
      kernels::cross_entropy_backward(device, rows, flat, logsumexp, scale, dlogits);
    });
    return Tensors{dlogits.reshape(logits.shape())};
  };
  return record_fused("cross_entropy", sum(losses) / total, {logits}, rule);
}

Tensor mse_loss(const Tensor& input, const Tensor& target) {
  check_same_type("mse_loss", input, target);
  if (input.shape() != target.shape())
    throw_error<ShapeError>("mse_loss: the sizes differ, {} and {}", input.shape(), target.shape());
  return mean(square(input - target));
}

}  // namespace triad
