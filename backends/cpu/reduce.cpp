// Sums over any axes, and the maximum over the last.
//
// A sum has two shapes. Where the innermost axis in memory is summed over, each result is the sum
// of a sequence: it is cut into blocks, added up register by register. Where that axis stays (the
// gradient of a bias, [R,C] -> [C]), whole rows are added into a row of sums, in blocks of rows and
// columns. The blocks follow from the shape alone and their sums are combined in a fixed order, so
// the result does not depend on the number of threads.
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include <triad/backends/cpu/strided.h>
#include <triad/backends/cpu/vec.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::kernels {
namespace {

using namespace cpu;

// What sums are kept in: double, or integers that wrap around.
template <class T>
using Sum = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;

template <class T> constexpr bool is_summed = !std::is_same_v<T, bool> && !is_complex_v<T>;

// ---------------------------------------------------------------------- sequences

// Of n contiguous elements: their sum, and that of their squares.
template <class T> Sum<T> sum_of(const T* x, Index n) {
  if constexpr (std::is_floating_point_v<T>) {
    Accumulator<T> sum;
    for_each_register<T>(n, [&](Index i, auto part) { sum.add(part.load(x + i)); });
    return sum.total();
  } else {
    return std::accumulate(x, x + n, Sum<T>(0));
  }
}

template <class T> double squares_of(const T* x, Index n) {
  Accumulator<T> sum;
  for_each_register<T>(n, [&](Index i, auto part) {
    const Vec<T> value = part.load(x + i);
    sum.add_product(value, value);
  });
  return sum.total();
}

// Some of the axes of a sum: those that are summed over, or those that stay.
struct Axes {
  Shape size, x, y;

  void add(const Loop& loop, int axis) {
    size.push_back(loop.size[axis]);
    x.push_back(loop.first[axis]);
    y.push_back(loop.second[axis]);
  }
  Index place(Index index, const Shape& strides) const {
    return place_of(index, size, strides, size.rank());
  }
};

template <auto of, class T, class Y>
void sum_sequences(const Axes& summed, const Axes& kept, const T* x, Y* y) {
  const Index results = kept.size.numel(), length = summed.size.numel();
  const Index blocks = ceil_div(length, kSumBlock);
  std::vector<Sum<T>> partial(blocks > 1 ? results * blocks : 0);
  parallel_for(results * blocks, 1 + kGrain / std::min(length, kSumBlock), [&](Index unit) {
    const Index result = unit / blocks, first = unit % blocks * kSumBlock;
    const Index n = std::min(kSumBlock, length - first);
    const T* source = x + kept.place(result, kept.x);
    Sum<T> total = 0;
    auto add = [&](Index, const T* run, Index count) { total += of(run, count); };
    for_runs(source, summed.size, summed.x, first, n, add);
    if (blocks > 1) partial[unit] = total;
    else y[kept.place(result, kept.y)] = Y(total);
  });
  for (Index result = 0; blocks > 1 && result < results; ++result)
    y[kept.place(result, kept.y)] = Y(pairwise_sum(&partial[result * blocks], blocks, 1));
}

// ---------------------------------------------------------------------- rows

constexpr Index kRows = 128, kColumns = 1024;  // a block: its sums fit the first-level cache

// sums[j] += element j of each of `count` rows, 1 to 4
template <class T, class S>
void add_rows(const T* const (&row)[4], Index count, Index columns, Index stride, S* sums) {
  if (count == 4 && stride == 1)
    for (Index j = 0; j < columns; ++j)
      sums[j] += (S(row[0][j]) + S(row[1][j])) + (S(row[2][j]) + S(row[3][j]));
  else
    for (Index k = 0; k < count; ++k)
      for (Index j = 0; j < columns; ++j) sums[j] += S(row[k][j * stride]);
}

// The innermost axis, `columns`, stays; `kept` are the other axes that do.
template <class T>
void sum_rows(const Axes& summed, const Axes& kept, Index columns, Index x_stride, Index y_stride,
              const T* x, T* y) {
  const Index matrices = kept.size.numel(), rows = summed.size.numel();
  const Index blocks = ceil_div(rows, kRows), tiles = ceil_div(columns, kColumns);
  std::vector<Sum<T>> partial(blocks > 1 ? matrices * blocks * columns : 0);
  const Index block_size = std::min(rows, kRows) * std::min(columns, kColumns);
  parallel_for(matrices * blocks * tiles, 1 + kGrain / block_size, [&](Index unit) {
    const Index left = unit % tiles * kColumns, width = std::min(kColumns, columns - left);
    const Index block = unit / tiles % blocks, matrix = unit / tiles / blocks;
    const T* source = x + kept.place(matrix, kept.x) + left * x_stride;
    Cursor<const T> at(source, summed.size, summed.x, block * kRows);
    Sum<T> sums[kColumns];
    std::fill_n(sums, width, Sum<T>(0));
    const Index last = std::min(kRows, rows - block * kRows);
    for (Index i = 0; i < last; i += 4) {
      const T* row[4] = {};
      const Index count = std::min<Index>(4, last - i);
      for (Index k = 0; k < count; ++k) row[k] = at.next();
      add_rows(row, count, width, x_stride, sums);
    }
    T* to = y + kept.place(matrix, kept.y) + left * y_stride;
    if (blocks > 1) std::copy_n(sums, width, &partial[(matrix * blocks + block) * columns + left]);
    else
      for (Index j = 0; j < width; ++j) to[j * y_stride] = T(sums[j]);
  });
  if (blocks == 1) return;
  parallel_for(matrices * columns, 1 + kGrain / blocks, [&](Index i) {
    const Index matrix = i / columns, j = i % columns;
    y[kept.place(matrix, kept.y) + j * y_stride] =
        T(pairwise_sum(&partial[matrix * blocks * columns + j], blocks, columns));
  });
}

// ---------------------------------------------------------------------- maximum

// The place of the first of the largest of n elements, NaN being larger than all.
template <class T> Index find_largest(const T* x, Index n) {
  if constexpr (std::is_floating_point_v<T>) {
    constexpr T lowest = -std::numeric_limits<T>::infinity();
    Vec<T> tops = lowest, nan = lowest;
    for_each_register<T>(n, [&](Index i, auto part) {
      const Vec<T> value = part.load(x + i, lowest);
      tops = max(tops, value);
      nan = select(value == value, nan, value);
    });
    if (!hn::AllTrue(Vec<T>::tag, nan == nan))
      return std::find_if(x, x + n, [](T value) { return value != value; }) - x;
    const T top = max_lanes(tops);
    Index i = 0;  // a register at a time until it is near
    while (i + Vec<T>::lanes <= n && hn::AllFalse(Vec<T>::tag, Vec<T>::load(x + i) == Vec<T>(top)))
      i += Vec<T>::lanes;
    return std::find(x + i, x + n, top) - x;
  } else {
    return std::max_element(x, x + n) - x;
  }
}

}  // namespace

void sum(Cpu, const Tensor& x, const Tensor& y) {
  if (x.numel() == 0) return fill(Cpu{}, 0, y);
  Shape y_strides = y.strides();
  for (int i = 0; i < x.dim(); ++i)
    if (y.shape()[i] != x.shape()[i]) y_strides[i] = 0;
  const Loop loop = Pair(x.shape(), x.strides(), y_strides).loop();
  const int inner = loop.rank - 1;
  const Index x_stride = loop.first[inner], y_stride = loop.second[inner];
  const bool sequences = y_stride == 0;
  Axes summed, kept;
  for (int i = 0; i < loop.rank - !sequences; ++i)
    (loop.second[i] == 0 ? summed : kept).add(loop, i);
  visit_wide(x.dtype(), [&]<class T>(T) {
    const T* from = x.data<T>();
    T* to = y.data<T>();
    if constexpr (!is_summed<T>) throw DTypeError("sum: needs numbers");
    else if (sequences) sum_sequences<sum_of<T>>(summed, kept, from, to);
    else sum_rows(summed, kept, loop.size[inner], x_stride, y_stride, from, to);
  });
}

void sum_of_squares(Cpu, const Tensor& x, const Tensor& y) {
  if (x.numel() == 0) return fill(Cpu{}, 0, y);
  const Loop loop = Pair(x.shape(), x.strides(), x.strides()).loop();
  Axes summed;
  for (int i = 0; i < loop.rank; ++i) summed.add(loop, i);
  visit_float("sum_of_squares", x.dtype(), [&]<class T>(T) {
    sum_sequences<squares_of<T>>(summed, Axes(), x.data<T>(), y.data<double>());
  });
}

void cumsum_last(Cpu, const Tensor& x, const Tensor& y) {
  visit_wide(x.dtype(), [&]<class T>(T) {
    if constexpr (!is_summed<T>) throw DTypeError("cumsum: no numbers");
    else {
      const RowsOf<T> rows{x};
      parallel_for(rows.count, 1 + kGrain / (rows.length + 1), [&](Index r) {
        T* out = y.data<T>() + r * rows.length;
        Sum<T> sum = 0;
        auto add = [&](Index i, const T* run, Index n) {
          for (Index j = 0; j < n; ++j) out[i + j] = T(sum += run[j]);
        };
        for_runs(rows.at(r), {rows.length}, {rows.step}, 0, rows.length, add);
      });
    }
  });
}

void max_last(Cpu, const Tensor& x, const Tensor& y, const Tensor& index) {
  visit_wide(x.dtype(), [&]<class T>(T) {
    if constexpr (is_complex_v<T>) throw DTypeError("max: complex numbers have no order");
    else {
      const RowsOf<T> rows{x};
      T* values = y.data<T>();
      Index* places = index.data<Index>();
      parallel_for(rows.count, 1 + kGrain / (rows.length + 1), [&](Index r) {
        T& largest = values[r];
        auto see = [&](Index i, const T* run, Index n) {
          const Index place = find_largest(run, n);
          const T top = run[place];
          if (i > 0 && (largest != largest || (top <= largest && top == top))) return;
          largest = top;
          places[r] = i + place;
        };
        for_runs(rows.at(r), {rows.length}, {rows.step}, 0, rows.length, see);
      });
    }
  });
}

}  // namespace triad::kernels
