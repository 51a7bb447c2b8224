#include <algorithm>

#include <triad/autograd/op_helpers.h>

namespace triad {

// ---------------------------------------------------------------------- all elements, reordered

// y has all elements of x in their order: so has the gradient.
static Tensor record_reshape(const char* op, const Tensor& x, const Tensor& y) {
  return record_unary(op, y, x, [from = x.shape()](auto& g) { return g.reshape(from); });
}

// A copy of x in row-major order under new sizes, without history.
static Tensor packed(const char* op, const Tensor& x, const Shape& shape) {
  Tensor y = empty_like(x, op);
  on(x.device(), op, [&](auto device) { kernels::copy(device, x, y); });
  return y.with_layout(contiguous_layout(shape));
}

static Tensor reshape_as(const char* op, const Tensor& x, const Shape& to, bool may_copy) {
  check_defined(op, x);
  const Shape shape = reshape_sizes(op, x.shape(), to);
  if (shape == x.shape()) return x;
  auto layout = reshaped(x.layout(), shape);
  if (!layout && !may_copy)
    throw_error<ShapeError>("{}: {} with strides {} is no view of sizes {}; use reshape", op,
                            x.shape(), x.strides(), shape);
  return record_reshape(op, x, layout ? x.with_layout(*layout) : packed(op, x, shape));
}

Tensor Tensor::reshape(const Shape& shape) const {
  return reshape_as("reshape", *this, shape, true);
}
Tensor Tensor::view(const Shape& shape) const { return reshape_as("view", *this, shape, false); }

Tensor Tensor::flatten(std::int64_t start, std::int64_t end) const {
  check_defined("flatten", *this);
  if (dim() == 0) return reshape({1});
  const int first = normalize_axis("flatten", start, dim());
  const int last = normalize_axis("flatten", end, dim());
  if (first > last) throw_error<ValueError>("flatten: axis {} comes after axis {}", first, last);
  Shape sizes(shape().begin(), shape().begin() + first);
  sizes.push_back(Shape(shape().begin() + first, shape().begin() + last + 1).numel());
  for (int i = last + 1; i < dim(); ++i) sizes.push_back(shape()[i]);
  return reshape(sizes);
}

Tensor Tensor::permute(const Shape& order) const {
  Tensor y = with_layout(permuted(check_defined("permute", *this).layout(), order));
  Shape back = order;
  for (int i = 0; i < dim(); ++i) back[normalize_axis("permute", order[i], dim())] = i;
  return record_unary("permute", y, *this, [back](auto& g) { return g.permute(back); });
}
Tensor Tensor::transpose(std::int64_t a, std::int64_t b) const {
  Tensor y = with_layout(transposed(check_defined("transpose", *this).layout(), a, b));
  return record_unary("transpose", y, *this, [a, b](auto& g) { return g.transpose(a, b); });
}

Tensor Tensor::unsqueeze(std::int64_t axis) const {
  Tensor y = with_layout(unsqueezed(check_defined("unsqueeze", *this).layout(), axis));
  return record_reshape("unsqueeze", *this, y);
}
Tensor Tensor::squeeze(std::int64_t axis) const {
  Tensor y = with_layout(squeezed(check_defined("squeeze", *this).layout(), axis));
  return record_reshape("squeeze", *this, y);
}

Tensor Tensor::expand(const Shape& shape) const {
  Tensor y = with_layout(expanded(check_defined("expand", *this).layout(), shape));
  return record_unary("expand", y, *this, [to = this->shape()](auto& g) { return sum_to(g, to); });
}

// ---------------------------------------------------------------------- some of the elements

using Cut = Function<Layout(const Layout&)>;

// The inverse of a window: `rest` in sizes `shape` with g at the place that `cut` names.
static Tensor embed(const char* name, const Tensor& g, const Shape& shape, const Cut& cut,
                    double rest = 0) {
  Tensor y = full(shape, rest, {.dtype = g.dtype(), .device = g.device()});
  Tensor place = y.with_layout(cut(y.layout()));
  on(g.device(), name, [&](auto device) { kernels::copy(device, g, place); });
  return record_unary(name, y, g, [name, cut](auto& gg) { return window(name, gg, cut); });
}

Tensor window(const char* name, const Tensor& x, const Cut& cut) {
  check_defined(name, x);
  auto rule = [name, shape = x.shape(), cut](auto& g) { return embed(name, g, shape, cut); };
  Tensor y = record_unary(name, x.with_layout(cut(x.layout())), x, rule);
  if (y.node()) {
    y.node()->window = cut(contiguous_layout(x.shape()));
    y.node()->saved.clear();  // the rule reads no values
  }
  return y;
}

Tensor Tensor::slice(std::int64_t axis, std::int64_t start, std::int64_t end,
                     std::int64_t step) const {
  return window("slice", *this, [=](const Layout& x) { return sliced(x, axis, start, end, step); });
}
Tensor Tensor::select(std::int64_t axis, std::int64_t index) const {
  return window("select", *this, [=](const Layout& x) { return selected(x, axis, index); });
}

std::vector<Tensor> Tensor::split(std::int64_t size, std::int64_t axis) const {
  check_defined("split", *this);
  if (size < 1) throw_error<ValueError>("split: needs a size of at least 1, got {}", size);
  Tensors parts;
  const std::int64_t total = this->size(axis);
  for (std::int64_t at = 0; at == 0 || at < total; at += size)
    parts.push_back(slice(axis, at, std::min(at + size, total)));
  return parts;
}

std::vector<Tensor> Tensor::split(const std::vector<std::int64_t>& sizes, std::int64_t axis) const {
  check_defined("split", *this);
  std::int64_t at = 0;
  Tensors parts;
  for (std::int64_t size : sizes) {
    if (size < 0) throw_error<ValueError>("split: sizes must not be negative, got {}", size);
    if (__builtin_add_overflow(at, size, &at)) at = kEnd;  // more than any axis has
    parts.push_back(slice(axis, at - size, at));
  }
  if (at != size(axis))
    throw_error<ShapeError>("split: the sizes add up to {}, axis {} of {} has {}", at, axis,
                            shape(), size(axis));
  return parts;
}

// ---------------------------------------------------------------------- copies

Tensor Tensor::contiguous() const {
  return check_defined("contiguous", *this).is_contiguous() ? *this : clone();
}
Tensor Tensor::clone() const {
  check_defined("clone", *this);
  return record_unary("clone", packed("clone", *this, shape()), *this, [](auto& g) { return g; });
}

Tensor Tensor::to(DType dtype) const {
  check_defined("to", *this);
  if (dtype == dtype_) return *this;
  Tensor y = empty(shape(), dtype, device());
  on(device(), [&](auto device) { kernels::copy(device, *this, y); });
  if (!is_floating_point(dtype) && !is_complex(dtype)) return y;
  return record_unary("to", y, *this, [from = dtype_](auto& g) { return g.to(from); });
}

Tensor Tensor::to(Device target) const {
  check_defined("to", *this);
  if (target == device()) return *this;
  if (target.kind == device().kind) return to(Device::cpu()).to(target);  // two CUDA devices
  Tensor x = detach().contiguous(), y = empty(shape(), dtype(), target);
  copy_bytes(y.first_byte(), target, x.first_byte(), device(),
             std::size_t(numel()) * item_size(dtype()));
  return record_unary("to", y, *this, [from = device()](auto& g) { return g.to(from); });
}

static void check_writable(const char* op, const Tensor& x) {
  check_defined(op, x);
  if (x.requires_grad() && (!x.is_leaf() || grad_enabled()))
    throw_error<AutogradError>(
        "{}: the tensor has a history ({}); write under a NoGradGuard to a leaf only", op,
        x.node()->name);
  for (int i = 0; i < x.dim(); ++i)
    if (x.shape()[i] > 1 && x.strides()[i] == 0)
      throw_error<ValueError>("{}: the tensor is expanded: elements along axis {} share memory", op,
                              i);
}

void Tensor::copy_(const Tensor& source) const {
  check_writable("copy_", *this);
  check_defined("copy_", source);
  if (broadcast_shapes("copy_", shape(), source.shape()) != shape())
    throw_error<ShapeError>("copy_: {} does not broadcast to {}", source.shape(), shape());
  Tensor near = source.detach().to(device());
  Tensor wide = near.with_layout(expanded(near.layout(), shape()));
  if (source.storage() == storage_) wide = wide.clone();  // they may overlap
  on(device(), [&](auto device) { kernels::copy(device, wide, *this); });
  ++storage_->writes;
}

void Tensor::fill_(double value) const {
  check_writable("fill_", *this);
  on(device(), [&](auto device) { kernels::fill(device, value, *this); });
  ++storage_->writes;
}

// ---------------------------------------------------------------------- joins

Tensor cat(const Tensors& parts, std::int64_t axis, const Tensor& buffer) {
  if (parts.empty()) throw_error<ValueError>("cat: needs at least one tensor");
  check_defined("cat", parts[0]);
  if (std::ranges::any_of(parts, [&](const Tensor& part) { return mixes(parts[0], part); })) {
    Tensors wide;
    for (const Tensor& part : parts) wide.push_back(part.to(f32));
    return cat(wide, axis);
  }
  const int along = normalize_axis("cat", axis, parts[0].dim());
  Shape shape = parts[0].shape();
  shape[along] = 0;
  std::vector<std::int64_t> sizes;
  for (const Tensor& part : parts) {
    check_same_type("cat", parts[0], part);
    Shape rest = part.shape();
    if (rest.rank() == shape.rank()) rest[along] = shape[along];
    if (rest != shape)
      throw_error<ShapeError>("cat: {} and {} differ in more than axis {}", parts[0].shape(),
                              part.shape(), along);
    sizes.push_back(part.shape()[along]);
    shape[along] += sizes.back();
  }
  if (buffer.defined()) check_writable("cat", buffer), check_same_device("cat", parts[0], buffer);
  Tensor y = buffer.defined() ? buffer.detach() : empty(shape, parts[0].dtype(), parts[0].device());
  if (y.shape() != shape || y.dtype() != parts[0].dtype())
    throw_error<ShapeError>("cat: the buffer is {}{}, the result {}{}", y.dtype(), y.shape(),
                            parts[0].dtype(), shape);
  std::int64_t at = 0;
  for (const Tensor& part : parts) {
    Tensor place = y.with_layout(sliced(y.layout(), along, at, at + part.shape()[along], 1));
    at += part.shape()[along];
    if (part.storage() == place.storage() && part.layout() == place.layout()) continue;
    on(y.device(), [&](auto device) { kernels::copy(device, part, place); });
  }
  return record("cat", y, parts, [sizes, along](const Tensor& g) { return g.split(sizes, along); });
}

Tensor stack(const Tensors& parts, std::int64_t axis) {
  if (parts.empty()) throw_error<ValueError>("stack: needs at least one tensor");
  check_defined("stack", parts[0]);
  const int along = normalize_axis("stack", axis, parts[0].dim() + 1);
  Tensors wide;
  for (const Tensor& part : parts) {
    check_same_type("stack", parts[0], part);
    if (part.shape() != parts[0].shape())
      throw_error<ShapeError>("stack: the sizes differ, {} and {}", parts[0].shape(), part.shape());
    wide.push_back(part.unsqueeze(along));
  }
  return cat(wide, along);
}

Tensors chunk(const Tensor& x, std::int64_t chunks, std::int64_t axis) {
  check_defined("chunk", x);
  if (chunks < 1) throw_error<ValueError>("chunk: needs at least 1 chunk, got {}", chunks);
  return x.split(std::max<std::int64_t>((x.size(axis) + chunks - 1) / chunks, 1), axis);
}

Tensor repeat(const Tensor& x, const Shape& times) {
  check_defined("repeat", x);
  const int extra = times.rank() - x.dim();
  if (extra < 0)
    throw_error<ShapeError>("repeat: needs a count for each axis of {}, got {}", x.shape(), times);
  Shape pairs, wide, flat;  // each axis as [times, size]
  for (int i = 0; i < times.rank(); ++i) {
    if (times[i] < 0) throw_error<ValueError>("repeat: counts must not be negative, got {}", times);
    const std::int64_t size = i < extra ? 1 : x.shape()[i - extra];
    if (times[i] != 1 && size != 1) pairs.push_back(1), wide.push_back(times[i]);
    pairs.push_back(size), wide.push_back(size == 1 ? times[i] : size);
    flat.push_back(size * times[i]);
  }
  return x.reshape(pairs).expand(wide).clone().reshape(flat);
}

Tensor pad(const Tensor& x, const Shape& widths, double value) {
  check_defined("pad", x);
  if (widths.rank() % 2 != 0 || widths.rank() > 2 * x.dim())
    throw_error<ShapeError>("pad: needs two widths an axis, at most {} for {}, got {}", 2 * x.dim(),
                            x.shape(), widths);
  Shape sizes = x.shape();
  for (int i = 0; i < widths.rank(); ++i) {
    std::int64_t& size = sizes[x.dim() - 1 - i / 2];
    if (widths[i] < 0 || __builtin_add_overflow(size, widths[i], &size))
      throw_error<ValueError>("pad: widths must not be negative or that large, got {}", widths);
  }
  auto inside = [widths, from = x.shape()](Layout y) {
    for (int i = 0, axis = from.rank(); i < widths.rank(); i += 2, --axis)
      y = sliced(y, axis - 1, widths[i], widths[i] + from[axis - 1], 1);
    return y;
  };
  return embed("pad", x, sizes, inside, value);
}

// ---------------------------------------------------------------------- x[{...}]

Tensor Tensor::operator[](const std::vector<At>& entries) const {
  check_defined("index", *this);
  std::int64_t named = 0, axis = 0;  // axes that entries other than None and Ellipsis stand for
  bool gap = false;
  for (const At& at : entries) {
    named += at.kind == At::Kind::index || at.kind == At::Kind::slice;
    if (at.kind == At::Kind::ellipsis && std::exchange(gap, true))
      throw_error<IndexError>("index: Ellipsis may stand once");
  }
  if (named > dim())
    throw_error<IndexError>("index: {} entries for the {} axes of {}", named, dim(), shape());
  Tensor y = *this;
  for (const At& at : entries) switch (at.kind) {
      case At::Kind::index: y = y.select(axis, at.start); break;
      case At::Kind::slice: y = y.slice(axis++, at.start, at.end, at.step); break;
      case At::Kind::none: y = y.unsqueeze(axis++); break;
      case At::Kind::ellipsis: axis += dim() - named; break;
    }
  return y;
}

// ---------------------------------------------------------------------- complex numbers

Tensor view_as_real(const Tensor& z) {
  check_complex("view_as_real", z);
  Layout pairs = z.layout();
  for (std::int64_t& stride : pairs.strides) stride *= 2;
  pairs.offset *= 2;
  pairs.shape.push_back(2);
  pairs.strides.push_back(1);
  return record_unary("view_as_real", {z.storage(), pairs, real_type(z.dtype())}, z,
                      view_as_complex);
}

Tensor view_as_complex(const Tensor& x) {
  check_precise("view_as_complex", x);
  if (x.dim() < 1 || x.size(-1) != 2)
    throw_error<ShapeError>("view_as_complex: needs [...,2], got {}", x.shape());
  bool together = x.strides().back() == 1 && x.layout().offset % 2 == 0;
  for (int i = 0; i < x.dim() - 1; ++i) together &= x.strides()[i] % 2 == 0;
  if (!together) return view_as_complex(x.clone());
  Layout numbers = selected(x.layout(), -1, 0);
  for (std::int64_t& stride : numbers.strides) stride /= 2;
  numbers.offset /= 2;
  return record_unary("view_as_complex", {x.storage(), numbers, complex_type(x.dtype())}, x,
                      view_as_real);
}

Tensor real(const Tensor& z) {
  return is_complex(check_defined("real", z).dtype()) ? view_as_real(z).select(-1, 0) : z;
}
Tensor imag(const Tensor& z) {
  check_complex("imag", z);
  return view_as_real(z).select(-1, 1);
}

Tensor complex(const Tensor& real, const Tensor& imag) {
  check_precise("complex", real);
  check_same_type("complex", real, imag);
  const Shape shape = broadcast_shapes("complex", real.shape(), imag.shape());
  return view_as_complex(stack({real.expand(shape), imag.expand(shape)}, -1));
}

Tensor polar(const Tensor& abs, const Tensor& angle) {
  check_precise("polar", abs);
  check_same_type("polar", abs, angle);
  return complex(abs * cos(angle), abs * sin(angle));
}

}  // namespace triad
