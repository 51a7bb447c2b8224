// The complex Fourier transform along time of many channels at once, in cache and in place.
//
// The data is a block of n rows (fft_butterfly.h): row t holds sample t of Vec<T>::lanes
// transforms. Decimation in frequency splits n points into r interleaved sets of n / r frequencies,
// so r blocks of adjacent rows follow, each a smaller transform; run to the end it leaves the
// spectrum in digit-reversed order, where row p holds frequency(p). Decimation in time undoes it
// step by step. A filter does not care about the order of frequencies, so nothing is ever sorted:
//
//     rows as they lie -> first stage -> [ a block: down, multiply, up ] -> last stage -> rows
//
// A block goes down to its last butterfly, is multiplied in registers and comes back up before the
// next one is touched. For 1024 points that makes three trips to L2, and the rest happens in L1.
// Cooley and Tukey, Math. Comp. 19 (1965); Van Loan, 1992, section 1.9 for both decimations.
#pragma once

#include <complex>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <triad/backends/cpu/fft_butterfly.h>

namespace triad::cpu {

// The Plan(n) of this process: plans are costly to make, and the same few sizes come back at every
// step. Safe from any thread; a plan lives as long as anybody holds it.
template <class Plan> std::shared_ptr<const Plan> cached_plan(Index n) {
  static constexpr std::size_t kMost = 64;  // a text that grows token by token visits every size
  static std::mutex mutex;
  static std::map<Index, std::shared_ptr<const Plan>> plans;
  const std::lock_guard lock(mutex);
  if (auto found = plans.find(n); found != plans.end()) return found->second;
  if (plans.size() == kMost) plans.clear();
  return plans[n] = std::make_shared<const Plan>(n);
}

// exp(-2 pi i k / n), rounded once or twice: the angle is reduced to an eighth turn in integers.
std::complex<double> unit_root(Index k, Index n);

// The smallest 2^a 3^b 5^c that is not below n.
Index good_fft_size(Index n);

// Where the rows of a transform lie: row t < length at first + t * stride. All further ones are the
// row at `spare`, for a transform that is longer than the data: from there it reads its padding,
// there it drops what it computes beyond the end.
template <class T> struct Rows {
  T* first;
  Index stride, length;
  T* spare;

  T* operator()(Index t) const { return t < length ? first + t * stride : spare; }
};

// One step from blocks of radix * step rows to radix blocks of step rows each. roots holds
// exp(-2 pi i q j / (radix step)) for q = 1..radix-1, for j = 0..step-1.
template <class T> struct FftStage {
  int radix;
  Index step;
  std::vector<T> roots;
};

template <class T> class Fft {
 public:
  explicit Fft(Index n);  // n = good_fft_size(n)

  Index size() const { return Index(frequency_.size()); }
  Index frequency(Index row) const { return frequency_[row]; }
  Index row_of(Index frequency) const { return row_of_[frequency]; }

  // In all of these, x is room for n rows, and `in` and `out` may lie there. bin(p, z) may read and
  // change z, the value of row p of the spectrum; p runs from 0 to n - 1. Nothing is scaled: a
  // filter that leaves its bins alone returns its input n times as large.
  template <class Bin> void filter(Rows<const T> in, T* x, Bin bin, Rows<T> out) const {
    first_stage(in, x);
    blocks<true, true>(1, x, 0, stages_[0].radix, bin);
    last_stage(x, out);
  }
  template <class Bin> void forward(Rows<const T> in, T* x, Bin bin) const {
    first_stage(in, x);
    blocks<true, false>(1, x, 0, stages_[0].radix, bin);
  }
  // In place: row t <-> frequency(t).
  void forward(T* x) const;
  void inverse(T* x) const;

 private:
  static constexpr Index kRow = Row<T>::size;

  using Stage = FftStage<T>;

  void first_stage(Rows<const T> in, T* x) const;
  void last_stage(const T* x, Rows<T> out) const;
  static void down(const Stage& stage, T* x);
  static void up(const Stage& stage, T* x);

  // `count` adjacent blocks at one level of the plan; x is row `first` of the whole.
  template <bool go_down, bool go_up, class Bin>
  void blocks(std::size_t level, T* x, Index first, int count, Bin& bin) const {
    if (level == stages_.size())
      return leaf_ == 8 ? leaves<8, go_down, go_up>(x, first, count, bin)
                        : leaves<1, go_down, go_up>(x, first, count, bin);
    const Stage& stage = stages_[level];
    const Index rows = stage.radix * stage.step;
    for (int i = 0; i < count; ++i, x += rows * kRow, first += rows) {
      if constexpr (go_down) down(stage, x);
      blocks<go_down, go_up>(level + 1, x, first, stage.radix, bin);
      if constexpr (go_up) up(stage, x);
    }
  }

  // The last butterflies, which need no roots, and the bins between the two directions.
  template <int R, bool go_down, bool go_up, class Bin>
  static void leaves(T* x, Index first, int count, Bin& bin) {
    for (int i = 0; i < count; ++i, x += R * kRow, first += R) {
      Row<T> z[R];
      unrolled<R>([&](int q) { z[q] = Row<T>::load(x + q * kRow); });
      if constexpr (go_down) butterfly<R>(z);
      unrolled<R>([&](int q) { bin(first + q, z[q]); });
      if constexpr (go_up) {
        unrolled<R>([&](int q) { z[q] = swapped(z[q]); });
        butterfly<R>(z);
        unrolled<R>([&](int q) { z[q] = swapped(z[q]); });
      }
      unrolled<R>([&](int q) { z[q].store(x + q * kRow); });
    }
  }

  std::vector<Stage> stages_;  // at least one
  int leaf_;                   // the radix of the last butterflies: 8, or 1 where stages do it all
  std::vector<Index> frequency_, row_of_;
};

// The transform of any number of points. Sizes with a prime factor above 5 go by Bluestein's
// identity k t = (k^2 + t^2 - (k - t)^2) / 2, which makes of it a convolution with the chirp
// exp(i pi t^2 / n), done at a good size of at least 2n - 1. L. Bluestein, IEEE Trans. Audio
// Electroacoust. 18 (1970).
template <class T> class AnyFft {
 public:
  explicit AnyFft(Index n);

  Index size() const { return n_; }
  Index rows() const { return fft_->size(); }  // that x needs room for, at least n
  Index row_of(Index k) const { return chirp_.empty() ? fft_->row_of(k) : k; }

  // In place and unscaled: time t in row t <-> frequency k in row row_of(k).
  void forward(T* x) const;
  void inverse(T* x) const;

 private:
  Index n_;
  std::shared_ptr<const Fft<T>> fft_;  // of n, or of the convolution
  std::vector<T> chirp_;               // (re, im) of exp(-i pi t^2 / n); empty where n is good
  std::vector<T> kernel_;              // the spectrum of its conjugate, divided by fft_->size()
};

}  // namespace triad::cpu
