// Copies between any strides and types, and the fills.
//
// With the axes in the order of the destination's memory and neighbours merged, a copy is one of
// three: contiguous runs on both sides (a slice, or [B,T,H,D] <-> [B,H,T,D]), a transposed matrix,
// done in squares that fit the cache, or anything at all, element by element.
#include <triad/backends/cpu/strided.h>

namespace triad::kernels {

constexpr Index kSide = 64;  // of the squares that are transposed in cache

// Calls f(n, source run, destination run) over all elements of a pair (y, x), the destination
// gathered before when `read` and scattered after.
template <class From, class To, class F>
static void for_each_run(const Pair& pair, const From* x, To* y, bool read, F f) {
  parallel_ranges(pair.shape.numel(), kGrain, [&](Index begin, Index end) {
    Reader<From> in(x, pair.shape, pair.second, begin);
    Cursor<To> out(y, pair.shape, pair.first, begin);
    To buffer[kTile];
    for (Index i = begin, n; i < end; i += n) {
      n = std::min({end - i, in.span(), out.span()});
      To* to = out.here(n);
      if (to == nullptr && read) Cursor(out).gather(n, buffer);
      f(n, in.next(n), to ? to : buffer);
      if (to == nullptr) out.scatter(n, buffer);
    }
  });
}

// y[i, j] = x[j, i] for `rows` by `columns` of y; rows of y are contiguous, columns of x are. A
// square of x is first copied as it lies, its rows padded: read across where rows are a power of
// two apart, each cache line is fetched many times (512 x 1024 floats: 193 us unpadded, else 91).
template <class T>
static void transpose(Index rows, Index columns, const T* x, Index x_stride, T* y, Index y_stride) {
  T square[kSide][kSide + 8];
  for (Index left = 0; left < columns; left += kSide) {
    const Index width = std::min(kSide, columns - left);
    for (Index j = 0; j < width; ++j) std::copy_n(x + (left + j) * x_stride, rows, square[j]);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < width; ++j) y[i * y_stride + left + j] = square[j][i];
  }
}

// A copy without conversion.
template <class T> static void move(const Pair& pair, const T* x, T* y) {
  const Loop loop = pair.loop();
  const int inner = loop.rank - 1;
  const auto &to = loop.first, &from = loop.second;
  if (from[inner] == 1 && to[inner] == 1)
    return parallel_ranges(pair.shape.numel(), kGrain, [&](Index begin, Index end) {
      Cursor<const T> in(x, pair.shape, pair.second, begin);
      Cursor<T> out(y, pair.shape, pair.first, begin);
      for (Index i = begin, n; i < end; i += n) {
        n = std::min({end - i, in.left(), out.left()});
        std::copy_n(in.here(n), n, out.here(n));
      }
    });

  int across = inner - 1;
  while (across >= 0 && from[across] != 1) --across;
  if (to[inner] != 1 || from[inner] <= 1 || across < 0)
    return for_each_run(pair, x, y, false, [](Index n, const T* a, T* b) { std::copy_n(a, n, b); });

  // A matrix for each index of the other axes; its rows are shared out in strips.
  const Index rows = loop.size[across], columns = loop.size[inner], strips = ceil_div(rows, kSide);
  const Index matrices = pair.shape.numel() / (rows * columns);
  parallel_for(matrices * strips, 1 + kGrain / (kSide * columns), [&](Index unit) {
    const Index row = unit % strips * kSide;
    const T* source = x + row;
    T* target = y + row * to[across];
    Index matrix = unit / strips;
    for (int i = inner; i-- > 0;) {
      if (i == across) continue;
      source += matrix % loop.size[i] * from[i];
      target += matrix % loop.size[i] * to[i];
      matrix /= loop.size[i];
    }
    transpose(std::min(kSide, rows - row), columns, source, from[inner], target, to[across]);
  });
}

template <class From, class To> static void convert(Index n, const From* x, To* y) {
  if constexpr (std::is_same_v<From, bool>)  // as bytes: else the loop is not vectorised
    return convert(n, reinterpret_cast<const unsigned char*>(x), y);
  for (Index i = 0; i < n; ++i) y[i] = converted<To>(x[i]);
}

void copy(Cpu, const Tensor& x, const Tensor& y) {
  if (y.numel() == 0) return;
  const Pair pair(y.shape(), y.strides(), x.strides());
  visit_any(x.dtype(), [&]<class From>(From) {
    visit_any(y.dtype(), [&]<class To>(To) {
      if constexpr (std::is_same_v<From, To>) move(pair, x.first<From>(), y.first<To>());
      else for_each_run(pair, x.first<From>(), y.first<To>(), false, convert<From, To>);
    });
  });
}

void add_into(Cpu, const Tensor& x, const Tensor& y) {
  const Pair pair(y.shape(), y.strides(), x.strides());
  visit_any(y.dtype(), [&]<class T>(T) {
    auto add = [](Index n, const T* a, T* b) {
      for (Index i = 0; i < n; ++i) b[i] = T(b[i] + a[i]);
    };
    if constexpr (std::is_same_v<T, bool>) throw DTypeError("add_into: needs numbers, got bool");
    else for_each_run(pair, x.first<T>(), y.first<T>(), true, add);
  });
}

void fill(Cpu, double value, const Tensor& y) {
  visit_any(y.dtype(), [&]<class T>(T) {
    const T number = to_number<T>(value);
    T* to = y.first<T>();
    if (!y.is_contiguous())
      return move({y.shape(), y.strides(), Shape::filled(y.dim(), 0)}, &number, to);
    parallel_ranges(y.numel(), kGrain,
                    [=](Index i, Index end) { std::fill(to + i, to + end, number); });
  });
}

void arange(Cpu, double start, double step, const Tensor& y) {
  visit_any(y.dtype(), [&]<class T>(T) {
    auto fill = [=, to = y.first<T>()](Index i) { to[i] = converted<T>(start + double(i) * step); };
    parallel_for(y.numel(), kGrain, fill);
  });
}

}  // namespace triad::kernels
