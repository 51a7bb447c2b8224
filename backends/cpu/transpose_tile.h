// transpose_tile: copies a small matrix so that its columns become rows. gemm_tile reads the right
// side of a product along its rows; this is how a matrix stored the other way gets there.
#pragma once

#include <triad/backends/cpu/vec.h>

#include <algorithm>
#include <cstddef>

namespace triad::cpu {

// A square of 16-byte registers, to[j][i] = factor * from[i][j]: 4 x 4 floats or 2 x 2 doubles.
inline void transpose_square(float factor, const float* from, Index from_row, float* to,
                             Index to_row) {
  constexpr hn::FixedTag<float, 4> four;
  constexpr hn::FixedTag<double, 2> pairs;
  const auto scale = hn::Set(four, factor);
  const auto row = [&](int i) { return hn::Mul(scale, hn::LoadU(four, from + i * from_row)); };
  const auto r0 = row(0), r1 = row(1), r2 = row(2), r3 = row(3);
  // Row i of `to` is column i of r0..r3. The first step pairs r0 with r1 and r2 with r3, the second
  // pairs the pairs.
  const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(four, r0, r1));
  const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(four, r2, r3));
  const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(four, r0, r1));
  const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(four, r2, r3));
  const auto store = [&](auto v, int j) {
    hn::StoreU(hn::BitCast(four, v), four, to + j * to_row);
  };
  store(hn::InterleaveLower(pairs, low01, low23), 0);
  store(hn::InterleaveUpper(pairs, low01, low23), 1);
  store(hn::InterleaveLower(pairs, high01, high23), 2);
  store(hn::InterleaveUpper(pairs, high01, high23), 3);
}

inline void transpose_square(double factor, const double* from, Index from_row, double* to,
                             Index to_row) {
  constexpr hn::FixedTag<double, 2> two;
  const auto scale = hn::Set(two, factor);
  const auto r0 = hn::Mul(scale, hn::LoadU(two, from));
  const auto r1 = hn::Mul(scale, hn::LoadU(two, from + from_row));
  hn::StoreU(hn::InterleaveLower(two, r0, r1), two, to);
  hn::StoreU(hn::InterleaveUpper(two, r0, r1), two, to + to_row);
}

// to[columns, rows] = factor * from[rows, columns]^T.
template <class T>
void transpose_tile(T factor, Index rows, Index columns, const T* from, Index from_row, T* to,
                    Index to_row) {
  constexpr Index kSide = 16 / sizeof(T);
  // So many rows of `to` are written to at a time: few enough that each one's cache line is still
  // there for the next piece, though lines a power of two apart share a handful of places.
  constexpr Index kBlock = 32;
  const Index whole_rows = rows / kSide * kSide, whole_columns = columns / kSide * kSide;
  for (Index block = 0; block < whole_columns; block += kBlock) {
    const Index end = std::min(block + kBlock, whole_columns);
    for (Index i = 0; i < whole_rows; i += kSide) {
      for (Index j = block; j < end; j += kSide)
        transpose_square(factor, from + i * from_row + j, from_row, to + j * to_row + i, to_row);
    }
  }
  for (Index i = 0; i < rows; ++i) {
    for (Index j = i < whole_rows ? whole_columns : 0; j < columns; ++j)
      to[j * to_row + i] = factor * from[i * from_row + j];
  }
}

}  // namespace triad::cpu
