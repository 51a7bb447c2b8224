// Fourier transforms along the last axis, and the cyclic convolution behind spectral filters.
#include <triad/backends/cpu/fft.h>
#include <triad/backends/cpu/gemm_tile.h>
#include <triad/backends/cpu/strided.h>

namespace triad::kernels {
namespace {

// ---- Transforms of as many rows side by side as a register has lanes, of twice as many real ones.

// Calls f(plan of n points, z, first, size) for groups of at most `width` of `count` rows: `first`
// to first + size - 1; z is room for a transform.
template <class T, class F> void for_groups(Index n, Index count, Index width, F f) {
  const auto plan = cached_plan<AnyFft<T>>(n);
  parallel_for(ceil_div(count, width), 1 + 4096 / n, [&](Index group) {
    const Index first = group * width, size = std::min(width, count - first);
    f(*plan, scratch<T>(plan->rows() * Row<T>::size), first, size);
  });
}

template <class T> constexpr Index kLanes = Vec<T>::lanes;

// Neighbouring entries of the rows of a group. `along` holds them row by row, `across` entry by
// entry: a Row<T>, of kLanes complex rows or of 2 kLanes real ones, the second half as imaginary.
template <class T> struct Stretch {
  static constexpr Index kLength = 64, kRow = Row<T>::size;
  alignas(64) T across[kLength * kRow], along[kRow * kLength];

  Row<T> operator[](Index t) const { return Row<T>::load(across + t * kRow); }
  void set(Index t, Row<T> z) { z.store(across + t * kRow); }

  // Entries t.. of rows first..; there are `size` of them, then the last one comes again.
  template <class X> void load(const RowsOf<X>& in, Index first, Index size, Index t, Index n) {
    constexpr Index parts = sizeof(X) / sizeof(T), rows = kRow / parts;
    for (Index i = 0; i < rows; ++i) {
      const X* row = in.at(first + std::min(i, size - 1)) + t * in.step;
      X* to = reinterpret_cast<X*>(along) + i * kLength;
      for (Index j = 0; j < n; ++j) to[j] = row[j * in.step];
    }
    transpose_tile(T(1), rows, parts * n, along, parts * kLength, across, rows);
  }
  template <class X>
  void store(T scale, const RowsOf<X>& out, Index first, Index size, Index t, Index n) {
    constexpr Index parts = sizeof(X) / sizeof(T), rows = kRow / parts;
    transpose_tile(scale, parts * n, rows, across, rows, along, parts * kLength);
    for (Index i = 0; i < size; ++i) {
      X* row = out.at(first + i) + t * out.step;
      const X* from = reinterpret_cast<const X*>(along) + i * kLength;
      for (Index j = 0; j < n; ++j) row[j * out.step] = from[j];
    }
  }
};

// Calls f(t, n) for the stretches t..t+n-1 of 0..count-1.
template <class T, class F> void for_stretches(Index count, F f) {
  for (Index t = 0; t < count; t += Stretch<T>::kLength)
    f(t, std::min(Stretch<T>::kLength, count - t));
}

template <class T> void transform(const Tensor& x, bool inverse, double scale, const Tensor& y) {
  using C = std::complex<T>;
  const RowsOf<C> in{x}, out{y};
  const Index n = in.length;
  for_groups<T>(n, in.count, kLanes<T>, [&](const auto& plan, T* z, Index first, Index size) {
    Stretch<T> rows;
    auto at = [&](Index t, bool sorted) { return z + (sorted ? t : plan.row_of(t)) * rows.kRow; };
    for_stretches<T>(n, [&](Index t, Index count) {
      rows.load(in, first, size, t, count);
      for (Index j = 0; j < count; ++j) rows[j].store(at(t + j, !inverse));
    });
    inverse ? plan.inverse(z) : plan.forward(z);
    for_stretches<T>(n, [&](Index t, Index count) {
      for (Index j = 0; j < count; ++j) rows.set(j, Row<T>::load(at(t + j, inverse)));
      rows.store(T(scale), out, first, size, t, count);
    });
  });
}

// Z = A + i B, and both spectra are Hermitian: A_k = (Z_k + conj Z_-k) / 2, i B_k what is left.
template <class T> void real_to_half(const Tensor& x, double scale, const Tensor& y) {
  const RowsOf<T> in{x};
  const RowsOf<std::complex<T>> out{y};
  const Index n = in.length;
  for_groups<T>(n, in.count, Row<T>::size, [&](const auto& plan, T* z, Index first, Index size) {
    Stretch<T> a, b;
    for_stretches<T>(n, [&](Index t, Index count) {
      a.load(in, first, size, t, count);
      for (Index j = 0; j < count; ++j) a[j].store(z + (t + j) * Row<T>::size);
    });
    plan.forward(z);
    for_stretches<T>(out.length, [&](Index k, Index count) {
      for (Index j = 0; j < count; ++j) {
        const auto p = Row<T>::load(z + plan.row_of(k + j) * Row<T>::size);
        const auto q = Row<T>::load(z + plan.row_of((n - k - j) % n) * Row<T>::size);
        a.set(j, {p.re + q.re, p.im - q.im});
        b.set(j, {p.im + q.im, q.re - p.re});
      }
      a.store(T(0.5 * scale), out, first, std::min(size, kLanes<T>), k, count);
      b.store(T(0.5 * scale), out, first + kLanes<T>, size - kLanes<T>, k, count);
    });
  });
}

template <class T> void half_to_real(const Tensor& x, double scale, const Tensor& y) {
  const RowsOf<std::complex<T>> in{x};
  const RowsOf<T> out{y};
  const Index n = out.length;
  for_groups<T>(n, out.count, Row<T>::size, [&](const auto& plan, T* z, Index first, Index size) {
    const Index other = std::min(first + kLanes<T>, out.count - 1);
    Stretch<T> a, b;
    for_stretches<T>(n / 2 + 1, [&](Index k, Index count) {
      a.load(in, first, std::min(size, kLanes<T>), k, count);
      b.load(in, other, std::max<Index>(size - kLanes<T>, 1), k, count);
      for (Index j = 0; j < count; ++j) {
        Row<T> u = a[j], v = b[j];
        if (k + j == 0 || 2 * (k + j) == n) u.im = v.im = Vec<T>();
        Row<T>{u.re + v.im, v.re - u.im}.store(z + plan.row_of((n - k - j) % n) * Row<T>::size);
        Row<T>{u.re - v.im, v.re + u.im}.store(z + plan.row_of(k + j) * Row<T>::size);
      }
    });
    plan.inverse(z);
    for_stretches<T>(n, [&](Index t, Index count) {
      for (Index j = 0; j < count; ++j) a.set(j, Row<T>::load(z + (t + j) * Row<T>::size));
      a.store(T(scale), out, first, size, t, count);
    });
  });
}

// ---- Cyclic convolution. Along T of every channel of [B,T,H,D] with its head's filter, and its
// adjoint.
//
// Two real channels share one complex transform, z = v_a + i v_b: a filter that is real in time
// maps them to y_a + i y_b. One reads v once and writes y once; between the two, the transforms and
// the filter happen in cache. (A NaN or a much larger value in one channel is felt in its partner.)

using Complex = std::complex<double>;

// Per head the value (of the adjoint: conjugate) at n frequencies, over n, in the plan's order.
template <class T>
std::vector<T> make_response(const Fft<T>& plan, const Tensor& spectrum, bool adjoint) {
  const Index n = plan.size(), heads = spectrum.shape()[0];
  const Complex* half = spectrum.first<Complex>();
  std::vector<T> response;
  response.reserve(heads * n * 2);
  for (Index h = 0; h < heads; ++h, half += n / 2 + 1)
    for (Index p = 0; p < n; ++p) {
      const Index k = plan.frequency(p), mirrored = (n - k) % n;
      const Complex value = half[std::min(k, n - k)];
      const double imag = k == mirrored ? 0 : value.imag();
      response.push_back(T(value.real() / double(n)));
      response.push_back(T(((k < mirrored) == adjoint ? -imag : imag) / double(n)));
    }
  return response;
}

// Tiles that are worth a thread's while: 1024 rows take about 10 us.
Index grain(Index n) { return 1 + 512 / n; }

// At most Row<T>::size neighbouring channels of one head of [B,T,H,D], D contiguous: the first half
// of them in the real parts, the others in the imaginary parts, zeros where the head ends.
//
// A transform of n points reads and writes full tiles where they lie, but its first and last stage
// do so a whole step apart. Past 2048 points that costs more in the TLB than one more trip through
// the cache does (EPYC 9005, T = 4096: 2.3 ms against 1.5); then, as in part of a tile, rows copy.
template <class T> class ChannelTile {
 public:
  static constexpr Index kLanes = Vec<T>::lanes, kRow = Row<T>::size;

  static Index per_head(const Tensor& x) { return ceil_div(x.shape()[3], kRow); }

  ChannelTile(const Tensor& x, Index b, Index h, Index tile, Index n)
      : data_(x.first<T>() + b * x.strides()[0] + h * x.strides()[2] + tile * kRow),
        stride_(x.strides()[1]), length_(x.shape()[1]), n_(n),
        channels_(std::min(kRow, x.shape()[3] - tile * kRow)) {}

  // What a transform in x reads; `zero` is a row of zeros.
  Rows<const T> source(T* x, T* zero) const {
    if (is_direct()) return {data_, stride_, length_, zero};
    for (Index t = 0; t < length_; ++t) load(data_ + t * stride_).store(x + t * kRow);
    return {x, kRow, length_, zero};
  }
  // Where it writes; `spare` takes what is not wanted.
  Rows<T> sink(T* x, T* spare) const {
    return is_direct() ? Rows<T>{data_, stride_, length_, spare} : Rows<T>{x, kRow, n_, nullptr};
  }
  // To be called when it has.
  void finish(const T* x) const {
    if (is_direct()) return;
    for (Index t = 0; t < length_; ++t) store(Row<T>::load(x + t * kRow), data_ + t * stride_);
  }

 private:
  bool is_full() const { return channels_ == kRow; }
  bool is_direct() const { return n_ <= 2048 && is_full(); }

  Row<T> load(const T* p) const {
    if (is_full()) return Row<T>::load(p);
    if (channels_ <= kLanes) return {Vec<T>::load_first(p, channels_), Vec<T>()};
    return {Vec<T>::load(p), Vec<T>::load_first(p + kLanes, channels_ - kLanes)};
  }
  void store(Row<T> z, T* p) const {
    if (is_full()) return z.store(p);
    z.re.store_first(p, std::min(channels_, kLanes));
    if (channels_ > kLanes) z.im.store_first(p + kLanes, channels_ - kLanes);
  }

  T* data_;
  Index stride_, length_, n_, channels_;
};

// The working memory of one thread: a row of zeros, one to spare, and blocks of n rows.
template <class T> T* workspace(Index n, int blocks) {
  T* rows = scratch<T>((blocks * n + 2) * Row<T>::size);
  std::fill_n(rows, Row<T>::size, T(0));
  return rows;
}

template <class T>
void convolve(const Tensor& v, const Tensor& spectrum, Index n, bool adjoint, const Tensor& y) {
  const Index B = v.shape()[0], H = v.shape()[2], tiles = ChannelTile<T>::per_head(v);
  const auto plan = cached_plan<Fft<T>>(n);
  const std::vector<T> response = make_response(*plan, spectrum, adjoint);
  parallel_for(H * B * tiles, grain(n), [&](Index task) {
    T *zero = workspace<T>(n, 1), *spare = zero + Row<T>::size, *x = spare + Row<T>::size;
    const Index h = task / (B * tiles), b = task / tiles % B, tile = task % tiles;
    const ChannelTile<T> in(v, b, h, tile, n), out(y, b, h, tile, n);
    const T* filter = &response[h * n * 2];
    auto apply = [=](Index p, Row<T>& z) { z = times_pair(z, filter + 2 * p); };
    plan->filter(in.source(x, zero), x, apply, out.sink(x, spare));
    out.finish(x);
  });
}

// The gradient of the spectrum, and dv if it is wanted: dy is transformed once for both. The sum
// over batch and channels of z_dy conj(z_v) goes in a fixed order: one thread each sums a chunk of
// (batch, tile) items of a head, then the chunks' sums are added in sequence. About 64 chunks in
// all keep any CPU busy; more than 8 items would round more in fp32.
template <class T>
void correlate(const Tensor& dy, const Tensor& v, const Tensor& spectrum, Index n, const Tensor& dv,
               const Tensor& dspectrum) {
  constexpr Index kRow = Row<T>::size;
  const Index B = dy.shape()[0], H = dy.shape()[2], tiles = ChannelTile<T>::per_head(dy);
  const Index items = B * tiles, chunk = std::clamp<Index>(H * items / 64, 1, 8);
  const Index chunks = ceil_div(items, chunk);  // of one head
  const auto plan = cached_plan<Fft<T>>(n);
  const std::vector<T> response = make_response(*plan, spectrum, true);
  std::vector<Complex> sums(H * chunks * n);

  parallel_for(H * chunks, grain(n), [&](Index task) {
    T *zero = workspace<T>(n, 3), *spare = zero + kRow, *x = spare + kRow;
    T *z_v = x + n * kRow, *sum = z_v + n * kRow;
    const Index h = task / chunks, first = task % chunks * chunk;
    const T* filter = &response[h * n * 2];
    auto add = [=](Index p, Row<T>& z) {
      const Row<T> other = Row<T>::load(z_v + p * kRow);
      (Row<T>::load(sum + p * kRow) + times_conj(z, other.re, other.im)).store(sum + p * kRow);
    };
    auto add_and_apply = [=](Index p, Row<T>& z) {
      add(p, z);
      z = times_pair(z, filter + 2 * p);
    };
    std::fill_n(sum, n * kRow, T(0));
    for (Index item = first; item < std::min(first + chunk, items); ++item) {
      const Index b = item / tiles, tile = item % tiles;
      const ChannelTile<T> in(v, b, h, tile, n), gradient(dy, b, h, tile, n);
      plan->forward(in.source(z_v, zero), z_v, keep_bins);
      if (dv.defined()) {
        const ChannelTile<T> out(dv, b, h, tile, n);
        plan->filter(gradient.source(x, zero), x, add_and_apply, out.sink(x, spare));
        out.finish(x);
      } else plan->forward(gradient.source(x, zero), x, add);
    }
    for (Index p = 0; p < n; ++p) {
      const Row<T> row = Row<T>::load(sum + p * kRow);
      sums[task * n + p] = {double(sum_lanes(row.re)), double(sum_lanes(row.im))};
    }
  });

  // The part that belongs to the real channels, times how often y reads a frequency, over n. What
  // is left over of a pair of channels is anti-Hermitian and cancels.
  Complex* result = dspectrum.first<Complex>();
  for (Index h = 0; h < H; ++h)
    for (Index k = 0; k < n / 2 + 1; ++k) {
      const Index mirrored = (n - k) % n;
      Complex total = 0;
      for (Index c = 0; c < chunks; ++c) {
        const Complex* sum = &sums[(h * chunks + c) * n];
        total += 0.5 * (sum[plan->row_of(k)] + std::conj(sum[plan->row_of(mirrored)]));
      }
      *result++ = k == mirrored ? Complex(total.real() / double(n)) : total * (2 / double(n));
    }
}

}  // namespace

void fft(Cpu, const Tensor& x, bool inverse, double scale, const Tensor& y) {
  visit_float("fft", real_type(x.dtype()), [&]<class T>(T) { transform<T>(x, inverse, scale, y); });
}
void rfft(Cpu, const Tensor& x, double scale, const Tensor& y) {
  visit_float("rfft", x.dtype(), [&]<class T>(T) { real_to_half<T>(x, scale, y); });
}
void irfft(Cpu, const Tensor& x, double scale, const Tensor& y) {
  visit_float("irfft", y.dtype(), [&]<class T>(T) { half_to_real<T>(x, scale, y); });
}
Index fast_fft_size(Cpu, Index n) { return good_fft_size(n); }

void cyclic_convolution(Cpu, const Tensor& v, const Tensor& spectrum, Index n, const Tensor& y) {
  visit_float("cyclic_convolution", v.dtype(),
              [&]<class T>(T) { convolve<T>(v, spectrum, n, false, y); });
}

void cyclic_convolution_backward(Cpu, const Tensor& dy, const Tensor& v, const Tensor& spectrum,
                                 Index n, const Tensor& dv, const Tensor& dspectrum) {
  visit_float("cyclic_convolution", dy.dtype(), [&]<class T>(T) {
    if (dspectrum.defined()) correlate<T>(dy, v, spectrum, n, dv, dspectrum);
    else if (dv.defined()) convolve<T>(dy, spectrum, n, true, dv);
  });
}

}  // namespace triad::kernels
