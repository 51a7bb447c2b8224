// What attention and the fp64 matrix product are made of: gemm_tile, C = A B or C += A B on tiles
// that lie in the caches, and transpose_tile for a B that is stored the other way.
//
// A block of C, kTileRows rows of kTileCols registers each, stays in registers while k runs over
// the inner dimension: step k multiplies a row piece of B by kTileRows scalars of A. Each register
// of B is used kTileRows times and each scalar of A kTileCols times, so the multipliers, not the
// loads, set the pace. (Goto, van de Geijn, "Anatomy of high-performance matrix multiplication",
// 2008.) A may have any strides: a transposed A costs nothing. B and C have contiguous rows.
//
// The sum over k runs in order: an element's bits depend on its row of A and column of B alone.
#pragma once

#include <triad/backends/cpu/vec.h>

namespace triad::cpu {

// A matrix whose element (i, j) stands at data[i * row + j * column].
template <class T> struct Strided {
  const T* data;
  Index row, column;
};

// 64-byte registers come in a set of 32, smaller ones in a set of 16. Of 32, 6 x 4 hold C, 4 a row
// of B, 1 a scalar of A; of 16, they are 6 x 2, 2 and 1.
inline constexpr int kTileRows = 6, kTileCols = sizeof(Vec<float>) == 64 ? 4 : 2;

// A block of C: Rows rows, Cols registers, of the last one only the lanes `in_use` unless Whole.
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
  for (; k > 0; --k, a.data += a.column, b += b_row) {
    Vec<T> bs[Cols];
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) bs[j] = load(b, j);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const Vec<T> scalar(a.data[i * a.row]);
#pragma GCC unroll 8
      for (int j = 0; j < Cols; ++j) sum[i][j] = fma(scalar, bs[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
    T* row = c + i * c_row;
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j)
      if (Whole || j < Cols - 1) sum[i][j].store(row + j * kLanes);
      else hn::BlendedStore(sum[i][j].raw, in_use, Vec<T>::tag, row + j * kLanes);
  }
}

// All rows of C in a strip of Cols registers: blocks of Rows rows, then blocks of fewer.
template <class T, int Rows, int Cols>
inline void gemm_strip(Index m, Index k, Strided<T> a, const T* b, Index b_row, T* c, Index c_row,
                       Index last, bool accumulate) {
  const auto in_use = hn::FirstN(Vec<T>::tag, last);
  const auto block =
      last == Vec<T>::lanes ? gemm_block<T, Rows, Cols, true> : gemm_block<T, Rows, Cols, false>;
  for (; m >= Rows; m -= Rows, a.data += Rows * a.row, c += Rows * c_row)
    block(k, a, b, b_row, c, c_row, in_use, accumulate);
  if constexpr (Rows > 1)
    if (m > 0) gemm_strip<T, Rows - 1, Cols>(m, k, a, b, b_row, c, c_row, last, accumulate);
}

// c[m,n] = a[m,k] b[k,n], or += when `accumulate`. Rows of b lie b_row apart, those of c c_row.
// Strips of Cols registers, then the rest in narrower ones.
template <class T, int Cols = kTileCols>
void gemm_tile(Index m, Index n, Index k, Strided<T> a, const T* b, Index b_row, T* c, Index c_row,
               bool accumulate) {
  constexpr Index kLanes = Vec<T>::lanes, kWidth = Cols * kLanes;
  while (n > kWidth - kLanes) {
    const Index width = std::min(n, kWidth), last = width - (kWidth - kLanes);
    gemm_strip<T, kTileRows, Cols>(m, k, a, b, b_row, c, c_row, last, accumulate);
    b += width;
    c += width;
    n -= width;
  }
  if constexpr (Cols > 1)
    if (n > 0) gemm_tile<T, Cols - 1>(m, n, k, a, b, b_row, c, c_row, accumulate);
}

// A square of 16-byte registers, to[j][i] = factor * from[i][j]: 4 x 4 floats or 2 x 2 doubles.
template <class T>
inline void transpose_square(T factor, const T* from, Index from_row, T* to, Index to_row) {
  constexpr hn::FixedTag<T, 16 / sizeof(T)> tag;
  constexpr hn::FixedTag<double, 2> halves;
  const auto scale = hn::Set(tag, factor);
  const auto row = [&](int i) { return hn::Mul(scale, hn::LoadU(tag, from + i * from_row)); };
  // The lower halves of both make row j of `to`, the upper ones the next.
  const auto store = [&](auto left, auto right, int j) {
    const auto a = hn::BitCast(halves, left), b = hn::BitCast(halves, right);
    hn::StoreU(hn::BitCast(tag, hn::InterleaveLower(halves, a, b)), tag, to + j * to_row);
    hn::StoreU(hn::BitCast(tag, hn::InterleaveUpper(halves, a, b)), tag, to + (j + 1) * to_row);
  };
  const auto r0 = row(0), r1 = row(1);
  if constexpr (sizeof(T) == sizeof(double)) store(r0, r1, 0);
  else {
    const auto r2 = row(2), r3 = row(3);
    store(hn::InterleaveLower(tag, r0, r1), hn::InterleaveLower(tag, r2, r3), 0);
    store(hn::InterleaveUpper(tag, r0, r1), hn::InterleaveUpper(tag, r2, r3), 2);
  }
}

// to[columns, rows] = factor * from[rows, columns]^T.
template <class T>
void transpose_tile(T factor, Index rows, Index columns, const T* from, Index from_row, T* to,
                    Index to_row) {
  constexpr Index kSide = 16 / sizeof(T);
  // Rows of `to` that are written to at a time: so few that each one's cache line is still there
  // for the next piece, though lines a power of two apart share a handful of places.
  constexpr Index kBlock = 32;
  const Index whole_rows = rows / kSide * kSide, whole_columns = columns / kSide * kSide;
  for (Index block = 0; block < whole_columns; block += kBlock) {
    const Index end = std::min(block + kBlock, whole_columns);
    for (Index i = 0; i < whole_rows; i += kSide)
      for (Index j = block; j < end; j += kSide)
        transpose_square(factor, from + i * from_row + j, from_row, to + j * to_row + i, to_row);
  }
  for (Index i = 0; i < rows; ++i)
    for (Index j = i < whole_rows ? whole_columns : 0; j < columns; ++j)
      to[j * to_row + i] = factor * from[i * from_row + j];
}

}  // namespace triad::cpu
