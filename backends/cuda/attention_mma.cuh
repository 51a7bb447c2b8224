// Attention on tensor cores, of floats and 16-bit elements: what its kernels share, and the
// forward one.
//
// After FlashAttention-2 (Dao, 2023). A block of 4 warps has a tile of rows of its own, each warp
// some of them to itself, and walks along tiles of the others, which all warps read from shared
// memory: forward, queries along keys. What a warp computes stays in its registers, the [T,S]
// matrix is nowhere, and nothing is added up across warps, so that results do not depend on who is
// first. While one tile is worked on, the next is on its way.
#pragma once

#include <triad/backends/cuda/attention_input.h>
#include <triad/backends/cuda/mma.h>
#include <triad/backends/cuda/reduce.h>

namespace triad::cuda {

// ---------------------------------------------------------------------- tiles in shared memory

constexpr int kMmaWarps = 4, kMmaThreads = 32 * kMmaWarps;
// What a block may have on every GPU with these products; those of compute capability 8.6 and 8.9
// have the least.
constexpr std::size_t kSharedOfAll = 99 << 10;

// Where 16 bytes, a chunk, lie in a tile [rows, D] of shared memory. Rows turn their chunks around,
//
//   row 0   0 1 2 3 4 5 6 7
//   row 1   1 0 3 2 5 4 7 6   and so on: chunk c at c ^ row % 8, in groups of eight
//
// so that eight of one column, or side by side in a row, lie in different banks. (In groups of
// four, where D has no more, at c ^ row / 2 % 4.) Which chunk is said in two parts, chunk + odd: an
// even number that the compiler knows, and 0 or 1 by lane, so that few places need a register.
template <class E, int D> constexpr int kGroup = D / kChunk<E> % 8 == 0 ? 8 : 4;
template <class E, int D> __device__ int place(int row, int chunk, int odd) {
  constexpr int chunks = D / kChunk<E>, group = kGroup<E, D>;
  const int turn = group == 8 ? row & 7 : row >> 1 & 3;
  return (row * chunks + chunk / group * group + (chunk % group ^ odd ^ turn)) * kChunk<E>;
}

// Starts to copy `count` rows; of rows and columns that there are not, zeros. A thread's rows are
// of one residue modulo 8: its places are then a constant distance apart.
template <int count, int D, class E> __device__ void copy_tile(E* tile, const Rows<const E>& from) {
  constexpr int group = kGroup<E, D>, width = group * kChunk<E>, step = kMmaThreads / group;
  static_assert(count % step == 0);
  const int row = int(threadIdx.x) / group, chunk = int(threadIdx.x) % group;
  const E* source = from[row] + chunk * kChunk<E>;
  E* const to = tile + place<E, D>(row, chunk / 2 * 2, chunk % 2);
  repeat<count / step>([&](int i) {
    repeat<D / width>([&](int part) {
      const bool inside = (part + 1) * width <= D - 32;  // a smaller D would do otherwise
      const bool there = row + i * step < from.count &&
                         (inside || chunk * kChunk<E> + part * width < from.columns);
      copy_later(to + i * step * D + part * width, source + part * width, there);
    });
    source += step * from.stride;
  });
}

// Of a warp's rows times columns, accumulators [M][N][4] hold 16 M times 8 N: what a lane has at
// [m][n][e] is this row and this column.
__device__ inline int row_of(int m, int e) { return m * 16 + lane_index() / 4 + e / 2 * 8; }
__device__ inline int column_of(int n, int e) { return n * 8 + lane_index() % 4 * 2 + e % 2; }

// Of the four lanes that have elements of a row.
template <class F> __device__ float reduce_row(float x, const F& f) {
  for (int mask = 1; mask <= 2; mask *= 2) x = f(x, __shfl_xor_sync(kAllLanes, x, mask));
  return x;
}

template <int M, int N, class F> __device__ void for_each_element(const F& f) {
  repeat<M>([&](int m) { repeat<N>([&](int n) { repeat<4>([&](int e) { f(m, n, e); }); }); });
}

// What masks allow and dropout keeps of a tile, a bit for each element: `own` and `other` are where
// the warp's rows and columns begin, `keys` whether the rows are keys; `plain` is without masks and
// dropout. All bits are found at once, where few registers are in use: philox wants many of them.
template <bool keys, bool plain, int M, int N> struct Rules {
  static_assert(M * N * 4 <= 64);
  std::uint64_t allowed = ~std::uint64_t(0), kept = ~std::uint64_t(0);

  template <class E> __device__ Rules(const AttentionInput<E>& p, Head head, int own, int other) {
    if constexpr (plain) return;
    const auto bits = [&](const auto& f) {
      std::uint64_t result = 0;
      for (int i = 0; i < M * N * 4; ++i) {
        const int row = own + row_of(i / 4 / N, i % 4),
                  column = other + column_of(i / 4 % N, i % 4);
        result |= std::uint64_t(keys ? f(column, row) : f(row, column)) << i;
      }
      return result;
    };
    if (p.has_masks()) allowed = bits([&](int t, int s) { return p.masks_allow(head, t, s); });
    if (p.threshold > 0) kept = bits([&](int t, int s) { return p.keeps(head, t, s); });
  }
  __device__ static bool at(std::uint64_t bits, int m, int n, int e) {
    return plain || (bits >> ((m * N + n) * 4 + e) & 1);
  }
  __device__ bool allows(int m, int n, int e) const { return at(allowed, m, n, e); }
  __device__ bool keeps(int m, int n, int e) const { return at(kept, m, n, e); }
};

// The left operand: chunks 2 k and 2 k + 1 of rows 16 m .. of a tile.
template <int D, class E>
__device__ void load_left(unsigned (&to)[4], const E* tile, int m, int k) {
  const int lane = lane_index();
  load_matrices<false>(to, tile + place<E, D>(m * 16 + lane % 16, k * 2, lane / 16));
}

// acc = own [16 M, D] other [8 N, D]^T; own(m, k, to) is load_left of the warp's rows. unroll: of
// the steps of two chunks, so many at once.
template <class E, int D, int unroll, int M, int N, class Own>
__device__ void multiply_rows(float (&acc)[M][N][4], const Own& own, const E* other) {
  constexpr int steps = D / kChunk<E> / 2, steps_of_sum = sizeof(E) == 4 ? 4 : steps;
  const int lane = lane_index();
  repeat<steps / steps_of_sum, 1>([&](int part) {
    float sum[M][N][4] = {};
    repeat<steps_of_sum, unroll>([&](int step) {
      const int k = part * steps_of_sum + step;
      unsigned a[M][4];
      repeat<M>([&](int m) { own(m, k, a[m]); });
      repeat<N / 2>([&](int n) {
        unsigned b[4];
        const int row = n * 16 + lane % 8 + lane / 16 * 8;
        load_matrices<false>(b, other + place<E, D>(row, k * 2, lane / 8 % 2));
        repeat<M>([&](int m) {
          multiply_add<E>(sum[m][2 * n], a[m], b[0], b[1]);
          multiply_add<E>(sum[m][2 * n + 1], a[m], b[2], b[3]);
        });
      });
    });
    for_each_element<M, N>([&](int m, int n, int e) {
      acc[m][n][e] = part == 0 ? sum[m][n][e] : acc[m][n][e] + sum[m][n][e];
    });
  });
}

// acc += weights [16 M, 8 N] other [8 N, D]. Of floats, columns of acc are in another order, that
// of store_tile.
template <class E, int D, int M, int N>
__device__ void add_weighted(float (&acc)[M][D / 8][4], const float (&weights)[M][N][4],
                             const E* other) {
  const int lane = lane_index();
  if constexpr (sizeof(E) == 4) {
    // In which order eight rows are added up is free. A lane has weights of rows 2 (lane % 4) and
    // the next; these become the first and the second half. So is which column a lane gives to
    // which product: four neighbours go to four products.
    repeat<D / 32>([&](int d) {
      float sum[M][4][4] = {};
      repeat<N>([&](int k) {
        Vector<unsigned, 4> b[2];
        repeat<2>([&](int i) {
          const int row = k * 8 + lane % 4 * 2 + i;
          const E* from = other + place<E, D>(row, d * 8, lane / 4);
          b[i] = std::bit_cast<Vector<unsigned, 4>>(load_vector<4>(from));
        });
        repeat<M>([&](int m) {
          unsigned a[4];
          repeat<4>(
              [&](int i) { a[i] = std::bit_cast<unsigned>(weights[m][k][i % 2 * 2 + i / 2]); });
          repeat<4>([&](int j) { multiply_add<E>(sum[m][j], a, b[0].at[j], b[1].at[j]); });
        });
      });
      for_each_element<M, 4>([&](int m, int j, int e) { acc[m][d * 4 + j][e] += sum[m][j][e]; });
    });
  } else {
    repeat<N / 2>([&](int k) {
      unsigned a[M][4];
      repeat<M>([&](int m) {
        repeat<4>([&](int i) {
          const float* pair = weights[m][2 * k + i / 2] + i % 2 * 2;
          a[m][i] = pair_of<E>(pair[0], pair[1]);
        });
      });
      repeat<D / 16>([&](int d) {
        unsigned b[4];
        load_matrices<true>(b, other + place<E, D>(k * 16 + lane % 16, d * 2, lane / 16));
        repeat<M>([&](int m) {
          multiply_add<E>(acc[m][2 * d], a[m], b[0], b[1]);
          multiply_add<E>(acc[m][2 * d + 1], a[m], b[2], b[3]);
        });
      });
    });
  }
}

// Scores become -inf where the query may not attend to the key.
template <bool keys, bool plain, class E, int M, int N>
__device__ void restrict_scores(const AttentionInput<E>& p, int own, int other,
                                const Rules<keys, plain, M, N>& rules, float (&scores)[M][N][4]) {
  const bool all_seen = keys ? other >= p.first_query(own + 16 * M - 1) && other + 8 * N <= p.T
                             : other + 8 * N <= p.keys_seen(own);
  if (plain && all_seen) return;
  // How far the lane's first element is past the others' end, and its key past its query's last.
  const int row = own + row_of(0, 0), column = other + column_of(0, 0);
  const int past = column - (keys ? p.T : p.S);
  const int ahead = p.causal ? (keys ? row - column : column - row) + p.T - p.S : INT_MIN / 2;
  for_each_element<M, N>([&](int m, int n, int e) {
    const int across = n * 8 + e % 2, down = m * 16 + e / 2 * 8;
    if (past + across >= 0 || ahead + (keys ? down - across : across - down) > 0 ||
        !rules.allows(m, n, e))
      scores[m][n][e] = -INFINITY;
  });
}

// to = factor acc, rounded, from row `first` on, as far as there are rows and columns.
template <int M, int D, class E, class F>
__device__ void store_tile(const Rows<E>& to, int first, const float (&acc)[M][D / 8][4],
                           const F& factor) {
  repeat<M * 2>([&](int i) {
    const int m = i / 2, half = i % 2, row = first + row_of(m, 2 * half);
    if (unsigned(row) >= unsigned(to.count)) return;  // rows < 0: in attend_hopper's first tile
    const float by = factor(m, half);
    if constexpr (sizeof(E) == 4)
      repeat<D / 16>([&](int d) {
        const int column = d / 2 * 32 + lane_index() % 4 * 8 + d % 2 * 4;
        Vector<float, 4> x;
        repeat<4>([&](int j) { x.at[j] = acc[m][d / 2 * 4 + j][2 * half + d % 2] * by; });
        if (column < to.columns) store_vector(to[row] + column, x);
      });
    else
      repeat<D / 8>([&](int d) {
        const float* from = acc[m][d] + 2 * half;
        const unsigned pair = pair_of<E>(from[0] * by, from[1] * by);
        if (d * 8 < to.columns)
          store_vector(to[row] + column_of(d, 0), std::bit_cast<Vector<E, 2>>(pair));
      });
  });
}

// ---------------------------------------------------------------------- forward

// As large as registers allow: a warp's rows are 16 M, and `others` go by at a time. Masks and
// dropout need registers of their own. (nvcc 13.0 uses up to 255 of them; which kernels spill a
// few, and how many blocks fit: tests/kernel_resources.txt.)
struct TileSize {
  int M, others;
  constexpr int own() const { return 16 * M * kMmaWarps; }
};
constexpr TileSize forward_tile(int D, bool plain, bool floats) {
  if (floats) return {1, D <= 64 ? 64 : 32};
  return {plain || D < 128 ? 2 : 1, plain || D == 32 ? 64 : 32};
}

template <class E> constexpr std::size_t forward_shared_bytes(int D, bool plain) {
  const TileSize tile = forward_tile(D, plain, sizeof(E) == 4);
  return (tile.own() + 4 * tile.others) * D * sizeof(E);
}

// Per query: the largest score so far, or one that is little smaller, the reference, and the sum of
// exp(scale (score - reference)). Sums are scaled down when a score makes a weight of more than
// 2^kSpare: seldom after the first few tiles, which saves a product for every value at each (as in
// FlashAttention-4). A weight's digits are the same whatever its size.
constexpr float kSpare = 8;

template <int M> struct Softmax {
  float reference[M][2], sum[M][2] = {};

  __device__ Softmax() {
    repeat<M * 2>([&](int i) { reference[i / 2][i % 2] = -INFINITY; });
  }
  // Scores become weights. What was summed up with earlier ones is rescale(m, half, factor)'s.
  template <int N, class F>
  __device__ void weigh(float (&scores)[M][N][4], float scale, const F& rescale) {
    float top[M][2];
    bool much_larger = false;
    repeat<M * 2>([&](int i) {
      float& most = top[i / 2][i % 2] = reference[i / 2][i % 2];
      repeat<N * 2>([&](int j) { most = fmaxf(most, scores[i / 2][j / 2][2 * (i % 2) + j % 2]); });
      most = reduce_row(most, Larger());
      much_larger |= (most - reference[i / 2][i % 2]) * scale > kSpare;  // from -inf, too
    });
    if (__any_sync(kAllLanes, much_larger))
      repeat<M * 2>([&](int i) {
        const float before = std::exchange(reference[i / 2][i % 2], top[i / 2][i % 2]);
        const float by = before == -INFINITY ? 0 : fast_exp2((before - top[i / 2][i % 2]) * scale);
        sum[i / 2][i % 2] *= by;
        rescale(i / 2, i % 2, by);
      });
    repeat<M * 2>([&](int i) {
      const int m = i / 2, half = i % 2;
      // Of a query that has seen no key yet, all weights are exp(-inf - 0) = 0.
      const float shift = reference[m][half] == -INFINITY ? 0 : reference[m][half] * scale;
      repeat<N * 2>([&](int j) {
        float& weight = scores[m][j / 2][2 * half + j % 2];
        weight = fast_exp2(fmaf(weight, scale, -shift));
        sum[m][half] += weight;
      });
    });
  }
  // Stores the warp's values, from row t on, and lse.
  template <int D, class E>
  __device__ void store(const AttentionInput<E>& p, Head head, int t, float (&values)[M][D / 8][4],
                        const Heads<E>& out, float* lse) {
    repeat<M * 2>([&](int i) {
      const int m = i / 2, half = i % 2, row = t + row_of(m, 2 * half);
      const float total = reduce_row(sum[m][half], Plus());
      if (lane_index() % 4 == 0 && unsigned(row) < unsigned(p.T))
        lse[Index(head.index) * p.T + row] = reference[m][half] * p.scale + logf(total);
      sum[m][half] = total == 0 ? 0 : p.kept / total;
    });
    store_tile<M, D>(out.rows(head, 0, p.T), t, values,
                     [&](int m, int half) { return sum[m][half]; });
  }
};

template <class E, int D, bool plain>
__global__ void __launch_bounds__(kMmaThreads, 2)
    attend_mma(AttentionInput<E> p, Heads<E> out, float* lse) {
  constexpr TileSize tile = forward_tile(D, plain, sizeof(E) == 4);
  constexpr int M = tile.M, kQueries = tile.own(), kKeys = tile.others, N = kKeys / 8;
  static_assert(forward_shared_bytes<E>(D, plain) <= kSharedOfAll);
  constexpr bool kKeepsQueries = sizeof(E) == 2 && D <= 64;  // in registers
  E *const queries = dynamic_shared<E>(), *const stages = queries + kQueries * D;

  const int tiles = (p.T + kQueries - 1) / kQueries;
  const Head head = p.head(int(blockIdx.x) / tiles);
  // If causal, the last queries see most: they begin first.
  const int first = (tiles - 1 - int(blockIdx.x) % tiles) * kQueries;
  const int row_in_tile = int(threadIdx.x) / 32 * 16 * M, warp_row = first + row_in_tile;
  const int end = p.keys_seen(std::min(first + kQueries, p.T) - 1);
  const int seen_by_warp = warp_row < p.T ? p.keys_seen(warp_row + 16 * M - 1) : 0;
  const float scale = p.scale * kLog2E;

  const auto fetch = [&](int s) {
    E* stage = stages + s / kKeys % 2 * 2 * kKeys * D;
    copy_tile<kKeys, D>(stage, p.k.rows(head, s, p.S));
    copy_tile<kKeys, D>(stage + kKeys * D, p.v.rows(head, s, p.S));
    commit_copies();
  };
  copy_tile<kQueries, D>(queries, p.q.rows(head, first, p.T));
  commit_copies();
  fetch(0);

  const E* const rows = queries + row_in_tile * D;
  unsigned kept_rows[M][D / 16][4];
  if constexpr (kKeepsQueries) {
    wait_copies<1>();
    __syncthreads();
    repeat<M * D / 16>([&](int i) { load_left<D>(kept_rows[i % M][i / M], rows, i % M, i / M); });
  }
  const auto query = [&](int m, int k, unsigned(&to)[4]) {
    if constexpr (kKeepsQueries) repeat<4>([&](int i) { to[i] = kept_rows[m][k][i]; });
    else load_left<D>(to, rows, m, k);
  };

  float values[M][D / 8][4] = {};
  Softmax<M> softmax;
  for (int s = 0; s < end; s += kKeys) {
    wait_copies<0>();
    __syncthreads();  // the tile is here, and nobody reads the one before
    if (s + kKeys < end) fetch(s + kKeys);
    if (s >= seen_by_warp) continue;
    const E* const stage = stages + s / kKeys % 2 * 2 * kKeys * D;

    const Rules<false, plain, M, N> rules(p, head, warp_row, s);
    float weights[M][N][4] = {};
    multiply_rows<E, D, kKeepsQueries ? D / 16 : 2>(weights, query, stage);
    restrict_scores(p, warp_row, s, rules, weights);

    softmax.weigh(weights, scale, [&](int m, int half, float by) {
      repeat<D / 4>([&](int j) { values[m][j / 2][2 * half + j % 2] *= by; });
    });
    for_each_element<M, N>([&](int m, int n, int e) {
      if (!rules.keeps(m, n, e)) weights[m][n][e] = 0;
    });
    add_weighted<E, D>(values, weights, stage + kKeys * D);
  }

  softmax.template store<D>(p, head, warp_row, values, out, lse);
}

}  // namespace triad::cuda
