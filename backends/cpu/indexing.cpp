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

void gather_last(Cpu, const Tensor& x, const Tensor& index, const Tensor& y) {
  const RowsOf<Index> ids{index};
  visit_any(x.dtype(), [&]<class T>(T) {
    const RowsOf<T> in{x}, out{y};
    parallel_for(ids.count, 1 + kGrain / (std::max(in.length, ids.length) + 1), [&](Index r) {
      const T* from = in.at(r);
      const Index* id = ids.at(r);
      T* to = out.at(r);
      for (Index j = 0; j < ids.length; ++j) to[j * out.step] = from[id[j * ids.step] * in.step];
    });
  });
}

void scatter_add_last(Cpu, const Tensor& x, const Tensor& index, const Tensor& y) {
  const RowsOf<Index> ids{index};
  visit_wide(x.dtype(), [&]<class T>(T) {
    const RowsOf<T> in{x}, out{y};
    if constexpr (!is_complex_v<T> && !std::is_same_v<T, bool>)
      parallel_for(ids.count, 1 + kGrain / (ids.length + 1), [&](Index r) {
        const T* from = in.at(r);
        const Index* id = ids.at(r);
        T* to = out.at(r);
        for (Index j = 0; j < ids.length; ++j) to[id[j * ids.step] * out.step] += from[j * in.step];
      });
  });
}

void topk_last(Cpu, const Tensor& x, bool largest, const Tensor& index) {
  const RowsOf<Index> out{index};
  visit_wide(x.dtype(), [&]<class T>(T) {
    const RowsOf<T> in{x};
    if constexpr (!is_complex_v<T>)
      parallel_for(out.count, 1 + kGrain / (in.length + 1), [&](Index r) {
        const T* from = in.at(r);
        Index* to = out.at(r);
        std::vector<Index> order(in.length);
        std::iota(order.begin(), order.end(), Index(0));
        auto above = [&](T a, T b) { return a > b || (a != a && b == b); };
        auto before = [&](Index i, Index j) {
          const T a = from[i * in.step], b = from[j * in.step];
          if (largest ? above(a, b) : above(b, a)) return true;
          return !(largest ? above(b, a) : above(a, b)) && i < j;
        };
        std::partial_sort(order.begin(), order.begin() + out.length, order.end(), before);
        for (Index j = 0; j < out.length; ++j) to[j * out.step] = order[j];
      });
  });
}

void index_range(Cpu, const Tensor& ids, const Tensor& range) {
  Index low = std::numeric_limits<Index>::max(), high = -low - 1;
  auto see = [&](Index, const Index* id, Index n) {
    for (Index k = 0; k < n; ++k) {
      low = std::min(low, id[k]);
      high = std::max(high, id[k]);
    }
  };
  for_runs(ids.data<Index>(), ids.shape(), ids.strides(), 0, ids.numel(), see);
  range.data<Index>()[0] = low;
  range.data<Index>()[1] = high;
}

}  // namespace triad::kernels
