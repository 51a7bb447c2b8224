// Rows of a table picked by index, and the gradient of that.
//
// The gradient adds up the rows of dy that went to the same row of the table. Their numbers are
// first sorted by id (a counting sort, which keeps their order); then each row of the table is
// written once, its sum taken in that order and in double. Threads share the columns, so the result
// depends neither on their number nor on who is first.
#include <algorithm>
#include <limits>
#include <vector>

#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/strided.h>
#include <triad/backends/kernels.h>

namespace triad::kernels {
namespace {

constexpr std::int64_t kGrain = 32768;  // elements below which a second thread does not pay
constexpr std::int64_t kColumns = 64;   // the fewest a thread takes
constexpr std::int64_t kWidest = 1024;  // columns of sums, in the first-level cache

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
  std::vector<std::int64_t> start(std::size_t(V) + 1), order(static_cast<std::size_t>(R));
  for (std::int64_t i = 0; i < R; ++i) ++start[std::size_t(id[i]) + 1];
  for (std::size_t v = 1; v < start.size(); ++v) start[v] += start[v - 1];
  auto next = start;
  for (std::int64_t i = 0; i < R; ++i) order[std::size_t(next[std::size_t(id[i])]++)] = i;

  visit_float("embedding_backward", dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* gradient = dy.data<T>();
    T* out = dweight.data<T>();
    const std::int64_t grain = std::max(kColumns, kGrain / (R + V + 1));
    cpu::parallel_for(C, grain, [&](std::int64_t begin, std::int64_t end) {
      double sums[kWidest];
      for (std::int64_t left = begin; left < end; left += kWidest) {
        const std::int64_t width = std::min(kWidest, end - left);
        for (std::int64_t v = 0; v < V; ++v) {
          std::fill_n(sums, width, 0.0);
          for (std::int64_t k = start[std::size_t(v)]; k < start[std::size_t(v) + 1]; ++k) {
            const T* row = gradient + order[std::size_t(k)] * C + left;
            for (std::int64_t j = 0; j < width; ++j) sums[j] += double(row[j]);
          }
          for (std::int64_t j = 0; j < width; ++j) out[v * C + left + j] = T(sums[j]);
        }
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
