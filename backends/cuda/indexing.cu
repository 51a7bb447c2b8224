// Elements picked by index, and the transpose of that, without atomics: the same bits every time.
#include <triad/backends/cuda/reduce.h>

namespace triad::kernels {
namespace {

using namespace cuda;

// What an index outside gives: NaN, bytes of ones. The op has checked indices but for those of a
// captured step, which nobody can in time.
template <class T> __device__ T nothing() {
  T value;
  if constexpr (std::is_same_v<T, bool>) return true;
  memset(static_cast<void*>(&value), 0xff, sizeof value);
  return value;
}

// A warp per row.
template <class T>
__global__ void pick_rows(Index R, Index V, Index C, const T* table, const Index* ids, T* y) {
  const Index warps = Index(gridDim.x) * blockDim.y;
  for (Index r = Index(blockIdx.x) * blockDim.y + threadIdx.y; r < R; r += warps) {
    const Index id = ids[r];
    const bool known = id >= 0 && id < V;
    for (Index c = threadIdx.x; c < C; c += 32)
      y[r * C + c] = known ? table[id * C + c] : nothing<T>();
  }
}

// Row r adds up all rows of dy that have the same id, in their order, if it is the first of them; a
// warp per row and per kColumns columns. Each warp looks through all ids, 32 * kAtOnce at a time.
constexpr int kColumns = 1024, kAtOnce = 4;

template <class T>
__global__ void add_rows(Index R, Index V, Index C, const T* dy, const Index* ids, T* dweight) {
  const Index r = blockIdx.x % R, left = blockIdx.x / R * kColumns + threadIdx.x;
  const Index id = ids[r];
  if (id < 0 || id >= V) return;
  bool same[kAtOnce];  // of the lane's ids from `first` on, whether they are this one
  const auto compare = [&](Index first, Index from, Index to) {
    for (int j = 0; j < kAtOnce; ++j) {
      const Index i = first + 32 * j + threadIdx.x;
      same[j] = i >= from && i < to && ids[i] == id;
    }
  };
  for (Index first = 0; first < r; first += 32 * kAtOnce) {
    compare(first, 0, r);
    bool any = false;
    for (int j = 0; j < kAtOnce; ++j) any |= same[j];
    if (__any_sync(kAllLanes, any)) return;
  }
  double sum[kColumns / 32] = {};
  for (Index first = r / 32 * 32; first < R; first += 32 * kAtOnce) {
    compare(first, r, R);
    for (int j = 0; j < kAtOnce; ++j)
      for (unsigned found = __ballot_sync(kAllLanes, same[j]); found; found &= found - 1) {
        const T* row = dy + (first + 32 * j + __ffs(int(found)) - 1) * C;
        for (int k = 0; k < kColumns / 32; ++k)
          if (left + 32 * k < C) sum[k] += double(row[left + 32 * k]);
      }
  }
  T* to = dweight + id * C + left;
  for (int k = 0; k < kColumns / 32; ++k)
    if (left + 32 * k < C) to[32 * k] = T(double(to[32 * k]) + sum[k]);
}

// ---------------------------------------------------------------------- along the last axis

// Rows of x, of an index and of y.
template <class T> __global__ void gather(RowsOf<3> rows, const T* x, const Index* index, T* y) {
  for (Index i = first_index(); i < rows.count * rows.length[1]; i += stride()) {
    const Index row = i / rows.length[1], j = i % rows.length[1];
    const Index id = rows.at(index, 1, row)[j * rows.step[1]];
    const bool known = id >= 0 && id < rows.length[0];
    rows.at(y, 2, row)[j * rows.step[2]] =
        known ? rows.at(x, 0, row)[id * rows.step[0]] : nothing<T>();
  }
}

// A thread per row: two indices of a row may be the same, and their order counts.
template <class T>
__global__ void scatter_add(RowsOf<3> rows, const T* x, const Index* index, T* y) {
  for (Index row = first_index(); row < rows.count; row += stride()) {
    const T* from = rows.at(x, 0, row);
    const Index* ids = rows.at(index, 1, row);
    T* to = rows.at(y, 2, row);
    for (Index j = 0; j < rows.length[1]; ++j) {
      const Index id = ids[j * rows.step[1]];
      if (id < 0 || id >= rows.length[2]) continue;
      T& sum = to[id * rows.step[2]];
      sum = T(sum + from[j * rows.step[0]]);
    }
  }
}

}  // namespace

void embedding(Cuda device, const Tensor& weight, const Tensor& ids, const Tensor& y) {
  const Index R = ids.numel(), V = weight.shape()[0], C = weight.shape()[1];
  visit_elements(weight.dtype(), [&]<class T>() {
    launch(blocks_for(device, ceil_div(R, 8), dim3(32, 8)), pick_rows<T>, R, V, C, weight, ids, y);
  });
}

void embedding_backward(Cuda device, const Tensor& dy, const Tensor& ids, const Tensor& dweight) {
  const Index R = ids.numel(), V = dweight.shape()[0], C = dweight.shape()[1];
  if (R == 0 || C == 0) return;
  visit_float("embedding_backward", dy.dtype(), [&]<class T>(T) {
    launch({device, blocks_of(R * ceil_div(C, kColumns)), dim3(32)}, add_rows<T>, R, V, C, dy, ids,
           dweight);
  });
}

void gather_last(Cuda device, const Tensor& x, const Tensor& index, const Tensor& y) {
  visit_elements(x.dtype(), [&]<class T>() {
    launch(grid_for(device, index.numel()), gather<T>, RowsOf(x, index, y), x, index, y);
  });
}

void scatter_add_last(Cuda device, const Tensor& x, const Tensor& index, const Tensor& y) {
  const RowsOf rows(x, index, y);
  visit_elements(x.dtype(), [&]<class T>() {
    launch(grid_for(device, rows.count), scatter_add<T>, rows, x, index, y);
  });
}

}  // namespace triad::kernels
