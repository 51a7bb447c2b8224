#include <tuple>

#include <triad/autograd/op_helpers.h>

namespace triad {

Tensor checked_indices(const char* op, const Tensor& x, const Tensor& ids, std::int64_t count) {
  check_defined(op, ids);
  check_same_device(op, x, ids);
  if (ids.dtype() != i64 && ids.dtype() != i32)
    throw_error<DTypeError>("{}: needs i64 indices, got {}; write x.to(i64)", op, ids.dtype());
  Tensor index = ids.detach().to(i64);
  if (ids.numel() == 0 || is_capturing()) return index;  // kernels make NaN of others then
  Tensor range = empty({2}, i64, ids.device(), op), place = empty({1}, i64, ids.device(), op);
  const Tensor row = index.reshape({1, -1}), low = range.slice(0, 0, 1), high = range.slice(0, 1);
  on(ids.device(), op, [&](auto device) {
    kernels::max_last(device, row, false, low, place);
    kernels::max_last(device, row, true, high, place);
  });
  const auto ends = range.to_vector<std::int64_t>();
  if (ends[0] < 0 || ends[1] >= count)
    throw_error<IndexError>("{}: needs indices in 0..{}, got {}", op, count - 1,
                            ends[0] < 0 ? ends[0] : ends[1]);
  return index;
}

// Rows index [n] of table [V,C], and the transpose: y [V,C] with the rows of g added there.
static Tensor pick_rows(const char* name, const Tensor& table, const Tensor& index);

static Tensor add_rows(const char* name, const Tensor& g, const Tensor& index, const Tensor& y) {
  if (is_narrow(g.dtype())) return add_rows(name, g.to(f32), index, y.to(f32)).to(g.dtype());
  const Tensor rows = packed(g);
  on(g.device(), name, [&](auto device) { kernels::embedding_backward(device, rows, index, y); });
  return record_unary(name, y, g, [=](auto& gg) { return pick_rows(name, gg, index); });
}

static Tensor pick_rows(const char* name, const Tensor& table, const Tensor& index) {
  Tensor y = empty({index.numel(), table.size(1)}, table.dtype(), table.device(), name);
  Tensor rows = table.detach().contiguous(), history;
  on(table.device(), name, [&](auto device) { kernels::embedding(device, rows, index, y); });
  history.set_node(table.node());
  return record(name, y, {table, index}, [=, sizes = table.shape()](const Tensor& g) {
    Tensor sum = take_gradient(history);
    if (!sum.defined()) sum = zeros(sizes, {.dtype = g.dtype(), .device = g.device()});
    else if (sum.storage().use_count() > 1 || !sum.is_contiguous()) sum = sum.clone();
    return Tensors{add_rows(name, g, index, sum)};
  });
}

Tensor embedding(const Tensor& ids, const Tensor& weight) {
  check_float("embedding", weight);
  if (weight.dim() != 2)
    throw_error<ShapeError>("embedding: needs weight [V,C], got {}", weight.shape());
  Tensor flat =
      checked_indices("embedding", weight, ids, weight.size(0)).reshape({-1}).contiguous();
  Shape shape = ids.shape();
  shape.push_back(weight.size(1));
  return pick_rows("embedding", weight, flat).reshape(shape);
}

Tensor index_select(const Tensor& x, std::int64_t axis, const Tensor& index) {
  check_defined("index_select", x);
  check_defined("index_select", index);
  const int i = normalize_axis("index_select", axis, x.dim());
  if (index.dim() != 1)
    throw_error<ShapeError>("index_select: needs an index [n], got {}", index.shape());
  Tensor ids = checked_indices("index_select", x, index, x.size(i)).contiguous();
  if (is_complex(x.dtype())) return view_as_complex(index_select(view_as_real(x), i, ids));
  Tensor first = x.transpose(0, i);
  Shape shape = first.shape();
  const std::int64_t V = shape[0], C = V == 0 ? 0 : x.numel() / V;
  shape[0] = ids.numel();
  return pick_rows("index_select", first.reshape({V, C}), ids).reshape(shape).transpose(0, i);
}

Tensor flip(const Tensor& x, std::int64_t axis) {
  const int i = normalize_axis("flip", axis, check_defined("flip", x).dim());
  Layout reversed = x.layout();
  reversed.offset += std::max<std::int64_t>(x.size(i) - 1, 0) * x.strides()[i];
  reversed.strides[i] *= -1;
  return record_unary("flip", x.with_layout(reversed).clone(), x,
                      [i](auto& g) { return flip(g, i); });
}

Tensor roll(const Tensor& x, std::int64_t shift, std::int64_t axis) {
  check_defined("roll", x);
  const std::int64_t n = x.size(axis);
  if (n == 0) return x;
  const std::int64_t cut = ((n - shift % n) % n + n) % n;
  return cat({x.slice(axis, cut), x.slice(axis, 0, cut)}, axis);
}

// x, cut to the index's sizes along the other axes, and `index`, both with the axis last; the axis.
static std::tuple<Tensor, Tensor, int> aligned(const char* op, const Tensor& x, std::int64_t at,
                                               const Tensor& index) {
  check_defined(op, x);
  check_defined(op, index);
  const int axis = normalize_axis(op, at, x.dim());
  bool fits = index.dim() == x.dim();
  Tensor part = x.detach();
  for (int i = 0; fits && i < x.dim(); ++i) {
    if (i == axis) continue;
    fits = index.shape()[i] <= x.shape()[i];
    part = part.slice(i, 0, index.shape()[i]);
  }
  if (!fits)
    throw_error<ShapeError>(
        "{}: needs an index of {} axes, none but axis {} longer than in {}, got {}", op, x.dim(),
        axis, x.shape(), index.shape());
  Tensor ids = checked_indices(op, x, index, x.size(axis));
  return {part.transpose(axis, -1), ids.transpose(axis, -1), axis};
}

Tensor gather(const Tensor& x, std::int64_t axis, const Tensor& index) {
  const auto [from, ids, along] = aligned("gather", x, axis, index);
  Tensor y = empty(ids.shape(), x.dtype(), x.device());
  on(x.device(), [&](auto device) { kernels::gather_last(device, from, ids, y); });
  auto rule = [axis, index, sizes = x.shape()](const Tensor& g) {
    return Tensors{scatter_add(scalar_like(0, g).expand(sizes), axis, index, g)};
  };
  return record("gather", y.transpose(along, -1), {x, index}, rule);
}

Tensor scatter_add(const Tensor& x, std::int64_t axis, const Tensor& index, const Tensor& source) {
  check_number("scatter_add", x);
  check_same_type("scatter_add", x, source);
  if (const DType wide = wide_type(x.dtype()); wide != x.dtype())
    return scatter_add(x.to(wide), axis, index, source.to(wide)).to(x.dtype());
  if (index.defined() && source.shape() != index.shape())
    throw_error<ShapeError>("scatter_add: needs a source of the index's sizes {}, got {}",
                            index.shape(), source.shape());
  Tensor y = x.detach().clone();
  const auto [to, ids, along] = aligned("scatter_add", y, axis, index);
  Tensor from = source.detach().transpose(along, -1);
  on(x.device(), [&](auto device) { kernels::scatter_add_last(device, from, ids, to); });
  return record("scatter_add", y, {x, source, index}, [axis, index](const Tensor& g) {
    return Tensors{g, gather(g, axis, index)};
  });
}

std::pair<Tensor, Tensor> topk(const Tensor& x, std::int64_t k, std::int64_t axis, bool largest) {
  check_ordered("topk", x);
  const int i = normalize_axis("topk", axis, x.dim());
  if (k < 0 || k > x.size(i))
    throw_error<ValueError>("topk: needs 0 <= k <= {}, got {}", x.size(i), k);
  Tensor last = x.detach().to(wide_type(x.dtype())).transpose(i, -1);
  Shape shape = last.shape();
  shape[x.dim() - 1] = k;
  Tensor index = empty(shape, i64, x.device());
  on(x.device(), [&](auto device) { kernels::topk_last(device, last, largest, index); });
  index = index.transpose(i, -1);
  return {gather(x, i, index), index};
}

}  // namespace triad
