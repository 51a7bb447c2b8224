// The instructions of tensor cores and what goes with them (PTX ISA 8.0, "warp level matrix
// instructions"), each beside its meaning in plain C++. All 32 lanes of a warp call them together.
//
// An operand of 16-bit elements is held in pairs, the first in the low half. Of a matrix [8,8],
// lane l holds the pair of row l / 4 at columns 2 (l % 4) and the next.
#pragma once

#include <cmath>

#include <triad/backends/cuda/launch.h>
#include <triad/core/dtype.h>

namespace triad::cuda {

// f(0), ..., f(N - 1), `by` of them a turn of the loop. Where the compiler knows all indices of an
// array, its elements are registers.
template <int N, int by = N, class F> __device__ void repeat(const F& f) {
#ifdef __CUDACC__
#pragma unroll(by)
#endif
  for (int i = 0; i < N; ++i) f(i);
}

// One element of a pair.
template <class E> TRIAD_HD float element(unsigned pair, int which) {
  return std::bit_cast<E>(std::uint16_t(which ? pair >> 16 : pair));
}

#ifndef __CUDACC__
namespace meaning {

struct Row {
  std::uint16_t element[8];
};
struct Operands {
  unsigned a[4], b[2];
};

}  // namespace meaning
#endif

// Two elements, each rounded to the nearest.
template <class E> __device__ unsigned pair_of(float first, float second) {
#ifdef __CUDACC__
  unsigned pair;
  if constexpr (std::is_same_v<E, float16>)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return E(first).bits | unsigned(E(second).bits) << 16;
#endif
}

// 2^x to 2 ulp; what is below 2^-126 is 0.
__device__ inline float fast_exp2(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return x < -126 ? 0 : std::exp2(x);
#endif
}

// Four matrices [8,8] of 16-bit elements from shared memory: `row` is the address, a multiple of 16
// bytes, of row lane % 8 of matrix lane / 8. With `transposed`, matrices come out so.
template <bool transposed> __device__ void load_matrices(unsigned (&to)[4], const void* row) {
#ifdef __CUDACC__
  const unsigned from = unsigned(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
#else
  check_aligned(row, 16);
  meaning::Row own;
  std::memcpy(&own, row, sizeof own);
  const auto rows = simt::exchange(transposed ? "ldmatrix.trans" : "ldmatrix", own);
  const int high = simt::lane / 4, low = simt::lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    auto at = [&](int column) -> unsigned {
      return transposed ? rows[8 * i + column].element[high] : rows[8 * i + high].element[column];
    };
    to[i] = at(low) | at(low + 1) << 16;
  }
#endif
}

// d [16,8] += a [16,16] b [16,8], in float. Of a: rows 0-7 then 8-15 of columns 0-7, then the same
// of columns 8-15. Of b, as its transpose [8,16]: columns 0-7, 8-15. Of d, not in pairs: rows 0-7
// twice, rows 8-15 twice.
template <class E>
__device__ void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef __CUDACC__
  if constexpr (std::is_same_v<E, float16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const auto all =
      simt::exchange("mma.m16n8k16", meaning::Operands{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const int row = simt::lane / 4, column = simt::lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {  // of the four lanes that hold a row of a, and a column of b
    const meaning::Operands left = all[row * 4 + i];
    const meaning::Operands right[] = {all[column * 4 + i], all[column * 4 + 4 + i]};
    for (int e = 0; e < 4; ++e)
      for (int k = 0; k < 4; ++k)
        d[e] +=
            element<E>(left.a[e / 2 + k / 2 * 2], k % 2) * element<E>(right[e % 2].b[k / 2], k % 2);
  }
#endif
}

// The same of floats, which tensor cores see without their last 13 bits (TF32): d [16,8] += a
// [16,8] b [8,8]. A float takes the place of a pair: of a matrix [8,4], lane l holds row l / 4,
// column l % 4.
__device__ inline void multiply_add_short(float (&d)[4], const unsigned (&a)[4],
                                          const unsigned (&b)[2]) {
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  const auto all =
      simt::exchange("mma.m16n8k8", meaning::Operands{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  const auto short_of = [](unsigned bits) { return std::bit_cast<float>(bits & ~0x1fffu); };
  for (int i = 0; i < 4; ++i)
    for (int e = 0; e < 4; ++e) {
      const meaning::Operands left = all[simt::lane / 4 * 4 + i];
      const meaning::Operands right = all[simt::lane % 4 * 8 + e % 2 * 4 + i];
      for (int k = 0; k < 2; ++k) d[e] += short_of(left.a[e / 2 + 2 * k]) * short_of(right.b[k]);
    }
#endif
}

// d += a b of floats, to 2^-21 of a product. A float is the sum of one that keeps 11 bits, the
// nearest, and another that needs 12; the product of two of the latter is left out. Tensor cores
// cut off what a sum in float cannot hold: d should be one of few products, and further sums made
// elsewhere, or what is cut off adds up.
template <>
__device__ inline void multiply_add<float>(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                           unsigned b1) {
  unsigned high_a[4], low_a[4], high_b[2], low_b[2];
  const auto split = [](unsigned bits, unsigned& high, unsigned& low) {
    high = (bits + 0x1000) & ~0x1fffu;
    low = std::bit_cast<unsigned>(std::bit_cast<float>(bits) - std::bit_cast<float>(high));
  };
  repeat<4>([&](int i) { split(a[i], high_a[i], low_a[i]); });
  repeat<2>([&](int i) { split(i ? b1 : b0, high_b[i], low_b[i]); });
  multiply_add_short(d, low_a, high_b);
  multiply_add_short(d, high_a, low_b);
  multiply_add_short(d, high_a, high_b);
}

}  // namespace triad::cuda
