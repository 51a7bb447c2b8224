// Fourier transforms along the last axis, and the cyclic convolution that the circular and the
// causal spectral filter are made of.
#include <algorithm>
#include <vector>

#include <triad/backends/cpu/fft.h>
#include <triad/backends/cpu/strided.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::kernels {
namespace {

using namespace cpu;

// ---------------------------------------------------------------------- transforms
//
// As many rows side by side as a register has lanes; of real ones twice that, half as imaginary.

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

template <class T> void transform(const Tensor& x, bool inverse, double scale, const Tensor& y) {
  using C = std::complex<T>;
  const RowsOf<C> in{x}, out{y};
  const Index n = in.length;
  for_groups<T>(n, in.count, kLanes<T>, [&](const auto& plan, T* z, Index first, Index size) {
    for (Index i = 0; i < kLanes<T>; ++i) {
      const C* row = in.at(first + std::min(i, size - 1));
      for (Index t = 0; t < n; ++t) {
        const Index place = (inverse ? plan.row_of(t) : t) * Row<T>::size + i;
        z[place] = row[t * in.step].real(), z[place + kLanes<T>] = row[t * in.step].imag();
      }
    }
    inverse ? plan.inverse(z) : plan.forward(z);
    for (Index i = 0; i < size; ++i) {
      C* row = out.at(first + i);
      for (Index t = 0; t < n; ++t) {
        const T* p = z + (inverse ? t : plan.row_of(t)) * Row<T>::size + i;
        row[t * out.step] = {T(scale) * p[0], T(scale) * p[kLanes<T>]};
      }
    }
  });
}

// Z = A + i B, and both spectra are Hermitian: A_k = (Z_k + conj Z_-k) / 2, i B_k what is left.
template <class T> void real_to_half(const Tensor& x, double scale, const Tensor& y) {
  const RowsOf<T> in{x};
  const RowsOf<std::complex<T>> out{y};
  const Index n = in.length;
  for_groups<T>(n, in.count, Row<T>::size, [&](const auto& plan, T* z, Index first, Index size) {
    for (Index i = 0; i < Row<T>::size; ++i) {
      const T* row = in.at(first + std::min(i, size - 1));
      for (Index t = 0; t < n; ++t) z[t * Row<T>::size + i] = i < size ? row[t * in.step] : T(0);
    }
    plan.forward(z);
    const T half = T(0.5 * scale);
    for (Index i = 0; i < size; ++i) {
      std::complex<T>* row = out.at(first + i);
      const T* lane = z + i % kLanes<T>;
      for (Index k = 0; k < out.length; ++k) {
        const T* p = lane + plan.row_of(k) * Row<T>::size;
        const T* q = lane + plan.row_of((n - k) % n) * Row<T>::size;
        if (i < kLanes<T>)
          row[k * out.step] = {half * (p[0] + q[0]), half * (p[kLanes<T>] - q[kLanes<T>])};
        else row[k * out.step] = {half * (p[kLanes<T>] + q[kLanes<T>]), half * (q[0] - p[0])};
      }
    }
  });
}

template <class T> void half_to_real(const Tensor& x, double scale, const Tensor& y) {
  using C = std::complex<T>;
  const RowsOf<C> in{x};
  const RowsOf<T> out{y};
  const Index n = out.length;
  for_groups<T>(n, out.count, Row<T>::size, [&](const auto& plan, T* z, Index first, Index size) {
    for (Index lane = 0; lane < kLanes<T>; ++lane) {
      const Index other = lane + kLanes<T>;
      const C* a_row = in.at(first + std::min(lane, size - 1));
      const C* b_row = other < size ? in.at(first + other) : nullptr;
      for (Index k = 0; k < n / 2 + 1; ++k) {
        C a = a_row[k * in.step], b = b_row ? b_row[k * in.step] : T(0);
        if (k == 0 || 2 * k == n) a = a.real(), b = b.real();
        T* p = z + plan.row_of(k) * Row<T>::size;
        T* q = z + plan.row_of((n - k) % n) * Row<T>::size;
        q[lane] = a.real() + b.imag(), q[other] = b.real() - a.imag();
        p[lane] = a.real() - b.imag(), p[other] = b.real() + a.imag();
      }
    }
    plan.inverse(z);
    for (Index i = 0; i < size; ++i) {
      T* row = out.at(first + i);
      for (Index t = 0; t < n; ++t) row[t * out.step] = T(scale) * z[t * Row<T>::size + i];
    }
  });
}

// ---------------------------------------------------------------------- cyclic convolution
//
// Along T of every channel of [B,T,H,D] with its head's filter, and its adjoint.
//
// Two real channels share one complex transform, z = v_a + i v_b: a filter that is real in time
// maps them to y_a + i y_b. One reads v once and writes y once; between the two, the transforms and
// the filter happen in cache. (A NaN or a much larger value in one channel is felt in its partner.)

using Complex = std::complex<double>;

// Per head the value (of the adjoint: conjugate) at n frequencies, over n, in the plan's order.
template <class T>
std::vector<T> make_response(const Fft<T>& plan, const Tensor& spectrum, bool adjoint) {
  const Index n = plan.size(), heads = spectrum.shape()[0];
  const Complex* half = spectrum.data<Complex>();
  std::vector<T> response;
  response.reserve(heads * n * 2);
  for (Index h = 0; h < heads; ++h, half += n / 2 + 1) {
    for (Index p = 0; p < n; ++p) {
      const Index k = plan.frequency(p), mirrored = (n - k) % n;
      const Complex value = half[std::min(k, n - k)];
      const double imag = k == mirrored ? 0 : value.imag();
      response.push_back(T(value.real() / double(n)));
      response.push_back(T(((k < mirrored) == adjoint ? -imag : imag) / double(n)));
    }
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
      : data_(x.data<T>() + b * x.strides()[0] + h * x.strides()[2] + tile * kRow),
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

// The gradient of the spectrum, and dv if it is wanted: dy is transformed once for both.
//
// The sum over batch and channels of z_dy conj(z_v) goes in a fixed order: chunks of (batch, tile)
// items of one head are summed by one thread each, and the sums of the chunks are added in
// sequence. About 64 chunks in all keep any CPU busy; more than 8 items would round more in fp32.
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
    auto keep = [](Index, Row<T>&) {};
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
      plan->forward(in.source(z_v, zero), z_v, keep);
      if (dv.defined()) {
        const ChannelTile<T> out(dv, b, h, tile, n);
        plan->filter(gradient.source(x, zero), x, add_and_apply, out.sink(x, spare));
        out.finish(x);
      } else {
        plan->forward(gradient.source(x, zero), x, add);
      }
    }
    for (Index p = 0; p < n; ++p) {
      const Row<T> row = Row<T>::load(sum + p * kRow);
      sums[task * n + p] = {double(sum_lanes(row.re)), double(sum_lanes(row.im))};
    }
  });

  // The part that belongs to the real channels, times how often y reads a frequency, over n. What
  // is left over of a pair of channels is anti-Hermitian and cancels.
  Complex* result = dspectrum.data<Complex>();
  for (Index h = 0; h < H; ++h) {
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

std::int64_t fast_fft_size(Cpu, std::int64_t n) { return good_fft_size(n); }

void cyclic_convolution(Cpu, const Tensor& v, const Tensor& spectrum, std::int64_t n,
                        const Tensor& y) {
  visit_float("cyclic_convolution", v.dtype(),
              [&]<class T>(T) { convolve<T>(v, spectrum, n, false, y); });
}

void cyclic_convolution_backward(Cpu, const Tensor& dy, const Tensor& v, const Tensor& spectrum,
                                 std::int64_t n, const Tensor& dv, const Tensor& dspectrum) {
  visit_float("cyclic_convolution", dy.dtype(), [&]<class T>(T) {
    if (dspectrum.defined()) correlate<T>(dy, v, spectrum, n, dv, dspectrum);
    else if (dv.defined()) convolve<T>(dy, spectrum, n, true, dv);
  });
}

}  // namespace triad::kernels
