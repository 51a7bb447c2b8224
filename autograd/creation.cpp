#include <cmath>

#include <triad/autograd/op_helpers.h>

namespace triad {

// y as the options say.
static Tensor finished(const Tensor& y, const TensorOptions& options) {
  return y.to(options.device).to(options.dtype).requires_grad_(options.requires_grad);
}

// An empty tensor that `write` fills.
template <class Write>
static Tensor create(const Shape& shape, const TensorOptions& options, Write write,
                     const char* op = __builtin_FUNCTION()) {
  Tensor y = empty(shape, options.dtype, options.device, op);
  on(options.device, op, [&](auto device) { write(device, y); });
  return y.requires_grad_(options.requires_grad);
}

// Random numbers of a floating type, drawn in f32 for narrow ones.
template <class Kernel>
static Tensor drawn(const char* op, const Shape& shape, const TensorOptions& options,
                    Kernel kernel) {
  if (!is_floating_point(options.dtype))
    throw_error<DTypeError>("{}: needs f32 or f64, got {}", op, options.dtype);
  Tensor y = empty(shape, wide_type(options.dtype), options.device, op);
  on(options.device, op, [&](auto device) { kernel(device, next_stream(), y); });
  return finished(y, options);
}

static TensorOptions like(const char* op, const Tensor& x) {
  return {.dtype = check_defined(op, x).dtype(), .device = x.device()};
}

Tensor full(const Shape& shape, double value, TensorOptions options) {
  return create(shape, options, [&](auto device, auto& y) { kernels::fill(device, value, y); });
}

Tensor arange(double start, double end, double step, TensorOptions options) {
  const double count = std::ceil((end - start) / step);
  if (!(count >= 0 && count < 0x1p62))  // NaN too, as from a step of 0 between equal ends
    throw_error<ValueError>("arange: no steps of {} lead from {} to {}", step, start, end);
  return create({std::int64_t(count)}, options,
                [&](auto device, auto& y) { kernels::arange(device, start, step, y); });
}

void Nested::collect(std::vector<double>& values, Shape& shape, int depth) const {
  if (!is_list_) return values.push_back(value_);
  if (depth == shape.rank()) shape.push_back(std::int64_t(parts_.size()));
  bool even = shape[depth] == std::int64_t(parts_.size());
  for (const Nested& part : parts_) even &= part.is_list_ == parts_[0].is_list_;
  if (!even) throw_error<ShapeError>("tensor: the lists at depth {} are uneven", depth);
  for (const Nested& part : parts_) part.collect(values, shape, depth + 1);
}

Tensor tensor(std::initializer_list<Nested> parts, TensorOptions options) {
  std::vector<double> values;
  Shape shape;
  Nested(parts).collect(values, shape);
  return finished(from_vector(values, shape), options);
}

Tensor empty_like(const Tensor& x, const char* op) {
  return empty(check_defined("empty_like", x).shape(), x.dtype(), x.device(), op);
}
Tensor full_like(const Tensor& x, double value) {
  return full(x.shape(), value, like("full_like", x));
}
Tensor rand_like(const Tensor& x) { return rand(x.shape(), like("rand_like", x)); }
Tensor randn_like(const Tensor& x) { return randn(x.shape(), like("randn_like", x)); }

Tensor linspace(double start, double end, std::int64_t steps, TensorOptions options) {
  if (steps < 0) throw_error<ValueError>("linspace: needs steps >= 0, got {}", steps);
  // From both ends, so that both are met exactly.
  Tensor i = arange(double(steps), {.dtype = f64});
  const double step = steps > 1 ? (end - start) / double(steps - 1) : 0;
  Tensor y = where(i < double(steps) / 2, i * step + start, (i - double(steps - 1)) * step + end);
  return finished(y, options);
}

Tensor eye(std::int64_t n, TensorOptions options) {
  Tensor i = arange(double(n), {.dtype = i64, .device = options.device});
  return finished(i.unsqueeze(1) == i, options);
}

Tensor rand(const Shape& shape, TensorOptions options) {
  return drawn("rand", shape, options, [](auto... args) { kernels::uniform(args...); });
}
Tensor randn(const Shape& shape, TensorOptions options) {
  return drawn("randn", shape, options, [](auto... args) { kernels::normal(args...); });
}

Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape) {
  if (low >= high) throw_error<ValueError>("randint: needs low < high, got {} and {}", low, high);
  return create(shape, {.dtype = i64}, [&](auto device, const Tensor& y) {
    kernels::random_integers(device, next_stream(), low, high, y);
  });
}

Tensor randperm(std::int64_t n) { return topk(rand({n}, {.dtype = f64}), n).second; }

Tensor bernoulli(const Tensor& p) {
  if (!all(logical_and(p >= 0.0, p <= 1.0)).item<bool>())
    throw_error<ValueError>("bernoulli: needs probabilities from 0 to 1");
  return (rand(p.shape(), {.device = p.device()}) < p.detach().to(f32)).to(p.dtype());
}

// Of independent exponential waiting times with rates p, the first ones (Gumbel's trick).
Tensor multinomial(const Tensor& p, std::int64_t n, bool replacement) {
  if (p.dim() < 1 || n < 1 || (!replacement && n > p.size(-1)))
    throw_error<ValueError>("multinomial: needs p [...,C] and 1 to C draws, got {} and {}",
                            p.shape(), n);
  Tensor rates = p.detach().to(f64);
  if (!all(logical_and(isfinite(rates), rates >= 0.0)).item<bool>() ||
      !all(sum(rates > 0.0, {-1}) >= double(replacement ? 1 : n)).item<bool>())
    throw_error<ValueError>("multinomial: needs weights >= 0 and enough of them above 0");
  auto waiting = [&](const Tensor& x) { return -log(1.0 - rand_like(x)) / x; };
  if (!replacement) return topk(waiting(rates), n, -1, false).second;
  Shape shape = p.shape();
  shape.insert(p.dim() - 1, n);
  return argmin(waiting(rates.unsqueeze(-2).expand(shape)), -1);
}

Tensor tril(const Tensor& x, std::int64_t offset) {
  check_defined("tril", x);
  const Tensor kept = tril_mask(x.size(-2), x.size(-1), offset).to(x.device());
  return masked_fill(x, logical_not(kept), 0);
}
Tensor triu(const Tensor& x, std::int64_t offset) {
  check_defined("triu", x);
  return masked_fill(x, tril_mask(x.size(-2), x.size(-1), offset - 1).to(x.device()), 0);
}

Tensor tril_mask(std::int64_t rows, std::int64_t columns, std::int64_t offset) {
  Tensor row = arange(double(offset), double(offset + rows), 1, {.dtype = i64}).unsqueeze(1);
  return arange(double(columns), {.dtype = i64}) <= row;
}

}  // namespace triad
