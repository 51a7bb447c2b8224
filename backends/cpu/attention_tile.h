// What the forward and the backward attention kernel share: head views, tile sizes, restrictions
// and dropout of one tile of weights.
//
// Both work on tiles of queries times keys, small enough that scores and weights never leave the
// caches: the [T,S] matrix does not exist. (Milakov, Gimelshein, "Online normalizer calculation for
// softmax", 2018; Dao et al., "FlashAttention", 2022.)
#pragma once

#include <triad/backends/cpu/gemm_tile.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/philox.h>
#include <triad/backends/cpu/registers.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

namespace triad::cpu {

// Keys of a tile. 64 of them transposed are the right side of q k^T: one strip of gemm_tile for
// floats on AVX-512, and with D up to 128 they fit the first cache level.
inline constexpr Index kKeys = 64;

template <class T> inline constexpr T kInf = std::numeric_limits<T>::infinity();

// A head tensor [B,H,T,D] of any strides but 1 along D; without data for an undefined one.
template <class T> struct Heads {
  T* data = nullptr;
  Index b = 0, h = 0, t = 0;  // strides

  Heads(T* data, Index b, Index h, Index t) : data(data), b(b), h(h), t(t) {}
  Heads(const Tensor& x) {
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

// A register of scores, -inf where the query may not attend.
template <class T> Vec<T> restricted(Vec<T> scores, const std::uint8_t* allowed) {
  constexpr hn::Rebind<std::uint8_t, typename Vec<T>::Tag> bytes;
  constexpr hn::Rebind<std::int32_t, typename Vec<T>::Tag> ints;
  const Vec<T> flags = to_floating<T>(hn::PromoteTo(ints, hn::LoadU(bytes, allowed)));
  return select(flags == Vec<T>(), Vec<T>(-kInf<T>), scores);
}

// What both directions are given.
template <class T> struct Attention {
  const kernels::AttentionArgs& args;
  Heads<const T> q, k, v;
  Index B, H, Tq, S, D;
  Index shift;  // query t is level with key t + shift
  bool dropout;
  Vec<T> threshold, kept;  // high_bits below it drop a weight; what the others are scaled by

  Attention(const Tensor& q, const Tensor& k, const Tensor& v, const kernels::AttentionArgs& args)
      : args(args), q(q), k(k), v(v), B(q.shape()[0]), H(q.shape()[1]), Tq(q.shape()[2]),
        S(k.shape()[2]), D(q.shape()[3]), shift(S - Tq), dropout(args.dropout > 0),
        threshold(T(dropout_threshold(args.dropout))), kept(T(1 / (1 - args.dropout))) {}

  // The place of a query in [B,H,T].
  Index row(Index b, Index h, Index t) const { return (b * H + h) * Tq + t; }

  // Under the causal restriction the queries before `end` see only the first so many keys,
  Index keys_seen(Index end) const {
    return args.causal ? std::clamp<Index>(end + shift, 0, S) : S;
  }
  // and key s is seen by no query before this one.
  Index first_query(Index s) const { return args.causal ? std::max<Index>(s - shift, 0) : 0; }

  // Which queries may attend to which keys: fills allowed[rows][kKeys] with ones and zeros unless
  // the answer is the same everywhere.
  Allowed restrictions(const Tile& tile, std::uint8_t* allowed) const {
    const bool diagonal = args.causal && tile.s + tile.columns > tile.t + shift + 1;
    std::uint8_t key[kKeys] = {};  // zero past the last key
    std::fill_n(key, tile.columns, std::uint8_t(1));
    if (args.token_mask.defined()) {
      const Shape& stride = args.token_mask.strides();
      const bool* real = args.token_mask.data<bool>() + tile.b * stride[0] + tile.s * stride[1];
      for (Index j = 0; j < tile.columns; ++j) key[j] = real[j * stride[1]];
    }
    if (std::count(key, key + kKeys, 0) == kKeys) return Allowed::none;
    const Heads<const bool> mask(args.mask);
    if (!diagonal && !mask.data && std::count(key, key + kKeys, 1) == kKeys) return Allowed::all;

    std::uint8_t any = 0, every = 1;
    for (Index i = 0; i < tile.rows; ++i) {
      std::uint8_t* row = allowed + i * kKeys;
      std::memcpy(row, key, kKeys);
      if (mask.data) {
        const Index step = args.mask.strides()[3];
        const bool* real = mask.row(tile.b, tile.h, tile.t + i) + tile.s * step;
        if (step == 1)  // which the compiler makes whole registers of
          for (Index j = 0; j < tile.columns; ++j) row[j] &= std::uint8_t(real[j]);
        else
          for (Index j = 0; j < tile.columns; ++j) row[j] &= std::uint8_t(real[j * step]);
      }
      if (diagonal) {
        const Index seen = std::clamp<Index>(tile.t + i + shift + 1 - tile.s, 0, kKeys);
        std::fill(row + seen, row + kKeys, std::uint8_t(0));
      }
      for (Index j = 0; j < kKeys; ++j) {
        any |= row[j];
        every &= row[j];
      }
    }
    return every ? Allowed::all : any ? Allowed::some : Allowed::none;
  }

  // The random words of one row of a tile.
  void draw(const Tile& tile, Index i, std::uint32_t* bits) const {
    const Index first = row(tile.b, tile.h, tile.t + i) * S + tile.s;
    uniform_bits(args.random, std::uint64_t(first), tile.columns, bits);
  }
  // What a register of weights is multiplied by, from their random words.
  Vec<T> factor(const std::uint32_t* bits) const {
    return select(high_bits<T>(bits) < threshold, Vec<T>(), kept);
  }

  // to [D, kKeys] = factor * rows s .. s + columns of head (b, h), transposed, zeros past the last.
  void transpose_to(const Heads<const T>& x, T factor, Index b, Index h, Index s, Index columns,
                    T* to) const {
    if (columns < kKeys) std::fill_n(to, D * kKeys, T(0));
    transpose_tile(factor, columns, D, x.row(b, h, s), x.t, to, kKeys);
  }
};

}  // namespace triad::cpu
