#include <triad/autograd/reductions.h>

#include <cmath>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {
namespace {

Axes all_axes(const Tensor& x) {
  Axes axes;
  for (int i = 0; i < x.dim(); ++i) axes.push_back(i);
  return axes;
}

// x's sizes with 1 at each of `axes`, and the count of elements that fall together.
Shape reduced(const char* op, const Tensor& x, const Axes& axes, std::int64_t* count = nullptr) {
  Shape shape = x.shape();
  bool seen[kMaxRank] = {};
  std::int64_t n = 1;
  for (std::int64_t axis : axes) {
    const int i = normalize_axis(op, axis, x.dim());
    if (seen[i]) throw_error<ValueError>("{}: axis {} is named twice", op, i);
    seen[i] = true;
    n *= shape[i];
    shape[i] = 1;
  }
  if (count) *count = n;
  return shape;
}

Shape without_axes(const Shape& shape, const Axes& axes) {
  Shape rest;
  for (int i = 0; i < shape.rank(); ++i) {
    bool gone = false;
    for (std::int64_t axis : axes) gone |= (axis < 0 ? axis + shape.rank() : axis) == i;
    if (!gone) rest.push_back(shape[i]);
  }
  return rest;
}

}  // namespace

Tensor sum(const Tensor& x) { return sum(x, all_axes(x)); }

Tensor sum(const Tensor& x, const Axes& axes, bool keepdim) {
  check_number("sum", x);
  const Shape kept = reduced("sum", x, axes);
  Tensor y = empty(kept, x.dtype(), x.device());
  on(x.device(), [&](auto device) { kernels::sum(device, x, y); });
  if (!keepdim) y = y.with_layout(contiguous_layout(without_axes(kept, axes)));
  return record("sum", y, {x}, [kept, from = x.shape()](const Tensor& g) {
    return Tensors{g.reshape(kept).expand(from)};
  });
}

Tensor mean(const Tensor& x) { return mean(x, all_axes(x)); }

Tensor mean(const Tensor& x, const Axes& axes, bool keepdim) {
  check_float("mean", x);
  std::int64_t count;
  reduced("mean", x, axes, &count);
  return sum(x, axes, keepdim) / double(count);
}

Tensor var(const Tensor& x, const Axes& axes, bool keepdim, double correction) {
  check_float("var", x);
  std::int64_t count;
  reduced("var", x, axes, &count);
  const double divisor = double(count) - correction;
  return sum(square(x - mean(x, axes, true)), axes, keepdim) / (divisor > 0 ? divisor : 0.0);
}

Tensor var(const Tensor& x) { return var(x, all_axes(x)); }

std::pair<Tensor, Tensor> max(const Tensor& x, std::int64_t axis, bool keepdim) {
  check_number("max", x);
  const int along = normalize_axis("max", axis, x.dim());
  if (x.shape()[along] == 0)
    throw_error<ShapeError>("max: axis {} of {} is empty", along, x.shape());
  Tensor last = x.detach().transpose(along, -1);
  const Shape rows(last.shape().begin(), last.shape().end() - 1);
  Tensor y = empty(rows, x.dtype(), x.device()), index = empty(rows, i64, x.device());
  on(x.device(), [&](auto device) { kernels::max_last(device, last, y, index); });
  auto shaped = [&](const Tensor& t) {
    Tensor kept = t.unsqueeze(-1).transpose(along, -1);
    return keepdim ? kept : kept.squeeze(along);
  };
  y = shaped(y), index = shaped(index);
  Tensor result = record("max", y, {x}, [index, along, keepdim, from = x.shape()](const Tensor& g) {
    auto kept = [&](const Tensor& t) { return keepdim ? t : t.unsqueeze(along); };
    Shape column = Shape::filled(from.rank(), 1);
    column[along] = from[along];
    Tensor chosen =
        arange(double(from[along]), {.dtype = i64, .device = g.device()}).reshape(column) ==
        kept(index);
    return Tensors{where(chosen, kept(g), scalar_like(0, g))};
  });
  return {result, index};
}

Tensor argmax(const Tensor& x, std::int64_t axis, bool keepdim) {
  return max(x.detach(), axis, keepdim).second;
}

Tensor max(const Tensor& x) {
  check_number("max", x);
  return max(x.reshape({-1}), 0).first;
}

Tensor min(const Tensor& x) {
  check_number("min", x);
  if (x.dtype() == i64) return -1.0 - max(-1.0 - x);  // -x would overflow at the smallest of all
  return -max(-x);
}

Tensor norm(const Tensor& x) {
  check_float("norm", x);
  Tensor squares = empty({}, f64, x.device());
  on(x.device(), [&](auto device) { kernels::sum_of_squares(device, x, squares); });
  Tensor y = sqrt(squares).to(x.dtype());
  return record("norm", y, {x}, [x, y](const Tensor& g) {
    const Tensor zero = y == 0.0, one = scalar_like(1, y);  // in the place of a norm of zero
    return Tensors{g * x /
                   (grad_enabled() ? sqrt(where(zero, one, sum(square(x)))) : where(zero, one, y))};
  });
}

bool all_finite(const Tensor& x) {
  check_float("all_finite", x);
  return no_grad([&] { return std::isfinite(sum(x * 0.0).item<double>()); });
}

}  // namespace triad
