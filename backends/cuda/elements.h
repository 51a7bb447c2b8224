// Reaching the elements of tensors from kernels: strided, or 16 bytes at a time.
#pragma once

#include <triad/backends/cuda/mma.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

#include <algorithm>
#include <utility>

namespace triad::cuda {

using Index = std::int64_t;

TRIAD_HD constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// visit_any() with the types that kernels use.
template <class F> auto visit_elements(DType dtype, F&& f) {
  return visit_any(dtype,
                   [&]<class T>(T) { return f.template operator()<typename OnDevice<T>::type>(); });
}

// f(T{}) for a real floating-point type, the narrow ones among them.
template <class F> void visit_any_float(const char* op, DType dtype, const F& f) {
  if (dtype == bf16) f(bfloat16{});
  else if (dtype == f16) f(float16{});
  else visit_float(op, dtype, f);
}

// ---------------------------------------------------------------------- axes

// The sizes of a loop over tensors of one shape, and each one's strides: axes of size 1 are left
// out, neighbours that one stride describes in all are merged. The last axis is the innermost.
template <int N> struct Axes {
  int rank = 0;
  bool small;  // 32 bits are enough to count
  Index count, size[kMaxRank], stride[N][kMaxRank] = {};

  Axes(const Shape& shape, const Shape* const (&strides)[N]) : count(shape.numel()) {
    small = count < Index(1) << 31;
    for (int i = 0; i < shape.rank(); ++i) {
      if (shape[i] == 1) continue;
      bool merges = rank > 0;
      for (int k = 0; k < N; ++k)
        merges = merges && stride[k][rank - 1] == (*strides[k])[i] * shape[i];
      if (!merges) size[rank++] = 1;
      size[rank - 1] *= shape[i];
      for (int k = 0; k < N; ++k) stride[k][rank - 1] = (*strides[k])[i];
    }
  }
  // Whether `each` elements of operand k, from a multiple of `each` on, lie one behind the other,
  // and at places that are multiples of it; of the last ones there may be fewer.
  bool vectors(int k, int each) const {
    for (int i = 0; i < rank - 1; ++i)
      if (stride[k][i] % each != 0) return false;
    return rank == 0 || (stride[k][rank - 1] == 1 && (rank == 1 || size[rank - 1] % each == 0));
  }

  // Where element i, in row-major order, lies in operand k.
  TRIAD_HD Index place(Index i, int k) const {
    Index at = 0;
    if (small) {  // a division of 64 bits takes four times as long
      unsigned rest = unsigned(i);
      for (int axis = rank - 1; axis > 0; --axis) {
        const unsigned next = rest / unsigned(size[axis]);
        at += Index(rest - next * unsigned(size[axis])) * stride[k][axis];
        rest = next;
      }
      i = rest;
    } else
      for (int axis = rank - 1; axis > 0; i /= size[axis--]) at += i % size[axis] * stride[k][axis];
    return rank == 0 ? at : at + i * stride[k][0];
  }
};

// Two tensors of one shape with their axes in the order of the first one's memory: its strides
// descend, and axes that it repeats come before all others.
inline Axes<2> in_order(const Shape& sizes, const Shape& strides, const Shape& others) {
  Shape shape = sizes, first = strides, second = others;
  const auto outside = [](Index a, Index b) { return b != 0 && (a == 0 || a > b); };
  for (int i = 1; i < shape.rank(); ++i)
    for (int j = i; j > 0 && outside(first[j], first[j - 1]); --j)
      for (Shape* each : {&shape, &first, &second}) std::swap((*each)[j - 1], (*each)[j]);
  return {shape, {&first, &second}};
}

// The rows of tensors along their last axes, all as many: row r of tensor k begins at at(x, k, r).
template <int N> struct RowsOf : Axes<N> {
  Index length[N], step[N];

  template <class... X>
  explicit RowsOf(const Tensor& x, const X&... others)
      : Axes<N>({x.shape().begin(), std::prev(x.shape().end())},
                {&x.strides(), &others.strides()...}),
        length{x.shape().back(), others.shape().back()...}, step{x.strides().back(),
                                                                 others.strides().back()...} {}
  template <class T> __device__ T* at(T* x, int k, Index row) const {
    return &x[this->place(row, k)];
  }
};
template <class... X> RowsOf(const X&...) -> RowsOf<sizeof...(X)>;

inline bool is_aligned(const void* data, std::size_t bytes = 16) {
  return reinterpret_cast<std::uintptr_t>(data) % bytes == 0;
}

inline Tensor contiguous_copy(Cuda device, const Tensor& x) {
  const Tensor y = empty(x.shape(), x.dtype(), x.device());
  kernels::copy(device, x, y);
  return y;
}

// ---------------------------------------------------------------------- vectors

template <class T, int N> struct alignas(sizeof(T) * N) [[gnu::may_alias]] Vector { T at[N]; };

template <int N, class T> __device__ Vector<T, N> load_vector(const T* from) {
  check_aligned(from, sizeof(T) * N);
  return *reinterpret_cast<const Vector<T, N>*>(from);
}
template <int N, class T> __device__ void store_vector(T* to, const Vector<T, N>& values) {
  check_aligned(to, sizeof values);
  if constexpr (sizeof values == 16) store_16_bytes(to, values);
  else *reinterpret_cast<Vector<T, N>*>(to) = values;
}

// Elements as they are computed with, from a vector or all `none`, and back. Narrow types go by
// pairs, for which there are instructions.
template <class E, int N> constexpr bool by_pairs = is_narrow(dtype_of<E>()) && N % 2 == 0;

template <int N, class E>
__device__ Vector<Wide<E>, N> load_wide(const E* from, bool there = true, E none = {}) {
  Vector<Wide<E>, N> to;
  if constexpr (by_pairs<E, N>) {
    Vector<unsigned, N / 2> pairs;
    for (unsigned& pair : pairs.at) pair = none.bits * 0x10001u;
    if (there) pairs = load_vector<N / 2>(reinterpret_cast<const unsigned*>(from));
    for (int j = 0; j < N; ++j) to.at[j] = element_of<E>(pairs.at[j / 2], j % 2);
  } else {
    Vector<E, N> values;
    for (E& value : values.at) value = none;
    if (there) values = load_vector<N>(from);
    for (int j = 0; j < N; ++j) to.at[j] = Wide<E>(values.at[j]);
  }
  return to;
}
template <class E, class W, int N> __device__ void store_wide(E* to, const Vector<W, N>& from) {
  if constexpr (by_pairs<E, N>) {
    Vector<unsigned, N / 2> pairs;
    for (int j = 0; j < N; j += 2) pairs.at[j / 2] = pair_of<E>(from.at[j], from.at[j + 1]);
    store_vector(reinterpret_cast<unsigned*>(to), pairs);
  } else {
    Vector<E, N> values;
    for (int j = 0; j < N; ++j) values.at[j] = E(from.at[j]);
    store_vector(to, values);
  }
}

// ---------------------------------------------------------------------- launches over n elements

// For kernels whose blocks take one of `count` things and then go on gridDim.x further: at most so
// many blocks per multiprocessor, by default more than run at once.
inline Grid blocks_for(Cuda device, Index count, dim3 threads, Index each = 32) {
  const Index most = each * multiprocessors(device);
  return {device, dim3(unsigned(std::min(count, most))), threads};
}

constexpr int kThreads = 256;

// For kernels whose threads take `each` elements and then go on `stride()` further.
inline Grid grid_for(Cuda device, Index count, Index each = 1) {
  return blocks_for(device, ceil_div(count, each * kThreads), dim3(kThreads), 16);
}
__device__ inline Index first_index() { return Index(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline Index stride() { return Index(gridDim.x) * blockDim.x; }

}  // namespace triad::cuda
