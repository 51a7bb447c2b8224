#include <triad/core/layout.h>

#include <algorithm>

#include <triad/core/error.h>
#include <triad/core/format.h>

namespace triad {

// ---------------------------------------------------------------------- Shape

Shape Shape::filled(int rank, std::int64_t value) {
  Shape shape;
  for (int i = 0; i < rank; ++i) shape.push_back(value);
  return shape;
}

void Shape::push_back(std::int64_t dim) {
  if (rank_ == kMaxRank) throw_error<ShapeError>("a tensor has at most {} axes", kMaxRank);
  dims_[rank_++] = dim;
}

void Shape::insert(int at, std::int64_t dim) {
  push_back(dim);
  std::rotate(dims_ + at, dims_ + rank_ - 1, dims_ + rank_);
}

void Shape::erase(int at) {
  std::copy(dims_ + at + 1, dims_ + rank_, dims_ + at);
  --rank_;
}

// Strides are products of sizes too, where a 0 counts as 1: they must not overflow either.
std::int64_t Shape::numel() const {
  std::int64_t n = 1;
  bool none = false;
  for (std::int64_t dim : *this) {
    none |= dim == 0;
    if (__builtin_mul_overflow(n, dim == 0 ? 1 : dim, &n))
      throw_error<ShapeError>("{} has too many elements", *this);
  }
  return none ? 0 : n;
}

std::string Shape::str() const { return fmt::format("[{}]", fmt::join(begin(), end(), ",")); }

// ---------------------------------------------------------------------- Layout

Layout contiguous_layout(const Shape& shape) {
  Layout layout{shape, shape, 0};
  std::int64_t stride = 1;
  for (int i = shape.rank(); i-- > 0; stride *= std::max<std::int64_t>(shape[i], 1))
    layout.strides[i] = stride;
  return layout;
}

bool is_contiguous(const Layout& x) {
  if (x.shape.numel() == 0) return true;
  std::int64_t stride = 1;
  for (int i = x.shape.rank(); i-- > 0;) {
    if (x.shape[i] != 1 && x.strides[i] != stride) return false;
    stride *= x.shape[i];
  }
  return true;
}

int normalize_axis(const char* op, std::int64_t axis, int rank) {
  if (axis < -rank || axis >= rank)
    throw_error<IndexError>("{}: axis {} is out of range for a tensor with {} axes", op, axis,
                            rank);
  return int(axis < 0 ? axis + rank : axis);
}

Layout permuted(const Layout& x, const Shape& order) {
  const int rank = x.shape.rank();
  if (order.rank() != rank)
    throw_error<ShapeError>("permute: needs each of the {} axes of {} once, got {}", rank, x.shape,
                            order);
  Layout y = x;
  bool seen[kMaxRank] = {};
  for (int i = 0; i < rank; ++i) {
    int from = normalize_axis("permute", order[i], rank);
    if (seen[from])
      throw_error<ShapeError>("permute: needs each of the {} axes of {} once, got {}", rank,
                              x.shape, order);
    seen[from] = true;
    y.shape[i] = x.shape[from];
    y.strides[i] = x.strides[from];
  }
  return y;
}

Layout transposed(const Layout& x, std::int64_t a, std::int64_t b) {
  int i = normalize_axis("transpose", a, x.shape.rank()),
      j = normalize_axis("transpose", b, x.shape.rank());
  Layout y = x;
  std::swap(y.shape[i], y.shape[j]);
  std::swap(y.strides[i], y.strides[j]);
  return y;
}

Layout sliced(const Layout& x, std::int64_t axis, std::int64_t start, std::int64_t end,
              std::int64_t step) {
  int i = normalize_axis("slice", axis, x.shape.rank());
  if (step < 1) throw_error<ValueError>("slice: needs a step of at least 1, got {}", step);
  const std::int64_t size = x.shape[i];
  auto clamp = [&](std::int64_t at) {
    return std::clamp(at < 0 ? at + size : at, std::int64_t(0), size);
  };
  start = clamp(start), end = std::max(clamp(end), start);
  Layout y = x;
  y.shape[i] = (end - start) / step + ((end - start) % step != 0);
  y.strides[i] = x.strides[i] * std::min(step, std::max<std::int64_t>(size, 1));
  if (y.shape[i] > 0) y.offset += start * x.strides[i];
  return y;
}

Layout selected(const Layout& x, std::int64_t axis, std::int64_t index) {
  int i = normalize_axis("select", axis, x.shape.rank());
  const std::int64_t size = x.shape[i];
  if (index < -size || index >= size)
    throw_error<IndexError>("select: index {} is out of range for axis {} of {}", index, i,
                            x.shape);
  Layout y = x;
  y.offset += (index < 0 ? index + size : index) * x.strides[i];
  y.shape.erase(i);
  y.strides.erase(i);
  return y;
}

Layout expanded(const Layout& x, const Shape& shape) {
  const int extra = shape.rank() - x.shape.rank();
  auto fail = [&] { throw_error<ShapeError>("expand: {} does not expand to {}", x.shape, shape); };
  if (extra < 0) fail();
  Layout y{shape, Shape::filled(shape.rank(), 0), x.offset};
  for (int i = 0; i < shape.rank(); ++i) {
    if (i < extra) {
      if (shape[i] < 0) fail();
      continue;
    }
    const std::int64_t size = x.shape[i - extra];
    if (shape[i] == -1) y.shape[i] = size;
    if (y.shape[i] == size) {
      y.strides[i] = size == 1 ? 0 : x.strides[i - extra];
    } else if (size != 1 || shape[i] < 0) {
      fail();
    }
  }
  return y;
}

Layout unsqueezed(const Layout& x, std::int64_t axis) {
  int i = normalize_axis("unsqueeze", axis, x.shape.rank() + 1);
  Layout y = x;
  y.shape.insert(i, 1);
  y.strides.insert(i, 1);
  return y;
}

Layout squeezed(const Layout& x, std::int64_t axis) {
  int i = normalize_axis("squeeze", axis, x.shape.rank());
  Layout y = x;
  if (x.shape[i] == 1) {
    y.shape.erase(i);
    y.strides.erase(i);
  }
  return y;
}

Shape reshape_sizes(const char* op, const Shape& from, const Shape& to) {
  auto fail = [&] { throw_error<ShapeError>("{}: {} does not fit into {}", op, from, to); };
  Shape sizes = to;
  int open = -1;
  std::int64_t known = 1;
  for (int i = 0; i < to.rank(); ++i) {
    if (to[i] < -1 || (to[i] == -1 && open >= 0)) fail();
    if (to[i] == -1) open = i;
    else if (__builtin_mul_overflow(known, to[i], &known)) fail();
  }
  const std::int64_t n = from.numel();
  if (open >= 0) {
    if (known == 0 || n % known != 0) fail();
    sizes[open] = n / known;
  }
  if (sizes.numel() != n) fail();
  return sizes;
}

// Walks both shapes from the last axis. Each run of old axes that lies evenly in memory can be cut
// into new axes at will; a new axis that would span two runs needs a copy.
std::optional<Layout> reshaped(const Layout& x, const Shape& shape) {
  if (is_contiguous(x) || x.shape.numel() == 0) {
    Layout y = contiguous_layout(shape);
    y.offset = x.offset;
    return y;
  }
  Layout y{shape, shape, x.offset};
  int at = shape.rank() - 1;
  for (int i = x.shape.rank() - 1; i >= 0;) {
    const std::int64_t unit = x.strides[i];
    std::int64_t run = x.shape[i--];
    while (i >= 0 && (x.shape[i] == 1 || x.strides[i] == unit * run)) run *= x.shape[i--];
    std::int64_t stride = unit;
    while (at >= 0 && (run > 1 || shape[at] == 1)) {
      if (run % shape[at] != 0) return {};
      y.strides[at] = stride;
      stride *= shape[at];
      run /= shape[at--];
    }
    if (run > 1) return {};
  }
  return y;
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  if (a == b) return a;
  const int rank = std::max(a.rank(), b.rank());
  Shape out = Shape::filled(rank, 1);
  for (int i = 1; i <= rank; ++i) {
    const std::int64_t x = i <= a.rank() ? a[a.rank() - i] : 1,
                       y = i <= b.rank() ? b[b.rank() - i] : 1;
    if (x != y && x != 1 && y != 1)
      throw_error<ShapeError>("{}: {} and {} do not broadcast", op, a, b);
    out[rank - i] = x == 1 ? y : x;
  }
  return out;
}

}  // namespace triad
