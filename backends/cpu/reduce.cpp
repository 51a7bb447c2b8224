// Sums over any axes, and the maximum over the last.
//
// A sum has two shapes. Where the innermost axis in memory is summed over, each result is the sum
// of a sequence: it is cut into blocks, added up register by register. Where that axis stays (the
// gradient of a bias, [R,C] -> [C]), whole rows are added into a row of sums, in blocks of rows and
// columns. The blocks follow from the shape alone and their sums are combined in a fixed order, so
// the result does not depend on the number of threads.
#include <limits>
#include <type_traits>
#include <vector>

#include <triad/backends/cpu/accumulate.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/registers.h>
#include <triad/backends/cpu/strided.h>
#include <triad/backends/kernels.h>

namespace triad::kernels {
namespace {

using cpu::Accumulator;
using cpu::for_each_register;
using cpu::kSumBlock;
using cpu::Vec;

constexpr std::int64_t kGrain = 65536;  // elements below which a second thread does not pay

// What sums are kept in: double, or integers that wrap around.
template <class T>
using Sum = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;

inline std::uint64_t combine(const std::uint64_t* p, std::int64_t n, std::int64_t stride) {
  std::uint64_t total = 0;
  for (std::int64_t i = 0; i < n; ++i) total += p[i * stride];
  return total;
}
inline double combine(const double* p, std::int64_t n, std::int64_t stride) {
  return cpu::pairwise_sum(p, n, stride);
}

// ---------------------------------------------------------------------- sequences

struct Plain {
  static auto of(const double* x, std::int64_t n) { return run<double>(x, n); }
  static auto of(const float* x, std::int64_t n) { return run<float>(x, n); }
  static auto of(const std::int64_t* x, std::int64_t n) {
    std::uint64_t total = 0;
    for (std::int64_t i = 0; i < n; ++i) total += std::uint64_t(x[i]);
    return total;
  }
  template <class T>
  static double run(const T* x, std::int64_t n) {
    Accumulator<T> sum;
    for_each_register<T>(n, [&](std::int64_t i, auto part) { sum.add(part.load(x + i)); });
    return sum.total();
  }
};

struct Squares {
  template <class T>
  static double of(const T* x, std::int64_t n) {
    Accumulator<T> sum;
    for_each_register<T>(n, [&](std::int64_t i, auto part) {
      const Vec<T> value = part.load(x + i);
      sum.add_product(value, value);
    });
    return sum.total();
  }
};

// Some of the axes of a sum: those that are summed over, or those that stay.
struct Axes {
  Shape size, x, y;

  void push_back(std::int64_t axis_size, std::int64_t x_stride, std::int64_t y_stride) {
    size.push_back(axis_size);
    x.push_back(x_stride);
    y.push_back(y_stride);
  }

  // Where entry `index` of these axes, in row-major order, lies.
  std::int64_t offset(std::int64_t index, const Shape& strides) const {
    std::int64_t at = 0;
    for (int i = size.rank(); i-- > 0; index /= size[i]) at += index % size[i] * strides[i];
    return at;
  }
};

template <class How, class T, class Y>
void sum_sequences(const Axes& summed, const Axes& kept, const T* x, Y* y) {
  const std::int64_t results = kept.size.numel(), length = summed.size.numel();
  const std::int64_t blocks = (length + kSumBlock - 1) / kSumBlock;
  const bool contiguous = summed.size.rank() == 1 && summed.x[0] == 1;
  std::vector<Sum<T>> partial(blocks > 1 ? std::size_t(results * blocks) : 0);
  cpu::parallel_for(results * blocks, 1 + kGrain / std::min(length, kSumBlock),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t unit = begin; unit < end; ++unit) {
                        const std::int64_t result = unit / blocks,
                                           first = unit % blocks * kSumBlock;
                        const std::int64_t n = std::min(kSumBlock, length - first);
                        const T* source = x + kept.offset(result, kept.x);
                        Sum<T> total = 0;
                        if (contiguous) {
                          total = How::of(source + first, n);
                        } else {
                          cpu::Reader<T> reader(source, summed.size, summed.x, first);
                          for (std::int64_t i = 0, count; i < n; i += count) {
                            count = std::min(n - i, reader.span());
                            total += How::of(reader.next(count), count);
                          }
                        }
                        if (blocks > 1) partial[std::size_t(unit)] = total;
                        else y[kept.offset(result, kept.y)] = Y(total);
                      }
                    });
  if (blocks > 1)
    for (std::int64_t result = 0; result < results; ++result)
      y[kept.offset(result, kept.y)] =
          Y(combine(&partial[std::size_t(result * blocks)], blocks, 1));
}

// ---------------------------------------------------------------------- rows

constexpr std::int64_t kRows = 128, kColumns = 1024;  // a block: its sums fit the first-level cache

// sums[j] += element j of each of `count` rows, 1 to 4
template <class T>
void add_rows(const T* const (&row)[4], std::int64_t count, std::int64_t columns,
              std::int64_t stride, Sum<T>* sums) {
  using S = Sum<T>;
  if (count == 4 && stride == 1)
    for (std::int64_t j = 0; j < columns; ++j)
      sums[j] += (S(row[0][j]) + S(row[1][j])) + (S(row[2][j]) + S(row[3][j]));
  else
    for (std::int64_t k = 0; k < count; ++k)
      for (std::int64_t j = 0; j < columns; ++j) sums[j] += S(row[k][j * stride]);
}

// The innermost axis, `columns`, stays; `kept` are the other axes that do.
template <class T>
void sum_rows(const Axes& summed, const Axes& kept, std::int64_t columns, std::int64_t x_stride,
              std::int64_t y_stride, const T* x, T* y) {
  const std::int64_t matrices = kept.size.numel(), rows = summed.size.numel();
  const std::int64_t blocks = (rows + kRows - 1) / kRows,
                     tiles = (columns + kColumns - 1) / kColumns;
  std::vector<Sum<T>> partial(blocks > 1 ? std::size_t(matrices * blocks * columns) : 0);
  cpu::parallel_for(
      matrices * blocks * tiles, 1 + kGrain / (std::min(rows, kRows) * std::min(columns, kColumns)),
      [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t unit = begin; unit < end; ++unit) {
          const std::int64_t left = unit % tiles * kColumns,
                             width = std::min(kColumns, columns - left);
          const std::int64_t block = unit / tiles % blocks, matrix = unit / tiles / blocks;
          const T* source = x + kept.offset(matrix, kept.x) + left * x_stride;
          cpu::Cursor<const T> at(source, summed.size, summed.x, block * kRows);
          Sum<T> sums[kColumns];
          std::fill_n(sums, width, Sum<T>(0));
          const std::int64_t last = std::min(kRows, rows - block * kRows);
          for (std::int64_t i = 0; i < last; i += 4) {
            const T* row[4] = {};
            const std::int64_t count = std::min<std::int64_t>(4, last - i);
            for (std::int64_t k = 0; k < count; ++k) row[k] = at.next();
            add_rows(row, count, width, x_stride, sums);
          }
          if (blocks > 1)
            std::copy_n(sums, width,
                        &partial[std::size_t((matrix * blocks + block) * columns + left)]);
          else
            for (std::int64_t j = 0; j < width; ++j)
              y[kept.offset(matrix, kept.y) + (left + j) * y_stride] = T(sums[j]);
        }
      });
  if (blocks > 1)
    cpu::parallel_for(
        matrices * columns, 1 + kGrain / blocks, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t matrix = i / columns, j = i % columns;
            y[kept.offset(matrix, kept.y) + j * y_stride] =
                T(combine(&partial[std::size_t(matrix * blocks * columns + j)], blocks, columns));
          }
        });
}

// x's axes in the order of its memory, outermost first; repeated ones (stride 0) are outermost.
cpu::Loop<2> in_memory_order(const Tensor& x, Shape y_strides) {
  Shape shape = x.shape(), strides = x.strides();
  auto is_outside = [](std::int64_t a, std::int64_t b) { return b != 0 && (a == 0 || a > b); };
  for (int i = 1; i < shape.rank(); ++i)
    for (int j = i; j > 0 && is_outside(strides[j], strides[j - 1]); --j) {
      std::swap(shape[j - 1], shape[j]);
      std::swap(strides[j - 1], strides[j]);
      std::swap(y_strides[j - 1], y_strides[j]);
    }
  return {shape, {&strides, &y_strides}};
}

// ---------------------------------------------------------------------- maximum

// The best element so far and where it stands.
template <class T>
struct Best {
  T value = std::numeric_limits<T>::lowest();
  std::int64_t index = -1;

  bool done() const { return value != value; }

  // Looks at elements first .. first + n of a row.
  void update(const T* x, std::int64_t n, std::int64_t first) {
    if (done()) return;
    const T top = largest(x, n);
    if (index >= 0 && !(top > value) && top == top) return;
    value = top, index = first + find(x, n, top);
  }

  // The place of the first element that is `top`, which is there.
  static std::int64_t find(const T* x, std::int64_t n, T top) {
    std::int64_t i = 0;
    if constexpr (std::is_floating_point_v<T>) {  // a register at a time until it is near
      constexpr std::int64_t lanes = Vec<T>::lanes;
      if (top == top)
        while (i + lanes <= n && cpu::hn::AllFalse(Vec<T>::tag, Vec<T>::load(x + i) == Vec<T>(top)))
          i += lanes;
      while (!(x[i] == top || (top != top && x[i] != x[i]))) ++i;
    } else {
      while (x[i] != top) ++i;
    }
    return i;
  }

  static T largest(const T* x, std::int64_t n) {
    if constexpr (std::is_floating_point_v<T>) {
      constexpr T lowest = -std::numeric_limits<T>::infinity();
      Vec<T> top = lowest, nan = lowest;
      for_each_register<T>(n, [&](std::int64_t i, auto part) {
        const Vec<T> value = part.load(x + i, lowest);
        top = max(top, value);
        nan = select(value == value, nan, value);
      });
      T lane[Vec<T>::lanes];
      nan.store(lane);
      for (T candidate : lane)
        if (candidate != candidate) return candidate;
      return max_lanes(top);
    } else {
      return *std::max_element(x, x + n);
    }
  }
};

}  // namespace

void sum(Cpu, const Tensor& x, const Tensor& y) {
  if (x.numel() == 0) return fill(Cpu{}, 0, y);
  Shape y_strides = y.strides();
  for (int i = 0; i < x.dim(); ++i)
    if (y.shape()[i] != x.shape()[i]) y_strides[i] = 0;
  const cpu::Loop<2> loop = in_memory_order(x, y_strides);
  const int inner = loop.rank - 1;
  const bool sequences = loop.stride[1][inner] == 0;
  Axes summed, kept;
  for (int i = 0; i < loop.rank - !sequences; ++i)
    (loop.stride[1][i] == 0 ? summed : kept)
        .push_back(loop.size[i], loop.stride[0][i], loop.stride[1][i]);
  visit_any(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) throw DTypeError("sum: needs numbers, got bool");
    else if (sequences) sum_sequences<Plain>(summed, kept, x.data<T>(), y.data<T>());
    else
      sum_rows(summed, kept, loop.size[inner], loop.stride[0][inner], loop.stride[1][inner],
               x.data<T>(), y.data<T>());
  });
}

void sum_of_squares(Cpu, const Tensor& x, const Tensor& y) {
  if (x.numel() == 0) return fill(Cpu{}, 0, y);
  const cpu::Loop<2> loop = in_memory_order(x, x.strides());
  Axes summed;
  for (int i = 0; i < loop.rank; ++i) summed.push_back(loop.size[i], loop.stride[0][i], 0);
  visit_float("sum_of_squares", x.dtype(), [&](auto zero) {
    sum_sequences<Squares>(summed, Axes(), x.data<decltype(zero)>(), y.data<double>());
  });
}

void max_last(Cpu, const Tensor& x, const Tensor& y, const Tensor& index) {
  const int rank = x.dim();
  const std::int64_t rows = y.numel(), columns = x.shape()[rank - 1];
  const Shape row{columns}, stride{x.strides()[rank - 1]};
  Axes outer;
  for (int i = 0; i < rank - 1; ++i) outer.push_back(x.shape()[i], x.strides()[i], 0);
  visit_any(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* source = x.data<T>();
    T* values = y.data<T>();
    std::int64_t* indices = index.data<std::int64_t>();
    cpu::parallel_for(rows, 1 + kGrain / columns, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        Best<T> best;
        cpu::Reader<T> reader(source + outer.offset(r, outer.x), row, stride, 0);
        for (std::int64_t i = 0, n; i < columns && !best.done(); i += n) {
          n = std::min(columns - i, reader.span());
          best.update(reader.next(n), n, i);
        }
        values[r] = best.value;
        indices[r] = best.index;
      }
    });
  });
}

}  // namespace triad::kernels
