// Walking through tensors of any strides, a run of consecutive elements at a time.
//
// A kernel is a plain loop over contiguous arrays. A contiguous run is used where it lies; all else
// is gathered, a thousand elements at a time, into a buffer that stays in the first-level cache.
#pragma once

#include <triad/backends/cpu/parallel.h>

namespace triad::cpu {

inline constexpr Index kTile = 1024;

// Where entry `index`, in row-major order and in range, of the first `axes` axes lies.
inline Index place_of(Index index, const Shape& shape, const Shape& strides, int axes) {
  Index place = 0;
  for (int i = axes - 1; i > 0; index /= shape[i--]) place += index % shape[i] * strides[i];
  return place + index * strides[0];
}

// The rows of a tensor along its last axis: element j of row r is at(r)[j * step].
template <class T> struct RowsOf {
  const Tensor& x;
  T* data = x.first<T>();
  Index length = x.shape().back(), count = length == 0 ? 0 : x.numel() / length;
  Index step = x.strides().back();

  T* at(Index r) const { return data + place_of(r, x.shape(), x.strides(), x.dim() - 1); }
};

// The axes of a loop over two operands of one shape: size-1 axes dropped, and neighbours that one
// stride describes in both merged. At least one axis; the last is the innermost.
struct Loop {
  int rank = 0;
  Index size[kMaxRank], first[kMaxRank], second[kMaxRank];  // the sizes, and the strides of both

  Loop(const Shape& shape, const Shape& a, const Shape& b) {
    for (int i = 0, last = -1; i < shape.rank(); ++i) {
      if (shape[i] == 1) continue;
      if (rank == 0 || first[last] != a[i] * shape[i] || second[last] != b[i] * shape[i])
        size[last = rank++] = 1;
      size[last] *= shape[i];
      first[last] = a[i];
      second[last] = b[i];
    }
    if (rank == 0) rank = size[0] = first[0] = second[0] = 1;
  }
};

// The strides of two operands of one shape, their axes permuted alike into the order of the first
// one's memory: its strides descend, and axes that it repeats (stride 0) come before all others.
struct Pair {
  Shape shape, first, second;

  Pair(const Shape& sizes, const Shape& strides, const Shape& others)
      : shape(sizes), first(strides), second(others) {
    auto is_outside = [](Index a, Index b) { return b != 0 && (a == 0 || a > b); };
    for (int i = 1; i < shape.rank(); ++i)
      for (int j = i; j > 0 && is_outside(first[j], first[j - 1]); --j)
        for (Shape* each : {&shape, &first, &second}) std::swap((*each)[j - 1], (*each)[j]);
  }
  Loop loop() const { return {shape, first, second}; }
};

// A place in a strided array, moving forward in row-major order.
template <class T> class Cursor {
 public:
  // At element `first` of the array whose first element is `data`.
  Cursor(T* data, const Shape& shape, const Shape& strides, Index first)
      : loop_(shape, strides, strides), at_(data) {
    for (int i = loop_.rank; first > 0 && i-- > 0; first /= loop_.size[i]) {
      index_[i] = first % loop_.size[i];
      at_ += index_[i] * step(i);
    }
  }

  // How many elements to ask for next: a contiguous run where that is worth it, else a tile.
  Index span() const { return lies_contiguous() && left() >= kShort ? left() : kTile; }

  Index left() const { return loop_.size[inner()] - index_[inner()]; }  // of the innermost axis

  // The next n elements where they lie, or nullptr when they must be gathered or scattered.
  T* here(Index n) { return lies_contiguous() && n <= left() ? passed(n) : nullptr; }

  T* next() { return passed(1); }  // the next element

  template <class U> void gather(Index n, U* buffer) {
    runs(n, [&](const T* p, Index stride, Index count) {
      if (stride == 1) std::copy_n(p, count, buffer);
      else if (stride == 0) std::fill_n(buffer, count, *p);
      else if (stride == -1) std::reverse_copy(p - count + 1, p + 1, buffer);
      else
        for (Index i = 0; i < count; ++i) buffer[i] = p[i * stride];
      buffer += count;
    });
  }

  void scatter(Index n, const T* buffer) {
    runs(n, [&](T* p, Index stride, Index count) {
      for (Index i = 0; i < count; ++i) p[i * stride] = buffer[i];
      buffer += count;
    });
  }

 private:
  static constexpr Index kShort = 256;  // runs shorter than this are gathered with others

  int inner() const { return loop_.rank - 1; }
  Index step(int axis) const { return loop_.first[axis]; }
  bool lies_contiguous() const { return step(inner()) == 1; }

  // Where it stood before it went forward by n, not beyond the end of the innermost axis.
  T* passed(Index n) {
    T* const before = at_;
    int i = inner();
    at_ += n * step(i);
    for (index_[i] += n; index_[i] == loop_.size[i] && i > 0; ++index_[i]) {
      at_ += step(i - 1) - loop_.size[i] * step(i);
      index_[i--] = 0;
    }
    return before;
  }

  template <class F> void runs(Index n, F f) {
    for (Index count; n > 0; n -= count) {
      count = std::min(n, left());
      f(passed(count), step(inner()), count);
    }
  }

  Loop loop_;
  T* at_;
  Index index_[kMaxRank] = {};
};

// The elements of a strided array as contiguous runs.
template <class T> struct Reader : Cursor<const T> {
  using Cursor<const T>::Cursor;

  // The next n elements, n <= span(); they stay until the next call.
  const T* next(Index n) {
    if (const T* run = this->here(n)) return run;
    this->gather(n, buffer);
    return buffer;
  }

  T buffer[kTile];
};

// f(i, run, count) for the runs of n elements from number `first` on; run[0] is number i of the n.
template <class T, class F>
void for_runs(const T* data, const Shape& shape, const Shape& strides, Index first, Index n, F f) {
  if (shape.rank() == 1 && strides[0] == 1) return f(Index(0), data + first, n);
  Reader<T> reader(data, shape, strides, first);
  for (Index i = 0, count; i < n; i += count) {
    count = std::min(n - i, reader.span());
    f(i, reader.next(count), count);
  }
}

}  // namespace triad::cpu
