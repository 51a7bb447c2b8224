// A [B,T,H,D] tensor, D contiguous, as tiles of channels that fill one register row.
#pragma once

#include <algorithm>

#include <triad/backends/cpu/fft.h>
#include <triad/core/tensor.h>

namespace triad::cpu {

// At most Row<T>::size neighbouring channels of one head: the first half of them in the real
// parts, the others in the imaginary parts, zeros where the head ends.
template <class T>
class ChannelTile {
 public:
  static constexpr Index kLanes = Vec<T>::lanes, kWidth = Row<T>::size;

  ChannelTile(const Tensor& x, Index b, Index h, Index tile)
      : data_(x.data<T>() + b * x.strides()[0] + h * x.strides()[2] + tile * kWidth),
        stride_(x.strides()[1]),
        length_(x.shape()[1]),
        channels_(std::min(kWidth, x.shape()[3] - tile * kWidth)) {}

  Index length() const { return length_; }
  bool is_full() const { return channels_ == kWidth; }
  Rows<T> rows(T* spare) const { return {data_, stride_, length_, spare}; }  // of a full tile

  Row<T> load(Index t) const {
    const T* p = data_ + t * stride_;
    if (channels_ == kWidth) return Row<T>::load(p);
    if (channels_ <= kLanes) return {Vec<T>::load_first(p, channels_), Vec<T>()};
    return {Vec<T>::load(p), Vec<T>::load_first(p + kLanes, channels_ - kLanes)};
  }

  void store(Index t, Row<T> z) const {
    T* p = data_ + t * stride_;
    if (channels_ == kWidth) return z.store(p);
    if (channels_ <= kLanes) return z.re.store_first(p, channels_);
    z.re.store(p);
    z.im.store_first(p + kLanes, channels_ - kLanes);
  }

 private:
  T* data_;
  Index stride_, length_, channels_;
};

// How many tiles the channels of one head make.
template <class T>
Index tiles_per_head(const Tensor& x) {
  return ceil_div(x.shape()[3], Row<T>::size);
}

}  // namespace triad::cpu
