// Copies between any strides and types, and the fills.
//
// The axes are first put into the order of the destination's memory and neighbours merged. What is
// left is one of three: contiguous runs on both sides (a slice, or heads moved past the sequence
// axis, [B,T,H,D] <-> [B,H,T,D]), a transposed matrix, done in squares that fit the cache, or
// anything at all, element by element.
#include <cstring>
#include <type_traits>

#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/strided.h>
#include <triad/backends/kernels.h>

namespace triad::kernels {
namespace {

using cpu::kTile;

constexpr std::int64_t kGrain = 65536;  // elements below which a second thread does not pay
constexpr std::int64_t kSide = 64;      // of the squares that are transposed in cache

// Layouts of x and y with their axes permuted alike, so that y's strides descend.
struct Pair {
  Shape shape, x, y;

  Pair(const Tensor& from, const Tensor& to)
      : shape(to.shape()), x(from.strides()), y(to.strides()) {
    for (int i = 1; i < shape.rank(); ++i)
      for (int j = i; j > 0 && y[j - 1] < y[j]; --j) {
        std::swap(shape[j - 1], shape[j]);
        std::swap(x[j - 1], x[j]);
        std::swap(y[j - 1], y[j]);
      }
  }
};

// Calls f(n, source run, destination run) over all elements, with the destination gathered before
// when `read` and scattered after.
template <class From, class To, class F>
void for_each_run(const Pair& pair, const From* x, To* y, bool read, F f) {
  cpu::parallel_for(pair.shape.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    cpu::Reader<From> in(x, pair.shape, pair.x, begin);
    cpu::Cursor<To> out(y, pair.shape, pair.y, begin);
    To buffer[kTile];
    for (std::int64_t i = begin, n; i < end; i += n) {
      n = std::min({end - i, in.span(), out.span()});
      const From* from = in.next(n);
      if (To* to = out.here(n)) {
        f(n, from, to);
        continue;
      }
      if (read) {
        auto again = out;
        again.gather(n, buffer);
      }
      f(n, from, buffer);
      out.scatter(n, buffer);
    }
  });
}

// y[i, j] = x[j, i] for `rows` by `columns` of y; rows of y are contiguous, columns of x are. A
// square of x is first copied as it lies: reading it across straight from memory would fetch each
// cache line many times where its rows are a power of two apart.
template <class T>
void transpose(std::int64_t rows, std::int64_t columns, const T* x, std::int64_t x_stride, T* y,
               std::int64_t y_stride) {
  T square[kSide][kSide];
  for (std::int64_t left = 0; left < columns; left += kSide) {
    const std::int64_t width = std::min(kSide, columns - left);
    for (std::int64_t j = 0; j < width; ++j)
      std::copy_n(x + (left + j) * x_stride, rows, square[j]);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < width; ++j) y[i * y_stride + left + j] = square[j][i];
  }
}

// A copy without conversion.
template <class T>
void move(const Pair& pair, const T* x, T* y) {
  const cpu::Loop<2> loop(pair.shape, {&pair.x, &pair.y});
  const int inner = loop.rank - 1;
  const auto &from = loop.stride[0], &to = loop.stride[1];
  if (from[inner] == 1 && to[inner] == 1)
    return cpu::parallel_for(pair.shape.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      cpu::Cursor<const T> in(x, pair.shape, pair.x, begin);
      cpu::Cursor<T> out(y, pair.shape, pair.y, begin);
      for (std::int64_t i = begin, n; i < end; i += n) {
        n = std::min({end - i, in.left(), out.left()});
        T* target = out.here(n);
        std::memcpy(target, in.here(n), std::size_t(n) * sizeof(T));
      }
    });

  int across = inner - 1;
  while (across >= 0 && from[across] != 1) --across;
  if (to[inner] != 1 || from[inner] <= 1 || across < 0)
    return for_each_run(pair, x, y, false, [](std::int64_t n, const T* source, T* target) {
      std::copy_n(source, n, target);
    });

  // A matrix for each index of the other axes; its rows are shared out in strips.
  const std::int64_t rows = loop.size[across], columns = loop.size[inner];
  const std::int64_t strips = (rows + kSide - 1) / kSide;
  const std::int64_t matrices = pair.shape.numel() / (rows * columns);
  cpu::parallel_for(
      matrices * strips, 1 + kGrain / (kSide * columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t unit = begin; unit < end; ++unit) {
          const std::int64_t row = unit % strips * kSide;
          const T* source = x + row;
          T* target = y + row * to[across];
          std::int64_t matrix = unit / strips;
          for (int i = inner; i-- > 0;) {
            if (i == across) continue;
            source += matrix % loop.size[i] * from[i];
            target += matrix % loop.size[i] * to[i];
            matrix /= loop.size[i];
          }
          transpose(std::min(kSide, rows - row), columns, source, from[inner], target, to[across]);
        }
      });
}

template <class From, class To>
To converted(From value) {
  return std::is_same_v<To, bool> ? To(value != From(0)) : To(value);
}

template <class From, class To>
void convert(std::int64_t n, const From* x, To* y) {
  if constexpr (std::is_same_v<From, bool>)  // as bytes: else the loop is not vectorised
    return convert(n, reinterpret_cast<const unsigned char*>(x), y);
  for (std::int64_t i = 0; i < n; ++i) y[i] = converted<From, To>(x[i]);
}

}  // namespace

void copy(Cpu, const Tensor& x, const Tensor& y) {
  if (y.numel() == 0) return;
  const Pair pair(x, y);
  visit_any(x.dtype(), [&](auto from_zero) {
    visit_any(y.dtype(), [&](auto to_zero) {
      using From = decltype(from_zero);
      using To = decltype(to_zero);
      if constexpr (std::is_same_v<From, To>) {
        move(pair, x.data<From>(), y.data<To>());
      } else {
        for_each_run(pair, x.data<From>(), y.data<To>(), false, convert<From, To>);
      }
    });
  });
}

void add_into(Cpu, const Tensor& x, const Tensor& y) {
  const Pair pair(x, y);
  visit_any(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) throw DTypeError("add_into: needs numbers, got bool");
    else
      for_each_run(pair, x.data<T>(), y.data<T>(), true, [](std::int64_t n, const T* a, T* b) {
        for (std::int64_t i = 0; i < n; ++i) b[i] += a[i];
      });
  });
}

void fill(Cpu, double value, const Tensor& y) {
  visit_any(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T number = converted<double, T>(value);
    T* target = y.data<T>();
    if (y.is_contiguous())
      return cpu::parallel_for(y.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
        std::fill(target + begin, target + end, number);
      });
    const Pair pair(y, y);
    cpu::parallel_for(y.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      cpu::Cursor<T>(target, pair.shape, pair.y, begin).fill(end - begin, number);
    });
  });
}

void arange(Cpu, double start, double step, const Tensor& y) {
  visit_any(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* target = y.data<T>();
    cpu::parallel_for(y.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        target[i] = converted<double, T>(start + double(i) * step);
    });
  });
}

}  // namespace triad::kernels
