// Flash attention, backward: the weights are computed again from q, k and lse, tile by tile.
//
// With a = exp(scale q k^T - lse) the weights before dropout, f the factors of dropout and
// delta_t = sum over d of dout_t out_t (which is sum over s of a_ts da_ts, dropout or not):
//
//   dv = (a f)^T dout      da = f (dout v^T)      ds = scale a (da - delta)
//   dq = ds k              dk = ds^T q
//
// (Dao et al., "FlashAttention", 2022, algorithm 4.) A task is a range of keys of one head. It
// walks along its key tiles, and for each along the queries, and so makes dk and dv alone. To dq
// every task of the head contributes: where a head has more than one, each has a dq of its own, and
// they are added up in order at the end.
#include <triad/backends/cpu/attention_tile.h>
#include <triad/backends/cpu/gemm_tile.h>
#include <triad/backends/cpu/registers.h>
#include <triad/backends/cpu/scratch.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

#include <omp.h>

namespace triad::cpu {
namespace {

constexpr Index kQueries = 64;  // of a tile: two tiles of weights fit the first cache level

// Heads are split into ranges of keys until there are this many tasks, enough to keep many cores
// busy, but none shorter than this many key tiles, so that adding up dq stays cheap.
constexpr Index kTasks = 32, kTilesPerTask = 4;

template <class T>
struct Backward : Attention<T> {
  Heads<const T> dout, out;
  Heads<T> dq, dk, dv;
  const T* lse;  // [B,H,T]
  T* delta;      // [B,H,T]
};

// The working memory of one thread.
template <class T>
struct Workspace {
  T* keys;                // [D, kKeys], transposed and scaled
  T* values;              // [D, kKeys], transposed
  T* weights;             // [kQueries, kKeys]: scores, then a f
  T* ds;                  // [kQueries, kKeys]: da, then ds
  T *dk, *dv;             // [kKeys, D]
  std::uint8_t* allowed;  // [kQueries, kKeys]

  explicit Workspace(Index D)
      : keys(scratch<T>(4 * D * kKeys + 2 * kQueries * kKeys)),
        values(keys + D * kKeys),
        weights(values + D * kKeys),
        ds(weights + kQueries * kKeys),
        dk(ds + kQueries * kKeys),
        dv(dk + kKeys * D),
        allowed(scratch<std::uint8_t>(kQueries * kKeys)) {}
};

// Row i: scores become weights a f, da (before dropout) becomes ds.
template <class T>
void gradient_row(const Backward<T>& p, const Workspace<T>& work, const Tile& tile, Index i,
                  bool restrict) {
  constexpr T kInf = std::numeric_limits<T>::infinity();
  T *weights = work.weights + i * kKeys, *ds = work.ds + i * kKeys;
  const Index row = p.row(tile.b, tile.h, tile.t + i);
  // Where a row may attend to nothing, lse is -inf and every weight is exp(-inf - 0) = 0.
  const Vec<T> lse(p.lse[row] == -kInf ? T(0) : p.lse[row]), delta(p.delta[row]);
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

// One tile of weights: adds to work.dk, work.dv and dq, whose rows lie dq_row apart.
template <class T>
void add_tile(const Backward<T>& p, const Workspace<T>& work, const Tile& tile, T* dq,
              Index dq_row) {
  const Allowed allowed = p.restrictions.of(tile, work.allowed);
  if (allowed == Allowed::none) return;
  const Index rows = tile.rows, columns = tile.columns, padded = Vec<T>::whole(columns);
  const T* q = p.q.row(tile.b, tile.h, tile.t);
  const T* dout = p.dout.row(tile.b, tile.h, tile.t);
  T *weights = work.weights, *ds = work.ds;

  gemm_tile<T>(rows, padded, p.D, {q, p.q.t, 1}, work.keys, kKeys, weights, kKeys, false);
  gemm_tile<T>(rows, padded, p.D, {dout, p.dout.t, 1}, work.values, kKeys, ds, kKeys, false);
  for (Index i = 0; i < rows; ++i) gradient_row(p, work, tile, i, allowed == Allowed::some);
  if (p.dv.data)
    gemm_tile<T>(columns, p.D, rows, {weights, 1, kKeys}, dout, p.dout.t, work.dv, p.D, true);
  if (p.dk.data) gemm_tile<T>(columns, p.D, rows, {ds, 1, kKeys}, q, p.q.t, work.dk, p.D, true);
  if (dq)
    gemm_tile<T>(rows, p.D, columns, {ds, kKeys, 1}, p.k.row(tile.b, tile.h, tile.s), p.k.t, dq,
                 dq_row, true);
}

// dk and dv of one key tile, and what it contributes to dq, whose row t is dq + t dq_row.
template <class T>
void key_tile(const Backward<T>& p, const Workspace<T>& work, Index b, Index h, Index s, T* dq,
              Index dq_row) {
  const Index columns = std::min(kKeys, p.S - s);
  p.transpose_to(p.k, T(p.args.scale), b, h, s, columns, work.keys);
  p.transpose_to(p.v, T(1), b, h, s, columns, work.values);
  std::fill_n(work.dk, 2 * kKeys * p.D, T(0));  // dk and dv
  const Index first = p.restrictions.first_query(s) / kQueries * kQueries;
  for (Index t = first; t < p.Tq; t += kQueries) {
    const Tile tile{b, h, t, std::min(kQueries, p.Tq - t), s, columns};
    add_tile(p, work, tile, dq ? dq + t * dq_row : nullptr, dq_row);
  }
  for (Index j = 0; j < columns; ++j) {
    if (p.dk.data) std::copy_n(work.dk + j * p.D, p.D, p.dk.row(b, h, s + j));
    if (p.dv.data) std::copy_n(work.dv + j * p.D, p.D, p.dv.row(b, h, s + j));
  }
}

template <class T>
void backward(const Backward<T>& p) {
  const Index heads = p.B * p.H, key_tiles = ceil_div(p.S, kKeys);
  const Index wanted = ceil_div(kTasks, std::max<Index>(heads, 1));
  const Index ranges = std::clamp<Index>(key_tiles / kTilesPerTask, 1, std::max<Index>(wanted, 1));
  const Index tasks = heads * ranges, rows = heads * p.Tq;
  const Index threads = std::clamp<Index>(std::max(tasks, rows / 64), 1, get_num_threads());
  const bool in_parts = p.dq.data && ranges > 1;  // parts [ranges][B H T][D] of dq
  const auto memory = Storage::allocate(in_parts ? ranges * rows * p.D * sizeof(T) : 0);
  T* parts = reinterpret_cast<T*>(memory->data());

#pragma omp parallel num_threads(int(threads))
  {
#pragma omp for schedule(static)
    for (Index row = 0; row < rows; ++row) {
      const Index t = row % p.Tq, h = row / p.Tq % p.H, b = row / p.Tq / p.H;
      const T *dout = p.dout.row(b, h, t), *out = p.out.row(b, h, t);
      Vec<T> sum;
      for_each_register<T>(p.D, [&](Index d, auto part) {
        sum = fma(part.load(dout + d), part.load(out + d), sum);
      });
      p.delta[row] = sum_lanes(sum);
      if (p.dq.data) std::fill_n(p.dq.row(b, h, t), p.D, T(0));
    }

    const Workspace<T> work(p.D);
#pragma omp for schedule(dynamic)
    for (Index task = 0; task < tasks; ++task) {
      const Index head = task / ranges, range = task % ranges, b = head / p.H, h = head % p.H;
      T* dq = nullptr;
      Index dq_row = p.D;
      if (in_parts) {
        dq = parts + (range * rows + p.row(b, h, 0)) * p.D;
        std::fill_n(dq, p.Tq * p.D, T(0));
      } else if (p.dq.data) {
        dq = p.dq.row(b, h, 0);
        dq_row = p.dq.t;
      }
      const Index end = (range + 1) * key_tiles / ranges;
      for (Index tile = range * key_tiles / ranges; tile < end; ++tile)
        key_tile(p, work, b, h, tile * kKeys, dq, dq_row);
    }

    if (in_parts) {
#pragma omp for schedule(static)
      for (Index row = 0; row < rows; ++row) {
        T* dq = p.dq.row(row / p.Tq / p.H, row / p.Tq % p.H, row % p.Tq);
        for (Index range = 0; range < ranges; ++range) {
          const T* part = parts + (range * rows + row) * p.D;
          for (Index d = 0; d < p.D; ++d) dq[d] += part[d];
        }
      }
    }
  }
}

}  // namespace
}  // namespace triad::cpu

namespace triad::kernels {

using namespace cpu;

void attention_backward(Cpu, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& out, const Tensor& lse, const AttentionArgs& args,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv) {
  const Tensor delta = empty(lse.shape(), q.dtype());
  visit_float("attention", q.dtype(), [&]<class T>(T) {
    backward(Backward<T>{{q, k, v, args},
                         Heads<const T>(dout),
                         Heads<const T>(out),
                         Heads<T>(dq),
                         Heads<T>(dk),
                         Heads<T>(dv),
                         lse.data<T>(),
                         delta.data<T>()});
  });
}

}  // namespace triad::kernels
