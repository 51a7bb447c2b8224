// Sums over any axes, and what else goes along the last one.
//
// As on the CPU a sum has two shapes: sequences, where the innermost axis in memory is summed over,
// one block each (long ones are cut into blocks of kChunk, by their length alone); and columns,
// where that axis stays. All sums are in double, or in integers that wrap around.
#include <triad/backends/cuda/reduce.h>

#include <limits>
#include <utility>

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

Grid blocks_for(Cuda device, Index count, dim3 threads) {
  return {device, dim3(unsigned(std::min(count, 32 * Index(multiprocessors(device))))), threads};
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

// An element of a column, and where the sum goes.
template <class T> struct ColumnElement {
  Axes<1> summed;
  Axes<2> kept;
  Index step;
  const T* x;
  __device__ Sum<T> operator()(Index matrix, Index row, Index column) const {
    return Sum<T>(Wide<T>(x[kept.place(matrix, 0) + summed.place(row, 0) + column * step]));
  }
};
// The same without loops, which would keep a thread from reading ahead.
template <class T> struct StridedElement {
  const T* x;
  Index matrix_step, row_step, step;
  __device__ Sum<T> operator()(Index matrix, Index row, Index column) const {
    return Sum<T>(Wide<T>(x[matrix * matrix_step + row * row_step + column * step]));
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
  // The axes in the order of x's memory, repeated ones outermost.
  Shape shape = x.shape(), from = x.strides(), to = y.strides();
  for (int i = 0; i < shape.rank(); ++i)
    if (y.shape()[i] != shape[i]) to[i] = 0;
  const auto outside = [](Index a, Index b) { return b != 0 && (a == 0 || a > b); };
  for (int i = 1; i < shape.rank(); ++i)
    for (int j = i; j > 0 && outside(from[j], from[j - 1]); --j)
      for (Shape* each : {&shape, &from, &to}) std::swap((*each)[j - 1], (*each)[j]);
  const Axes<2> all(shape, {&from, &to});
  const int inner = all.rank - 1;
  const bool columns = all.rank > 0 && all.stride[1][inner] != 0;
  Shape summed, summed_steps, kept, kept_from, kept_to;
  for (int i = 0; i < all.rank - int(columns); ++i) {
    if (all.stride[1][i] == 0) {
      summed.push_back(all.size[i]);
      summed_steps.push_back(all.stride[0][i]);
    } else {
      kept.push_back(all.size[i]);
      kept_from.push_back(all.stride[0][i]);
      kept_to.push_back(all.stride[1][i]);
    }
  }
  const Axes<1> along(summed, {&summed_steps});
  const Axes<2> others(kept, {&kept_from, &kept_to});
  const T* data = data_of<T>(device, x);
  auto* result = data_of<Total<T>>(device, y);
  if (!columns) return launch_sequences(device, along, others, data, result);
  const Index step = all.stride[0][inner], matrix_step = others.rank ? others.stride[0][0] : 0;
  const auto reduce = [&](auto element) {
    reduce_columns<Sum<T>>(device, others.count, along.count, all.size[inner], element,
                           ColumnResult<T>{others, all.stride[1][inner], result});
  };
  if (along.rank > 1 || others.rank > 1) reduce(ColumnElement<T>{along, others, step, data});
  else reduce(StridedElement<T>{data, matrix_step, along.rank ? along.stride[0][0] : 0, step});
}

// ---------------------------------------------------------------------- along the last axis

// The rows of x and of y, and the strides within them.
struct Rows {
  Axes<2> rows;
  Index length, x_step, y_step;

  Rows(const Tensor& x, const Tensor& y)  // y may lack the last axis
      : rows(without_last(x.shape()), {&x.strides(), &y.strides()}), length(x.shape().back()),
        x_step(x.strides().back()), y_step(y.dim() == x.dim() ? y.strides().back() : 1) {}
};

template <class T>
__global__ void find_best(Rows rows, First<T> first, const T* x, T* y, Index* index) {
  for (Index row = blockIdx.x; row < rows.rows.count; row += gridDim.x) {
    const T* from = x + rows.rows.place(row, 0);
    Entry<T> best{T(), -1};
    for (Index j = threadIdx.x; j < rows.length; j += blockDim.x)
      best = first(best, {from[j * rows.x_step], j});
    best = block_reduce(best, first);
    if (threadIdx.x != 0) continue;
    y[row] = best.value;
    index[row] = best.place;
  }
}

// A warp per row, 32 elements at a time.
template <class T> __global__ void running_sum(Rows rows, const T* x, T* y) {
  for (Index row = blockIdx.x; row < rows.rows.count; row += gridDim.x) {
    const T* from = x + rows.rows.place(row, 0);
    T* to = y + rows.rows.place(row, 1);
    Sum<T> before = 0;
    for (Index first = 0; first < rows.length; first += 32) {
      const Index j = first + threadIdx.x;
      Sum<T> sum = j < rows.length ? Sum<T>(from[j * rows.x_step]) : 0;
      for (int by = 1; by < 32; by *= 2) {
        const Sum<T> lower = __shfl_up_sync(kAllLanes, sum, by);
        if (int(threadIdx.x) >= by) sum = lower + sum;
      }
      sum = before + sum;
      if (j < rows.length) to[j * rows.y_step] = T(sum);
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
      const Rows rows(x, y);
      launch(blocks_for(device, rows.rows.count, dim3(32)), running_sum<T>, rows,
             data_of<T>(device, x), data_of<T>(device, y));
    }
  });
}

void max_last(Cuda device, const Tensor& x, bool largest, const Tensor& y, const Tensor& index) {
  visit_wide(x.dtype(), [&]<class T>(T) {
    const Rows rows(x, y);
    launch(blocks_for(device, rows.rows.count, threads_for(rows.length)), find_best<T>, rows,
           First<T>{largest, true}, data_of<T>(device, x), data_of<T>(device, y),
           data_of<Index>(device, index));
  });
}

}  // namespace triad::kernels
