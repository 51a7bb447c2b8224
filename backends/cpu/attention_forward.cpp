// Flash attention, forward. A task is a tile of queries of one head; it walks along the keys and
// keeps, per query, the largest score m so far, the sum l of exp(score - m) and the weighted sum o
// of values. When a key tile raises m, l and o are multiplied by exp(old m - new m).
#include <triad/backends/cpu/attention_tile.h>

#include <cmath>

namespace triad::kernels {
namespace {

using namespace cpu;

// Queries of a tile. More of them read keys and values less often (128 against 64: 20 % faster at
// T = 4096); fewer leave fewer tiles half empty under a causal mask (64 against 128: 16 % at T =
// 256; both on 2 AVX-512 cores, D = 64).
constexpr Index kQueries = 128, kCausalQueries = 64;

template <class T> struct Forward : Attention<T> {
  Heads<T> out;
  T* lse;
};

// The working memory of one thread.
template <class T> struct Workspace {
  static constexpr Index kLanes = Vec<T>::lanes;

  T *scores, *keys;       // [kQueries, kKeys], later weights; [D, kKeys], transposed and scaled
  T *o, *l, *m;           // [kQueries, D]; [kQueries, kLanes], l lane by lane; [kQueries]
  std::uint8_t* allowed;  // [kQueries, kKeys]

  explicit Workspace(Index D)
      : scores(scratch<T>(kQueries * (kKeys + D + kLanes + 1) + D * kKeys)),
        keys(scores + kQueries * kKeys), o(keys + D * kKeys), l(o + kQueries * D),
        m(l + kQueries * kLanes), allowed(scratch<std::uint8_t>(kQueries * kKeys)) {}
};

// Turns row i of the scores into weights exp(score - m), and with dropout multiplies them by its
// factors, after updating m, l and o.
template <class T>
void softmax_row(const Forward<T>& p, const Workspace<T>& work, const Tile& tile, Index i,
                 bool restrict) {
  constexpr Index kLanes = Vec<T>::lanes;
  T *scores = work.scores + i * kKeys, *o = work.o + i * p.D, *l = work.l + i * kLanes;
  Vec<T> largest(-kInf<T>);
  for (Index j = 0; j < tile.columns; j += kLanes) {
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
  for (Index j = 0; j < tile.columns; j += kLanes) {
    const Vec<T> weight = exp_weight(Vec<T>::load(scores + j) - shift);
    sum += weight;
    (p.dropout ? weight * p.factor(bits + j) : weight).store(scores + j);
  }
  sum.store(l);
}

// The queries t .. t + rows of head (b, h).
template <class T>
void attend(const Forward<T>& p, const Workspace<T>& work, Index b, Index h, Index t, Index rows) {
  constexpr Index kLanes = Vec<T>::lanes;
  std::fill_n(work.o, rows * p.D, T(0));
  std::fill_n(work.l, rows * kLanes, T(0));
  std::fill_n(work.m, rows, -kInf<T>);

  const Index seen = p.keys_seen(t + rows);
  for (Index s = 0; s < seen; s += kKeys) {
    const Tile tile{b, h, t, rows, s, std::min(kKeys, p.S - s)};
    const Allowed allowed = p.restrictions(tile, work.allowed);
    if (allowed == Allowed::none) continue;
    p.transpose_to(p.k, T(p.args.scale), b, h, s, tile.columns, work.keys);
    gemm_tile<T>(rows, Vec<T>::whole(tile.columns), p.D, {p.q.row(b, h, t), p.q.t, 1}, work.keys,
                 kKeys, work.scores, kKeys, false);
    for (Index i = 0; i < rows; ++i) softmax_row(p, work, tile, i, allowed == Allowed::some);
    gemm_tile<T>(rows, p.D, tile.columns, {work.scores, kKeys, 1}, p.v.row(b, h, s), p.v.t, work.o,
                 p.D, true);
  }

  for (Index i = 0; i < rows; ++i) {
    const T sum = sum_lanes(Vec<T>::load(work.l + i * kLanes));
    const bool nothing = sum == T(0);  // 0 times an infinite value may stand in o: not o / sum
    const T factor = nothing ? T(0) : 1 / sum;
    T* out = p.out.row(b, h, t + i);
    for (Index d = 0; d < p.D; ++d) out[d] = nothing ? T(0) : work.o[i * p.D + d] * factor;
    p.lse[p.row(b, h, t + i)] = work.m[i] + std::log(sum);
  }
}

}  // namespace

void attention(Cpu, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionArgs& args,
               const Tensor& out, const Tensor& lse) {
  visit_float("attention", q.dtype(), [&]<class T>(T) {
    const Forward<T> p{{q, k, v, args}, out, lse.data<T>()};
    const Index queries = args.causal ? kCausalQueries : kQueries;
    const Index tiles = ceil_div(p.Tq, queries), tasks = p.B * p.H * tiles;
    const Index threads = std::clamp<Index>(tasks, 1, get_num_threads());
#pragma omp parallel num_threads(int(threads))
    {
      const Workspace<T> work(p.D);
      // Head by head, whose keys and values then stay in the cache, the last queries first: under a
      // causal mask they have the most keys.
#pragma omp for schedule(dynamic)
      for (Index task = 0; task < tasks; ++task) {
        const Index t = (tiles - 1 - task % tiles) * queries, head = task / tiles;
        attend(p, work, head / p.H, head % p.H, t, std::min(queries, p.Tq - t));
      }
    }
  });
}

}  // namespace triad::kernels
