// Copies between any strides and types, and the fills.
//
// The axes are put into the order of the destination's memory. Where the source then has another
// axis innermost, as in a transposed matrix, squares of it go through shared memory, so that both
// sides are read and written along their rows.
#include <triad/backends/cuda/elements.h>

namespace triad::kernels {
namespace {

using namespace cuda;

struct Assign {
  template <class To, class From> __device__ void operator()(To& y, From x) const {
    if constexpr (std::is_same_v<To, From>) y = x;
    else y = converted<To>(x);
  }
};
struct Add {
  template <class T> __device__ void operator()(T& y, T x) const { y = T(y + x); }
};

// f(y, x) for each element; N at a time where both lie in vectors.
template <int N, class F, class To, class From>
__global__ void each_pair(F f, Axes<2> axes, To* y, const From* x) {
  for (Index i = first_index() * N; i < axes.count; i += stride() * N) {
    if (N > 1 && i + N <= axes.count) {
      To* const place = y + axes.place(i, 0);
      auto to = load_vector<N>(place);
      const auto from = load_vector<N>(x + axes.place(i, 1));
      for (int j = 0; j < N; ++j) f(to.at[j], from.at[j]);
      store_vector(place, to);
    } else
      for (Index j = i; j < i + N && j < axes.count; ++j)
        f(y[axes.place(j, 0)], x[axes.place(j, 1)]);
  }
}

template <class F, class To, class From>
void launch_each(Cuda device, F f, const Axes<2>& axes, To* y, const From* x) {
  constexpr int N = int(16 / std::max(sizeof(To), sizeof(From)));
  if (axes.vectors(0, N) && axes.vectors(1, N) && is_aligned(y) && is_aligned(x))
    launch(grid_for(device, axes.count, N), each_pair<N, F, To, From>, f, axes, y, x);
  else launch(grid_for(device, axes.count), each_pair<1, F, To, From>, f, axes, y, x);
}

constexpr int kSide = 32;  // of a square; a block has kSide by kSide / 4 threads

// y = x, where y's last axis has stride 1 and x has stride 1 along axis `across`.
template <class T>
__global__ void transpose(Axes<2> axes, int across, Index tiles, T* y, const T* x) {
  // A column more than a square has: the elements of one column lie in different banks.
  __shared__ Shared<T, kSide*(kSide + 1)> square;
  const int inner = axes.rank - 1;
  const Index columns = axes.size[inner], rows = axes.size[across];
  const Index wide = ceil_div(columns, kSide), squares = wide * ceil_div(rows, kSide);
  for (Index tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Index left = tile % squares % wide * kSide, top = tile % squares / wide * kSide;
    T* to = y + top * axes.stride[0][across] + left;
    const T* from = x + left * axes.stride[1][inner] + top;
    for (Index axis = inner - 1, rest = tile / squares; axis >= 0; --axis)
      if (axis != across) {
        to += rest % axes.size[axis] * axes.stride[0][axis];
        from += rest % axes.size[axis] * axes.stride[1][axis];
        rest /= axes.size[axis];
      }
    for (Index j = threadIdx.y; j < kSide; j += blockDim.y)
      if (left + j < columns && top + Index(threadIdx.x) < rows)
        square[Index(threadIdx.x) * (kSide + 1) + j] =
            from[j * axes.stride[1][inner] + threadIdx.x];
    __syncthreads();
    for (Index i = threadIdx.y; i < kSide; i += blockDim.y)
      if (top + i < rows && left + Index(threadIdx.x) < columns)
        to[i * axes.stride[0][across] + threadIdx.x] = square[i * (kSide + 1) + threadIdx.x];
    __syncthreads();
  }
}

// Elements as plain bits: a copy does not care what they mean.
template <class T>
using Bits = std::tuple_element_t<std::countr_zero(sizeof(T)),
                                  std::tuple<std::uint8_t, std::uint16_t, std::uint32_t,
                                             std::uint64_t, Vector<std::uint64_t, 2>>>;

template <class T> void move(Cuda device, const Axes<2>& axes, T* y, const T* x) {
  const int inner = axes.rank - 1;
  int across = inner - 1;
  while (across >= 0 && axes.stride[1][across] != 1) --across;
  if (across < 0 || axes.stride[0][inner] != 1 || axes.stride[1][inner] <= 1 ||
      axes.size[across] < 4 || axes.size[inner] < 4)
    return launch_each(device, Assign(), axes, y, x);
  const Index tiles = axes.count / (axes.size[inner] * axes.size[across]) *
                      ceil_div(axes.size[inner], kSide) * ceil_div(axes.size[across], kSide);
  launch(blocks_for(device, tiles, dim3(kSide, kSide / 4), 16), transpose<T>, axes, across, tiles,
         y, x);
}

template <class T> __global__ void fill_all(T value, Axes<1> axes, T* y) {
  for (Index i = first_index(); i < axes.count; i += stride()) y[axes.place(i, 0)] = value;
}

template <class T> __global__ void count_up(double start, double step, Index n, T* y) {
  for (Index i = first_index(); i < n; i += stride()) y[i] = converted<T>(start + double(i) * step);
}

}  // namespace

void copy(Cuda device, const Tensor& x, const Tensor& y) {
  const Axes<2> axes = in_order(y.shape(), y.strides(), x.strides());
  if (axes.count == 0) return;
  visit_elements(x.dtype(), [&]<class From>() {
    const auto* from = data_of<From>(device, x);
    visit_elements(y.dtype(), [&]<class To>() {
      auto* to = data_of<To>(device, y);
      if constexpr (std::is_same_v<From, To>) {
        using B = Bits<To>;
        move(device, axes, reinterpret_cast<B*>(to), reinterpret_cast<const B*>(from));
      } else launch_each(device, Assign(), axes, to, from);
    });
  });
}

void add_into(Cuda device, const Tensor& x, const Tensor& y) {
  const Axes<2> axes = in_order(y.shape(), y.strides(), x.strides());
  visit_elements(y.dtype(), [&]<class T>() {
    if constexpr (std::is_same_v<T, bool>) throw DTypeError("add_into: needs numbers, got bool");
    else launch_each(device, Add(), axes, data_of<T>(device, y), data_of<T>(device, x));
  });
}

void fill(Cuda device, double value, const Tensor& y) {
  const Axes<1> axes(y.shape(), {&y.strides()});
  visit_elements(y.dtype(), [&]<class T>() {
    launch(grid_for(device, axes.count), fill_all<T>, to_number<T>(value), axes, y);
  });
}

void arange(Cuda device, double start, double step, const Tensor& y) {
  visit_elements(y.dtype(), [&]<class T>() {
    launch(grid_for(device, y.numel()), count_up<T>, start, step, y.numel(), y);
  });
}

}  // namespace triad::kernels
