// The product for fp64, which oneDNN does not have, and for what oneDNN has no fast way to read.
//
// A task is a block of c. It walks along K in chunks, in order, so that the number of threads never
// changes a sum. The chunk of b is first copied to where its rows follow each other, and so is the
// chunk of a when it is stored by columns: read in place, a large matrix would take a page of
// memory and the same few cache sets with every row.
#include <triad/backends/cpu/gemm_tile.h>
#include <triad/backends/cpu/matmul.h>
#include <triad/backends/cpu/scratch.h>
#include <triad/backends/cpu/transpose_tile.h>
#include <triad/core/device.h>

namespace triad::cpu {
namespace {

// A chunk of b, kDepth x kColumns doubles, fills a quarter of a 1 MiB second cache level.
constexpr Index kRows = 96, kColumns = 128, kDepth = 256;

// to[k][i] = from(k, i), k < depth, i < width; one of the strides is 1.
template <class T>
void copy_panel(Index depth, Index width, const T* from, Index depth_stride, Index width_stride,
                T* to) {
  if (width_stride != 1) return transpose_tile(T(1), width, depth, from, width_stride, to, width);
  for (Index k = 0; k < depth; ++k) std::copy_n(from + k * depth_stride, width, to + k * width);
}

template <class T>
void block(const MatrixProduct& p, const T* a, const T* b, const T* bias, T* c, Index rows,
           Index columns, T* panels) {
  for (Index i = 0; i < rows; ++i) {
    T* row = c + i * p.N;
    if (!p.accumulate) std::fill_n(row, columns, T(0));
    for (Index j = 0; j < columns && bias; ++j) row[j] += bias[j];
  }
  for (Index k = 0; k < p.K; k += kDepth) {
    const Index depth = std::min(kDepth, p.K - k);
    T *a_panel = panels, *b_panel = panels + kRows * kDepth;
    copy_panel(depth, columns, b + k * p.b_row, p.b_row, p.b_column, b_panel);
    Strided<T> left{a + k * p.a_column, p.a_row, p.a_column};
    if (p.a_column != 1) {
      copy_panel(depth, rows, left.data, p.a_column, p.a_row, a_panel);
      left = {a_panel, 1, rows};
    }
    gemm_tile<T>(rows, columns, depth, left, b_panel, columns, c, p.N, true);
  }
}

}  // namespace

template <class T>
void matmul_blocked(const MatrixProduct& p, const T* a, const T* b, const T* bias, T* c) {
  const Index row_blocks = ceil_div(p.M, kRows), column_blocks = ceil_div(p.N, kColumns);
  const Index blocks = row_blocks * column_blocks, tasks = p.batch.numel() * blocks;
  // One thread is faster than waking others for less than some 10 us of work.
  const bool small = double(p.batch.numel()) * double(p.M) * double(p.N) * double(p.K) < 1e5;
  const Index threads = small ? 1 : std::min<Index>(tasks, get_num_threads());
#pragma omp parallel for schedule(dynamic) num_threads(int(threads))
  for (Index task = 0; task < tasks; ++task) {
    Index index = task / blocks;
    const T *a_matrix = a, *b_matrix = b;
    T* c_matrix = c + index * p.M * p.N;
    for (int axis = p.batch.rank() - 1; axis >= 0; --axis) {
      a_matrix += index % p.batch[axis] * p.a_batch[axis];
      b_matrix += index % p.batch[axis] * p.b_batch[axis];
      index /= p.batch[axis];
    }
    const Index i = task % blocks / column_blocks * kRows;
    const Index j = task % blocks % column_blocks * kColumns;
    block(p, a_matrix + i * p.a_row, b_matrix + j * p.b_column, bias ? bias + j : nullptr,
          c_matrix + i * p.N + j, std::min(kRows, p.M - i), std::min(kColumns, p.N - j),
          scratch<T>((kRows + kColumns) * kDepth));
  }
}

template void matmul_blocked(const MatrixProduct&, const float*, const float*, const float*,
                             float*);
template void matmul_blocked(const MatrixProduct&, const double*, const double*, const double*,
                             double*);

}  // namespace triad::cpu
