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

constexpr std::int64_t kGrain = 32768;  // elements below which a second thread does not pay
constexpr std::int64_t kColumns = 64;   // sums of 256 rows then fit the second-level cache

}  // namespace

void embedding(Cpu, const Tensor& weight, const Tensor& ids, const Tensor& y) {
  const std::int64_t C = weight.shape()[1];
  const std::int64_t* id = ids.data<std::int64_t>();
  visit_float("embedding", weight.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* table = weight.data<T>();
    T* out = y.data<T>();
    cpu::parallel_for(ids.numel(), 1 + kGrain / (C + 1), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) std::copy_n(table + id[i] * C, C, out + i * C);
    });
  });
}

void embedding_backward(Cpu, const Tensor& dy, const Tensor& ids, const Tensor& dweight) {
  const std::int64_t V = dweight.shape()[0], C = dweight.shape()[1], R = ids.numel();
  const std::int64_t* id = ids.data<std::int64_t>();
  const std::int64_t tiles = (C + kColumns - 1) / kColumns;
  visit_float("embedding_backward", dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* gradient = dy.data<T>();
    T* out = dweight.data<T>();
    cpu::parallel_for(tiles, 1 + kGrain / ((R + V) * kColumns + 1),
                      [&](std::int64_t begin, std::int64_t end) {
                        double* sums = cpu::scratch<double>(std::size_t(V * kColumns));
                        for (std::int64_t tile = begin; tile < end; ++tile) {
                          const std::int64_t left = tile * kColumns;
                          const std::int64_t width = std::min(kColumns, C - left);
                          std::fill_n(sums, V * kColumns, 0.0);
                          for (std::int64_t i = 0; i < R; ++i) {
                            const T* row = gradient + i * C + left;
                            double* sum = sums + id[i] * kColumns;
                            for (std::int64_t j = 0; j < width; ++j) sum[j] += double(row[j]);
                          }
                          for (std::int64_t v = 0; v < V; ++v)
                            for (std::int64_t j = 0; j < width; ++j)
                              out[v * C + left + j] = T(sums[v * kColumns + j]);
                        }
                      });
  });
}

void index_range(Cpu, const Tensor& ids, const Tensor& range) {
  std::int64_t low = std::numeric_limits<std::int64_t>::max(), high = -low - 1;
  cpu::Reader<std::int64_t> reader(ids.data<std::int64_t>(), ids.shape(), ids.strides(), 0);
  for (std::int64_t i = 0, n; i < ids.numel(); i += n) {
    n = std::min(ids.numel() - i, reader.span());
    const std::int64_t* id = reader.next(n);
    for (std::int64_t k = 0; k < n; ++k) {
      low = std::min(low, id[k]);
      high = std::max(high, id[k]);
    }
  }
  range.data<std::int64_t>()[0] = low;
  range.data<std::int64_t>()[1] = high;
}

}  // namespace triad::kernels
