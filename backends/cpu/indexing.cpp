// Rows of a table picked by index, and the gradient of that.
//
// The gradient adds each row of dy to the row of the table that it came from, in order and in
// double. Threads share the columns, in tiles of kColumns, so the result depends neither on their
// number nor on who is first.
#include <algorithm>
#include <limits>

#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/scratch.h>
#include <triad/backends/cpu/strided.h>
#include <triad/backends/kernels.h>

namespace triad::kernels {
namespace {

using namespace cpu;

constexpr Index kColumns = 64;  // sums of 256 rows then fit the second-level cache

}  // namespace

void embedding(Cpu, const Tensor& weight, const Tensor& ids, const Tensor& y) {
  const Index C = weight.shape()[1];
  const std::int64_t* id = ids.data<std::int64_t>();
  visit_float("embedding", weight.dtype(), [&]<class T>(T) {
    const T* table = weight.data<T>();
    T* out = y.data<T>();
    parallel_for(ids.numel(), 1 + kGrain / (C + 1),
                 [&](Index i) { std::copy_n(table + id[i] * C, C, out + i * C); });
  });
}

void embedding_backward(Cpu, const Tensor& dy, const Tensor& ids, const Tensor& dweight) {
  const Index V = dweight.shape()[0], C = dweight.shape()[1], R = ids.numel();
  const std::int64_t* id = ids.data<std::int64_t>();
  const Index tiles = ceil_div(C, kColumns);
  visit_float("embedding_backward", dy.dtype(), [&]<class T>(T) {
    const T* gradient = dy.data<T>();
    T* out = dweight.data<T>();
    parallel_for(tiles, 1 + kGrain / ((R + V) * kColumns + 1), [&](Index tile) {
      double* sums = scratch<double>(V * kColumns);
      const Index left = tile * kColumns;
      const Index width = std::min(kColumns, C - left);
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

void index_range(Cpu, const Tensor& ids, const Tensor& range) {
  Index low = std::numeric_limits<std::int64_t>::max(), high = -low - 1;
  Reader<std::int64_t> reader(ids.data<std::int64_t>(), ids.shape(), ids.strides(), 0);
  for (Index i = 0, n; i < ids.numel(); i += n) {
    n = std::min(ids.numel() - i, reader.span());
    const std::int64_t* id = reader.next(n);
    for (Index k = 0; k < n; ++k) {
      low = std::min(low, id[k]);
      high = std::max(high, id[k]);
    }
  }
  range.data<std::int64_t>()[0] = low;
  range.data<std::int64_t>()[1] = high;
}

}  // namespace triad::kernels
