#include <triad/core/layout.h>

#include <algorithm>

#include <triad/core/format.h>

namespace triad {

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
  dims_[--rank_] = 0;
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

Layout contiguous_layout(const Shape& shape) {
  Layout layout{shape, shape, 0};
  std::int64_t stride = 1;
  for (int i = shape.rank(); i-- > 0; stride *= std::max<std::int64_t>(shape[i], 1))
    layout.strides[i] = stride;
  return layout;
}

bool is_contiguous(const Layout& x) {
  std::int64_t stride = 1;
  for (int i = x.shape.rank(); i-- > 0; stride *= x.shape[i])
    if (x.shape[i] != 1 && x.strides[i] != stride) return x.shape.numel() == 0;
  return true;
}

int normalize_axis(const char* op, std::int64_t axis, int rank) {
  if (axis >= -rank && axis < rank) return int(axis < 0 ? axis + rank : axis);
  throw_error<IndexError>("{}: axis {} is out of range for a tensor with {} axes", op, axis, rank);
}

Layout permuted(const Layout& x, const Shape& order) {
  const int rank = x.shape.rank();
  bool once = order.rank() == rank, seen[kMaxRank] = {};
  Layout y = x;
  for (int i = 0; once && i < rank; ++i) {
    const int from = normalize_axis("permute", order[i], rank);
    once = !std::exchange(seen[from], true);
    y.shape[i] = x.shape[from];
    y.strides[i] = x.strides[from];
  }
  if (once) return y;
  throw_error<ShapeError>("permute: needs each of the {} axes of {} once, got {}", rank, x.shape,
                          order);
}

Layout transposed(const Layout& x, std::int64_t a, std::int64_t b) {
  const int i = normalize_axis("transpose", a, x.shape.rank());
  const int j = normalize_axis("transpose", b, x.shape.rank());
  Layout y = x;
  std::swap(y.shape[i], y.shape[j]);
  std::swap(y.strides[i], y.strides[j]);
  return y;
}

Layout sliced(const Layout& x, std::int64_t axis, std::int64_t start, std::int64_t end,
              std::int64_t step) {
  const int i = normalize_axis("slice", axis, x.shape.rank());
  if (step < 1) throw_error<ValueError>("slice: needs a step of at least 1, got {}", step);
  const std::int64_t size = x.shape[i];
  auto place = [=](auto at) { return std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, size); };
  const std::int64_t first = place(start), length = std::max<std::int64_t>(place(end) - first, 0);
  Layout y = x;
  y.shape[i] = length / step + (length % step != 0);
  y.strides[i] = x.strides[i] * std::min(step, std::max<std::int64_t>(size, 1));
  if (length > 0) y.offset += first * x.strides[i];
  return y;
}

static Layout without_axis(Layout x, int axis) {
  x.shape.erase(axis);
  x.strides.erase(axis);
  return x;
}

Layout selected(const Layout& x, std::int64_t axis, std::int64_t index) {
  const int i = normalize_axis("select", axis, x.shape.rank());
  const std::int64_t size = x.shape[i], at = index < 0 ? index + size : index;
  if (at >= 0 && at < size) return without_axis(sliced(x, i, at, at + 1, 1), i);
  throw_error<IndexError>("select: index {} is out of range for axis {} of {}", index, i, x.shape);
}

Layout squeezed(const Layout& x, std::int64_t axis) {
  const int i = normalize_axis("squeeze", axis, x.shape.rank());
  return x.shape[i] == 1 ? without_axis(x, i) : x;
}
Layout unsqueezed(const Layout& x, std::int64_t axis) {
  const int i = normalize_axis("unsqueeze", axis, x.shape.rank() + 1);
  Layout y = x;
  y.shape.insert(i, 1);
  y.strides.insert(i, 1);
  return y;
}

Layout expanded(const Layout& x, const Shape& shape) {
  const int added = shape.rank() - x.shape.rank();
  bool fits = added >= 0;
  Layout y{shape, Shape::filled(shape.rank(), 0), x.offset};
  for (int i = 0; fits && i < shape.rank(); ++i) {
    const std::int64_t size = i < added ? 1 : x.shape[i - added];
    if (i >= added && shape[i] == -1) y.shape[i] = size;
    else fits = shape[i] >= 0 && (size == 1 || size == shape[i]);
    if (size != 1) y.strides[i] = x.strides[i - added];
  }
  if (fits) return y;
  throw_error<ShapeError>("expand: {} does not expand to {}", x.shape, shape);
}

Shape reshape_sizes(const char* op, const Shape& from, const Shape& to) {
  auto fail = [&] { throw_error<ShapeError>("{}: {} does not fit into {}", op, from, to); };
  Shape sizes = to;
  int open = -1;
  std::int64_t known = 1;
  for (int i = 0; i < to.rank(); ++i) {
    if (to[i] == -1 && open < 0) open = i;
    else if (to[i] < 0 || __builtin_mul_overflow(known, to[i], &known)) fail();
  }
  if (open >= 0 && known == 0) fail();
  if (open >= 0) sizes[open] = from.numel() / known;
  if (sizes.numel() != from.numel()) fail();
  return sizes;
}

// Walks both shapes from the last axis. Each run of old axes that lies evenly in memory can be cut
// into new axes at will; a new axis that would span two runs needs a copy.
std::optional<Layout> reshaped(const Layout& x, const Shape& shape) {
  Layout y = contiguous_layout(shape);
  y.offset = x.offset;
  if (is_contiguous(x)) return y;
  int at = shape.rank() - 1;
  for (int i = x.shape.rank() - 1; i >= 0;) {
    std::int64_t run = x.shape[i], stride = x.strides[i];
    while (--i >= 0 && (x.shape[i] == 1 || x.strides[i] == stride * run)) run *= x.shape[i];
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
  const Shape& shorter = a.rank() < b.rank() ? a : b;
  Shape out = a.rank() < b.rank() ? b : a;
  for (int i = 1; i <= shorter.rank(); ++i) {
    std::int64_t& size = out[out.rank() - i];
    const std::int64_t other = shorter[shorter.rank() - i];
    if (size == 1) size = other;
    else if (other != 1 && other != size)
      throw_error<ShapeError>("{}: {} and {} do not broadcast", op, a, b);
  }
  return out;
}

}  // namespace triad
