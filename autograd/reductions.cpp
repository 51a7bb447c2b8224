#include <triad/autograd/reductions.h>

#include <cmath>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {
namespace {

// What a reduction over `axes` does to x's sizes.
struct Reduced {
  Shape kept, dropped;     // with 1 at each of the axes; without them
  std::int64_t count = 1;  // of elements that fall together

  Reduced(const char* op, const Tensor& x, const Axes& axes) {
    const bool all = axes == all_axes();
    bool gone[kMaxRank] = {};
    for (int j = 0; !all && j < int(axes.size()); ++j) {
      const int i = normalize_axis(op, axes[j], x.dim());
      if (gone[i]) throw_error<ValueError>("{}: axis {} is named twice", op, i);
      gone[i] = true;
    }
    for (int i = 0; i < x.dim(); ++i) {
      const std::int64_t size = x.shape()[i];
      kept.push_back(all || gone[i] ? 1 : size);
      if (all || gone[i]) count *= size;
      else dropped.push_back(size);
    }
  }
};

// Turns the order around; -x would overflow at the smallest of all integers.
Tensor reversed(const Tensor& x) { return x.dtype() == i64 || x.dtype() == i32 ? -1.0 - x : -x; }

}  // namespace

const Axes& all_axes() {
  static const Axes axes{INT64_MIN};
  return axes;
}

Tensor sum(const Tensor& x, const Axes& axes, bool keepdim) {
  check_defined("sum", x);
  const Reduced to("sum", x, axes);
  if (x.dtype() == bf16) return sum(x.to(f32), axes, keepdim).to(bf16);
  if (x.dtype() == i32 || x.dtype() == boolean) return sum(x.to(i64), axes, keepdim);
  if (is_complex(x.dtype()))
    return complex(sum(real(x), axes, keepdim), sum(imag(x), axes, keepdim));
  Tensor y = empty(to.kept, x.dtype(), x.device());
  on(x.device(), [&](auto device) { kernels::sum(device, x, y); });
  if (!keepdim) y = y.with_layout(contiguous_layout(to.dropped));
  return record_unary("sum", y, x, [kept = to.kept, from = x.shape()](auto& g) {
    return g.reshape(kept).expand(from);
  });
}

Tensor mean(const Tensor& x, const Axes& axes, bool keepdim) {
  check_inexact("mean", x);
  const double count = double(Reduced("mean", x, axes).count);
  return sum(x, axes, keepdim) / count;
}

Tensor var(const Tensor& x, const Axes& axes, bool keepdim, double correction) {
  check_float("var", x);
  const double divisor = double(Reduced("var", x, axes).count) - correction;
  return sum(square(x - mean(x, axes, true)), axes, keepdim) / (divisor > 0 ? divisor : 0.0);
}

Tensor stddev(const Tensor& x, const Axes& axes, bool keepdim, double correction) {
  return sqrt(var(x, axes, keepdim, correction));
}

std::pair<Tensor, Tensor> max(const Tensor& x, std::int64_t axis, bool keepdim) {
  check_number("max", x);
  if (is_complex(x.dtype())) throw_error<DTypeError>("max: complex numbers have no order");
  if (const DType wide = wide_type(x.dtype()); wide != x.dtype()) {
    auto [value, index] = max(x.to(wide), axis, keepdim);
    return {value.to(x.dtype()), index};
  }
  const int along = normalize_axis("max", axis, x.dim());
  if (x.shape()[along] == 0)
    throw_error<ShapeError>("max: axis {} of {} is empty", along, x.shape());
  Tensor last = x.detach().transpose(along, -1);
  const Shape rows(last.shape().begin(), last.shape().end() - 1);
  Tensor y = empty(rows, x.dtype(), x.device()), index = empty(rows, i64, x.device());
  on(x.device(), [&](auto device) { kernels::max_last(device, last, y, index); });
  y = y.unsqueeze(-1).transpose(along, -1), index = index.unsqueeze(-1).transpose(along, -1);
  y = record_unary("max", y, x, [index, along, from = x.shape()](auto& g) {
    return scatter_add(scalar_like(0, g).expand(from), along, index, g);
  });
  if (keepdim) return {y, index};
  return {y.squeeze(along), index.squeeze(along)};
}

Tensor argmax(const Tensor& x, std::int64_t axis, bool keepdim) {
  return max(x.detach(), axis, keepdim).second;
}

Tensor max(const Tensor& x) {
  check_number("max", x);
  return max(x.reshape({-1}), 0).first;
}

std::pair<Tensor, Tensor> min(const Tensor& x, std::int64_t axis, bool keepdim) {
  check_number("min", x);
  auto [value, index] = max(reversed(x), axis, keepdim);
  return {reversed(value), index};
}

Tensor argmin(const Tensor& x, std::int64_t axis, bool keepdim) {
  return min(x.detach(), axis, keepdim).second;
}

Tensor min(const Tensor& x) {
  check_number("min", x);
  return reversed(max(reversed(x)));
}

Tensor any(const Tensor& x, const Axes& axes, bool keepdim) {
  return sum(x.detach().to(boolean), axes, keepdim) > 0.0;
}

Tensor all(const Tensor& x, const Axes& axes, bool keepdim) {
  return sum(logical_not(x.detach().to(boolean)), axes, keepdim) == 0.0;
}

Tensor logsumexp(const Tensor& x, const Axes& axes, bool keepdim) {
  check_float("logsumexp", x);
  if (x.numel() == 0) return log(sum(x, axes, keepdim));
  const Reduced to("logsumexp", x, axes);
  Tensor top = x.detach();
  for (int i = 0; i < x.dim(); ++i)
    if (to.kept[i] != x.shape()[i]) top = max(top, i, true).first;
  top = where(isfinite(top), top, scalar_like(0, top));
  return log(sum(exp(x - top), axes, keepdim)) + (keepdim ? top : top.reshape(to.dropped));
}

Tensor cumsum(const Tensor& x, std::int64_t axis) {
  check_number("cumsum", x);
  if (x.dtype() == bf16) return cumsum(x.to(f32), axis).to(bf16);
  if (x.dtype() == i32) return cumsum(x.to(i64), axis);
  if (is_complex(x.dtype())) return complex(cumsum(real(x), axis), cumsum(imag(x), axis));
  const int along = normalize_axis("cumsum", axis, x.dim());
  Tensor last = x.detach().transpose(along, -1), y = empty_like(last);
  on(x.device(), [&](auto device) { kernels::cumsum_last(device, last, y); });
  return record_unary("cumsum", y.transpose(along, -1), x,
                      [along](auto& g) { return flip(cumsum(flip(g, along), along), along); });
}

Tensor norm(const Tensor& x, const Axes& axes, bool keepdim) {
  check_inexact("norm", x);
  Tensor squares = sum(square(abs(x)), axes, keepdim), zero = squares == 0.0;
  return where(zero, scalar_like(0, squares), sqrt(where(zero, scalar_like(1, squares), squares)));
}

Tensor norm(const Tensor& x) {
  check_inexact("norm", x);
  if (is_complex(x.dtype())) return norm(view_as_real(x));
  if (x.dtype() == bf16) return norm(x.to(f32)).to(bf16);
  Tensor squares = empty({}, f64, x.device());
  on(x.device(), [&](auto device) { kernels::sum_of_squares(device, x, squares); });
  Tensor y = sqrt(squares).to(x.dtype());
  return record_unary("norm", y, x, [x, y](auto& g) {
    const Tensor zero = y == 0.0, one = scalar_like(1, y);  // in the place of a norm of zero
    return g * x / (grad_enabled() ? sqrt(where(zero, one, sum(square(x)))) : where(zero, one, y));
  });
}

bool all_finite(const Tensor& x) {
  check_inexact("all_finite", x);
  if (is_complex(x.dtype())) return all_finite(view_as_real(x.detach()));
  return no_grad([&] { return std::isfinite(sum(x * 0.0).item<double>()); });
}

}  // namespace triad
