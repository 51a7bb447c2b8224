// Attention on the tensor cores of Hopper GPUs: 16-bit elements, D = 64 or 128, without masks and
// dropout. The formulas are those of attention_mma.cuh; tiles have other sizes, so last bits
// differ.
//
// After FlashAttention-3 (Shah et al., 2024). A block takes a tile of rows whose results it
// computes, its own, walks along tiles of the others, and goes on to its next tile. One warp
// fetches, into queues in shared memory; groups of four warps, each with 64 of the own rows,
// compute:
//
//   fetches   wait until a slot is empty -> copies of boxes, which fill it
//   computes  wait until it is full -> products: scores -> exponentials -> products: sums -> empty
//
// A product runs while its group, or another, is at its exponentials.
#pragma once

#include <triad/backends/cuda/hopper.h>
#include <triad/backends/cuda/attention_mma_backward.cuh>

namespace triad::cuda {

// ---------------------------------------------------------------------- who does what

// Of a kernel's blocks.
struct HopperSize {
  int groups;  // of 128 threads that compute; one more fetches
  int others;  // rows of a tile of the others
  int slots;   // of their queue
  constexpr int own() const { return 64 * groups; }
  constexpr unsigned threads() const { return unsigned(128 * (groups + 1)); }
};
constexpr HopperSize forward_on_hopper(int D) {
  return D == 64 ? HopperSize{3, 128, 6} : HopperSize{2, 128, 4};
}
constexpr HopperSize backward_on_hopper(int D, bool keys) {
  return {2, !keys && D == 64 ? 128 : 64, D == 64 ? 4 : 3};
}

// The group that a thread is in; -1 is the one that fetches. The compiler knows of what a shuffle
// gives that it is the same in all lanes.
__device__ inline int group_index() {
  return __shfl_sync(kAllLanes, int(threadIdx.x) / 128, 0) - 1;
}

// All threads start with as many registers; those that compute take what the others give.
template <int groups, bool fetches> __device__ void share_registers() {
  if constexpr (fetches) give_registers<groups == 2 ? 24 : 32>();
  else take_registers<groups == 2 ? 240 : 160>();
}

// f(head, tile) for the block's share. One round of the grid goes up, the next down: if causal, the
// first tiles, which have most to do, are not always the same block's.
template <class E, class F>
__device__ void for_tiles(const AttentionInput<E>& p, int tiles, const F& f) {
  const int all = int(p.heads()) * tiles, blocks = int(gridDim.x);
  for (int from = 0, up = 1; from < all; from += blocks, up ^= 1) {
    const int i = from + (up ? int(blockIdx.x) : blocks - 1 - int(blockIdx.x));
    if (i < all) f(p.head(i / tiles), i % tiles);
  }
}

// A ring of slots of `each` tiles [rows, D], which lie in boxes [rows, 64] one behind the other:
// put by one warp, taken by all groups, and released by all of their warps in the order in which
// they came. Several may be taken and not released, while products still read them.
template <class E, int D, int rows, int each, int slots> class TileQueue {
 public:
  static constexpr int tile = rows * D, slot = each * tile, elements = slots * slot;
  static constexpr int barriers = 2 * slots;

  __device__ TileQueue(E* tiles, Barrier* barriers, int groups)
      : tiles_(tiles), full_(barriers), empty_(barriers + slots) {
    if (threadIdx.x != 0) return;
    for (int i = 0; i < slots; ++i) full_[i].begin(1), empty_[i].begin(4 * groups);
  }

  // The warp that puts: which slot is next, once it is empty.
  __device__ int wait_for_slot() {
    empty_[in_.slot].wait(in_.parity ^ 1);
    return in_.slot;
  }
  template <class... Map> __device__ void put(Head head, int row, const Map&... maps) {
    static_assert(sizeof...(Map) == each);
    wait_for_slot();
    __syncwarp();  // behind what all lanes have written beside it
    if (lane_index() == 0) {
      Barrier& full = full_[in_.slot];
      full.arrive_and_expect(slot * int(sizeof(E)));
      E* to = tiles_ + in_.slot * slot;
      for (const BoxMap* map : {&maps...})
        for (int d = 0; d < D; d += 64, to += rows * 64)
          copy_box(to, *map, full, d, row, head.h, head.b);
    }
    in_.next();
  }

  __device__ int next_slot() const { return out_.slot; }
  __device__ const E* take() {
    full_[out_.slot].wait(out_.parity);
    const E* first = tiles_ + out_.slot * slot;
    out_.next();
    return first;
  }
  __device__ void release() {
    __syncwarp();
    if (lane_index() == 0) empty_[released_.slot].arrive();
    released_.next();
  }
  __device__ void skip() { take(), release(); }

 private:
  struct Turn {
    int slot = 0, parity = 0;
    __device__ void next() {
      if (++slot == slots) slot = 0, parity ^= 1;
    }
  };
  E* tiles_;
  Barrier *full_, *empty_;
  Turn in_, out_, released_;
};

// Boxes begin at multiples of 1,024 bytes.
template <class E> __device__ E* first_box() {
  const auto address = reinterpret_cast<std::uintptr_t>(dynamic_shared<E>());
  return reinterpret_cast<E*>((address + 1023) & ~std::uintptr_t(1023));
}
template <class Own, class Others> constexpr std::size_t hopper_shared_bytes(int numbers) {
  return 1024 + (Own::elements + Others::elements) * 2 + numbers * sizeof(float) +
         (Own::barriers + Others::barriers) * sizeof(Barrier);
}

// ---------------------------------------------------------------------- products of tiles

// d = own [64, D] other [8 N, D]^T; own is of a tile of so many rows.
template <int D, int own_rows, class E, int N>
__device__ void start_scores(float (&d)[N][4], const E* own, const E* other) {
  const std::uint64_t a = operand(own), b = operand(other);
  begin_products();
  repeat<D / 16>([&](int k) {
    const int box = k / 4 * 64, column = k % 4 * 16;
    multiply_later<E>(d, a + (box * own_rows + column) / kChunk<E>,
                      b + (box * 8 * N + column) / kChunk<E>, k > 0);
  });
  commit_products();
}
// d += weights [64, 8 N] other [8 N, D]; pairs of weights as multiply_later takes them.
template <class E, int N, int D8>
__device__ void start_sums(float (&d)[D8][4], const unsigned (&weights)[N / 2][4], const E* other) {
  const std::uint64_t b = operand(other, 8 * N * 128);
  begin_products();
  repeat<N / 2>([&](int k) { multiply_later<E>(d, weights[k], b + k * 16 * 64 / kChunk<E>); });
  commit_products();
}
template <class E, int N>
__device__ void round_weights(unsigned (&to)[N / 2][4], const float (&weights)[N][4]) {
  repeat<N * 2>([&](int i) {
    const float* pair = weights[i / 2] + i % 2 * 2;
    to[i / 4][i % 4] = pair_of<E>(pair[0], pair[1]);
  });
}

// ---------------------------------------------------------------------- forward

template <class E, int D> struct ForwardOnHopper {
  static constexpr HopperSize size = forward_on_hopper(D);
  using Own = TileQueue<E, D, size.own(), 1, 1>;
  using Others = TileQueue<E, D, size.others, 1, size.slots>;
  static constexpr std::size_t shared_bytes = hopper_shared_bytes<Own, Others>(0);
};

template <class E, int D>
__global__ void __launch_bounds__(forward_on_hopper(D).threads(), 1)
    attend_hopper(AttentionInput<E> p, const __grid_constant__ BoxMap q,
                  const __grid_constant__ BoxMap k, const __grid_constant__ BoxMap v, Heads<E> out,
                  float* lse) {
  using Kernel = ForwardOnHopper<E, D>;
  constexpr HopperSize size = Kernel::size;
  constexpr int kQueries = size.own(), kKeys = size.others, N = kKeys / 8;
  E *const own_tile = first_box<E>(), *const tiles = own_tile + Kernel::Own::elements;
  Barrier* const barriers = reinterpret_cast<Barrier*>(tiles + Kernel::Others::elements);
  typename Kernel::Own own_queue(own_tile, barriers, size.groups);
  typename Kernel::Others others(tiles, barriers + Kernel::Own::barriers, size.groups);
  publish_barriers();

  // f(head, first, end) for tiles of queries and the keys that they see, the last queries first:
  // these see most. The tile of the first queries may begin before them.
  const auto for_all = [&](const auto& f) {
    for_tiles(p, (p.T + kQueries - 1) / kQueries, [&](Head head, int tile) {
      const int first = p.T - (tile + 1) * kQueries;
      f(head, first, p.keys_seen(first + kQueries - 1));
    });
  };
  const int group = group_index();
  if (group < 0) {
    share_registers<size.groups, true>();
    if (threadIdx.x >= 32) return;
    for_all([&](Head head, int first, int end) {
      if (end > 0) own_queue.put(head, first, q);
      for (int s = 0; s < end + kKeys; s += kKeys) {  // k0, k1, v0, k2, v1, ... the last v
        if (s < end) others.put(head, s, k);
        if (s > 0) others.put(head, s - kKeys, v);
      }
    });
    return;
  }

  share_registers<size.groups, false>();
  const float scale = p.scale * kLog2E;
  for_all([&](Head head, int first, int end) {
    const int group_row = first + group * 64, row = group_row + int(threadIdx.x) % 128 / 32 * 16;
    const int seen = group_row + 64 > 0 ? p.keys_seen(group_row + 63) : 0;  // by the group
    float values[1][D / 8][4] = {};
    Softmax<1> softmax;
    const E* const queries = end > 0 ? own_queue.take() + group * 64 * 64 : nullptr;
    // A group may see fewer keys than the block: it takes and releases what it does not use, or the
    // fetching warp would wait for ever. Tiles of keys and values that are left:
    int skips = (end + kKeys - 1) / kKeys * 2;
    if (seen > 0) {
      const Rules<false, true, 1, N> rules(p, head, row, 0);
      float scores[1][N][4];
      unsigned weights[N / 2][4];
      start_scores<D, kQueries>(scores[0], queries, others.take());
      wait_products<0>(scores[0]);
      others.release();
      restrict_scores(p, row, 0, rules, scores);
      softmax.weigh(scores, scale, [](int, int, float) {});
      round_weights<E>(weights, scores[0]);
      for (int s = kKeys; s < seen; s += kKeys, skips -= 2) {
        start_scores<D, kQueries>(scores[0], queries, others.take());
        start_sums<E, N>(values[0], weights, others.take());
        wait_products<1>(scores[0]);
        others.release();
        restrict_scores(p, row, s, rules, scores);
        float factor[2];
        bool rescale = false;
        softmax.weigh(scores, scale,
                      [&](int, int half, float by) { factor[half] = by, rescale = true; });
        wait_products<0>(values[0]);
        others.release();
        if (rescale) repeat<D / 2>([&](int i) { values[0][i / 4][i % 4] *= factor[i % 4 / 2]; });
        round_weights<E>(weights, scores[0]);
      }
      skips -= 2;
      if (skips > 0) others.skip(), --skips;  // the keys that lie before the last values
      start_sums<E, N>(values[0], weights, others.take());
      wait_products<0>(values[0]);
      others.release();
    }
    for (; skips > 0; --skips) others.skip();
    if (end > 0) own_queue.release();
    softmax.template store<D>(p, head, row, values, out, lse);
  });
}

// ---------------------------------------------------------------------- backward

template <class E, int D, bool keys> struct BackwardOnHopper {
  static constexpr HopperSize size = backward_on_hopper(D, keys);
  using Own = TileQueue<E, D, size.own(), 2, 1>;
  using Others = TileQueue<E, D, size.others, 2, size.slots>;
  static constexpr int numbers = keys ? size.slots * 2 * size.others : 0;
  static constexpr std::size_t shared_bytes = hopper_shared_bytes<Own, Others>(numbers);
};

// own1 and the like are those of AttentionGradients.
template <class E, int D, bool keys>
__global__ void __launch_bounds__(backward_on_hopper(D, keys).threads(), 1)
    attention_gradients_hopper(AttentionInput<E> p, AttentionGradients<E> to,
                               const __grid_constant__ BoxMap own1,
                               const __grid_constant__ BoxMap own2,
                               const __grid_constant__ BoxMap other1,
                               const __grid_constant__ BoxMap other2) {
  using Kernel = BackwardOnHopper<E, D, keys>;
  constexpr HopperSize size = Kernel::size;
  constexpr int kOwn = size.own(), kOthers = size.others, N = kOthers / 8;
  E *const own_tiles = first_box<E>(), *const tiles = own_tiles + Kernel::Own::elements;
  // lse and delta of queries that go by, [slots][2][kOthers].
  float* const numbers = reinterpret_cast<float*>(tiles + Kernel::Others::elements);
  Barrier* const barriers = reinterpret_cast<Barrier*>(numbers + Kernel::numbers);
  typename Kernel::Own own_queue(own_tiles, barriers, size.groups);
  typename Kernel::Others others(tiles, barriers + Kernel::Own::barriers, size.groups);
  publish_barriers();

  // Where there are registers enough, the last sums of a tile run beside the next one's scores.
  constexpr bool overlaps = !keys || D == 64;
  const int count = keys ? p.S : p.T, owned = (count + kOwn - 1) / kOwn;
  const auto for_all = [&](const auto& f) {  // what has most to do begins
    for_tiles(p, owned, [&](Head head, int tile) {
      const int first = (keys ? tile : owned - 1 - tile) * kOwn;
      f(head, first, keys ? p.first_query(first) / kOthers * kOthers : 0,
        keys ? p.T : p.keys_seen(std::min(first + kOwn, p.T) - 1));
    });
  };
  const int group = group_index();
  if (group < 0) {
    share_registers<size.groups, true>();
    if (threadIdx.x >= 32) return;
    for_all([&](Head head, int first, int begin, int end) {
      if (begin < end) own_queue.put(head, first, own1, own2);
      for (int at = begin; at < end; at += kOthers) {
        if constexpr (keys) {
          constexpr int each = 2 * kOthers / 32;  // of a lane
          float next[each];
          repeat<each>([&](int i) {
            next[i] = to.fetch(p, head, at + (i * 32 + lane_index()) % kOthers, i >= each / 2);
          });
          float* const slot = numbers + others.wait_for_slot() * 2 * kOthers;
          repeat<each>(
              [&](int i) { slot[i * 32 + lane_index()] = to.usable(next[i], i >= each / 2); });
        }
        others.put(head, at, other1, other2);
      }
    });
    return;
  }

  share_registers<size.groups, false>();
  const float scale = p.scale * kLog2E;
  for_all([&](Head head, int first, int begin, int end) {
    const int row = first + group * 64 + int(threadIdx.x) % 128 / 32 * 16;
    const Rules<keys, true, 1, N> rules(p, head, row, 0);
    float grad1[1][D / 8][4] = {}, grad2[1][D / 8][4] = {}, own_numbers[2][2];
    if constexpr (!keys)
      repeat<4>([&](int i) {
        own_numbers[i / 2][i % 2] =
            to.usable(to.fetch(p, head, row + row_of(0, i % 2 * 2), i / 2), i / 2);
      });
    const E* const own = begin < end ? own_queue.take() + group * 64 * 64 : nullptr;
    for (int at = begin; at < end; at += kOthers) {
      const float* const lse = numbers + others.next_slot() * 2 * kOthers;
      const auto number = [&](int n, int e, bool is_delta) {
        if constexpr (keys) return lse[is_delta * kOthers + column_of(n, e)];
        else return own_numbers[is_delta][e / 2];
      };
      const E* const other = others.take();
      float weights[1][N][4], ds[1][N][4];
      unsigned rounded[N / 2][4], rounded_ds[N / 2][4];
      start_scores<D, kOwn>(weights[0], own, other);
      start_scores<D, kOwn>(ds[0], own + Kernel::Own::tile, other + Kernel::Others::tile);
      wait_products<1>(weights[0]);
      // That the last sums of the tile before are done, and its slot is free, is known here.
      if (overlaps && at > begin) others.release();
      restrict_scores(p, row, at, rules, weights);
      for_each_element<1, N>([&](int, int n, int e) {
        weights[0][n][e] = fast_exp2(fmaf(weights[0][n][e], scale, -number(n, e, false)));
      });
      if constexpr (keys) {
        round_weights<E>(rounded, weights[0]);
        start_sums<E, N>(grad2[0], rounded, other + Kernel::Others::tile);
      }
      wait_products<keys ? 1 : 0>(ds[0]);
      for_each_element<1, N>([&](int, int n, int e) {
        ds[0][n][e] = weights[0][n][e] * (ds[0][n][e] - number(n, e, true));
      });
      round_weights<E>(rounded_ds, ds[0]);
      start_sums<E, N>(grad1[0], rounded_ds, other);
      if constexpr (!overlaps) {
        wait_products<0>(grad1[0]);
        others.release();
      }
    }
    wait_products<0>(grad1[0]);
    if constexpr (keys) wait_products<0>(grad2[0]);
    if (overlaps && begin < end) others.release();
    if (begin < end) own_queue.release();
    const auto store = [&](const Heads<E>& heads, const auto& grad, float factor) {
      if (heads.data)
        store_tile<1, D>(heads.rows(head, 0, count), row, grad, [&](int, int) { return factor; });
    };
    store(keys ? to.dk : to.dq, grad1, p.scale);
    if constexpr (keys) store(to.dv, grad2, p.kept);
  });
}

}  // namespace triad::cuda
