// The instructions of tensor cores and what goes with them (PTX ISA 8.0, "warp level matrix
// instructions"). All 32 lanes of a warp call them together. What they mean in plain C++ is in
// tests/cuda_on_cpu/instructions.h.
//
// An operand of 16-bit elements is held in pairs, the first in the low half. Of a matrix [8,8],
// lane l holds the pair of row l / 4 at columns 2 (l % 4) and the next.
#pragma once

#include <triad/backends/cuda/launch.h>
#include <triad/core/dtype.h>

namespace triad::cuda {

// f(0), ..., f(N - 1), `by` of them a turn of the loop. Where the compiler knows all indices of an
// array, its elements are registers.
template <int N, int by = N, class F> __device__ void repeat(const F& f) {
#pragma unroll(by)
  for (int i = 0; i < N; ++i) f(i);
}

#ifdef __CUDACC__

// One element of a pair.
template <class E> __device__ float element_of(unsigned pair, int which) {
  return std::bit_cast<E>(std::uint16_t(which ? pair >> 16 : pair));
}

// Two elements, each rounded to the nearest.
template <class E> __device__ unsigned pair_of(float first, float second) {
  unsigned pair;
  if constexpr (std::is_same_v<E, float16>)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// 2^x to 2 ulp; what is below 2^-126 is 0.
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Four matrices [8,8] of 16-bit elements from shared memory: `row` is the address, a multiple of 16
// bytes, of row lane % 8 of matrix lane / 8. With `transposed`, matrices come out so.
template <bool transposed> __device__ void load_matrices(unsigned (&to)[4], const void* row) {
  const unsigned from = unsigned(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
}

#define TRIAD_MMA(shape_and_types)                                                                 \
  asm("mma.sync.aligned." shape_and_types " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                             \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))

// d [16,8] += a [16,16] b [16,8], in float. Of a: rows 0-7 then 8-15 of columns 0-7, then the same
// of columns 8-15. Of b, as its transpose [8,16]: columns 0-7, 8-15. Of d, not in pairs: rows 0-7
// twice, rows 8-15 twice.
template <class E>
__device__ void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (std::is_same_v<E, float16>) TRIAD_MMA("m16n8k16.row.col.f32.f16.f16.f32");
  else TRIAD_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}

// The same of floats, which tensor cores see without their last 13 bits (TF32): d [16,8] += a
// [16,8] b [8,8]. A float takes the place of a pair: of a matrix [8,4], lane l holds row l / 4,
// column l % 4.
__device__ inline void multiply_add_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
  TRIAD_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}

#undef TRIAD_MMA
#endif

// d += a b of floats, to 2^-21 of a product. A float is the sum of one that keeps 11 bits, the
// nearest, and another that needs 12; the product of two of the latter is left out. Tensor cores
// cut off what a sum in float cannot hold: d should be one of few products, and further sums made
// elsewhere, or what is cut off adds up. (A float that rounds up to infinity gives NaN.)
template <>
__device__ inline void multiply_add<float>(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                           unsigned b1) {
  const auto high = [](unsigned bits) { return (bits + 0x1000) & ~0x1fffu; };
  const auto low = [&](unsigned bits) {
    return std::bit_cast<unsigned>(std::bit_cast<float>(bits) - std::bit_cast<float>(high(bits)));
  };
  unsigned high_a[4], low_a[4];
  repeat<4>([&](int i) { high_a[i] = high(a[i]), low_a[i] = low(a[i]); });
  multiply_add_tf32(d, low_a, high(b0), high(b1));
  multiply_add_tf32(d, high_a, low(b0), low(b1));
  multiply_add_tf32(d, high_a, high(b0), high(b1));
}

}  // namespace triad::cuda
