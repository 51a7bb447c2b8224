// backends/cuda/launch.h and mma.h in plain C++: what instructions of the GPU mean. Which lane has
// what of their operands, mma.h says.
#pragma once

#include <bit>

#include <simt.h>
#include <triad/backends/cuda/launch.h>
#include <triad/core/dtype.h>

namespace triad::cuda {

// ---------------------------------------------------------------------- shared memory

template <class T, int N> using Shared = simt::SharedArray<T, N>;
template <class T> T* dynamic_shared() { return static_cast<T*>(simt::dynamic_shared()); }
template <int groups_left> void wait_copies() { simt::wait_copies(groups_left); }
inline void copy_later(void* shared, const void* source, bool there) {
  simt::copy_later(shared, there ? source : nullptr);
}
using simt::check_aligned, simt::commit_copies;
template <class V> void store_16_bytes(void* to, const V& value) {
  static_assert(sizeof value == 16);
  std::memcpy(to, &value, 16);
}

// ---------------------------------------------------------------------- matrix instructions

template <class E> unsigned pair_of(float first, float second) {
  return E(first).bits | unsigned(E(second).bits) << 16;
}
// One element of a pair.
template <class E> float element_of(unsigned pair, int which) {
  return std::bit_cast<E>(std::uint16_t(which ? pair >> 16 : pair));
}

inline float fast_exp2(float x) { return x < -126 ? 0 : std::exp2(x); }

struct MatrixRow {
  std::uint16_t element[8];
};
template <bool transposed> void load_matrices(unsigned (&to)[4], const void* row) {
  check_aligned(row, 16);
  MatrixRow own;
  std::memcpy(&own, row, sizeof own);
  const auto rows = simt::exchange(transposed ? "ldmatrix.trans" : "ldmatrix", own);
  const int high = simt::lane / 4, low = simt::lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    auto at = [&](int column) -> unsigned {
      return transposed ? rows[8 * i + column].element[high] : rows[8 * i + high].element[column];
    };
    to[i] = at(low) | at(low + 1) << 16;
  }
}

// What a lane has of both operands.
template <int A, int B> struct Operands { float a[A], b[B]; };
template <class E>
void multiply_add(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  Operands<8, 4> own;
  for (int i = 0; i < 8; ++i) own.a[i] = element_of<E>(a[i / 2], i % 2);
  for (int i = 0; i < 4; ++i) own.b[i] = element_of<E>(i / 2 ? b1 : b0, i % 2);
  const auto all = simt::exchange("mma.m16n8k16", own);
  const int row = simt::lane / 4, column = simt::lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {  // of the four lanes that hold a row of a, and a column of b
    const auto left = all[row * 4 + i];
    const Operands<8, 4> right[] = {all[column * 4 + i], all[column * 4 + 4 + i]};
    for (int e = 0; e < 4; ++e)
      for (int k = 0; k < 4; ++k) d[e] += left.a[e / 2 * 2 + k / 2 * 4 + k % 2] * right[e % 2].b[k];
  }
}

inline void multiply_add_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  const auto short_of = [](unsigned bits) { return std::bit_cast<float>(bits & ~0x1fffu); };
  const auto all = simt::exchange("mma.m16n8k8", Operands<4, 2>{{short_of(a[0]), short_of(a[1]),
                                                                 short_of(a[2]), short_of(a[3])},
                                                                {short_of(b0), short_of(b1)}});
  for (int i = 0; i < 4; ++i) {
    const auto left = all[simt::lane / 4 * 4 + i];
    const int column = simt::lane % 4 * 8 + i;
    const Operands<4, 2> right[] = {all[column], all[column + 4]};
    for (int e = 0; e < 4; ++e)
      for (int k = 0; k < 2; ++k) d[e] += left.a[e / 2 + 2 * k] * right[e % 2].b[k];
  }
}

}  // namespace triad::cuda
