// Elements picked by index, and the transpose of that, without atomics: the same bits every time.
#include <triad/backends/cuda/reduce.h>

namespace triad::kernels {
namespace {

using namespace cuda;

// Of what has no place, as an index may say that could not be checked while a step was captured:
// bytes of ones, NaN.
template <class T> __device__ T nothing() {
  T value;
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
// warp per row and per kColumns columns. Each warp looks through all ids, 32 at a time: of 16,384
// that is 512 steps, less than the memory traffic of its sums.
constexpr int kColumns = 1024;

template <class T>
__global__ void add_rows(Index R, Index V, Index C, const T* dy, const Index* ids, T* dweight) {
  const Index r = blockIdx.x, left = Index(blockIdx.y) * kColumns + threadIdx.x;
  const Index id = ids[r];
  if (id < 0 || id >= V) return;
  for (Index first = 0; first < r; first += 32)
    if (__any_sync(kAllLanes, first + threadIdx.x < r && ids[first + threadIdx.x] == id)) return;
  double sum[kColumns / 32] = {};
  for (Index first = r / 32 * 32; first < R; first += 32) {
    const Index mine = first + threadIdx.x;
    unsigned found = __ballot_sync(kAllLanes, mine >= r && mine < R && ids[mine] == id);
    for (; found; found &= found - 1) {
      const T* row = dy + (first + __ffs(int(found)) - 1) * C;
      for (int k = 0; k < kColumns / 32; ++k)
        if (left + 32 * k < C) sum[k] += double(row[left + 32 * k]);
    }
  }
  for (int k = 0; k < kColumns / 32; ++k)
    if (left + 32 * k < C) dweight[id * C + left + 32 * k] = T(sum[k]);
}

// ---------------------------------------------------------------------- along the last axis

// The rows of x, of an index and of y.
struct IndexedRows {
  Axes<3> rows;
  Index length, x_length, y_length, x_step, index_step, y_step;

  IndexedRows(const Tensor& x, const Tensor& index, const Tensor& y)
      : rows(without_last(index.shape()), {&x.strides(), &index.strides(), &y.strides()}),
        length(index.shape().back()), x_length(x.shape().back()), y_length(y.shape().back()),
        x_step(x.strides().back()), index_step(index.strides().back()), y_step(y.strides().back()) {
  }
};

template <class T> __global__ void gather(IndexedRows rows, const T* x, const Index* index, T* y) {
  for (Index i = first_index(); i < rows.rows.count * rows.length; i += stride()) {
    const Index row = i / rows.length, j = i % rows.length;
    const Index id = index[rows.rows.place(row, 1) + j * rows.index_step];
    const bool known = id >= 0 && id < rows.x_length;
    y[rows.rows.place(row, 2) + j * rows.y_step] =
        known ? x[rows.rows.place(row, 0) + id * rows.x_step] : nothing<T>();
  }
}

// A thread per row: two indices of a row may be the same, and their order counts.
template <class T>
__global__ void scatter_add(IndexedRows rows, const T* x, const Index* index, T* y) {
  for (Index row = first_index(); row < rows.rows.count; row += stride()) {
    const T* from = x + rows.rows.place(row, 0);
    const Index* ids = index + rows.rows.place(row, 1);
    T* to = y + rows.rows.place(row, 2);
    for (Index j = 0; j < rows.length; ++j) {
      const Index id = ids[j * rows.index_step];
      if (id < 0 || id >= rows.y_length) continue;
      T& sum = to[id * rows.y_step];
      sum = T(sum + from[j * rows.x_step]);
    }
  }
}

// A block per row. Each round finds the first of all that come after the one found before.
template <class T> __global__ void top(IndexedRows rows, First<T> first, const T* x, Index* index) {
  for (Index row = blockIdx.x; row < rows.rows.count; row += gridDim.x) {
    const T* from = x + rows.rows.place(row, 0);
    Entry<T> last{T(), -1};
    for (Index k = 0; k < rows.length; ++k) {
      Entry<T> best{T(), -1};
      for (Index j = threadIdx.x; j < rows.x_length; j += blockDim.x) {
        const Entry<T> entry{from[j * rows.x_step], j};
        if (last.place < 0 || first.comes_before(last, entry)) best = first(best, entry);
      }
      last = block_reduce(best, first);
      if (threadIdx.x == 0) index[rows.rows.place(row, 1) + k * rows.index_step] = last.place;
    }
  }
}

}  // namespace

void embedding(Cuda device, const Tensor& weight, const Tensor& ids, const Tensor& y) {
  const Index R = ids.numel(), blocks = std::min<Index>(ceil_div(R, 8), 1 << 20);
  visit_elements(weight.dtype(), [&]<class T>() {
    using D = typename OnDevice<T>::type;
    launch({device, dim3(unsigned(blocks)), dim3(32, 8)}, pick_rows<D>, R, weight.shape()[0],
           weight.shape()[1], data_of<T>(device, weight), data_of<Index>(device, ids),
           data_of<T>(device, y));
  });
}

void embedding_backward(Cuda device, const Tensor& dy, const Tensor& ids, const Tensor& dweight) {
  const Index R = ids.numel(), V = dweight.shape()[0], C = dweight.shape()[1];
  fill(device, 0, dweight);
  if (R == 0 || C == 0) return;
  visit_float("embedding_backward", dy.dtype(), [&]<class T>(T) {
    launch({device, dim3(unsigned(R), unsigned(ceil_div(C, kColumns))), dim3(32)}, add_rows<T>, R,
           V, C, data_of<T>(device, dy), data_of<Index>(device, ids), data_of<T>(device, dweight));
  });
}

void gather_last(Cuda device, const Tensor& x, const Tensor& index, const Tensor& y) {
  const IndexedRows rows(x, index, y);
  visit_elements(x.dtype(), [&]<class T>() {
    launch(grid_for(device, index.numel()), gather<typename OnDevice<T>::type>, rows,
           data_of<T>(device, x), data_of<Index>(device, index), data_of<T>(device, y));
  });
}

void scatter_add_last(Cuda device, const Tensor& x, const Tensor& index, const Tensor& y) {
  const IndexedRows rows(x, index, y);
  visit_elements(x.dtype(), [&]<class T>() {
    launch(grid_for(device, rows.rows.count), scatter_add<typename OnDevice<T>::type>, rows,
           data_of<T>(device, x), data_of<Index>(device, index), data_of<T>(device, y));
  });
}

void topk_last(Cuda device, const Tensor& x, bool largest, const Tensor& index) {
  const IndexedRows rows(x, index, index);
  visit_wide(x.dtype(), [&]<class T>(T) {
    if constexpr (!is_complex_v<T>)
      launch({device, dim3(unsigned(std::min<Index>(rows.rows.count, 1 << 20))),
              threads_for(rows.x_length)},
             top<T>, rows, First<T>{largest, largest}, data_of<T>(device, x),
             data_of<Index>(device, index));
  });
}

}  // namespace triad::kernels
