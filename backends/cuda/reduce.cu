// Sums over any axes, and what else goes along the last one.
//
// As on the CPU a sum has two shapes: sequences, where the innermost axis in memory is summed over,
// one block each (long ones are cut into blocks of kChunk, by their length alone); and columns,
// where that axis stays. All sums are in double, or in integers that wrap around.
#include <triad/backends/cuda/reduce.h>

namespace triad::kernels {
namespace {

using namespace cuda;

template <class T>
using Sum = std::conditional_t<std::is_floating_point_v<Wide<T>>, double, std::uint64_t>;
template <class T> using Total = std::conditional_t<std::is_same_v<T, bool>, Index, Wide<T>>;

constexpr Index kChunk = 4096;

// The sum of chunk u % chunks of sequence u / chunks, for every u: into y if there is one chunk,
// else into partial[u].
template <class T, class Y>
__global__ void sum_sequences(Axes<1> summed, Axes<2> kept, Index chunks, const T* x,
                              Sum<T>* partial, Y* y) {
  for (Index unit = blockIdx.x; unit < kept.count * chunks; unit += gridDim.x) {
    const Index sequence = unit / chunks, first = unit % chunks * kChunk;
    const Index end = first + kChunk < summed.count ? first + kChunk : summed.count;
    const T* from = x + kept.place(sequence, 0);
    Sum<T> sum = 0;
    for (Index i = first + threadIdx.x; i < end; i += blockDim.x)
      sum += Sum<T>(Wide<T>(from[summed.place(i, 0)]));
    sum = block_reduce(sum, Plus());
    if (threadIdx.x != 0) continue;
    if (chunks > 1) partial[unit] = sum;
    else y[kept.place(sequence, 1)] = Y(sum);
  }
}

template <class T, class Y>
__global__ void add_chunks(Axes<2> kept, Index chunks, const Sum<T>* partial, Y* y) {
  for (Index sequence = blockIdx.x; sequence < kept.count; sequence += gridDim.x) {
    Sum<T> sum = 0;
    for (Index i = threadIdx.x; i < chunks; i += blockDim.x) sum += partial[sequence * chunks + i];
    sum = block_reduce(sum, Plus());
    if (threadIdx.x == 0) y[kept.place(sequence, 1)] = Y(sum);
  }
}

template <class T, class Y>
void launch_sequences(Cuda device, const Axes<1>& summed, const Axes<2>& kept, const T* x, Y* y) {
  const Index chunks = ceil_div(summed.count, kChunk), units = kept.count * chunks;
  const auto memory = Storage::allocate(std::size_t(chunks > 1 ? units : 0) * sizeof(Sum<T>),
                                        Device::cuda(device.index));
  auto* partial = reinterpret_cast<Sum<T>*>(memory->data());
  launch(blocks_for(device, units, threads_for(std::min(summed.count, kChunk))),
         sum_sequences<T, Y>, summed, kept, chunks, x, partial, y);
  if (chunks > 1)
    launch(blocks_for(device, kept.count, threads_for(chunks)), add_chunks<T, Y>, kept, chunks,
           partial, y);
}

// An element of a column, and where the sum goes. With one axis of either kind `simple`: without
// loops, which would keep a thread from reading ahead.
template <class T, bool simple> struct ColumnElement {
  Axes<1> summed;
  Axes<2> kept;
  Index step;
  const T* x;
  __device__ Sum<T> operator()(Index matrix, Index row, Index column) const {
    const Index at = simple ? matrix * kept.stride[0][0] + row * summed.stride[0][0]
                            : kept.place(matrix, 0) + summed.place(row, 0);
    return Sum<T>(Wide<T>(x[at + column * step]));
  }
};
template <class T> struct ColumnResult {
  Axes<2> kept;
  Index step;
  Total<T>* y;
  __device__ void operator()(Index matrix, Index column, Sum<T> sum) const {
    y[kept.place(matrix, 1) + column * step] = Total<T>(sum);
  }
};

template <class T> void launch_sum(Cuda device, const Tensor& x, const Tensor& y) {
  Shape to = y.strides();
  for (int i = 0; i < x.dim(); ++i)
    if (y.shape()[i] != x.shape()[i]) to[i] = 0;
  const Axes<2> all = in_order(x.shape(), x.strides(), to);
  const int inner = all.rank - 1;
  const bool columns = all.rank > 0 && all.stride[1][inner] != 0;
  Shape sizes[2], x_steps[2], y_steps[2];  // of the axes that are summed over, and that are kept
  for (int i = 0; i < all.rank - int(columns); ++i) {
    const int kind = all.stride[1][i] == 0 ? 0 : 1;
    sizes[kind].push_back(all.size[i]);
    x_steps[kind].push_back(all.stride[0][i]);
    y_steps[kind].push_back(all.stride[1][i]);
  }
  const Axes<1> summed(sizes[0], {&x_steps[0]});
  const Axes<2> kept(sizes[1], {&x_steps[1], &y_steps[1]});
  const T* data = data_of<T>(device, x);
  auto* result = data_of<Total<T>>(device, y);
  if (!columns) return launch_sequences(device, summed, kept, data, result);
  const auto reduce = [&]<bool simple>() {
    reduce_columns<Sum<T>>(device, kept.count, summed.count, all.size[inner],
                           ColumnElement<T, simple>{summed, kept, all.stride[0][inner], data},
                           ColumnResult<T>{kept, all.stride[1][inner], result});
  };
  if (summed.rank > 1 || kept.rank > 1) reduce.template operator()<false>();
  else reduce.template operator()<true>();
}

// ---------------------------------------------------------------------- along the last axis

// An element of a row; none where its place is negative.
template <class T> struct Entry {
  T value;
  Index place;
};
// Which of two comes first: the larger (smaller), NaN before or after all, of equal ones the first.
template <class T> struct First {
  bool largest, nan_first;
  __device__ bool comes_before(Entry<T> a, Entry<T> b) const {
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan != b_nan) return a_nan == nan_first;
    return a_nan || a.value == b.value ? a.place < b.place : (a.value > b.value) == largest;
  }
  __device__ Entry<T> operator()(Entry<T> a, Entry<T> b) const {
    if (a.place < 0 || b.place < 0) return a.place < 0 ? b : a;
    return comes_before(b, a) ? b : a;
  }
};

// The places of the first elements of each row of x, and the first one's value if y is not null. A
// block per row; each round finds the first of all that come after the one found before.
template <class T>
__global__ void top(RowsOf<2> rows, First<T> first, const T* x, Index* index, T* y) {
  for (Index row = blockIdx.x; row < rows.count; row += gridDim.x) {
    const T* from = rows.at(x, 0, row);
    Entry<T> last{T(), -1};
    for (Index k = 0; k < rows.length[1]; ++k) {
      Entry<T> best{T(), -1};
      for (Index j = threadIdx.x; j < rows.length[0]; j += blockDim.x) {
        const Entry<T> entry{from[j * rows.step[0]], j};
        if (last.place < 0 || first.comes_before(last, entry)) best = first(best, entry);
      }
      last = block_reduce(best, first);
      if (threadIdx.x != 0) continue;
      rows.at(index, 1, row)[k * rows.step[1]] = last.place;
      if (y) y[row] = last.value;
    }
  }
}
// `nan_first` or last, of equal ones the first.
void launch_top(Cuda device, const Tensor& x, bool largest, bool nan_first, const Tensor& index,
                const Tensor& y) {
  const RowsOf rows(x, index);
  visit_wide(x.dtype(), [&]<class T>(T) {
    launch(blocks_for(device, rows.count, threads_for(rows.length[0])), top<T>, rows,
           First<T>{largest, nan_first}, x, index, y);
  });
}

// A warp per row, 32 elements at a time.
template <class T> __global__ void running_sum(RowsOf<2> rows, const T* x, T* y) {
  for (Index row = blockIdx.x; row < rows.count; row += gridDim.x) {
    const T* from = rows.at(x, 0, row);
    T* to = rows.at(y, 1, row);
    Sum<T> before = 0;
    for (Index first = 0; first < rows.length[0]; first += 32) {
      const Index j = first + threadIdx.x;
      Sum<T> sum = j < rows.length[0] ? Sum<T>(from[j * rows.step[0]]) : 0;
      for (int by = 1; by < 32; by *= 2) {
        const Sum<T> lower = __shfl_up_sync(kAllLanes, sum, by);
        if (int(threadIdx.x) >= by) sum = lower + sum;
      }
      sum = before + sum;
      if (j < rows.length[0]) to[j * rows.step[1]] = T(sum);
      before = __shfl_sync(kAllLanes, sum, 31);
    }
  }
}

}  // namespace

void sum(Cuda device, const Tensor& x, const Tensor& y) {
  if (x.numel() == 0) return fill(device, 0, y);
  if (x.dtype() == bf16) return launch_sum<bfloat16>(device, x, y);
  if (x.dtype() == f16) return launch_sum<float16>(device, x, y);
  visit_wide(x.dtype(), [&]<class T>(T) { launch_sum<T>(device, x, y); });
}

void cumsum_last(Cuda device, const Tensor& x, const Tensor& y) {
  visit_wide(x.dtype(), [&]<class T>(T) {
    if constexpr (std::is_same_v<T, bool>) throw DTypeError("cumsum: no numbers");
    else {
      const RowsOf rows(x, y);
      launch(blocks_for(device, rows.count, dim3(32)), running_sum<T>, rows, x, y);
    }
  });
}

void max_last(Cuda device, const Tensor& x, bool largest, const Tensor& y, const Tensor& index) {
  Shape places = x.shape();  // index, which is contiguous, has one in each row
  places[x.dim() - 1] = 1;
  const Shape steps = contiguous_layout(places).strides;
  launch_top(device, x, largest, true, index.with_layout({places, steps, index.layout().offset}),
             y);
}

void topk_last(Cuda device, const Tensor& x, bool largest, const Tensor& index) {
  launch_top(device, x, largest, largest, index, {});
}

}  // namespace triad::kernels
