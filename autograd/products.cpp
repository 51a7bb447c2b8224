#include <triad/autograd/products.h>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {
namespace {

// x as a kernel reads it: one of the last two axes has stride 1 (or is of size 1 with nothing
// between).
Tensor readable(const Tensor& x) {
  const int last = x.dim() - 1;
  const bool rows = x.strides()[last] == 1 || x.shape()[last] == 1;
  const bool columns = x.strides()[last - 1] == 1 || x.shape()[last - 1] == 1;
  return rows || columns ? x.detach() : x.detach().contiguous();
}

Shape batch_of(const Shape& shape) { return {shape.begin(), shape.end() - 2}; }

Shape matrix_shape(Shape batch, std::int64_t rows, std::int64_t columns) {
  batch.push_back(rows);
  batch.push_back(columns);
  return batch;
}

// Both of at least two axes.
Tensor product(const Tensor& a, const Tensor& b) {
  const std::int64_t M = a.size(-2), K = a.size(-1), N = b.size(-1);
  if (b.size(-2) != K)
    throw_error<ShapeError>("matmul: needs [...,M,K] and [...,K,N], got {} and {}", a.shape(),
                            b.shape());
  const Shape batch = broadcast_shapes("matmul", batch_of(a.shape()), batch_of(b.shape()));
  Tensor c = empty(matrix_shape(batch, M, N), a.dtype(), a.device());
  Tensor left = readable(a), right = readable(b);
  left = left.with_layout(expanded(left.layout(), matrix_shape(batch, M, K)));
  right = right.with_layout(expanded(right.layout(), matrix_shape(batch, K, N)));
  on(a.device(), [&](auto device) { kernels::matmul(device, left, right, {}, false, c); });
  return record("matmul", c, {a, b}, [a, b](const Tensor& g) {
    return Tensors{
        a.requires_grad() ? sum_to(matmul(g, b.transpose(-1, -2)), a.shape()) : Tensor(),
        b.requires_grad() ? sum_to(matmul(a.transpose(-1, -2), g), b.shape()) : Tensor()};
  });
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_float("matmul", a);
  check_same_type("matmul", a, b);
  if (a.dim() == 0 || b.dim() == 0)
    throw_error<ShapeError>("matmul: needs at least one axis each, got {} and {}", a.shape(),
                            b.shape());
  Tensor c = product(a.dim() == 1 ? a.unsqueeze(0) : a, b.dim() == 1 ? b.unsqueeze(1) : b);
  if (b.dim() == 1) c = c.squeeze(-1);
  if (a.dim() == 1) c = c.squeeze(b.dim() == 1 ? -1 : -2);
  return c;
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_float("linear", x);
  check_same_type("linear", x, weight);
  if (bias.defined()) check_same_type("linear", x, bias);
  if (weight.dim() != 2 || x.dim() < 1 || x.size(-1) != weight.size(1) ||
      (bias.defined() && bias.shape() != Shape{weight.size(0)}))
    throw_error<ShapeError>("linear: needs x [...,K], weight [N,K], bias [N], got {}, {}, {}",
                            x.shape(), weight.shape(), bias.shape());
  const std::int64_t N = weight.size(0), K = weight.size(1);
  Shape shape = x.shape();
  shape[x.dim() - 1] = N;
  const std::int64_t R = Shape(shape.begin(), shape.end() - 1).numel();
  Tensor rows = x.detach().reshape({R, K}), y = empty({R, N}, x.dtype(), x.device());
  Tensor w = readable(weight), b = bias.defined() ? bias.detach().contiguous() : bias;
  on(x.device(),
     [&](auto device) { kernels::matmul(device, readable(rows), w.transpose(0, 1), b, false, y); });
  return record("linear", y.reshape(shape), {x, weight, bias},
                [x, weight, bias, R, K, N](const Tensor& g) {
                  Tensor rows_g = g.reshape({R, N});
                  Tensors grads(3);
                  if (x.requires_grad()) grads[0] = matmul(rows_g, weight).reshape(x.shape());
                  if (weight.requires_grad())
                    grads[1] = matmul(rows_g.transpose(0, 1), x.reshape({R, K}));
                  if (bias.requires_grad()) grads[2] = sum(rows_g, {0});
                  return grads;
                });
}

}  // namespace triad
