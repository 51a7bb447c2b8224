// Elements picked by index, and the transpose of that.
//
// The gradient of an embedding adds each row of dy to the row of the table that it came from, in
// order and in double. Threads share the columns, in tiles of kColumns, so the result depends
// neither on their number nor on who is first.
#include <triad/backends/cpu/strided.h>

namespace triad::kernels {

void embedding(Cpu, const Tensor& weight, const Tensor& ids, const Tensor& y) {
  const Index C = weight.shape()[1];
  const std::int64_t* id = ids.first<std::int64_t>();
  visit_any(weight.dtype(), [&]<class T>(T) {
    const T* table = weight.first<T>();
    T* out = y.first<T>();
    parallel_for(ids.numel(), 1 + kGrain / (C + 1),
                 [&](Index i) { std::copy_n(table + id[i] * C, C, out + i * C); });
  });
}

void embedding_backward(Cpu, const Tensor& dy, const Tensor& ids, const Tensor& dweight) {
  const Index V = dweight.shape()[0], C = dweight.shape()[1], R = ids.numel();
  const std::int64_t* id = ids.first<std::int64_t>();
  constexpr Index kColumns = 64;  // V rows of sums: those of 256 are 128 KiB
  visit_float("embedding_backward", dy.dtype(), [&]<class T>(T) {
    const T* gradient = dy.first<T>();
    T* out = dweight.first<T>();
    parallel_for(ceil_div(C, kColumns), 1 + kGrain / ((R + V) * kColumns + 1), [&](Index tile) {
      double* sums = scratch<double>(V * kColumns);
      const Index left = tile * kColumns, width = std::min(kColumns, C - left);
      for (Index v = 0; v < V; ++v) std::copy_n(out + v * C + left, width, sums + v * kColumns);
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

// f(from, step, to, step, j, id) for number j of each row of the index: id.
template <class F>
static void by_index(const Tensor& x, const Tensor& index, const Tensor& y, F f) {
  const RowsOf<Index> ids{index};
  visit_any(x.dtype(), [&]<class T>(T) {
    const RowsOf<T> in{x}, out{y};
    parallel_for(ids.count, 1 + kGrain / (ids.length + 1), [&](Index r) {
      const T* from = in.at(r);
      const Index* id = ids.at(r);
      T* to = out.at(r);
      for (Index j = 0; j < ids.length; ++j) f(from, in.step, to, out.step, j, id[j * ids.step]);
    });
  });
}

void gather_last(Cpu, const Tensor& x, const Tensor& index, const Tensor& y) {
  by_index(x, index, y, [](auto* from, Index in, auto* to, Index out, Index j, Index id) {
    to[j * out] = from[id * in];
  });
}
void scatter_add_last(Cpu, const Tensor& x, const Tensor& index, const Tensor& y) {
  by_index(x, index, y, [](auto* from, Index in, auto* to, Index out, Index j, Index id) {
    to[id * out] = std::remove_cvref_t<decltype(*to)>(to[id * out] + from[j * in]);
  });
}

void topk_last(Cpu, const Tensor& x, bool largest, const Tensor& index) {
  const RowsOf<Index> out{index};
  visit_wide(x.dtype(), [&]<class T>(T) {
    const RowsOf<T> in{x};
    parallel_for(out.count, 1 + kGrain / (in.length + 1), [&](Index r) {
      const T* from = in.at(r);
      Index* to = out.at(r);
      std::vector<std::pair<T, Index>> order(in.length);
      for (Index j = 0; j < in.length; ++j) order[j] = {from[j * in.step], j};
      auto above = [](T a, T b) { return a > b || (a != a && b == b); };
      auto before = [&](const auto& a, const auto& b) {
        if (above(a.first, b.first)) return largest;
        return above(b.first, a.first) ? !largest : a.second < b.second;
      };
      std::partial_sort(order.begin(), order.begin() + out.length, order.end(), before);
      for (Index j = 0; j < out.length; ++j) to[j * out.step] = order[j].second;
    });
  });
}

}  // namespace triad::kernels
