// Sums and the like across a warp and across a block, in a fixed order.
#pragma once

#include <triad/backends/cuda/elements.h>

namespace triad::cuda {

constexpr unsigned kAllLanes = 0xffffffff;

struct Plus {
  template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct Larger {  // of a number and NaN, the number
  template <class T> __device__ T operator()(T a, T b) const { return std::fmax(a, b); }
};

// The value of the lane whose number differs in the bits of `mask`; of any type of whole words.
template <class T> __device__ T shuffle_xor(T value, int mask) {
  struct Words {
    unsigned word[sizeof(T) / 4];
  };
  auto words = std::bit_cast<Words>(value);
  for (unsigned& word : words.word) word = __shfl_xor_sync(kAllLanes, word, mask);
  return std::bit_cast<T>(words);
}

// f(a, b) is f(b, a), so that all lanes get the same bits.
template <class T, class F> __device__ T warp_reduce(T value, F f) {
  for (int mask = 16; mask > 0; mask /= 2) value = f(value, shuffle_xor(value, mask));
  return value;
}

// Every thread of the block, whose threads are whole warps along x, gets the result.
template <class T, class F> __device__ T block_reduce(T value, F f) {
  __shared__ Shared<T, 32> part;
  value = warp_reduce(value, f);
  if (blockDim.x == 32) return value;
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
  __syncthreads();
  value = part[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) value = f(value, part[warp]);
  __syncthreads();  // before the next one writes to `part`
  return value;
}

// The threads of a block that takes a row of `columns`: about four elements each.
inline dim3 threads_for(Index columns) {
  return dim3(unsigned(std::clamp<Index>(ceil_div(columns, 128) * 32, 32, 512)));
}

// ---------------------------------------------------------------------- columns

constexpr int kColumnThreads = 8;   // of a block, along the rows; 32 along the columns
constexpr Index kColumnRows = 256;  // at least so many rows before they are shared among blocks

// partial[matrix][chunk][column] = the sum over a share of the rows of value(matrix, row, column).
template <class S, class F>
__global__ void sum_columns(Index rows, Index columns, Index chunks, S* partial, F value) {
  __shared__ Shared<S, kColumnThreads * 32> part;
  const Index tiles = ceil_div(columns, 32), unit = blockIdx.x;
  const Index column = unit % tiles * 32 + threadIdx.x, chunk = unit / tiles % chunks;
  const Index matrix = unit / tiles / chunks, each = ceil_div(rows, chunks);
  const Index end = (chunk + 1) * each < rows ? (chunk + 1) * each : rows;
  S sum{};
  if (column < columns) {
#pragma unroll 8  // that many elements are on their way at once
    for (Index row = chunk * each + threadIdx.y; row < end; row += kColumnThreads)
      sum = sum + value(matrix, row, column);
  }
  part[threadIdx.y * 32 + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int i = 1; i < kColumnThreads; ++i) sum = sum + part[i * 32 + threadIdx.x];
  partial[(matrix * chunks + chunk) * columns + column] = sum;
}

// finish(matrix, column, sum) with the sum of the partial ones.
template <class S, class F>
__global__ void finish_columns(Index matrices, Index columns, Index chunks, const S* partial,
                               F finish) {
  for (Index i = first_index(); i < matrices * columns; i += stride()) {
    const Index matrix = i / columns, column = i % columns;
    S sum{};
#pragma unroll 8
    for (Index chunk = 0; chunk < chunks; ++chunk)
      sum = sum + partial[(matrix * chunks + chunk) * columns + column];
    finish(matrix, column, sum);
  }
}

// For each matrix and column: finish(matrix, column, sum over the rows of value(matrix, row,
// column)).
template <class S, class F, class G>
void reduce_columns(Cuda device, Index matrices, Index rows, Index columns, F value, G finish) {
  const Index chunks = std::clamp<Index>(rows / kColumnRows, 1, 64);
  const Index units = matrices * chunks * ceil_div(columns, 32);
  if (units == 0) return;
  const auto memory = Storage::allocate(std::size_t(matrices * chunks * columns) * sizeof(S),
                                        Device::cuda(device.index));
  S* partial = reinterpret_cast<S*>(memory->data());
  launch({device, blocks_of(units), dim3(32, kColumnThreads)}, sum_columns<S, F>, rows, columns,
         chunks, partial, value);
  launch(grid_for(device, matrices * columns), finish_columns<S, G>, matrices, columns, chunks,
         partial, finish);
}

}  // namespace triad::cuda
