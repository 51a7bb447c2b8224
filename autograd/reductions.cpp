#include <triad/autograd/reductions.h>

#include <cmath>

#include <triad/autograd/autograd.h>
#include <triad/autograd/checks.h>
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
    Tensor chosen = arange(double(from[along]), {.dtype = i64}).reshape(column) == kept(index);
    return Tensors{where(chosen, kept(g), scalar(0, {.dtype = g.dtype(), .device = g.device()}))};
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
  return -max(-x);
}

Tensor norm(const Tensor& x) {
  check_float("norm", x);
  Tensor squares = empty({}, f64, x.device());
  on(x.device(), [&](auto device) { kernels::sum_of_squares(device, x, squares); });
  Tensor y = sqrt(squares).to(x.dtype());
  return record("norm", y, {x}, [x, y](const Tensor& g) {
    Tensor length = grad_enabled() ? sqrt(sum(square(x))) : y;
    return Tensors{g * x / where(y == 0.0, scalar(1, {.dtype = y.dtype()}), length)};
  });
}

Tensor any(const Tensor& x) {
  check_bool("any", x);
  return sum(x.to(i64)) != 0.0;
}

bool all_finite(const Tensor& x) {
  check_float("all_finite", x);
  return no_grad([&] { return std::isfinite(sum(x * 0.0).item<double>()); });
}

}  // namespace triad
