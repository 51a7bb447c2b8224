// Flash attention: both directions work on tiles of queries times keys, small enough that scores
// and weights never leave the caches: the [T,S] matrix does not exist. (Milakov, Gimelshein,
// "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022.)
#include <triad/backends/cpu/gemm_tile.h>
#include <triad/backends/cpu/philox.h>

#include <cstring>

namespace triad::kernels {
namespace {

// Keys of a tile. 64 of them transposed are the right side of q k^T: one strip of gemm_tile for
// floats on AVX-512, and with D up to 128 they fit the first cache level.
constexpr Index kKeys = 64;

// Queries of a tile. Forward, more of them read keys and values less often (128 against 64: 20 %
// faster at T = 4096); fewer leave fewer tiles half empty under a causal mask (64 against 128: 16 %
// at T = 256; on 2 AVX-512 cores, D = 64). Backward, two tiles of weights fit the first cache.
constexpr Index kQueries = 128, kCausalQueries = 64, kBackwardQueries = 64;

template <class T> constexpr T kInf = std::numeric_limits<T>::infinity();

// A head tensor [B,H,T,D] of any strides but 1 along D; without data for an undefined one.
template <class T> struct Heads {
  T* data = nullptr;
  Index b = 0, h = 0, t = 0;  // strides

  Heads(T* data, Index b, Index h, Index t) : data(data), b(b), h(h), t(t) {}
  Heads(const Tensor& x) {
    if (!x.defined()) return;
    data = x.first<std::remove_const_t<T>>();
    b = x.strides()[0], h = x.strides()[1], t = x.strides()[2];
  }
  T* row(Index i, Index j, Index k) const { return data + i * b + j * h + k * t; }
};

// The weights that are worked on: queries t .. t + rows of head (b, h), keys s .. s + columns.
struct Tile {
  Index b, h, t = 0, rows = 0, s, columns;
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

  Index row(Index b, Index h, Index t) const { return (b * H + h) * Tq + t; }  // place in [B,H,T]
  // The row of a head tensor at such a place.
  auto at(const auto& x, Index row) const { return x.row(row / Tq / H, row / Tq % H, row % Tq); }

  // Which queries may attend to which keys, in allowed[rows][kKeys] unless it is all the same.
  Allowed restrictions(const Tile& tile, std::uint8_t* allowed) const {
    const bool diagonal = args.causal && tile.s + tile.columns > tile.t + shift + 1;
    std::uint8_t key[kKeys] = {};  // zero past the last key
    std::fill_n(key, tile.columns, std::uint8_t(1));
    if (args.token_mask.defined()) {
      const Shape& stride = args.token_mask.strides();
      const bool* real = args.token_mask.first<bool>() + tile.b * stride[0] + tile.s * stride[1];
      for (Index j = 0; j < tile.columns; ++j) key[j] = real[j * stride[1]];
    }
    if (std::count(key, key + kKeys, 0) == kKeys) return Allowed::none;
    const Heads<const bool> mask(args.mask);
    if (!diagonal && !mask.data && std::count(key, key + kKeys, 1) == kKeys) return Allowed::all;

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
    }
    const std::size_t size = tile.rows * kKeys;
    if (!std::memchr(allowed, 0, size)) return Allowed::all;
    return std::memchr(allowed, 1, size) ? Allowed::some : Allowed::none;
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

  // to [D, kKeys] = factor * the rows of x at the tile's keys, transposed, zeros past the last.
  void transpose_to(const Heads<const T>& x, T factor, const Tile& tile, T* to) const {
    if (tile.columns < kKeys) std::fill_n(to, D * kKeys, T(0));
    transpose_tile(factor, tile.columns, D, x.row(tile.b, tile.h, tile.s), x.t, to, kKeys);
  }
};

// The working memory of one thread.
template <class T> struct Workspace {
  T *weights, *ds;        // [kQueries, kKeys]: scores, then weights; backward also da, then ds
  T *keys, *values;       // [D, kKeys], transposed; the keys scaled, the values in backward only
  T *o, *l, *m;           // forward: [kQueries, D]; [kQueries, lanes], l by lane; [kQueries]
  T *dk, *dv;             // backward: [kKeys, D]
  std::uint8_t* allowed;  // [kQueries, kKeys]

  explicit Workspace(Index D)
      : weights(scratch<T>(kQueries * (2 * kKeys + D + Vec<T>::lanes + 1) + 4 * D * kKeys)),
        ds(weights + kQueries * kKeys), keys(ds + kQueries * kKeys), values(keys + D * kKeys),
        o(values + D * kKeys), l(o + kQueries * D), m(l + kQueries * Vec<T>::lanes),
        dk(m + kQueries), dv(dk + kKeys * D), allowed(scratch<std::uint8_t>(kQueries * kKeys)) {}
};

// ---- Forward. A task is a tile of queries of one head; it walks along the keys and keeps, per
// query, the largest score m so far, the sum l of exp(score - m) and the weighted sum o of values.
// When a key tile raises m, l and o are multiplied by exp(old m - new m).

template <class T> struct Forward : Attention<T> {
  Heads<T> out;
  T* lse;
};

// Updates m, l and o, then turns row i of the scores into weights exp(score - m), and drops some.
template <class T>
void softmax_row(const Forward<T>& p, const Workspace<T>& work, const Tile& tile, Index i,
                 bool restrict) {
  T *scores = work.weights + i * kKeys, *o = work.o + i * p.D, *l = work.l + i * Vec<T>::lanes;
  Vec<T> largest(-kInf<T>);
  for (Index j = 0; j < tile.columns; j += Vec<T>::lanes) {
    Vec<T> x = Vec<T>::load(scores + j);
    if (restrict) {
      x = restricted(x, work.allowed + i * kKeys + j);
      x.store(scores + j);
    }
    largest = max(largest, x);
  }
  const T before = work.m[i], now = std::max(before, max_lanes(largest));
  work.m[i] = now;
  Vec<T> sum = Vec<T>::load(l);
  if (now != before && before != -kInf<T>) {  // from -inf on, l and o are still zero
    const Vec<T> factor(std::exp(before - now));
    sum *= factor;
    for_each_register<T>(p.D,
                         [&](Index d, auto part) { part.store(part.load(o + d) * factor, o + d); });
  }
  std::uint32_t bits[kKeys] = {};
  if (p.dropout) p.draw(tile, i, bits);
  // A row that may attend to nothing so far has m = -inf; its weights are exp(-inf - 0) = 0.
  const Vec<T> shift(now == -kInf<T> ? T(0) : now);
  for (Index j = 0; j < tile.columns; j += Vec<T>::lanes) {
    const Vec<T> weight = exp_weight(Vec<T>::load(scores + j) - shift);
    sum += weight;
    (p.dropout ? weight * p.factor(bits + j) : weight).store(scores + j);
  }
  sum.store(l);
}

// The queries t .. t + rows of head (b, h).
template <class T>
void attend(const Forward<T>& p, const Workspace<T>& work, Index b, Index h, Index t, Index rows) {
  std::fill_n(work.o, rows * p.D, T(0));
  std::fill_n(work.l, rows * Vec<T>::lanes, T(0));
  std::fill_n(work.m, rows, -kInf<T>);

  const Index seen = p.args.causal ? std::clamp<Index>(t + rows + p.shift, 0, p.S) : p.S;
  for (Index s = 0; s < seen; s += kKeys) {
    const Tile tile{b, h, t, rows, s, std::min(kKeys, p.S - s)};
    const Allowed allowed = p.restrictions(tile, work.allowed);
    if (allowed == Allowed::none) continue;
    p.transpose_to(p.k, T(p.args.scale), tile, work.keys);
    gemm_tile<T>(rows, Vec<T>::whole(tile.columns), p.D, {p.q.row(b, h, t), p.q.t, 1}, work.keys,
                 kKeys, work.weights, kKeys, false);
    for (Index i = 0; i < rows; ++i) softmax_row(p, work, tile, i, allowed == Allowed::some);
    gemm_tile<T>(rows, p.D, tile.columns, {work.weights, kKeys, 1}, p.v.row(b, h, s), p.v.t, work.o,
                 p.D, true);
  }

  for (Index i = 0; i < rows; ++i) {
    const T sum = sum_lanes(Vec<T>::load(work.l + i * Vec<T>::lanes)), factor = 1 / sum;
    T* out = p.out.row(b, h, t + i);
    for (Index d = 0; d < p.D; ++d)  // of no keys: 0, though 0 times an infinite value may be in o
      out[d] = sum == T(0) ? T(0) : work.o[i * p.D + d] * factor;
    p.lse[p.row(b, h, t + i)] = work.m[i] + std::log(sum);
  }
}

// ---- Backward. The weights are computed again from q, k and lse, tile by tile. With
// a = exp(scale q k^T - lse) the weights before dropout, f the factors of dropout and delta_t =
// sum over d of dout_t out_t (which is sum over s of a_ts da_ts, dropout or not):
//
//   dv = (a f)^T dout      da = f (dout v^T)      ds = scale a (da - delta)
//   dq = ds k              dk = ds^T q
//
// (FlashAttention, algorithm 4.) A task is a range of keys of one head and makes their dk and dv, a
// key tile at a time. If a head has several tasks, each has its own dq, summed in order at the end.

// Heads are split into ranges of keys until there are this many tasks, enough to keep many cores
// busy, but none shorter than this many key tiles, so that adding up dq stays cheap.
constexpr Index kTasks = 32, kTilesPerTask = 4;

template <class T> struct Backward : Attention<T> {
  Heads<const T> dout, out;
  Heads<T> dq, dk, dv;
  const T* lse;  // [B,H,T]
  T* delta;      // [B,H,T]
};

// Row i: scores become weights a f, da (before dropout) becomes ds.
template <class T>
void gradient_row(const Backward<T>& p, const Workspace<T>& work, const Tile& tile, Index i,
                  bool restrict) {
  T *weights = work.weights + i * kKeys, *ds = work.ds + i * kKeys;
  const Index row = p.row(tile.b, tile.h, tile.t + i);
  // Where a row may attend to nothing, lse is -inf and every weight is exp(-inf - 0) = 0.
  const Vec<T> lse(p.lse[row] == -kInf<T> ? T(0) : p.lse[row]), delta(p.delta[row]);
  const Vec<T> scale(T(p.args.scale));
  std::uint32_t bits[kKeys] = {};
  if (p.dropout) p.draw(tile, i, bits);
  for (Index j = 0; j < tile.columns; j += Vec<T>::lanes) {
    Vec<T> score = Vec<T>::load(weights + j), da = Vec<T>::load(ds + j);
    if (restrict) score = restricted(score, work.allowed + i * kKeys + j);
    Vec<T> a = exp_weight(score - lse), dropped = a;
    if (p.dropout) {
      const Vec<T> factor = p.factor(bits + j);
      dropped = a * factor;
      da *= factor;
    }
    dropped.store(weights + j);
    (a * (da - delta) * scale).store(ds + j);
  }
}

// dk and dv of one key tile, and what it contributes to dq.
template <class T>
void key_tile(const Backward<T>& p, const Workspace<T>& work, Index b, Index h, Index s,
              const Heads<T>& dq) {
  const Index D = p.D, columns = std::min(kKeys, p.S - s), padded = Vec<T>::whole(columns);
  const Index first = p.args.causal ? std::max<Index>(s - p.shift, 0) : 0;  // query to see a key
  T *weights = work.weights, *ds = work.ds;
  Tile tile{.b = b, .h = h, .s = s, .columns = columns};
  p.transpose_to(p.k, T(p.args.scale), tile, work.keys);
  p.transpose_to(p.v, T(1), tile, work.values);
  std::fill_n(work.dk, 2 * kKeys * D, T(0));  // dk and dv
  for (Index t = first / kBackwardQueries * kBackwardQueries; t < p.Tq; t += kBackwardQueries) {
    const Index rows = tile.rows = std::min(kBackwardQueries, p.Tq - t);
    tile.t = t;
    const Allowed allowed = p.restrictions(tile, work.allowed);
    if (allowed == Allowed::none) continue;
    const T *q = p.q.row(b, h, t), *dout = p.dout.row(b, h, t), *k = p.k.row(b, h, s);
    gemm_tile<T>(rows, padded, D, {q, p.q.t, 1}, work.keys, kKeys, weights, kKeys, false);
    gemm_tile<T>(rows, padded, D, {dout, p.dout.t, 1}, work.values, kKeys, ds, kKeys, false);
    for (Index i = 0; i < rows; ++i) gradient_row(p, work, tile, i, allowed == Allowed::some);
    if (p.dv.data)
      gemm_tile<T>(columns, D, rows, {weights, 1, kKeys}, dout, p.dout.t, work.dv, D, true);
    if (p.dk.data) gemm_tile<T>(columns, D, rows, {ds, 1, kKeys}, q, p.q.t, work.dk, D, true);
    if (dq.data)
      gemm_tile<T>(rows, D, columns, {ds, kKeys, 1}, k, p.k.t, dq.row(b, h, t), dq.t, true);
  }
  for (Index j = 0; j < columns; ++j) {
    if (p.dk.data) std::copy_n(work.dk + j * D, D, p.dk.row(b, h, s + j));
    if (p.dv.data) std::copy_n(work.dv + j * D, D, p.dv.row(b, h, s + j));
  }
}

template <class T> void backward(const Backward<T>& p) {
  const Index D = p.D, heads = p.B * p.H, rows = heads * p.Tq, key_tiles = ceil_div(p.S, kKeys);
  const Index most = ceil_div(kTasks, std::max<Index>(heads, 1));
  const Index ranges = std::clamp<Index>(key_tiles / kTilesPerTask, 1, most);
  const Index tasks = heads * ranges;
  const Index threads = std::clamp<Index>(std::max(tasks, rows / 64), 1, get_num_threads());
  const bool in_parts = p.dq.data && ranges > 1;  // parts [ranges][B H T][D] of dq
  const auto memory = Storage::allocate(in_parts ? ranges * rows * D * sizeof(T) : 0);
  T* parts = reinterpret_cast<T*>(memory->data());

#pragma omp parallel num_threads(int(threads))
  {
#pragma omp for schedule(static)
    for (Index row = 0; row < rows; ++row) {
      const T *dout = p.at(p.dout, row), *out = p.at(p.out, row);
      Vec<T> sum;
      for_each_register<T>(
          D, [&](Index d, auto part) { sum = fma(part.load(dout + d), part.load(out + d), sum); });
      p.delta[row] = sum_lanes(sum);
      if (p.dq.data) std::fill_n(p.at(p.dq, row), D, T(0));
    }

    const Workspace<T> work(D);
#pragma omp for schedule(dynamic)
    for (Index task = 0; task < tasks; ++task) {
      const Index head = task / ranges, range = task % ranges, b = head / p.H, h = head % p.H;
      Heads<T> dq = p.dq;
      if (in_parts) {
        dq = {parts + range * rows * D, p.H * p.Tq * D, p.Tq * D, D};
        std::fill_n(dq.row(b, h, 0), p.Tq * D, T(0));
      }
      const Index end = (range + 1) * key_tiles / ranges;
      for (Index tile = range * key_tiles / ranges; tile < end; ++tile)
        key_tile(p, work, b, h, tile * kKeys, dq);
    }

#pragma omp for schedule(static)
    for (Index row = 0; row < (in_parts ? rows : 0); ++row) {
      T* dq = p.at(p.dq, row);
      for (Index range = 0; range < ranges; ++range) {
        const T* part = parts + (range * rows + row) * D;
        for (Index d = 0; d < D; ++d) dq[d] += part[d];
      }
    }
  }
}

}  // namespace

void attention(Cpu, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionArgs& args,
               const Tensor& out, const Tensor& lse) {
  visit_float("attention", q.dtype(), [&]<class T>(T) {
    const Forward<T> p{{q, k, v, args}, out, lse.first<T>()};
    const Index queries = args.causal ? kCausalQueries : kQueries;
    const Index tiles = ceil_div(p.Tq, queries), tasks = p.B * p.H * tiles;
    const Index threads = std::clamp<Index>(tasks, 1, get_num_threads());
#pragma omp parallel num_threads(int(threads))
    {
      const Workspace<T> work(p.D);
      // Head by head: its k and v stay cached; last queries first: if causal, they see most keys.
#pragma omp for schedule(dynamic)
      for (Index task = 0; task < tasks; ++task) {
        const Index t = (tiles - 1 - task % tiles) * queries, head = task / tiles;
        attend(p, work, head / p.H, head % p.H, t, std::min(queries, p.Tq - t));
      }
    }
  });
}

void attention_backward(Cpu, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& out, const Tensor& lse, const AttentionArgs& args,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv) {
  const Tensor delta = empty(lse.shape(), q.dtype());
  visit_float("attention", q.dtype(), [&]<class T>(T) {
    backward<T>({{q, k, v, args}, dout, out, dq, dk, dv, lse.first<T>(), delta.first<T>()});
  });
}

}  // namespace triad::kernels
