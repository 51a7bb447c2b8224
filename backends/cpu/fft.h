// The complex Fourier transform along time of many channels at once, in cache and in place.
//
// The data is a block of n rows: row t holds sample t of Vec<T>::lanes transforms. Decimation in
// frequency splits n points into r interleaved sets of n / r frequencies, so r blocks of adjacent
// rows follow, each a smaller transform; run to the end it leaves the spectrum in digit-reversed
// order, where row p holds frequency(p). Decimation in time undoes it step by step. A filter does
// not care about the order of frequencies, so nothing is ever sorted:
//
//     rows as they lie -> first stage -> [ a block: down, multiply, up ] -> last stage -> rows
//
// A block goes down to its last butterfly, is multiplied in registers and comes back up before the
// next one is touched. For 1024 points that makes three trips to L2, and the rest happens in L1.
// Cooley and Tukey, Math. Comp. 19 (1965); C. Van Loan, Computational Frameworks for the Fast
// Fourier Transform, SIAM 1992: chapters 1, 2 for the butterflies, 1.9 for both decimations.
#pragma once

#include <map>
#include <mutex>

#include <triad/backends/cpu/vec.h>

namespace triad::cpu {

// ---- Butterflies. Transforms of 1, 2, 3, 4, 5 and 8 points, in registers. A Row holds one complex
// number for each of Vec<T>::lanes transforms side by side: no value ever changes its lane.

template <class T> struct Row {
  static constexpr Index size = 2 * Index(Vec<T>::lanes);  // in memory: re..., im...

  Vec<T> re, im;

  static Row load(const T* p) { return {Vec<T>::load(p), Vec<T>::load(p + Vec<T>::lanes)}; }
  void store(T* p) const { re.store(p), im.store(p + Vec<T>::lanes); }

  friend Row operator+(Row a, Row b) { return {a.re + b.re, a.im + b.im}; }
  friend Row operator-(Row a, Row b) { return {a.re - b.re, a.im - b.im}; }

  // i z = (-im, re) and its mirror: an inverse transform is a forward one between two swaps.
  friend Row swapped(Row z) { return {z.im, z.re}; }

  // z times (re, im), and times its conjugate.
  friend Row times(Row z, Vec<T> re, Vec<T> im) {
    return {fnma(z.im, im, z.re * re), fma(z.im, re, z.re * im)};
  }
  friend Row times_conj(Row z, Vec<T> re, Vec<T> im) {
    return {fma(z.im, im, z.re * re), fnma(z.re, im, z.im * re)};
  }
  // One complex number for all lanes, (re, im) in memory.
  friend Row times_pair(Row z, const T* pair) { return times(z, Vec<T>(pair[0]), Vec<T>(pair[1])); }

  // a + s b for a real s, a - i b and a + i b.
  friend Row plus(Row a, Vec<T> s, Row b) { return {fma(s, b.re, a.re), fma(s, b.im, a.im)}; }
  friend Row minus_i(Row a, Row b) { return {a.re + b.im, a.im - b.re}; }
  friend Row plus_i(Row a, Row b) { return {a.re - b.im, a.im + b.re}; }
};

// f(0), ..., f(N - 1) written out, with indices the compiler knows: rows then stay in registers.
template <int N, class F> [[gnu::always_inline]] inline void unrolled(F f) {
  [&]<int... I>(std::integer_sequence<int, I...>) [[gnu::always_inline]] { (f(I), ...); }
  (std::make_integer_sequence<int, N>());
}

// x[k] <- sum over t of x[t] exp(-2 pi i k t / R).
template <int R, class T> [[gnu::always_inline]] inline void butterfly(Row<T>* x) {
  static_assert(R == 1 || R == 2 || R == 3 || R == 4 || R == 5 || R == 8);
  if constexpr (R == 2) {
    const Row<T> a = x[0], b = x[1];
    x[0] = a + b;
    x[1] = a - b;
  } else if constexpr (R == 3) {
    const Vec<T> half(T(-0.5)), s(T(0.866025403784438646763723170752936));  // sin(2 pi / 3)
    const Row<T> sum = x[1] + x[2], difference = x[1] - x[2];
    const Row<T> middle = plus(x[0], half, sum);
    const Row<T> turn{s * difference.re, s * difference.im};
    x[0] = x[0] + sum;
    x[1] = minus_i(middle, turn);
    x[2] = plus_i(middle, turn);
  } else if constexpr (R == 4) {
    const Row<T> a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = x[1] - x[3];
    x[0] = a + c;
    x[1] = minus_i(b, d);
    x[2] = a - c;
    x[3] = plus_i(b, d);
  } else if constexpr (R == 5) {
    const Vec<T> c1(T(0.309016994374947424102293417182819));   // cos(2 pi / 5)
    const Vec<T> c2(T(-0.809016994374947424102293417182819));  // cos(4 pi / 5)
    const Vec<T> s1(T(0.951056516295153572116439333379382));   // sin(2 pi / 5)
    const Vec<T> s2(T(0.587785252292473129168705954639073));   // sin(4 pi / 5)
    const Row<T> a = x[1] + x[4], b = x[2] + x[3], c = x[1] - x[4], d = x[2] - x[3];
    const Row<T> p = plus(plus(x[0], c1, a), c2, b), q = plus(plus(x[0], c2, a), c1, b);
    const Row<T> u{fma(s2, d.re, s1 * c.re), fma(s2, d.im, s1 * c.im)};
    const Row<T> v{fnma(s1, d.re, s2 * c.re), fnma(s1, d.im, s2 * c.im)};
    x[0] = x[0] + a + b;
    x[1] = minus_i(p, u);
    x[4] = plus_i(p, u);
    x[2] = minus_i(q, v);
    x[3] = plus_i(q, v);
  } else if constexpr (R == 8) {
    const Vec<T> s(T(0.707106781186547524400844362104849)), minus_s = -s;  // sqrt(1/2)
    Row<T> e[4] = {x[0], x[2], x[4], x[6]}, o[4] = {x[1], x[3], x[5], x[7]};
    butterfly<4>(e);
    butterfly<4>(o);
    const Row<T> o1{o[1].re + o[1].im, o[1].im - o[1].re};  // o[1] (1 - i)
    const Row<T> o3{o[3].im - o[3].re, o[3].re + o[3].im};  // o[3] (-1 - i), its im negated
    x[0] = e[0] + o[0];
    x[4] = e[0] - o[0];
    x[1] = plus(e[1], s, o1);
    x[5] = plus(e[1], minus_s, o1);
    x[2] = minus_i(e[2], o[2]);
    x[6] = plus_i(e[2], o[2]);
    x[3] = {fma(s, o3.re, e[3].re), fnma(s, o3.im, e[3].im)};
    x[7] = {fnma(s, o3.re, e[3].re), fma(s, o3.im, e[3].im)};
  }
}

// ---- Plans. The Plan(n) of this process: plans are costly to make, and the same few sizes come
// back at every step. Safe from any thread; a plan lives as long as anybody holds it.
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

// Where the rows of a transform lie: row t < length at first + t * stride, all further ones at
// `spare`: a transform longer than the data reads its padding there, or drops there what is beyond.
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

// One stage down: row j + q step <- root(q, j) times point q of the transform of rows j, j + step,
// j + 2 step, ... in(t) and out(t) are where row t lies. Or back up: there (Re, Im) are swapped, so
// that the same roots and butterflies serve. (Inlined where R is picked: 15 % slower, GCC 12.)
template <bool up, int R, class T, class In, class Out>
[[gnu::noinline]] void decimate(const FftStage<T>& stage, In in, Out out) {
  const Index step = stage.step;
  const T* root = stage.roots.data();
  auto turned = [](Row<T> z) { return up ? swapped(z) : z; };
  for (Index j = 0; j < step; ++j, root += 2 * (R - 1)) {
    Row<T> z[R];
    unrolled<R>([&](int q) { z[q] = turned(Row<T>::load(in(j + q * step))); });
    if constexpr (!up) butterfly<R>(z);
    unrolled<R - 1>([&](int q) { z[q + 1] = times_pair(z[q + 1], root + 2 * q); });
    if constexpr (up) butterfly<R>(z);
    unrolled<R>([&](int q) { turned(z[q]).store(out(j + q * step)); });
  }
}

template <bool up, class T, class In, class Out>
void run_stage(const FftStage<T>& stage, In in, Out out) {
  switch (stage.radix) {
    case 1: return decimate<up, 1>(stage, in, out);
    case 2: return decimate<up, 2>(stage, in, out);
    case 3: return decimate<up, 3>(stage, in, out);
    case 4: return decimate<up, 4>(stage, in, out);
    case 5: return decimate<up, 5>(stage, in, out);
    default: return decimate<up, 8>(stage, in, out);
  }
}

template <class T> auto rows_of(T* x) {
  return [x](Index t) { return x + t * Row<T>::size; };
}

inline constexpr auto keep_bins = [](Index, auto&) {};  // for Fft: leaves them alone

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
    run_stage<false>(stages_[0], in, rows_of(x));
    blocks<true, true>(1, x, 0, stages_[0].radix, bin);
    run_stage<true>(stages_[0], rows_of(x), out);
  }
  template <class Bin> void forward(Rows<const T> in, T* x, Bin bin) const {
    run_stage<false>(stages_[0], in, rows_of(x));
    blocks<true, false>(1, x, 0, stages_[0].radix, bin);
  }
  // In place: row t <-> frequency(t).
  void forward(T* x) const { blocks<true, false>(0, x, 0, 1, keep_bins); }
  void inverse(T* x) const { blocks<false, true>(0, x, 0, 1, keep_bins); }

 private:
  static constexpr Index kRow = Row<T>::size;

  // `count` adjacent blocks at one level of the plan; x is row `first` of the whole.
  template <bool go_down, bool go_up, class Bin>
  void blocks(std::size_t level, T* x, Index first, int count, Bin& bin) const {
    if (level == stages_.size())
      return leaf_ == 8 ? leaves<8, go_down, go_up>(x, first, count, bin)
                        : leaves<1, go_down, go_up>(x, first, count, bin);
    const FftStage<T>& stage = stages_[level];
    const Index rows = stage.radix * stage.step;
    for (int i = 0; i < count; ++i, x += rows * kRow, first += rows) {
      if constexpr (go_down) run_stage<false>(stage, rows_of(x), rows_of(x));
      blocks<go_down, go_up>(level + 1, x, first, stage.radix, bin);
      if constexpr (go_up) run_stage<true>(stage, rows_of(x), rows_of(x));
    }
  }

  // The last butterflies, which need no roots, and the bins between the two directions.
  template <int R, bool go_down, bool go_up, class Bin>
  static void leaves(T* x, Index first, int count, Bin& bin) {
    auto turned = [](Row<T> z) { return go_up ? swapped(z) : z; };
    for (int i = 0; i < count; ++i, x += R * kRow, first += R) {
      Row<T> z[R];
      unrolled<R>([&](int q) { z[q] = Row<T>::load(x + q * kRow); });
      if constexpr (go_down) butterfly<R>(z);
      unrolled<R>([&](int q) { bin(first + q, z[q]); });
      unrolled<R>([&](int q) { z[q] = turned(z[q]); });
      if constexpr (go_up) butterfly<R>(z);
      unrolled<R>([&](int q) { turned(z[q]).store(x + q * kRow); });
    }
  }

  std::vector<FftStage<T>> stages_;  // at least one
  int leaf_;  // the radix of the last butterflies: 8, or 1 where stages do it all
  std::vector<Index> frequency_, row_of_;
};

// The transform of any number of points. Sizes with a prime factor above 5 go by Bluestein's
// identity k t = (k^2 + t^2 - (k - t)^2) / 2, which makes of it a convolution with the chirp
// exp(i pi t^2 / n) at a good size >= 2n - 1. L. Bluestein, IEEE Trans. Audio Electroac. 18, 1970.
template <class T> class AnyFft {
 public:
  explicit AnyFft(Index n);

  Index rows() const { return fft_->size(); }  // that x needs room for, at least n
  Index row_of(Index k) const { return chirp_.empty() ? fft_->row_of(k) : k; }

  // In place and unscaled: time t in row t <-> frequency k in row row_of(k).
  void forward(T* x) const { transform(x, false); }
  void inverse(T* x) const { transform(x, true); }

 private:
  void transform(T* x, bool inverse) const;

  Index n_;
  std::shared_ptr<const Fft<T>> fft_;  // of n, or of the convolution
  std::vector<T> chirp_;               // (re, im) of exp(-i pi t^2 / n); empty where n is good
  std::vector<T> kernel_;              // the spectrum of its conjugate, divided by fft_->size()
};

}  // namespace triad::cpu
