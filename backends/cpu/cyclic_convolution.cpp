// Cyclic convolution along T of every channel of [B,T,H,D] with its head's filter, and its adjoint:
// what the circular and the causal spectral filter are made of.
//
// Two real channels share one complex transform, z = v_a + i v_b: a filter that is real in time
// maps them to y_a + i y_b. One reads v once and writes y once; between the two, the transforms and
// the filter happen in cache. (A NaN or a much larger value in one channel is felt in its partner.)
#include <algorithm>
#include <vector>

#include <triad/backends/cpu/channel_tiles.h>
#include <triad/backends/cpu/fft.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/scratch.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::kernels {
namespace {

using namespace cpu;
using Spectra = std::vector<std::complex<double>>;

// Per head the value at each of n frequencies, divided by n, in the order of the plan's rows.
template <class T>
std::vector<T> make_response(const Fft<T>& plan, const Tensor& spectrum) {
  const Index n = plan.size(), bins = n / 2 + 1, heads = spectrum.shape()[0];
  const std::complex<double>* half = spectrum.data<std::complex<double>>();
  std::vector<T> response(heads * n * 2);
  for (Index h = 0; h < heads; ++h) {
    for (Index p = 0; p < n; ++p) {
      const Index k = plan.frequency(p);
      const std::complex<double> value = half[h * bins + std::min(k, n - k)];
      const bool real = k == 0 || 2 * k == n;
      T* out = &response[(h * n + p) * 2];
      out[0] = T(value.real() / double(n));
      out[1] = T(real ? 0 : (2 * k < n ? value.imag() : -value.imag()) / double(n));
    }
  }
  return response;
}

// Tiles that are worth a thread's while: 1024 rows take about 10 us.
Index grain(Index n) { return 1 + 512 / n; }

// The working memory of one thread: blocks of n rows, and how tiles get there and back.
//
// A transform reads and writes full tiles where they lie, but its first and last stage do so a
// whole step apart. Past 2048 points that costs more in the TLB than one more trip through the
// cache in order does (EPYC 9005, T = 4096: 2.3 ms against 1.5); then, and where a tile is not
// full, the rows are copied.
template <class T>
class Workspace {
 public:
  static constexpr Index kRow = Row<T>::size;

  Workspace(Index n, int blocks) : n_(n), rows_(scratch<T>((blocks * n + 2) * kRow)) {
    zero_ = rows_ + blocks * n * kRow;
    spare_ = zero_ + kRow;
    std::fill_n(zero_, kRow, T(0));
  }

  T* block(int i) const { return rows_ + i * n_ * kRow; }

  // What a transform in x reads.
  Rows<const T> source(const ChannelTile<T>& tile, T* x) const {
    if (is_direct(tile)) {
      const Rows<T> rows = tile.rows(zero_);
      return {rows.first, rows.stride, rows.length, rows.spare};
    }
    for (Index t = 0; t < tile.length(); ++t) tile.load(t).store(x + t * kRow);
    return {x, kRow, tile.length(), zero_};
  }

  // Where it writes, and what is to be done when it has.
  Rows<T> sink(const ChannelTile<T>& tile, T* x) const {
    return is_direct(tile) ? tile.rows(spare_) : Rows<T>{x, kRow, n_, nullptr};
  }
  void finish(const ChannelTile<T>& tile, const T* x) const {
    if (is_direct(tile)) return;
    for (Index t = 0; t < tile.length(); ++t) tile.store(t, Row<T>::load(x + t * kRow));
  }

 private:
  bool is_direct(const ChannelTile<T>& tile) const { return n_ <= 2048 && tile.is_full(); }

  Index n_;
  T *rows_, *zero_, *spare_;
};

template <class T>
void convolve(const Tensor& v, const Tensor& spectrum, Index n, const Tensor& y) {
  const Index B = v.shape()[0], H = v.shape()[2], tiles = tiles_per_head<T>(v);
  const auto plan = cached_plan<Fft<T>>(n);
  const std::vector<T> response = make_response(*plan, spectrum);
  parallel_for(H * B * tiles, grain(n), [&](Index task) {
    const Workspace<T> work(n, 1);
    T* x = work.block(0);
    const Index h = task / (B * tiles), b = task / tiles % B, tile = task % tiles;
    const ChannelTile<T> in(v, b, h, tile), out(y, b, h, tile);
    const T* filter = &response[h * n * 2];
    auto apply = [=](Index p, Row<T>& z) { z = times_pair(z, filter + 2 * p); };
    plan->filter(work.source(in, x), x, apply, work.sink(out, x));
    work.finish(out, x);
  });
}

// Sums over batch and channels go in a fixed order: chunks of (batch, tile) items of one head are
// summed by one thread each, and the sums of the chunks are added in sequence.
struct Chunks {
  Index items, size, per_head;  // items of a head, items of a chunk, chunks of a head

  Chunks(Index heads, Index items_of_a_head) : items(items_of_a_head) {
    // About 64 chunks in all keep any CPU busy; more than 8 items would round more in fp32.
    size = std::clamp<Index>(heads * items / 64, 1, 8);
    per_head = ceil_div(items, size);
  }
};

// sums [H, chunks, n]: sum of z_dy conj(z_v) by rows of the plan -> the part of it that belongs to
// the real channels, [H, n/2 + 1], times how often y reads a frequency, over n: the gradient of the
// spectrum. What is left over of a pair of channels is anti-Hermitian and cancels.
template <class T>
void combine(const Fft<T>& plan, const Chunks& chunks, const Spectra& sums, const Tensor& out) {
  const Index n = plan.size(), bins = n / 2 + 1, heads = out.shape()[0];
  std::complex<double>* result = out.data<std::complex<double>>();
  for (Index h = 0; h < heads; ++h) {
    for (Index k = 0; k < bins; ++k) {
      const bool once = k == 0 || 2 * k == n;
      std::complex<double> total = 0;
      for (Index c = 0; c < chunks.per_head; ++c) {
        const std::complex<double>* sum = &sums[(h * chunks.per_head + c) * n];
        total += 0.5 * (sum[plan.row_of(k)] + std::conj(sum[plan.row_of((n - k) % n)]));
      }
      result[h * bins + k] =
          once ? std::complex<double>(total.real() / double(n)) : total * (2 / double(n));
    }
  }
}

template <class T>
void convolve_backward(const Tensor& dy, const Tensor& v, const Tensor& spectrum, Index n,
                       const Tensor& dv, const Tensor& dspectrum) {
  constexpr Index kRow = Row<T>::size;
  const Index B = dy.shape()[0], H = dy.shape()[2], tiles = tiles_per_head<T>(dy);
  const bool correlation = dspectrum.defined();
  const auto plan = cached_plan<Fft<T>>(n);
  const std::vector<T> response = make_response(*plan, spectrum);
  const Chunks chunks(H, B * tiles);
  Spectra sums(correlation ? H * chunks.per_head * n : 0);

  // One item: dv, and its share of the correlation added to the third block.
  auto add_item = [&](const Workspace<T>& work, Index h, Index b, Index tile) {
    T *x = work.block(0), *z_v = work.block(1), *sum = work.block(2);
    auto add = [=](Index p, Row<T>& z) {
      const Row<T> other = Row<T>::load(z_v + p * kRow);
      (Row<T>::load(sum + p * kRow) + times_conj(z, other.re, other.im)).store(sum + p * kRow);
    };
    if (correlation) plan->forward(work.source({v, b, h, tile}, z_v), z_v, [](Index, Row<T>&) {});
    const Rows<const T> gradient = work.source({dy, b, h, tile}, x);
    if (!dv.defined()) return plan->forward(gradient, x, add);

    const ChannelTile<T> out(dv, b, h, tile);
    const T* filter = &response[h * n * 2];
    auto apply = [=](Index p, Row<T>& z) { z = times_conj_pair(z, filter + 2 * p); };
    auto add_and_apply = [=](Index p, Row<T>& z) { add(p, z), apply(p, z); };
    if (correlation) plan->filter(gradient, x, add_and_apply, work.sink(out, x));
    else plan->filter(gradient, x, apply, work.sink(out, x));
    work.finish(out, x);
  };

  parallel_for(H * chunks.per_head, grain(n), [&](Index task) {
    const Workspace<T> work(n, correlation ? 3 : 1);
    const Index h = task / chunks.per_head, begin = task % chunks.per_head * chunks.size;
    const Index end = std::min(begin + chunks.size, chunks.items);
    if (correlation) std::fill_n(work.block(2), n * kRow, T(0));
    for (Index item = begin; item < end; ++item) add_item(work, h, item / tiles, item % tiles);
    for (Index p = 0; correlation && p < n; ++p) {
      const Row<T> row = Row<T>::load(work.block(2) + p * kRow);
      sums[task * n + p] = {double(sum_lanes(row.re)), double(sum_lanes(row.im))};
    }
  });
  if (correlation) combine(*plan, chunks, sums, dspectrum);
}

}  // namespace

void cyclic_convolution(Cpu, const Tensor& v, const Tensor& spectrum, std::int64_t n,
                        const Tensor& y) {
  visit_float("cyclic_convolution", v.dtype(), [&]<class T>(T) { convolve<T>(v, spectrum, n, y); });
}

void cyclic_convolution_backward(Cpu, const Tensor& dy, const Tensor& v, const Tensor& spectrum,
                                 std::int64_t n, const Tensor& dv, const Tensor& dspectrum) {
  visit_float("cyclic_convolution", dy.dtype(),
              [&]<class T>(T) { convolve_backward<T>(dy, v, spectrum, n, dv, dspectrum); });
}

}  // namespace triad::kernels
