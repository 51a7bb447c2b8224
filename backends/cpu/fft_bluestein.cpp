#include <triad/backends/cpu/fft_bluestein.h>

#include <algorithm>

namespace triad::cpu {

template <class T>
AnyFft<T>::AnyFft(Index n) : n_(n) {
  if (good_fft_size(n) == n) {
    fft_ = cached_plan<Fft<T>>(n);
    return;
  }
  const Index m = good_fft_size(2 * n - 1), row = Row<double>::size;
  fft_ = cached_plan<Fft<T>>(m);

  std::vector<double> x(m * row);
  for (Index t = 0; t < n; ++t) {
    const std::complex<double> w = unit_root(t * t % (2 * n), 2 * n);
    chirp_.push_back(T(w.real()));
    chirp_.push_back(T(w.imag()));
    const Row<double> conjugate{w.real(), -w.imag()};
    conjugate.store(&x[t * row]);
    conjugate.store(&x[(m - t) % m * row]);  // the chirp is even
  }
  cached_plan<Fft<double>>(m)->forward(x.data());
  for (Index p = 0; p < m; ++p) {  // every lane is the same transform
    kernel_.push_back(T(x[p * row] / double(m)));
    kernel_.push_back(T(x[p * row + row / 2] / double(m)));
  }
}

template <class T>
void AnyFft<T>::forward(T* x) const {
  if (chirp_.empty()) return fft_->forward(x);
  constexpr Index kRow = Row<T>::size;
  auto times_chirp = [&] {
    for (Index t = 0; t < n_; ++t)
      times_pair(Row<T>::load(x + t * kRow), &chirp_[2 * t]).store(x + t * kRow);
  };
  times_chirp();
  std::fill(x + n_ * kRow, x + rows() * kRow, T(0));
  const T* kernel = kernel_.data();
  fft_->filter({x, kRow, rows(), nullptr}, x,
               [=](Index p, Row<T>& z) { z = times_pair(z, kernel + 2 * p); },
               {x, kRow, rows(), nullptr});
  times_chirp();
}

template <class T>
void AnyFft<T>::inverse(T* x) const {
  if (chirp_.empty()) return fft_->inverse(x);
  auto swap_rows = [&] {
    for (Index t = 0; t < n_; ++t) {
      T* row = x + t * Row<T>::size;
      swapped(Row<T>::load(row)).store(row);
    }
  };
  swap_rows();
  forward(x);
  swap_rows();
}

template class AnyFft<float>;
template class AnyFft<double>;

}  // namespace triad::cpu
