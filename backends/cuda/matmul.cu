// The matrix product: the batch in its simplest shape, then cuBLASLt.
#include <triad/backends/cuda/cublas.h>
#include <triad/backends/cuda/elements.h>
#include <triad/backends/matmul_shape.h>

namespace triad::kernels {
namespace {

using namespace cuda;

// One call for the longest axis of the batch; the others are a loop.
template <class T>
void multiply(Cuda device, const MatrixProduct& p, const T* a, const T* b, const T* bias, T* c) {
  Gemm gemm{.dtype = p.dtype, .M = p.M, .N = p.N, .K = p.K};
  gemm.transpose_a = p.a_column != 1, gemm.transpose_b = p.b_column != 1;
  gemm.a_row = gemm.transpose_a ? p.a_column : p.a_row;
  gemm.b_row = gemm.transpose_b ? p.b_column : p.b_row;
  const Shape c_batch = contiguous_layout(p.batch).strides;
  Shape loop = p.batch;
  if (!loop.empty()) {
    const int longest = int(std::max_element(loop.begin(), loop.end()) - loop.begin());
    gemm.batch = loop[longest], loop[longest] = 1;
    gemm.a_stride = p.a_batch[longest], gemm.b_stride = p.b_batch[longest];
    gemm.c_stride = c_batch[longest] * p.M * p.N;
  }
  const Axes<3> others(loop, {&p.a_batch, &p.b_batch, &c_batch});
  for (Index i = 0; i < others.count; ++i)
    cuda::gemm(device, gemm, a + others.place(i, 0), b + others.place(i, 1), bias,
               c + others.place(i, 2) * p.M * p.N);
}

}  // namespace

void matmul(Cuda device, const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& c) {
  if (c.numel() == 0) return;
  const MatrixProduct p = simplest(a, b);
  if (p.K == 0) {
    if (bias.defined()) copy(device, bias.with_layout(expanded(bias.layout(), c.shape())), c);
    else fill(device, 0, c);
    return;
  }
  if (p.a_overlaps()) return matmul(device, contiguous_copy(device, a), b, bias, c);
  if (p.b_overlaps()) return matmul(device, a, contiguous_copy(device, b), bias, c);
  if (bias.defined() && !is_aligned(bias.first_byte()))
    return matmul(device, a, b, contiguous_copy(device, bias), c);
  visit_elements(c.dtype(), [&]<class T>() {
    if constexpr (is_floating_point(dtype_of<T>()))
      multiply<T>(device, p, data_of<T>(device, a), data_of<T>(device, b), data_of<T>(device, bias),
                  data_of<T>(device, c));
    else throw DTypeError("matmul: needs f32, f64, bf16 or f16");
  });
}

}  // namespace triad::kernels
