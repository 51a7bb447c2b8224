#include <triad/backends/cpu/spectral_convolution.h>

#include <algorithm>

#include <triad/backends/cpu/channel_tiles.h>
#include <triad/backends/cpu/fft.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/scratch.h>

namespace triad::cpu {

template <class T>
Response<T> make_response(Index n, const Spectra& half) {
  const auto plan = cached_plan<Fft<T>>(n);
  const Index bins = n / 2 + 1, heads = Index(half.size()) / bins;
  Response<T> response{n, std::vector<T>(heads * n * 2)};
  for (Index h = 0; h < heads; ++h) {
    for (Index p = 0; p < n; ++p) {
      const Index k = plan->frequency(p);
      const std::complex<double> value = half[h * bins + std::min(k, n - k)];
      const bool real = k == 0 || 2 * k == n;
      T* out = &response.values[(h * n + p) * 2];
      out[0] = T(value.real() / double(n));
      out[1] = T(real ? 0 : (2 * k < n ? value.imag() : -value.imag()) / double(n));
    }
  }
  return response;
}

namespace {

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

}  // namespace

template <class T>
void convolve(const Tensor& v, const Response<T>& response, const Tensor& y) {
  const Index B = v.shape()[0], H = v.shape()[2], n = response.n;
  const Index tiles = tiles_per_head<T>(v);
  const auto plan = cached_plan<Fft<T>>(n);
  parallel_for(H * B * tiles, grain(n), [&](Index task) {
    const Workspace<T> work(n, 1);
    T* x = work.block(0);
    const Index h = task / (B * tiles), b = task / tiles % B, tile = task % tiles;
    const ChannelTile<T> in(v, b, h, tile), out(y, b, h, tile);
    const T* filter = &response.values[h * n * 2];
    auto apply = [=](Index p, Row<T>& z) { z = times_pair(z, filter + 2 * p); };
    plan->filter(work.source(in, x), x, apply, work.sink(out, x));
    work.finish(out, x);
  });
}

namespace {

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
// the real channels, [H, n/2 + 1]. What is left over of a pair is anti-Hermitian and cancels.
template <class T>
Spectra combine(const Fft<T>& plan, Index heads, const Chunks& chunks, const Spectra& sums) {
  const Index n = plan.size(), bins = n / 2 + 1;
  Spectra result(heads * bins);
  for (Index h = 0; h < heads; ++h) {
    for (Index c = 0; c < chunks.per_head; ++c) {
      const std::complex<double>* sum = &sums[(h * chunks.per_head + c) * n];
      for (Index k = 0; k < bins; ++k) {
        const std::complex<double> a = sum[plan.row_of(k)], b = sum[plan.row_of((n - k) % n)];
        result[h * bins + k] += 0.5 * (a + std::conj(b));
      }
    }
  }
  return result;
}

}  // namespace

template <class T>
void convolve_backward(const Tensor& dy, const Tensor& v, const Response<T>& response,
                       const Tensor& dv, Spectra* correlation) {
  constexpr Index kRow = Row<T>::size;
  const Index B = dy.shape()[0], H = dy.shape()[2], n = response.n;
  const Index tiles = tiles_per_head<T>(dy);
  const auto plan = cached_plan<Fft<T>>(n);
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
    const T* filter = &response.values[h * n * 2];
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
  if (correlation) *correlation = combine(*plan, H, chunks, sums);
}

template Response<float> make_response(Index, const Spectra&);
template Response<double> make_response(Index, const Spectra&);
template void convolve(const Tensor&, const Response<float>&, const Tensor&);
template void convolve(const Tensor&, const Response<double>&, const Tensor&);
template void convolve_backward(const Tensor&, const Tensor&, const Response<float>&, const Tensor&,
                                Spectra*);
template void convolve_backward(const Tensor&, const Tensor&, const Response<double>&,
                                const Tensor&, Spectra*);

}  // namespace triad::cpu
