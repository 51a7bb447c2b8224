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

namespace triad::kernels {
namespace {

using namespace cpu;

constexpr Index kQueries = 64;  // of a tile: two tiles of weights fit the first cache level

// Heads are split into ranges of keys until there are this many tasks, enough to keep many cores
// busy, but none shorter than this many key tiles, so that adding up dq stays cheap.
constexpr Index kTasks = 32, kTilesPerTask = 4;

template <class T> struct Backward : Attention<T> {
  Heads<const T> dout, out;
  Heads<T> dq, dk, dv;
  const T* lse;  // [B,H,T]
  T* delta;      // [B,H,T]
};

// The working memory of one thread.
template <class T> struct Workspace {
  T *keys, *values;       // [D, kKeys], transposed, the keys scaled
  T *weights, *ds;        // [kQueries, kKeys]: scores, then a f; da, then ds
  T *dk, *dv;             // [kKeys, D]
  std::uint8_t* allowed;  // [kQueries, kKeys]

  explicit Workspace(Index D)
      : keys(scratch<T>(4 * D * kKeys + 2 * kQueries * kKeys)), values(keys + D * kKeys),
        weights(values + D * kKeys), ds(weights + kQueries * kKeys), dk(ds + kQueries * kKeys),
        dv(dk + kKeys * D), allowed(scratch<std::uint8_t>(kQueries * kKeys)) {}
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
  T *weights = work.weights, *ds = work.ds;
  p.transpose_to(p.k, T(p.args.scale), b, h, s, columns, work.keys);
  p.transpose_to(p.v, T(1), b, h, s, columns, work.values);
  std::fill_n(work.dk, 2 * kKeys * D, T(0));  // dk and dv
  for (Index t = p.first_query(s) / kQueries * kQueries; t < p.Tq; t += kQueries) {
    const Index rows = std::min(kQueries, p.Tq - t);
    const Tile tile{b, h, t, rows, s, columns};
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
      const Index t = row % p.Tq, h = row / p.Tq % p.H, b = row / p.Tq / p.H;
      const T *dout = p.dout.row(b, h, t), *out = p.out.row(b, h, t);
      Vec<T> sum;
      for_each_register<T>(
          D, [&](Index d, auto part) { sum = fma(part.load(dout + d), part.load(out + d), sum); });
      p.delta[row] = sum_lanes(sum);
      if (p.dq.data) std::fill_n(p.dq.row(b, h, t), D, T(0));
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

    if (in_parts) {
#pragma omp for schedule(static)
      for (Index row = 0; row < rows; ++row) {
        T* dq = p.dq.row(row / p.Tq / p.H, row / p.Tq % p.H, row % p.Tq);
        for (Index range = 0; range < ranges; ++range) {
          const T* part = parts + (range * rows + row) * D;
          for (Index d = 0; d < D; ++d) dq[d] += part[d];
        }
      }
    }
  }
}

}  // namespace

void attention_backward(Cpu, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& out, const Tensor& lse, const AttentionArgs& args,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv) {
  const Tensor delta = empty(lse.shape(), q.dtype());
  visit_float("attention", q.dtype(), [&]<class T>(T) {
    backward<T>({{q, k, v, args}, dout, out, dq, dk, dv, lse.data<T>(), delta.data<T>()});
  });
}

}  // namespace triad::kernels
