// The matrix product: the batch in its simplest shape, then cuBLASLt.
#include <triad/backends/cuda/cublas.h>
#include <triad/backends/cuda/elements.h>
#include <triad/backends/matmul_shape.h>
#include <triad/core/cuda/tf32.h>

namespace triad::kernels {
namespace {

using namespace cuda;

// One call for the longest axis of the batch; the others are a loop. False, with nothing done,
// where cuBLASLt does not give the sums.
template <class T>
bool multiply(Cuda device, const MatrixProduct& p, const T* a, const T* b, const T* bias, T* c,
              T* sums) {
  Gemm gemm{.dtype = p.dtype, .M = p.M, .N = p.N, .K = p.K};
  gemm.tf32 = p.dtype == f32 && tf32_is_allowed;
  if (sums) gemm.epilogue = Epilogue::sums;
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
  constexpr Index kMost = 65535;  // products of one call
  for (Index i = 0, all = gemm.batch; i < others.count; ++i)
    for (Index first = 0; first < all; first += kMost) {
      gemm.batch = std::min(all - first, kMost);
      if (!cuda::gemm(device, gemm, a + others.place(i, 0) + first * gemm.a_stride,
                      b + others.place(i, 1) + first * gemm.b_stride, bias,
                      c + others.place(i, 2) * p.M * p.N + first * gemm.c_stride, sums))
        return false;
    }
  return true;
}

}  // namespace

void matmul(Cuda device, const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& c,
            const Tensor& sums) {
  const auto with_sums_apart = [&] {
    matmul(device, a, b, bias, c);
    const Tensor column = sums.with_layout(unsqueezed(sums.layout(), 1));
    if (!is_narrow(a.dtype())) return sum(device, a, column);
    const Tensor wide = empty(column.shape(), f32, a.device(), "matmul");
    sum(device, a, wide);
    copy(device, wide, column);
  };
  if (sums.defined() && (c.numel() == 0 || a.size(1) == 0 || !is_aligned(sums.first_byte())))
    return with_sums_apart();
  if (c.numel() == 0) return;
  const MatrixProduct p = simplest(a, b);
  if (p.K == 0) {
    if (bias.defined()) copy(device, bias.with_layout(expanded(bias.layout(), c.shape())), c);
    else fill(device, 0, c);
    return;
  }
  if (p.a_overlaps()) return matmul(device, contiguous_copy(device, a), b, bias, c, sums);
  if (p.b_overlaps()) return matmul(device, a, contiguous_copy(device, b), bias, c, sums);
  if (bias.defined() && !is_aligned(bias.first_byte()))
    return matmul(device, a, b, contiguous_copy(device, bias), c);
  visit_elements(c.dtype(), [&]<class T>() {
    if constexpr (is_floating_point(dtype_of<T>())) {
      if (!multiply<T>(device, p, data_of<T>(device, a), data_of<T>(device, b),
                       data_of<T>(device, bias), data_of<T>(device, c), data_of<T>(device, sums)))
        with_sums_apart();
    } else throw DTypeError("matmul: needs f32, f64, bf16 or f16");
  });
}

}  // namespace triad::kernels
