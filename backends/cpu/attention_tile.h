// What the forward and the backward attention kernel share: head views, tile sizes, restrictions
// and dropout of one tile of weights.
//
// Both work on tiles of queries times keys, small enough that scores and weights never leave the
// caches: the [T,S] matrix does not exist. (Milakov, Gimelshein, "Online normalizer calculation for
// softmax", 2018; Dao et al., "FlashAttention", 2022.)
#pragma once

#include <triad/backends/cpu/philox.h>
#include <triad/backends/cpu/vec.h>
#include <triad/backends/kernels.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace triad::cpu {

// Keys of a tile. 64 of them transposed are the right side of q k^T: one strip of gemm_tile for
// floats on AVX-512, and with D up to 128 they fit the first cache level.
inline constexpr Index kKeys = 64;

// A head tensor [B,H,T,D] of any strides but 1 along D; without data for an undefined one.
template <class T>
struct Heads {
  T* data = nullptr;
  Index b = 0, h = 0, t = 0;  // strides

  explicit Heads(const Tensor& x) {
    if (!x.defined()) return;
    data = x.data<std::remove_const_t<T>>();
    b = x.strides()[0], h = x.strides()[1], t = x.strides()[2];
  }
  T* row(Index batch, Index head, Index time) const {
    return data + batch * b + head * h + time * t;
  }
};

// The part of the weights that is worked on: queries t .. t + rows of head (b, h), keys
// s .. s + columns.
struct Tile {
  Index b, h, t, rows, s, columns;
};

enum class Allowed { none, some, all };

// Which queries of a tile may attend to which keys.
class Restrictions {
 public:
  Restrictions(const kernels::AttentionArgs& args, Index T, Index S)
      : causal_(args.causal), shift_(S - T) {
    if (args.mask.defined()) {
      mask_ = args.mask.data<bool>();
      std::copy_n(args.mask.strides().begin(), 4, stride_);
    }
    if (args.token_mask.defined()) {
      token_mask_ = args.token_mask.data<bool>();
      std::copy_n(args.token_mask.strides().begin(), 2, token_stride_);
    }
  }

  // Under the causal restriction the queries before `end` see only the first so many of S keys,
  Index keys_seen(Index end, Index S) const {
    return causal_ ? std::clamp<Index>(end + shift_, 0, S) : S;
  }
  // and key s is seen by no query before this one.
  Index first_query(Index s) const { return causal_ ? std::max<Index>(s - shift_, 0) : 0; }

  // Fills allowed[rows][kKeys] with ones and zeros unless the answer is the same everywhere.
  Allowed of(const Tile& tile, std::uint8_t* allowed) const;

 private:
  bool causal_;
  Index shift_;
  const bool* mask_ = nullptr;
  Index stride_[4] = {};
  const bool* token_mask_ = nullptr;
  Index token_stride_[2] = {};
};

inline Allowed Restrictions::of(const Tile& tile, std::uint8_t* allowed) const {
  const bool diagonal = causal_ && tile.s + tile.columns > tile.t + shift_ + 1;
  std::uint8_t key[kKeys] = {};  // zero past the last key
  std::fill_n(key, tile.columns, std::uint8_t(1));
  if (token_mask_) {
    for (Index j = 0; j < tile.columns; ++j) {
      key[j] = token_mask_[tile.b * token_stride_[0] + (tile.s + j) * token_stride_[1]];
    }
  }
  if (std::count(key, key + kKeys, 0) == kKeys) return Allowed::none;
  if (!diagonal && !mask_ && std::count(key, key + kKeys, 1) == kKeys) return Allowed::all;

  std::uint8_t any = 0, every = 1;
  for (Index i = 0; i < tile.rows; ++i) {
    std::uint8_t* row = allowed + i * kKeys;
    std::memcpy(row, key, kKeys);
    if (mask_) {
      const bool* mask = mask_ + tile.b * stride_[0] + tile.h * stride_[1] +
                         (tile.t + i) * stride_[2] + tile.s * stride_[3];
      if (stride_[3] == 1) {
        for (Index j = 0; j < tile.columns; ++j) row[j] &= std::uint8_t(mask[j]);
      } else {
        for (Index j = 0; j < tile.columns; ++j) row[j] &= std::uint8_t(mask[j * stride_[3]]);
      }
    }
    if (diagonal) {
      const Index seen = std::clamp<Index>(tile.t + i + shift_ + 1 - tile.s, 0, kKeys);
      std::fill(row + seen, row + kKeys, std::uint8_t(0));
    }
    for (Index j = 0; j < kKeys; ++j) {
      any |= row[j];
      every &= row[j];
    }
  }
  return every ? Allowed::all : any ? Allowed::some : Allowed::none;
}

// A register of whole numbers below 2^24 as floating-point ones.
template <class T, class Ints>
Vec<T> to_floating(Ints ints) {
  if constexpr (sizeof(T) == sizeof(std::int32_t)) {
    return hn::ConvertTo(Vec<T>::tag, ints);
  } else {
    return hn::PromoteTo(Vec<T>::tag, ints);
  }
}

// A register of scores, -inf where the query may not attend.
template <class T>
Vec<T> restricted(Vec<T> scores, const std::uint8_t* allowed) {
  constexpr hn::Rebind<std::uint8_t, typename Vec<T>::Tag> bytes;
  constexpr hn::Rebind<std::int32_t, typename Vec<T>::Tag> ints;
  const Vec<T> flags = to_floating<T>(hn::PromoteTo(ints, hn::LoadU(bytes, allowed)));
  return select(flags == Vec<T>(), Vec<T>(-std::numeric_limits<T>::infinity()), scores);
}

// Dropout of the weights: each is kept, and scaled up, or zero.
class WeightDropout {
 public:
  WeightDropout(const kernels::AttentionArgs& args, Index H, Index T, Index S)
      : on_(args.dropout > 0),
        random_(args.random),
        threshold_(dropout_threshold(args.dropout)),
        scale_(1 / (1 - args.dropout)),
        H_(H),
        T_(T),
        S_(S) {}

  bool on() const { return on_; }

  // The random words of one row of a tile.
  void draw(const Tile& tile, Index row, std::uint32_t* bits) const {
    const Index first = ((tile.b * H_ + tile.h) * T_ + tile.t + row) * S_ + tile.s;
    uniform_bits(random_, std::uint64_t(first), tile.columns, bits);
  }
  // What a register of weights is multiplied by, from their random words.
  template <class T>
  Vec<T> factor(const std::uint32_t* bits) const {
    constexpr hn::Rebind<std::uint32_t, typename Vec<T>::Tag> words;
    constexpr hn::Rebind<std::int32_t, typename Vec<T>::Tag> ints;
    const auto uniform = hn::ShiftRight<8>(hn::LoadU(words, bits));
    return select(to_floating<T>(hn::BitCast(ints, uniform)) < Vec<T>(T(threshold_)), Vec<T>(),
                  Vec<T>(T(scale_)));
  }

 private:
  bool on_;
  RandomStream random_;
  std::uint32_t threshold_;
  double scale_;
  Index H_, T_, S_;
};

}  // namespace triad::cpu
