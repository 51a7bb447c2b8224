// gemm_tile: C = A B or C += A B on tiles that lie in the caches. What attention and the fp64
// matrix product are made of.
//
// A block of C, kRows rows of kCols registers each, stays in registers while k runs over the whole
// inner dimension: step k multiplies one row piece of B (kCols registers) by kRows scalars of A.
// Each register of B is used kRows times and each scalar of A kCols times, which is what lets the
// multipliers, and not the loads, set the pace. (Goto, van de Geijn, "Anatomy of high-performance
// matrix multiplication", 2008.) A is read scalar by scalar and may have any strides, so a
// transposed A costs nothing; B and C have contiguous rows.
//
// The sum over k runs in order, whatever the sizes: the bits of an element of C depend on its row
// of A and its column of B only.
#pragma once

#include <triad/backends/cpu/vec.h>

#include <algorithm>
#include <cstddef>

namespace triad::cpu {

// A matrix whose element (i, j) stands at data[i * row + j * column].
template <class T>
struct Strided {
  const T* data;
  Index row, column;
};

// 64-byte registers come in a set of 32, smaller ones in a set of 16. Of 32, 6 x 4 hold C, 4 a row
// of B, 1 a scalar of A; of 16, they are 6 x 2, 2 and 1.
template <class T>
struct TileShape {
  static constexpr int kRows = 6;
  static constexpr int kCols = sizeof(Vec<T>) == 64 ? 4 : 2;
};

// One block of C: Rows rows, Cols registers. Unless Whole, only the lanes `in_use` of the last
// register exist in memory.
template <class T, int Rows, int Cols, bool Whole>
inline void gemm_block(Index k, Strided<T> a, const T* b, Index b_row, T* c, Index c_row,
                       hn::Mask<typename Vec<T>::Tag> in_use, bool accumulate) {
  constexpr int kLanes = Vec<T>::lanes;
  const auto load = [in_use](const T* row, int j) -> Vec<T> {
    if (Whole || j < Cols - 1) return Vec<T>::load(row + j * kLanes);
    return hn::MaskedLoad(in_use, Vec<T>::tag, row + j * kLanes);
  };
  Vec<T> sum[Rows][Cols];
  if (accumulate) {
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < Cols; ++j) sum[i][j] = load(c + i * c_row, j);
    }
  }
  for (Index step = 0; step < k; ++step) {
    Vec<T> bs[Cols];
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) bs[j] = load(b, j);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const Vec<T> scalar(a.data[i * a.row]);
#pragma GCC unroll 8
      for (int j = 0; j < Cols; ++j) sum[i][j] = fma(scalar, bs[j], sum[i][j]);
    }
    a.data += a.column;
    b += b_row;
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
    T* row = c + i * c_row;
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) {
      if (Whole || j < Cols - 1) {
        sum[i][j].store(row + j * kLanes);
      } else {
        hn::BlendedStore(sum[i][j].raw, in_use, Vec<T>::tag, row + j * kLanes);
      }
    }
  }
}

// All rows of C in a strip of Cols registers: blocks of Rows rows, then the rest in blocks of
// fewer.
template <class T, int Rows, int Cols>
inline void gemm_strip(Index m, Index k, Strided<T> a, const T* b, Index b_row, T* c, Index c_row,
                       Index last, bool accumulate) {
  const auto in_use = hn::FirstN(Vec<T>::tag, last);
  const auto block =
      last == Vec<T>::lanes ? gemm_block<T, Rows, Cols, true> : gemm_block<T, Rows, Cols, false>;
  for (; m >= Rows; m -= Rows) {
    block(k, a, b, b_row, c, c_row, in_use, accumulate);
    a.data += Rows * a.row;
    c += Rows * c_row;
  }
  if constexpr (Rows > 1)
    if (m > 0) gemm_strip<T, Rows - 1, Cols>(m, k, a, b, b_row, c, c_row, last, accumulate);
}

template <class T, int Cols>
inline void gemm_columns(Index m, Index n, Index k, Strided<T> a, const T* b, Index b_row, T* c,
                         Index c_row, bool accumulate) {
  constexpr Index kLanes = Vec<T>::lanes, kWidth = Cols * kLanes;
  while (n > kWidth - kLanes) {
    const Index width = std::min(n, kWidth);
    gemm_strip<T, TileShape<T>::kRows, Cols>(m, k, a, b, b_row, c, c_row, width - (kWidth - kLanes),
                                             accumulate);
    b += width;
    c += width;
    n -= width;
  }
  if constexpr (Cols > 1)
    if (n > 0) gemm_columns<T, Cols - 1>(m, n, k, a, b, b_row, c, c_row, accumulate);
}

// c[m,n] = a[m,k] b[k,n], or += when `accumulate`. Rows of b lie b_row apart, those of c c_row.
template <class T>
void gemm_tile(Index m, Index n, Index k, Strided<T> a, const T* b, Index b_row, T* c, Index c_row,
               bool accumulate) {
  gemm_columns<T, TileShape<T>::kCols>(m, n, k, a, b, b_row, c, c_row, accumulate);
}

}  // namespace triad::cpu
