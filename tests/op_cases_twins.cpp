// The table put together, and what its twins are written in.
#include <triad/tests/op_cases.h>

#include <set>

namespace op_cases {

// ---------------------------------------------------------------------- arrays

namespace {

std::int64_t axis_of(const Shape& shape, std::int64_t axis) {
  return axis < 0 ? axis + shape.rank() : axis;
}

// Calls f(index) for every element of `shape`, in row-major order.
template <class F> void for_each(const Shape& shape, F f) {
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    Shape index = shape;
    std::int64_t rest = i;
    for (int axis = shape.rank(); axis-- > 0; rest /= shape[axis]) index[axis] = rest % shape[axis];
    f(index);
  }
}

}  // namespace

C Array::operator[](const Shape& index) const {
  std::int64_t at = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) at = at * shape[axis] + index[axis];
  return values.at(std::size_t(at));
}

std::int64_t Array::size(std::int64_t axis) const { return shape[int(axis_of(shape, axis))]; }

Array build(const Shape& shape, const triad::Function<C(const Shape&)>& element) {
  Array y{shape, {}};
  for_each(shape, [&](const Shape& index) { y.values.push_back(element(index)); });
  return y;
}

Array map(const Array& x, const triad::Function<C(C)>& f) {
  Array y = x;
  for (C& value : y.values) value = f(value);
  return y;
}

Array repeated(const Array& x, const Shape& shape) {
  const int extra = shape.rank() - x.shape.rank();
  return build(shape, [&](const Shape& index) {
    Shape own(index.begin() + extra, index.end());
    for (int i = 0; i < own.rank(); ++i)
      if (x.shape[i] == 1) own[i] = 0;
    return x[own];
  });
}

Shape broadcast(const Shape& a, const Shape& b) {
  if (a.rank() < b.rank()) return broadcast(b, a);
  Shape shape = a;
  for (int i = 0, extra = a.rank() - b.rank(); i < b.rank(); ++i)
    if (shape[i + extra] == 1) shape[i + extra] = b[i];
  return shape;
}

Array zip(const Array& a, const Array& b, const triad::Function<C(C, C)>& f) {
  const Shape shape = broadcast(a.shape, b.shape);
  Array y = repeated(a, shape);
  const Array right = repeated(b, shape);
  for (std::size_t i = 0; i < y.values.size(); ++i) y.values[i] = f(y.values[i], right.values[i]);
  return y;
}

Array reduced(const Array& x, const std::vector<std::int64_t>& axes, bool keepdim,
              const triad::Function<C(const Numbers&)>& f) {
  Shape kept = x.shape, inner = Shape::filled(x.shape.rank(), 1), rest;
  for (std::int64_t axis : axes) {
    const int i = int(axis_of(x.shape, axis));
    inner[i] = x.shape[i];
    kept[i] = 1;
  }
  for (int i = 0; i < kept.rank(); ++i) {
    bool gone = false;
    for (std::int64_t axis : axes) gone |= axis_of(x.shape, axis) == i;
    if (!gone) rest.push_back(kept[i]);
  }
  Array y = build(kept, [&](const Shape& outer) {
    Numbers together;
    for_each(inner, [&](Shape index) {
      for (int i = 0; i < index.rank(); ++i) index[i] += outer[i];
      together.push_back(x[index]);
    });
    return f(together);
  });
  if (!keepdim) y.shape = rest;
  return y;
}

Array along(const Array& x, std::int64_t axis, const triad::Function<Numbers(const Numbers&)>& f) {
  const int i = int(axis_of(x.shape, axis));
  const Shape ends = with(x.shape, i, 1);
  std::vector<Numbers> lines;
  for_each(ends, [&](Shape index) {
    Numbers line;
    for (index[i] = 0; index[i] < x.shape[i]; ++index[i]) line.push_back(x[index]);
    lines.push_back(f(line));
  });
  const std::int64_t length =
      std::int64_t(lines.empty() ? f(Numbers(std::size_t(x.shape[i]), 1)).size() : lines[0].size());
  return build(with(x.shape, i, length), [&](Shape index) {
    const std::size_t k = std::size_t(std::exchange(index[i], 0));
    std::int64_t at = 0;
    for (int j = 0; j < index.rank(); ++j) at = at * ends[j] + index[j];
    return lines[std::size_t(at)][k];
  });
}

Array transposed(const Array& x, std::int64_t a, std::int64_t b) {
  const int i = int(axis_of(x.shape, a)), j = int(axis_of(x.shape, b));
  Shape shape = x.shape;
  std::swap(shape[i], shape[j]);
  return build(shape, [&](Shape index) {
    std::swap(index[i], index[j]);
    return x[index];
  });
}

Array reshaped(const Array& x, const Shape& shape) { return {shape, x.values}; }

Array product(const Array& a, const Array& b) {
  const std::int64_t M = a.size(-2), K = a.size(-1), N = b.size(-1);
  auto batch = [](const Shape& shape) { return Shape(shape.begin(), shape.end() - 2); };
  Shape lead = broadcast(batch(a.shape), batch(b.shape)), left = lead, right = lead, out = lead;
  for (std::int64_t n : {M, K}) left.push_back(n);
  for (std::int64_t n : {K, N}) right.push_back(n);
  for (std::int64_t n : {M, N}) out.push_back(n);
  const Array x = repeated(a, left), y = repeated(b, right);
  const int row = lead.rank(), column = row + 1;
  return build(out, [&](const Shape& index) {
    Shape i = index, j = index;
    C total = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      i[column] = j[row] = k;
      total += x[i] * y[j];
    }
    return total;
  });
}

Shape without(Shape shape, std::int64_t axis) {
  shape.erase(int(axis_of(shape, axis)));
  return shape;
}

Shape with(Shape shape, std::int64_t axis, std::int64_t size) {
  shape[int(axis_of(shape, axis))] = size;
  return shape;
}

// ---------------------------------------------------------------------- inputs

Input index_below(std::int64_t count, const Shape& shape) {
  return {.shape = shape, .low = 0, .high = double(count), .dtype = triad::i64};
}

Input flags(const Shape& shape) { return {.shape = shape, .dtype = triad::boolean}; }

Input like() { return {.shape = {1}, .optional = true}; }

// ---------------------------------------------------------------------- the table

const Cases& table() {
  static const Cases all = [] {
    Cases cases;
    std::set<std::string> seen;
    for (auto part : {view_cases, arithmetic_cases, choice_cases, function_cases, reduction_cases,
                      creation_cases, indexing_cases, product_cases, neural_cases, fourier_cases,
                      spectral_cases})
      for (Case& c : part()) {
        if (seen.insert(c.name).second) c.benches = benches_of(c.name);
        cases.push_back(std::move(c));
      }
    return cases;
  }();
  return all;
}

}  // namespace op_cases
