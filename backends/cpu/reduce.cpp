// Sums over any axes, and maxima over the last.
//
// A sum has two shapes. Where the innermost axis in memory is summed over, each result is the sum
// of a sequence. Where that axis stays (the gradient of a bias, [R,C] -> [C]), whole rows are added
// into a row of sums. Both go in blocks that follow from the shape alone and whose sums are
// combined in a fixed order, so the result does not depend on the number of threads.
#include <numeric>

#include <triad/backends/cpu/strided.h>
#include <triad/backends/cpu/vec.h>

namespace triad::kernels {
namespace {

// What sums are kept in: double, or integers that wrap around.
template <class T>
using Sum = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;

// What they are given as: true counts as 1.
template <class T> using Total = std::conditional_t<std::is_same_v<T, bool>, Index, T>;

constexpr Index kSumBlock = 4096;  // added in pairs: rounding grows with the log of the length

// ---- Sequences. The sum of n contiguous elements, or of their squares.
template <class T, bool squared> Sum<T> sum_of(const T* x, Index n) {
  if constexpr (std::is_floating_point_v<T>) {
    constexpr Index lanes = Vec<double>::lanes;
    Vec<double> sums[4];  // so many, as each addition has to wait for the one before
    Index i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes)
      for (int k = 0; k < 4; ++k) {
        const Vec<double> value = load_double(x + i + k * lanes);
        sums[k] = squared ? fma(value, value, sums[k]) : sums[k] + value;
      }
    double total = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < n; ++i) total += squared ? double(x[i]) * double(x[i]) : double(x[i]);
    return total;
  } else {
    using S = std::conditional_t<std::is_same_v<T, bool>, std::uint32_t, Sum<T>>;  // in more lanes
    return std::accumulate(x, x + n, S(0));
  }
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

// ---- Rows, in blocks whose sums fit the first-level cache.

constexpr Index kRows = 128, kColumns = 1024;

// sums[j] += element j of each of `count` rows, 1 to 8
template <class T, class S>
void add_rows(const T* const (&row)[8], Index count, Index columns, Index stride, S* sums) {
  if (count == 8 && stride == 1)
    for (Index j = 0; j < columns; ++j)
      sums[j] += ((S(row[0][j]) + S(row[1][j])) + (S(row[2][j]) + S(row[3][j]))) +
                 ((S(row[4][j]) + S(row[5][j])) + (S(row[6][j]) + S(row[7][j])));
  else
    for (Index k = 0; k < count; ++k)
      for (Index j = 0; j < columns; ++j) sums[j] += S(row[k][j * stride]);
}

// The innermost axis, `columns`, stays; `kept` are the other axes that do.
template <class T>
void sum_rows(const Axes& summed, const Axes& kept, Index columns, Index x_stride, Index y_stride,
              const T* x, Total<T>* y) {
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
    for (Index i = 0; i < last; i += 8) {
      const T* row[8] = {};
      const Index count = std::min<Index>(8, last - i);
      for (Index k = 0; k < count; ++k) row[k] = at.next();
      add_rows(row, count, width, x_stride, sums);
    }
    Total<T>* to = y + kept.place(matrix, kept.y) + left * y_stride;
    if (blocks > 1) std::copy_n(sums, width, &partial[(matrix * blocks + block) * columns + left]);
    else
      for (Index j = 0; j < width; ++j) to[j * y_stride] = Total<T>(sums[j]);
  });
  if (blocks == 1) return;
  parallel_for(matrices * columns, 1 + kGrain / blocks, [&](Index i) {
    const Index matrix = i / columns, j = i % columns;
    y[kept.place(matrix, kept.y) + j * y_stride] =
        Total<T>(pairwise_sum(&partial[matrix * blocks * columns + j], blocks, columns));
  });
}

// ---- Maximum. The place of the first of the largest (smallest) of n elements; a NaN is the one.
template <class T, bool largest> Index find_first(const T* x, Index n) {
  if constexpr (std::is_floating_point_v<T>) {
    constexpr T lowest = -std::numeric_limits<T>::infinity();
    const auto key = [](auto value) { return largest ? value : -value; };
    Vec<T> tops = lowest, nan = lowest;
    for_each_register<T>(n, [&](Index i, auto part) {
      const Vec<T> value = key(part.load(x + i, key(lowest)));
      tops = max(tops, value);
      nan = select(value == value, nan, value);
    });
    if (!hn::AllTrue(Vec<T>::tag, nan == nan))
      return std::find_if(x, x + n, [](T value) { return value != value; }) - x;
    const T top = key(max_lanes(tops));
    Index i = 0;  // a register at a time until it is near
    while (i + Vec<T>::lanes <= n && hn::AllFalse(Vec<T>::tag, Vec<T>::load(x + i) == Vec<T>(top)))
      i += Vec<T>::lanes;
    return std::find(x + i, x + n, top) - x;
  } else return (largest ? std::max_element(x, x + n) : std::min_element(x, x + n)) - x;
}

}  // namespace

void sum(Cpu, const Tensor& x, const Tensor& y) {
  if (x.numel() == 0) return fill(Cpu{}, 0, y);
  const Loop loop = Pair(x.shape(), x.strides(), expanded(y.layout(), x.shape()).strides).loop();
  const int inner = loop.rank - 1;
  const Index x_stride = loop.first[inner], y_stride = loop.second[inner];
  const bool sequences = y_stride == 0;
  Axes summed, kept;
  for (int i = 0; i < loop.rank - !sequences; ++i)
    (loop.second[i] == 0 ? summed : kept).add(loop, i);
  visit_wide(x.dtype(), [&]<class T>(T) {
    const T* from = x.first<T>();
    auto* to = y.first<Total<T>>();
    if (sequences) sum_sequences<sum_of<T, false>>(summed, kept, from, to);
    else sum_rows(summed, kept, loop.size[inner], x_stride, y_stride, from, to);
  });
}

void sum_of_squares(Cpu, const std::vector<Tensor>& xs, const Tensor& y) {
  double total = 0, own = 0;
  visit_float("sum_of_squares", xs[0].dtype(), [&]<class T>(T) {
    for (const Tensor& x : xs) {
      if (x.numel() == 0) continue;
      sum_sequences<sum_of<T, true>>(Axes{{x.numel()}, {1}, {}}, Axes(), x.first<T>(), &own);
      total += own;
    }
  });
  *y.first<double>() = total;
}

void cumsum_last(Cpu, const Tensor& x, const Tensor& y) {
  constexpr Index kTogether = 4;  // rows: a row's additions have to wait for each other
  visit_wide(x.dtype(), [&]<class T>(T) {
    const RowsOf<T> in{x}, out{y};
    parallel_for(ceil_div(in.count, kTogether), 1 + kGrain / (in.length + 1), [&](Index group) {
      const Index first = group * kTogether;
      const T* from[kTogether];
      T* to[kTogether];
      for (Index k = 0; k < kTogether; ++k) {  // a last group of fewer does its last row again
        const Index row = std::min(first + k, in.count - 1);
        from[k] = in.at(row), to[k] = out.at(row);
      }
      Sum<T> sum[kTogether] = {};
      for (Index j = 0; j < in.length; ++j)
        for (Index k = 0; k < kTogether; ++k)
          to[k][j * out.step] = T(sum[k] += from[k][j * in.step]);
    });
  });
}

// Long rows are shared among the threads in blocks.
void max_last(Cpu, const Tensor& x, bool largest, const Tensor& y, const Tensor& index) {
  visit_wide(x.dtype(), [&]<class T>(T) {
    const RowsOf<T> rows{x};
    const auto find = largest ? find_first<T, true> : find_first<T, false>;
    const auto beats = [=](T b, T a) { return a == a && (b != b || (largest ? b > a : b < a)); };
    const Index blocks = ceil_div(rows.length, kGrain);
    std::vector<Index> places(rows.count * blocks);
    parallel_for(rows.count * blocks, 1 + kGrain / rows.length, [&](Index unit) {
      const Index first = unit % blocks * kGrain, n = std::min(kGrain, rows.length - first);
      T top = {};
      auto see = [&](Index i, const T* run, Index count) {
        const Index place = find(run, count);
        if (i > 0 && !beats(run[place], top)) return;
        top = run[place];
        places[unit] = first + i + place;
      };
      for_runs(rows.at(unit / blocks), {rows.length}, {rows.step}, first, n, see);
    });
    parallel_for(rows.count, 1 + kGrain / blocks, [&](Index r) {
      const T* row = rows.at(r);
      const Index* place = &places[r * blocks];
      Index best = *place;
      for (Index block = 1; block < blocks; ++block)
        if (beats(row[place[block] * rows.step], row[best * rows.step])) best = place[block];
      y.first<T>()[r] = row[best * rows.step];
      index.first<Index>()[r] = best;
    });
  });
}

}  // namespace triad::kernels
