#include <cmath>

#include <triad/autograd/op_helpers.h>

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

// The largest (smallest) element along an axis, and its index.
std::pair<Tensor, Tensor> extremum(const char* op, const Tensor& x, std::int64_t axis, bool keepdim,
                                   bool largest) {
  check_ordered(op, x);
  if (const DType wide = wide_type(x.dtype()); wide != x.dtype()) {
    auto [value, index] = extremum(op, x.to(wide), axis, keepdim, largest);
    return {value.to(x.dtype()), index};
  }
  const int along = normalize_axis(op, axis, x.dim());
  if (x.shape()[along] == 0)
    throw_error<ShapeError>("{}: axis {} of {} is empty", op, along, x.shape());
  const Reduced to(op, x, {along});
  Layout last = x.layout();  // with that axis behind the others
  last.shape = to.dropped;
  last.shape.push_back(x.shape()[along]);
  last.strides.erase(along);
  last.strides.push_back(x.strides()[along]);
  const Shape& sizes = keepdim ? to.kept : to.dropped;
  Tensor y = empty(sizes, x.dtype(), x.device(), op), index = empty(sizes, i64, x.device(), op);
  on(x.device(), op,
     [&](auto device) { kernels::max_last(device, x.with_layout(last), largest, y, index); });
  auto rule = [along, at = index.reshape(to.kept), from = x.shape()](const Tensor& g) {
    return Tensors{scatter_add(scalar_like(0, g).expand(from), along, at, g.reshape(at.shape()))};
  };
  return {record(op, y, {x, index}, rule), index};
}

}  // namespace

const Axes& all_axes() {
  static const Axes axes{INT64_MIN};
  return axes;
}

Tensor sum(const Tensor& x, const Axes& axes, bool keepdim) {
  check_defined("sum", x);
  const Reduced to("sum", x, axes);
  const DType wide = wide_type(x.dtype());
  if (wide != x.dtype() && (wide == i64 || x.device() == Device::cpu()))  // CUDA reads narrow ones
    return rounded(sum(x.to(wide), axes, keepdim), x);
  if (is_complex(x.dtype()))
    return complex(sum(real(x), axes, keepdim), sum(imag(x), axes, keepdim));
  Tensor y = empty(to.kept, x.dtype() == boolean ? i64 : wide, x.device());
  on(x.device(), [&](auto device) { kernels::sum(device, x, y); });
  if (!keepdim) y = y.with_layout(contiguous_layout(to.dropped));
  auto rule = [kept = to.kept, from = x.shape(), type = x.dtype()](auto& g) {
    return g.to(type).reshape(kept).expand(from);
  };
  return rounded(record_unary("sum", y, x, rule), x);
}

Tensor mean(const Tensor& x, const Axes& axes, bool keepdim) {
  check_inexact("mean", x);
  const double count = double(Reduced("mean", x, axes).count);
  return rounded(sum(in_wide(x), axes, keepdim) / count, x);
}

Tensor var(const Tensor& x, const Axes& axes, bool keepdim, double correction) {
  check_float("var", x);
  if (is_narrow(x.dtype())) return rounded(var(x.to(f32), axes, keepdim, correction), x);
  const double divisor = double(Reduced("var", x, axes).count) - correction;
  return sum(square(x - mean(x, axes, true)), axes, keepdim) / (divisor > 0 ? divisor : 0.0);
}

Tensor stddev(const Tensor& x, const Axes& axes, bool keepdim, double correction) {
  const Tensor v = var(x, axes, keepdim, correction), zero = v == 0.0;  // gradient 0 there
  return where(zero, v, sqrt(where(zero, scalar_like(1, v), v)));
}

std::pair<Tensor, Tensor> max(const Tensor& x, std::int64_t axis, bool keepdim) {
  return extremum("max", x, axis, keepdim, true);
}
std::pair<Tensor, Tensor> min(const Tensor& x, std::int64_t axis, bool keepdim) {
  return extremum("min", x, axis, keepdim, false);
}
Tensor argmax(const Tensor& x, std::int64_t axis, bool keepdim) {
  return extremum("argmax", x.detach(), axis, keepdim, true).second;
}
Tensor argmin(const Tensor& x, std::int64_t axis, bool keepdim) {
  return extremum("argmin", x.detach(), axis, keepdim, false).second;
}
Tensor max(const Tensor& x) { return max(check_defined("max", x).reshape({-1}), 0).first; }
Tensor min(const Tensor& x) { return min(check_defined("min", x).reshape({-1}), 0).first; }

Tensor any(const Tensor& x, const Axes& axes, bool keepdim) {
  return sum(check_defined("any", x).detach().to(boolean), axes, keepdim) > 0.0;
}
Tensor all(const Tensor& x, const Axes& axes, bool keepdim) {
  const double count = double(Reduced("all", check_defined("all", x), axes).count);
  return sum(x.detach().to(boolean), axes, keepdim) == count;
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
  if (const DType wide = wide_type(x.dtype()); wide != x.dtype())
    return rounded(cumsum(x.to(wide), axis), x);
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
  if (is_narrow(x.dtype())) return rounded(norm(x.to(f32)), x);
  Tensor squares = empty({}, f64, x.device());
  on(x.device(), [&](auto device) { kernels::sum_of_squares(device, {packed(x)}, squares); });
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
