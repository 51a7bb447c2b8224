// The matrix product: brings the batch into the simplest shape, then oneDNN or our own blocked
// product.
#include <triad/backends/cpu/matmul.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::cpu {
namespace {

// An axis of size 1 may have any stride: gives it the one that makes the matrix easy to read.
void normalize(Index rows, Index columns, Index& row, Index& column) {
  if (columns == 1 && row != 1) column = 1;
  if (rows == 1 && column != 1) row = 1;
  if (rows == 1 && column == 1) row = columns;
  if (columns == 1 && row == 1) column = rows;
}

// Batch axes that lie one behind the other become one, and rows of a that all meet the same b
// become one tall matrix: a single large product is faster than many small ones.
MatrixProduct simplest(const Tensor& a, const Tensor& b, bool accumulate) {
  const int axes = a.dim() - 2;
  MatrixProduct p{.M = a.shape()[axes],
                  .N = b.shape()[axes + 1],
                  .K = b.shape()[axes],
                  .a_row = a.strides()[axes],
                  .a_column = a.strides()[axes + 1],
                  .b_row = b.strides()[axes],
                  .b_column = b.strides()[axes + 1],
                  .accumulate = accumulate};
  for (int i = axes - 1; i >= 0; --i) {
    const Index size = a.shape()[i], a_step = a.strides()[i], b_step = b.strides()[i];
    if (size == 1) continue;
    if (p.batch.empty()) {
      const bool tall = p.M == 1 ? p.a_column == 1 || a_step == 1 : a_step == p.M * p.a_row;
      if (b_step == 0 && tall) {
        if (p.M == 1) p.a_row = a_step;
        p.M *= size;
        continue;
      }
    } else if (a_step == p.a_batch[0] * p.batch[0] && b_step == p.b_batch[0] * p.batch[0]) {
      p.batch[0] *= size;
      continue;
    }
    p.batch.insert(0, size);
    p.a_batch.insert(0, a_step);
    p.b_batch.insert(0, b_step);
  }
  normalize(p.M, p.K, p.a_row, p.a_column);
  normalize(p.K, p.N, p.b_row, p.b_column);
  return p;
}

}  // namespace
}  // namespace triad::cpu

namespace triad::kernels {

using namespace cpu;

void matmul(Cpu, const Tensor& a, const Tensor& b, const Tensor& bias, bool accumulate,
            const Tensor& c) {
  if (c.numel() == 0) return;
  const MatrixProduct product = simplest(a, b, accumulate);
  visit_float("matmul", c.dtype(), [&]<class T>(T) {
    const T *a_data = a.data<T>(), *b_data = b.data<T>();
    const T* bias_data = bias.defined() ? bias.data<T>() : nullptr;
    T* c_data = c.data<T>();
    if constexpr (sizeof(T) == sizeof(float))
      if (matmul_onednn(product, a_data, b_data, bias_data, c_data)) return;
    matmul_blocked(product, a_data, b_data, bias_data, c_data);
  });
}

}  // namespace triad::kernels
