// Elements picked by index, and the transpose of that.
//
// The gradient of an embedding adds each row of dy to the row of the table that it came from, in
// order and in double. Threads share the columns, in tiles of kColumns, so the result depends
// neither on their number nor on who is first.
#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include <triad/backends/cpu/strided.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::kernels {

using namespace cpu;

void embedding(Cpu, const Tensor& weight, const Tensor& ids, const Tensor& y) {
  const Index C = weight.shape()[1];
  const std::int64_t* id = ids.data<std::int64_t>();
  visit_any(weight.dtype(), [&]<class T>(T) {
    const T* table = weight.data<T>();
    T* out = y.data<T>();
    parallel_for(ids.numel(), 1 + kGrain / (C + 1),
                 [&](Index i) { std::copy_n(table + id[i] * C, C, out + i * C); });
  });
}

void embedding_backward(Cpu, const Tensor& dy, const Tensor& ids, const Tensor& dweight) {
  const Index V = dweight.shape()[0], C = dweight.shape()[1], R = ids.numel();
  const std::int64_t* id = ids.data<std::int64_t>();
  constexpr Index kColumns = 64;  // sums of 256 rows then fit the second-level cache
  visit_float("embedding_backward", dy.dtype(), [&]<class T>(T) {
    const T* gradient = dy.data<T>();
    T* out = dweight.data<T>();
    parallel_for(ceil_div(C, kColumns), 1 + kGrain / ((R + V) * kColumns + 1), [&](Index tile) {
      double* sums = scratch<double>(V * kColumns);
      const Index left = tile * kColumns, width = std::min(kColumns, C - left);
      std::fill_n(sums, V * kColumns, 0.0);
      for (Index i = 0; i < R; ++i) {
        const T* row = gradient + i * C + left;
        double* sum = sums + id[i] * kColumns;
        for (Index j = 0; j < width; ++j) sum[j] += double(row[j]);
      }
      for (Index v = 0; v < V; ++v)
        for (Index j = 0; j < width; ++j) out[v * C + left + j] = T(sums[v * kColumns + j]);
    });
  });
}

namespace {

// Calls f(row of a, row of b, row of c) for the rows of tensors that differ in the last axis alone;
// a row is where its first element lies.
template <class A, class B, class C, class F>
void for_each_row(const Tensor& a, const Tensor& b, const Tensor& c, F f) {
  const Index columns = std::max(a.shape().back(), b.shape().back());
  const Index rows = Shape(b.shape().begin(), b.shape().end() - 1).numel();
  parallel_for(rows, 1 + kGrain / (columns + 1), [&](Index r) {
    Index at[3] = {};
    for (int i = b.dim() - 2; i >= 0; r /= b.shape()[i--]) {
      const Index place = r % b.shape()[i];
      at[0] += place * a.strides()[i], at[1] += place * b.strides()[i];
      at[2] += place * c.strides()[i];
    }
    f(a.data<A>() + at[0], b.data<B>() + at[1], c.data<C>() + at[2]);
  });
}

}  // namespace

void gather_last(Cpu, const Tensor& x, const Tensor& index, const Tensor& y) {
  const Index k = index.shape().back();
  const Index sx = x.strides().back(), si = index.strides().back(), sy = y.strides().back();
  visit_any(x.dtype(), [&]<class T>(T) {
    for_each_row<T, Index, T>(x, index, y, [=](const T* from, const Index* id, T* to) {
      for (Index j = 0; j < k; ++j) to[j * sy] = from[id[j * si] * sx];
    });
  });
}

void scatter_add_last(Cpu, const Tensor& x, const Tensor& index, const Tensor& y) {
  const Index k = index.shape().back();
  const Index sx = x.strides().back(), si = index.strides().back(), sy = y.strides().back();
  visit_wide(x.dtype(), [&]<class T>(T) {
    if constexpr (!is_complex_v<T> && !std::is_same_v<T, bool>)
      for_each_row<T, Index, T>(x, index, y, [=](const T* from, const Index* id, T* to) {
        for (Index j = 0; j < k; ++j) to[id[j * si] * sy] += from[j * sx];
      });
  });
}

void topk_last(Cpu, const Tensor& x, bool largest, const Tensor& index) {
  const Index n = x.shape().back(), k = index.shape().back();
  const Index sx = x.strides().back(), si = index.strides().back();
  visit_wide(x.dtype(), [&]<class T>(T) {
    if constexpr (!is_complex_v<T>)
      for_each_row<T, Index, T>(x, index, x, [=](const T* from, Index* to, const T*) {
        std::vector<Index> order(n);
        std::iota(order.begin(), order.end(), Index(0));
        auto above = [&](T a, T b) { return a > b || (a != a && b == b); };
        std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](Index i, Index j) {
          const T a = from[i * sx], b = from[j * sx];
          if (largest ? above(a, b) : above(b, a)) return true;
          return !(largest ? above(b, a) : above(a, b)) && i < j;
        });
        for (Index j = 0; j < k; ++j) to[j * si] = order[j];
      });
  });
}

void index_range(Cpu, const Tensor& ids, const Tensor& range) {
  Index low = std::numeric_limits<Index>::max(), high = -low - 1;
  Reader<Index>(ids.data<Index>(), ids.shape(), ids.strides(), 0)
      .runs(ids.numel(), [&](Index, const Index* id, Index n) {
        for (Index k = 0; k < n; ++k) {
          low = std::min(low, id[k]);
          high = std::max(high, id[k]);
        }
      });
  range.data<Index>()[0] = low;
  range.data<Index>()[1] = high;
}

}  // namespace triad::kernels
