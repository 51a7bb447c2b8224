// Plans: which butterflies, in which order, with which roots; the stages; and all other sizes.
#include <triad/backends/cpu/fft.h>

#include <numbers>

namespace triad::cpu {

// The radices of the stages, and that of the leaves: 8 where there is one, else 1. A four in front
// of the eights keeps the rows of a butterfly in fewer sets of the cache than it has ways.
static std::vector<int> stage_radices(Index n, int& leaf) {
  std::vector<int> result;
  int twos = 0;
  for (; n % 2 == 0; n /= 2) ++twos;
  for (; n % 5 == 0; n /= 5) result.push_back(5);
  for (; n % 3 == 0; n /= 3) result.push_back(3);

  int eights = twos / 3;
  if (twos % 3 == 1 && eights > 1) --eights;  // 8 * 2 is 4 * 4
  for (twos -= 3 * eights; twos > 1; twos -= 2) result.push_back(4);
  if (twos == 1) result.push_back(2);
  leaf = eights > 0 ? 8 : 1;
  if (eights > 1) result.insert(result.end(), eights - 1, 8);
  if (result.empty()) result.push_back(1);
  return result;
}

// z as the pair (re, im).
template <class T> static void append(std::vector<T>& pairs, std::complex<double> z) {
  pairs.insert(pairs.end(), {T(z.real()), T(z.imag())});
}

std::complex<double> unit_root(Index k, Index n) {
  k %= n;
  const Index octant = 8 * k / n;
  // The angle from the nearest quarter turn, at most an eighth of a turn: 2 pi r / (4 n).
  const Index quarter = (octant + 1) / 2, r = 4 * k - quarter * n;
  const double angle = std::numbers::pi * double(r) / (2.0 * double(n));
  std::complex<double> root(std::cos(angle), -std::sin(angle));
  for (Index i = 0; i < quarter % 4; ++i) root = {root.imag(), -root.real()};  // times -i
  return root;
}

Index good_fft_size(Index n) {
  for (;; ++n) {
    Index rest = n;
    for (int factor : {2, 3, 5})
      while (rest % factor == 0) rest /= factor;
    if (rest == 1) return n;
  }
}

template <class T> Fft<T>::Fft(Index n) : frequency_(n), row_of_(n) {
  Index rows = n;
  for (int r : stage_radices(n, leaf_)) {
    FftStage<T> stage{r, rows / r, {}};
    for (Index j = 0; j < stage.step; ++j)
      for (int q = 1; q < r; ++q) append(stage.roots, unit_root(q * j, rows));
    stages_.push_back(std::move(stage));
    rows /= r;
  }

  // Block q of a stage holds the frequencies q, q + radix, q + 2 radix, ...
  for (Index p = 0; p < n; ++p) {
    Index rest = p, k = 0, scale = 1;
    for (const FftStage<T>& stage : stages_) {
      k += rest / stage.step * scale;
      rest %= stage.step;
      scale *= stage.radix;
    }
    frequency_[p] = k + rest * scale;
    row_of_[frequency_[p]] = p;
  }
}

template <class T> AnyFft<T>::AnyFft(Index n) : n_(n) {
  const bool good = good_fft_size(n) == n;
  const Index m = good ? n : good_fft_size(2 * n - 1), row = Row<double>::size;
  fft_ = cached_plan<Fft<T>>(m);
  if (good) return;

  std::vector<double> x(m * row);
  for (Index t = 0; t < n; ++t) {
    const std::complex<double> w = unit_root(t * t % (2 * n), 2 * n);
    append(chirp_, w);
    const Row<double> conjugate{w.real(), -w.imag()};
    conjugate.store(&x[t * row]);
    conjugate.store(&x[(m - t) % m * row]);  // the chirp is even
  }
  cached_plan<Fft<double>>(m)->forward(x.data());
  for (const double* z = x.data(); z < x.data() + m * row; z += row)  // all lanes are the same
    append(kernel_, {z[0] / double(m), z[row / 2] / double(m)});
}

template <class T> void AnyFft<T>::transform(T* x, bool inverse) const {
  if (chirp_.empty()) return inverse ? fft_->inverse(x) : fft_->forward(x);
  constexpr Index kRow = Row<T>::size;
  auto times_chirp = [&](bool swap_before, bool swap_after) {
    for (Index t = 0; t < n_; ++t) {
      Row<T> z = Row<T>::load(x + t * kRow);
      z = times_pair(swap_before ? swapped(z) : z, &chirp_[2 * t]);
      (swap_after ? swapped(z) : z).store(x + t * kRow);
    }
  };
  times_chirp(inverse, false);
  std::fill(x + n_ * kRow, x + rows() * kRow, T(0));
  auto bin = [kernel = kernel_.data()](Index p, Row<T>& z) { z = times_pair(z, kernel + 2 * p); };
  fft_->filter({x, kRow, rows(), nullptr}, x, bin, {x, kRow, rows(), nullptr});
  times_chirp(false, inverse);
}

template class Fft<float>;
template class Fft<double>;
template class AnyFft<float>;
template class AnyFft<double>;

}  // namespace triad::cpu
