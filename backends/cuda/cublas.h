// Matrix products by cuBLASLt.
#pragma once

#include <compare>
#include <cstdint>

#include <triad/core/device.h>
#include <triad/core/dtype.h>

namespace triad::cuda {

// What else a product does, with `extra`; then it is one product, no batch.
enum class Epilogue {
  none,
  sums,       // extra[M] becomes the sums of a's rows; there is no bias
  gelu,       // extra[M,N] becomes the product, with its bias, and c gelu of that, by tanh
  gelu_grad,  // c is the product times gelu'(extra[M,N]); there is no bias
};

// c[M,N] = a[M,K] b[K,N], rows one behind the other, for each of a batch; none of M, N, K is 0.
// f32, f64, or bf16 or f16 summed in f32.
struct Gemm {
  DType dtype;
  std::int64_t M, N, K;
  bool transpose_a = false, transpose_b = false;  // a lies as [K,M], b as [N,K]
  std::int64_t a_row = 0, b_row = 0;  // from one row to the next as they lie; at least its length
  std::int64_t batch = 1;
  std::int64_t a_stride = 0, b_stride = 0, c_stride = 0;  // from one matrix to the next
  Epilogue epilogue = Epilogue::none;
  bool tf32 = false;  // f32 operands may be rounded to that

  auto operator<=>(const Gemm&) const = default;
};

// bias[N] is added to every row, or null. It and extra are aligned to 16 bytes. gelu's tanh is
// right to 2^-11, and N a multiple of 8 there. A batch is of 65,535 at most. False, with nothing
// done, where there is no such epilogue of such a product.
bool gemm(Cuda device, const Gemm& product, const void* a, const void* b, const void* bias, void* c,
          void* extra = nullptr);

}  // namespace triad::cuda
