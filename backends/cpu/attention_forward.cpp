// Flash attention, forward. A task is a tile of queries of one head; it walks along the keys and
// keeps, per query, the largest score m so far, the sum l of exp(score - m) and the weighted sum o
// of values. When a key tile raises m, l and o are multiplied by exp(old m - new m).
#include <triad/backends/cpu/attention_tile.h>
#include <triad/backends/cpu/gemm_tile.h>
#include <triad/backends/cpu/transpose_tile.h>
#include <triad/backends/kernels.h>
#include <triad/core/threads.h>

#include <omp.h>

#include <cmath>
#include <memory>

namespace triad::cpu {
namespace {

// Queries of a tile. More of them read keys and values less often (128 against 64: 20 % faster at
// T = 4096); fewer leave fewer tiles half empty under a causal mask (64 against 128: 16 % at T =
// 256; both on 2 AVX-512 cores, D = 64).
constexpr Index kQueries = 128, kCausalQueries = 64;

// The working memory of one thread.
template <class T>
struct Scratch {
  static constexpr Index kLanes = Vec<T>::lanes;

  T* scores;              // [kQueries, kKeys], then weights
  T* keys;                // [D, kKeys], transposed and scaled
  T* o;                   // [kQueries, D]
  T* l;                   // [kQueries, kLanes]: the sum of l is kept lane by lane
  T* m;                   // [kQueries]
  std::uint8_t* allowed;  // [kQueries, kKeys]

  static Index bytes(Index D) {
    return Index(sizeof(T)) * (kQueries * (kKeys + D + kLanes + 1) + D * kKeys) + kQueries * kKeys;
  }
  Scratch(std::byte* memory, Index D)
      : scores(reinterpret_cast<T*>(memory)),
        keys(scores + kQueries * kKeys),
        o(keys + D * kKeys),
        l(o + kQueries * D),
        m(l + kQueries * kLanes),
        allowed(reinterpret_cast<std::uint8_t*>(m + kQueries)) {}
};

// Turns a row of scores into weights exp(score - m), and with dropout multiplies them by its
// factors, after updating m, l and o. `allowed` and `bits` may be null.
template <class T>
void softmax_row(T* scores, Index registers, const std::uint8_t* allowed,
                 const WeightDropout& dropout, const std::uint32_t* bits, Index D, T* o, T* l,
                 T* m) {
  constexpr Index kLanes = Vec<T>::lanes;
  constexpr T kInf = std::numeric_limits<T>::infinity();
  Vec<T> largest(-kInf);
  for (Index j = 0; j < registers; ++j) {
    Vec<T> x = Vec<T>::load(scores + j * kLanes);
    if (allowed) {
      x = restricted(x, allowed + j * kLanes);
      x.store(scores + j * kLanes);
    }
    largest = max(largest, x);
  }
  const T before = *m, now = std::max(before, max_lanes(largest));
  *m = now;
  Vec<T> sum = Vec<T>::load(l);
  if (now != before && before != -kInf) {  // from -inf on, l and o are still zero
    const Vec<T> factor(std::exp(before - now));
    sum *= factor;
    for (Index d = 0; d < D; d += kLanes) {
      const Index n = std::min<Index>(kLanes, D - d);
      (Vec<T>::load_first(o + d, n) * factor).store_first(o + d, n);
    }
  }
  // A row that may attend to nothing so far has m = -inf; its weights are exp(-inf - 0) = 0.
  const Vec<T> shift(now == -kInf ? T(0) : now);
  for (Index j = 0; j < registers; ++j) {
    const Vec<T> weight = exp_weight(Vec<T>::load(scores + j * kLanes) - shift);
    sum += weight;
    (bits ? weight * dropout.factor<T>(bits + j * kLanes) : weight).store(scores + j * kLanes);
  }
  sum.store(l);
}

template <class T>
struct Problem {
  Heads<const T> q, k, v;
  Heads<T> out;
  T* lse;
  Index H, Tq, S, D, queries;
  T scale;
  Restrictions restrictions;
  WeightDropout dropout;
};

template <class T>
void attend(const Problem<T>& p, const Scratch<T>& scratch, Index b, Index h, Index t) {
  constexpr Index kLanes = Vec<T>::lanes;
  const Index rows = std::min(p.queries, p.Tq - t);
  std::fill_n(scratch.o, rows * p.D, T(0));
  std::fill_n(scratch.l, rows * kLanes, T(0));
  std::fill_n(scratch.m, rows, -std::numeric_limits<T>::infinity());

  const Index seen = p.restrictions.keys_seen(t + rows, p.S);
  for (Index s = 0; s < seen; s += kKeys) {
    const Tile tile{b, h, t, rows, s, std::min(kKeys, p.S - s)};
    const Allowed allowed = p.restrictions.of(tile, scratch.allowed);
    if (allowed == Allowed::none) continue;
    const Index registers = (tile.columns + kLanes - 1) / kLanes;
    if (tile.columns < kKeys) std::fill_n(scratch.keys, p.D * kKeys, T(0));
    transpose_tile(p.scale, tile.columns, p.D, p.k.row(b, h, s), p.k.t, scratch.keys, kKeys);
    gemm_tile<T>(rows, registers * kLanes, p.D, {p.q.row(b, h, t), p.q.t, 1}, scratch.keys, kKeys,
                 scratch.scores, kKeys, false);
    std::uint32_t bits[kKeys] = {};
    for (Index i = 0; i < rows; ++i) {
      if (p.dropout.on()) p.dropout.draw(tile, i, bits);
      softmax_row(scratch.scores + i * kKeys, registers,
                  allowed == Allowed::all ? nullptr : scratch.allowed + i * kKeys, p.dropout,
                  p.dropout.on() ? bits : nullptr, p.D, scratch.o + i * p.D, scratch.l + i * kLanes,
                  scratch.m + i);
    }
    gemm_tile<T>(rows, p.D, tile.columns, {scratch.scores, kKeys, 1}, p.v.row(b, h, s), p.v.t,
                 scratch.o, p.D, true);
  }

  for (Index i = 0; i < rows; ++i) {
    const T sum = sum_lanes(Vec<T>::load(scratch.l + i * kLanes));
    const bool nothing = sum == T(0);  // 0 times an infinite value may stand in o: not o / sum
    const T factor = nothing ? T(0) : 1 / sum;
    T* out = p.out.row(b, h, t + i);
    for (Index d = 0; d < p.D; ++d) out[d] = nothing ? T(0) : scratch.o[i * p.D + d] * factor;
    p.lse[(b * p.H + h) * p.Tq + t + i] = scratch.m[i] + std::log(sum);
  }
}

}  // namespace
}  // namespace triad::cpu

namespace triad::kernels {

using namespace cpu;

void attention(Cpu, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionArgs& args,
               const Tensor& out, const Tensor& lse) {
  const Index B = q.shape()[0], H = q.shape()[1], Tq = q.shape()[2], D = q.shape()[3];
  const Index S = k.shape()[2];
  const Index queries = args.causal ? kCausalQueries : kQueries;
  visit_float("attention", q.dtype(), [&]<class T>(T) {
    const Problem<T> problem{.q = Heads<const T>(q),
                             .k = Heads<const T>(k),
                             .v = Heads<const T>(v),
                             .out = Heads<T>(out),
                             .lse = lse.data<T>(),
                             .H = H,
                             .Tq = Tq,
                             .S = S,
                             .D = D,
                             .queries = queries,
                             .scale = T(args.scale),
                             .restrictions = Restrictions(args, Tq, S),
                             .dropout = WeightDropout(args, H, Tq, S)};
    const Index tiles = (Tq + queries - 1) / queries, tasks = B * H * tiles;
    const Index threads = std::clamp<Index>(tasks, 1, get_num_threads());
    const Index bytes = (Scratch<T>::bytes(D) + 63) / 64 * 64;
    const auto memory = Storage::allocate(threads * bytes);
#pragma omp parallel num_threads(int(threads))
    {
      const Scratch<T> scratch(memory->data() + omp_get_thread_num() * bytes, D);
      // Head by head, whose keys and values then stay in the cache, the last queries first: under a
      // causal mask they have the most keys.
#pragma omp for schedule(dynamic)
      for (Index task = 0; task < tasks; ++task) {
        const Index tile = tiles - 1 - task % tiles, head = task / tiles;
        attend(problem, scratch, head / H, head % H, tile * queries);
      }
    }
  });
}

}  // namespace triad::kernels
