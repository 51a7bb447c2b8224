// The gradients of attention, on tensor cores.
//
// With a = exp(scale q k^T - lse) the weights before dropout, f the factors of dropout and delta_t
// = sum over d of dout_t out_t (which is sum over s of a_ts da_ts, dropout or not):
//
//   dv = (a f)^T dout      da = f (dout v^T)      ds = scale a (da - delta)
//   dq = ds k              dk = ds^T q
//
// (The code multiplies dq and dk by scale in the end, not ds.)
//
// (FlashAttention, algorithm 4.) One kernel walks from a tile of queries along keys, to dq, another
// from a tile of keys along queries, to dk and dv. Scores and da are computed by both: nothing is
// added up across blocks, so that no order of blocks can change a bit.
#pragma once

#include <triad/backends/cuda/attention_mma.cuh>

namespace triad::cuda {

// keys: whether the tile of a block's own is one of keys, else of queries (see AttentionGradients).
constexpr TileSize backward_tile(int D, bool keys, bool plain, bool floats) {
  if (floats) return {1, D <= 64 ? 32 : 16};
  if (keys) return {D <= (plain ? 64 : 32) ? 2 : 1, plain && D == 96 ? 64 : 32};
  return {plain || D < 128 ? 2 : 1, D <= (plain ? 64 : 32) ? 64 : 32};
}

template <class E> constexpr std::size_t backward_shared_bytes(int D, bool keys, bool plain) {
  const TileSize tile = backward_tile(D, keys, plain, sizeof(E) == 4);
  return (2 * tile.own() + 4 * tile.others) * D * sizeof(E) +
         2 * (keys ? 2 * tile.others : tile.own()) * sizeof(float);
}

template <class E, int D, bool keys, bool plain>
__global__ void __launch_bounds__(kMmaThreads, 2)
    attention_gradients_mma(AttentionInput<E> p, AttentionGradients<E> to) {
  constexpr TileSize tile = backward_tile(D, keys, plain, sizeof(E) == 4);
  constexpr int M = tile.M, kOwn = tile.own(), kOthers = tile.others, N = kOthers / 8;
  static_assert(backward_shared_bytes<E>(D, keys, plain) <= kSharedOfAll);
  static_assert(!keys || 2 * kOthers <= kMmaThreads);  // a thread fetches one number, or none
  E *const own1 = dynamic_shared<E>(), *const own2 = own1 + kOwn * D;
  E* const stages = own2 + kOwn * D;  // [2][2][kOthers, D]
  // lse and delta of the queries: own ones [2][kOwn], or those that go by [2][2][kOthers].
  constexpr int kQueries = keys ? kOthers : kOwn;
  float* const numbers = reinterpret_cast<float*>(stages + 4 * kOthers * D);

  const int owns = keys ? p.S : p.T, count = keys ? p.T : p.S;
  const int tiles = (owns + kOwn - 1) / kOwn;
  const Head head = p.head(int(blockIdx.x) / tiles);
  const int index = int(blockIdx.x) % tiles;
  // If causal, the first keys and the last queries have most to do: they begin first.
  const int first = (keys ? index : tiles - 1 - index) * kOwn;
  const int warp_row = first + int(threadIdx.x) / 32 * 16 * M;  // the warp's first
  const int begin = keys ? p.first_query(first) / kOthers * kOthers : 0;
  const int end = keys ? p.T : p.keys_seen(std::min(first + kOwn, p.T) - 1);
  // Of the others, the warp's rows have to do with those from here on, or up to there.
  const bool is_empty = warp_row >= owns;
  const int warp_begin = is_empty ? INT_MAX : p.first_query(warp_row);
  const int warp_end = is_empty ? 0 : p.keys_seen(warp_row + 16 * M - 1);
  const float scale = p.scale * kLog2E;

  const auto fetch = [&](int at) {
    E* stage = stages + at / kOthers % 2 * 2 * kOthers * D;
    copy_tile<kOthers, D>(stage, (keys ? p.q : p.k).rows(head, at, count));
    copy_tile<kOthers, D>(stage + kOthers * D, (keys ? to.dout : p.v).rows(head, at, count));
    commit_copies();
  };
  const auto fetch_number = [&](int first, int i) {
    return to.fetch(p, head, first + i % kQueries, i >= kQueries);
  };
  const auto store_number = [&](int at, int i, float x) {
    numbers[at + i] = to.usable(x, i >= kQueries);
  };

  copy_tile<kOwn, D>(own1, (keys ? p.k : p.q).rows(head, first, owns));
  copy_tile<kOwn, D>(own2, (keys ? p.v : to.dout).rows(head, first, owns));
  fetch(begin);
  // Of queries that go by, a thread stores its number when it has arrived.
  const int thread = int(threadIdx.x);
  float next_number = 0;
  if constexpr (keys) next_number = fetch_number(begin, thread);
  else
    for (int i = thread; i < 2 * kQueries; i += kMmaThreads)
      store_number(0, i, fetch_number(first, i));

  const auto rows_of = [&](const E* rows) {
    return [rows = rows + (warp_row - first) * D](int m, int k, unsigned(&operand)[4]) {
      load_left<D>(operand, rows, m, k);
    };
  };

  float grad1[M][D / 8][4] = {}, grad2[keys ? M : 1][D / 8][4] = {};
  for (int at = begin; at < end; at += kOthers) {
    const int parity = at / kOthers % 2, next = at + kOthers;
    const float* const lse = numbers + (keys ? parity * 2 * kQueries : warp_row - first);
    if (keys && thread < 2 * kQueries) store_number(parity * 2 * kQueries, thread, next_number);
    wait_copies<0>();
    __syncthreads();  // the tile is here, and nobody reads the one before
    if (next < end) fetch(next);
    if (keys) next_number = fetch_number(next, thread);
    if (keys ? next <= warp_begin : at >= warp_end) continue;
    const E* const stage = stages + parity * 2 * kOthers * D;

    const Rules<keys, plain, M, N> rules(p, head, warp_row, at);
    float weights[M][N][4] = {}, ds[M][N][4] = {};
    multiply_rows<E, D, 2>(weights, rows_of(own1), stage);
    restrict_scores(p, warp_row, at, rules, weights);
    for_each_element<M, N>([&](int m, int n, int e) {
      const float shift = lse[keys ? column_of(n, e) : row_of(m, e)];
      weights[m][n][e] = fast_exp2(fmaf(weights[m][n][e], scale, -shift));
    });
    if constexpr (keys) {
      float kept[M][N][4];
      for_each_element<M, N>([&](int m, int n, int e) {
        kept[m][n][e] = rules.keeps(m, n, e) ? weights[m][n][e] : 0;
      });
      add_weighted<E, D>(grad2, kept, stage + kOthers * D);
    }
    multiply_rows<E, D, 2>(ds, rows_of(own2), stage + kOthers * D);
    for_each_element<M, N>([&](int m, int n, int e) {
      float& da = ds[m][n][e];
      if (!plain) da = rules.keeps(m, n, e) ? da * p.kept : 0;
      da = weights[m][n][e] * (da - lse[kQueries + (keys ? column_of(n, e) : row_of(m, e))]);
    });
    add_weighted<E, D>(grad1, ds, stage);
  }

  const auto store = [&](const Heads<E>& heads, const auto& grad, float factor) {
    if (heads.data)
      store_tile<M, D>(heads.rows(head, first, owns), warp_row - first, grad,
                       [&](int, int) { return factor; });
  };
  store(keys ? to.dk : to.dq, grad1, p.scale);
  if constexpr (keys) store(to.dv, grad2, p.kept);
}

}  // namespace triad::cuda
