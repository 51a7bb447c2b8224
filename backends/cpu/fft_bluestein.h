// The Fourier transform of any number of points.
//
// Sizes with a prime factor above 5 go by Bluestein's identity k t = (k^2 + t^2 - (k - t)^2) / 2,
// which turns the transform into a convolution with the chirp exp(i pi t^2 / n), done at a good
// size of at least 2n - 1. L. Bluestein, IEEE Trans. Audio Electroacoust. 18 (1970).
#pragma once

#include <memory>
#include <vector>

#include <triad/backends/cpu/fft.h>

namespace triad::cpu {

template <class T>
class AnyFft {
 public:
  explicit AnyFft(Index n);

  Index size() const { return n_; }
  Index rows() const { return fft_->size(); }  // that x needs room for, at least n
  Index row_of(Index frequency) const {
    return chirp_.empty() ? fft_->row_of(frequency) : frequency;
  }

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
