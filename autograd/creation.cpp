#include <triad/autograd/creation.h>

#include <cmath>

#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {
namespace {

// An empty tensor that `write` fills, a leaf if asked for.
template <class Write>
Tensor create(const Shape& shape, const TensorOptions& options, Write write) {
  Tensor y = empty(shape, options.dtype, options.device);
  on(options.device, [&](auto device) { write(device, y); });
  if (options.requires_grad) y.requires_grad_();
  return y;
}

void check_float(const char* op, const TensorOptions& options) {
  if (!is_floating_point(options.dtype))
    throw_error<DTypeError>("{}: needs f32 or f64, got {}", op, options.dtype);
}

}  // namespace

Tensor full(const Shape& shape, double value, TensorOptions options) {
  return create(shape, options,
                [&](auto device, const Tensor& y) { kernels::fill(device, value, y); });
}

Tensor zeros(const Shape& shape, TensorOptions options) { return full(shape, 0, options); }
Tensor ones(const Shape& shape, TensorOptions options) { return full(shape, 1, options); }
Tensor scalar(double value, TensorOptions options) { return full({}, value, options); }

Tensor arange(double end, TensorOptions options) { return arange(0, end, 1, options); }

Tensor arange(double start, double end, double step, TensorOptions options) {
  const double count = std::ceil((end - start) / step);
  if (!(count >= 0 && count < 0x1p62))  // NaN too, as from a step of 0 between equal ends
    throw_error<ValueError>("arange: no steps of {} lead from {} to {}", step, start, end);
  return create({std::int64_t(count)}, options,
                [&](auto device, const Tensor& y) { kernels::arange(device, start, step, y); });
}

template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape, bool requires_grad) {
  Tensor y = empty(shape, dtype_of<T>());
  if (y.numel() != std::int64_t(values.size()))
    throw_error<ShapeError>("from_vector: {} values do not fill {}", values.size(), shape);
  std::copy(values.begin(), values.end(), y.data<T>());
  if (requires_grad) y.requires_grad_();
  return y;
}
template Tensor from_vector(const std::vector<float>&, const Shape&, bool);
template Tensor from_vector(const std::vector<double>&, const Shape&, bool);
template Tensor from_vector(const std::vector<std::int64_t>&, const Shape&, bool);
template Tensor from_vector(const std::vector<bool>&, const Shape&, bool);

Tensor rand(const Shape& shape, TensorOptions options) {
  check_float("rand", options);
  return create(shape, options,
                [&](auto device, const Tensor& y) { kernels::uniform(device, next_stream(), y); });
}

Tensor randn(const Shape& shape, TensorOptions options) {
  check_float("randn", options);
  return create(shape, options,
                [&](auto device, const Tensor& y) { kernels::normal(device, next_stream(), y); });
}

Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape) {
  if (low >= high) throw_error<ValueError>("randint: needs low < high, got {} and {}", low, high);
  return create(shape, {.dtype = i64}, [&](auto device, const Tensor& y) {
    kernels::random_integers(device, next_stream(), low, high, y);
  });
}

Tensor tril_mask(std::int64_t rows, std::int64_t columns, std::int64_t offset) {
  Tensor row = arange(double(offset), double(offset + rows), 1, {.dtype = i64}).unsqueeze(1);
  return arange(double(columns), {.dtype = i64}) <= row;
}

}  // namespace triad
