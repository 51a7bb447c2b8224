// Attention on a GPU. Tensor cores take what they can (attention_mma.cuh, attention_hopper.cuh);
// the kernels here are for the rest: f64, D > 128, rows that are no whole pieces of 16 bytes.
//
// A warp has one row, of queries or of keys, and of the result 256 columns; it walks along the
// others, 32 at a time. Scores are computed by all lanes together, and then a lane has one of them.
#include <triad/backends/cuda/attention_hopper.h>
#include <triad/backends/cuda/reduce.h>
#include <triad/backends/cuda/attention_mma_backward.cuh>

namespace triad::cuda {
namespace {

constexpr int kRows = 8, kEach = 8, kColumns = 32 * kEach;  // of a block, of a lane, of a warp
template <class Real> using Sums = Real[kEach];             // at `column`, `column` + 32, ..

// What a warp has: a row, and the lane's first column.
struct Place {
  Head head;
  int row, column;
};
// Whether there is one.
template <class E> __device__ bool find_place(const AttentionInput<E>& p, int rows, Place& place) {
  const int parts = std::max(1, (p.D + kColumns - 1) / kColumns);
  const Index index = Index(blockIdx.x) / parts * kRows + threadIdx.x / 32;
  place = {p.head(int(index / rows)), int(index % rows),
           int(blockIdx.x) % parts * kColumns + lane_index()};
  return index < p.heads() * rows;
}

// Lane i gets the product of `own` and the i-th of the others; `at_once`, so that loads overlap.
template <class Real, int at_once = 4, class E>
__device__ Real multiply_rows(const E* own, const Rows<const E>& others) {
  Real result = 0;
  for (int first = 0; first < std::min(32, others.count); first += at_once) {
    Real sums[at_once] = {};
    for (int d = lane_index(); d < others.columns; d += 32) {
      const Real x = Real(own[d]);
      repeat<at_once>(
          [&](int i) { sums[i] += x * Real(others[std::min(first + i, others.count - 1)][d]); });
    }
    repeat<at_once>([&](int i) {
      const Real sum = warp_reduce(sums[i], Plus{});
      if (lane_index() == first + i) result = sum;
    });
  }
  return result;
}

// sums += the others, each times the weight that its lane has.
template <class Real, class E>
__device__ void add_weighted_rows(Sums<Real>& sums, Real weight, const Rows<const E>& others,
                                  int column) {
  for (int i = 0; i < std::min(32, others.count); ++i) {
    const Real by = __shfl_sync(kAllLanes, weight, i);
    const E* row = others[i];
    repeat<kEach>([&](int j) {
      if (column + 32 * j < others.columns) sums[j] += by * Real(row[column + 32 * j]);
    });
  }
}

template <class Real, class E>
__device__ void store_row(const Heads<E>& to, const Place& own, const Sums<Real>& sums,
                          Real factor) {
  if (!to.data) return;
  E* row = to.rows(own.head, own.row, own.row + 1)[0];
  repeat<kEach>([&](int j) {
    if (own.column + 32 * j < to.D) row[own.column + 32 * j] = E(sums[j] * factor);
  });
}

template <class E>
__global__ void __launch_bounds__(32 * kRows)
    attend(AttentionInput<E> p, Heads<E> out, Wide<E>* lse) {
  using Real = Wide<E>;
  Place own;
  if (!find_place(p, p.T, own)) return;
  const auto [head, t, column] = own;
  const int end = p.keys_seen(t);

  Sums<Real> values = {};
  Real largest = -INFINITY, sum = 0;  // as in attention_mma.cuh, of scaled scores
  for (int s = 0; s < end; s += 32) {
    const int key = s + lane_index();
    Real weight = multiply_rows<Real>(p.q.rows(head, t, p.T)[0], p.k.rows(head, s, end)) * p.scale;
    if (key >= end || !p.masks_allow(head, t, key)) weight = -INFINITY;
    const Real top = warp_reduce(Larger{}(largest, weight), Larger{});
    const Real shift = top == Real(-INFINITY) ? 0 : top, factor = math::exp(largest - shift);
    largest = top;
    weight = math::exp(weight - shift);
    sum = sum * factor + weight;
    repeat<kEach>([&](int j) { values[j] *= factor; });
    if (p.threshold > 0 && !p.keeps(head, t, key)) weight = 0;
    add_weighted_rows(values, weight, p.v.rows(head, s, end), column);
  }
  sum = warp_reduce(sum, Plus{});
  if (column == 0) lse[Index(head.index) * p.T + t] = largest + math::log(sum);
  store_row(out, own, values, sum == 0 ? 0 : p.kept / sum);
}

// delta; eight lanes have a row, N columns at a time.
template <class E, int N>
__global__ void __launch_bounds__(kThreads)
    dout_times_out(AttentionInput<E> p, Heads<const E> dout, Heads<const E> out, Wide<E>* delta) {
  const Index row = first_index() / 8;
  const bool there = row < p.heads() * p.T;
  const Head head = p.head(there ? int(row / p.T) : 0);
  const int t = there ? int(row % p.T) : 0;
  const E *const a = dout.rows(head, t, p.T)[0], *const b = out.rows(head, t, p.T)[0];
  Wide<E> sum = 0;
  for (int d = int(threadIdx.x) % 8 * N; there && d < p.D; d += 8 * N) {
    const auto x = load_wide<N>(a + d), y = load_wide<N>(b + d);
    repeat<N>([&](int i) { sum += x.at[i] * y.at[i]; });
  }
  for (int mask = 4; mask > 0; mask /= 2) sum += __shfl_xor_sync(kAllLanes, sum, mask);
  if (there && threadIdx.x % 8 == 0) delta[row] = sum;
}

// The formulas of attention_mma_backward.cuh; own1 and the like as AttentionGradients has them.
template <class E, bool keys>
__global__ void __launch_bounds__(32 * kRows)
    attention_gradients(AttentionInput<E> p, AttentionGradients<E> to) {
  using Real = Wide<E>;
  Place own;
  if (!find_place(p, keys ? p.S : p.T, own)) return;
  const auto [head, row, column] = own;
  const E* const own1 = (keys ? p.k : p.q).rows(head, row, INT_MAX)[0];
  const E* const own2 = (keys ? p.v : to.dout).rows(head, row, INT_MAX)[0];
  const int end = keys ? p.T : p.keys_seen(row);

  Sums<Real> grad1 = {}, grad2 = {};
  for (int at = keys ? p.first_query(row) : 0; at < end; at += 32) {
    const auto others1 = (keys ? p.q : p.k).rows(head, at, end);
    const auto others2 = (keys ? to.dout : p.v).rows(head, at, end);
    const int other = at + lane_index(), t = keys ? other : row, s = keys ? row : other;
    Real weight = multiply_rows<Real>(own1, others1), ds = multiply_rows<Real>(own2, others2);
    // A query that sees nothing, whose lse is -inf, is allowed nothing.
    const bool allowed = other < end && p.masks_allow(head, t, s);
    const bool kept = p.threshold == 0 || p.keeps(head, t, s);
    const Index query = Index(head.index) * p.T + t;
    weight = allowed ? math::exp(weight * p.scale - to.lse[query]) : Real(0);
    ds = allowed ? weight * ((kept ? ds * p.kept : Real(0)) - to.delta[query]) : Real(0);
    if (keys && to.dv.data) add_weighted_rows(grad2, kept ? weight : Real(0), others2, column);
    if ((keys ? to.dk : to.dq).data) add_weighted_rows(grad1, ds, others1, column);
  }
  store_row(keys ? to.dk : to.dq, own, grad1, p.scale);
  if (keys) store_row(to.dv, own, grad2, p.kept);
}

// ---------------------------------------------------------------------- which kernel

template <class E> Grid general_grid(Cuda device, const AttentionInput<E>& p, Index rows) {
  const Index parts = std::max<Index>(1, ceil_div(p.D, kColumns));
  return {device, blocks_of(ceil_div(p.heads() * rows, kRows) * parts), dim3(32 * kRows)};
}

// Whether rows are whole pieces of 16 bytes.
template <class E> bool in_chunks(int D, std::initializer_list<const Tensor*> tensors) {
  if (D % kChunk<E> != 0) return false;
  for (const Tensor* x : tensors) {
    if (!x->defined()) continue;
    if (!is_aligned(x->first_byte())) return false;
    for (int i = 0; i < 3; ++i)
      if (x->shape()[i] > 1 && x->strides()[i] % kChunk<E> != 0) return false;
  }
  return true;
}

// Whether tensor cores can take these, with a scale that leaves the largest score the largest,
// since it comes in after that is found.
template <class E>
bool fits_tensor_cores(const AttentionInput<E>& p, std::initializer_list<const Tensor*> tensors) {
  return p.scale > 0 && p.D > 0 && p.D <= 128 && in_chunks<E>(p.D, tensors);
}

// f<D, plain>() with the head size and whether there are neither masks nor dropout.
template <int D = 32, class E, class F> void visit_tiles(const AttentionInput<E>& p, const F& f) {
  if constexpr (D < 128)
    if (p.D > D) return visit_tiles<D + 32>(p, f);
  if (p.mask || p.token_mask || p.threshold > 0) f.template operator()<D, false>();
  else f.template operator()<D, true>();
}

}  // namespace
}  // namespace triad::cuda

namespace triad::kernels {

using namespace cuda;

void attention(Cuda device, const Tensor& q, const Tensor& k, const Tensor& v,
               const AttentionArgs& args, const Tensor& out, const Tensor& lse) {
  visit_any_float("attention", q.dtype(), [&]<class E>(E) {
    const AttentionInput<E> p(device, q, k, v, args);
    const Heads<E> to(device, out);
    auto* const logs = data_of<Wide<E>>(device, lse);
    if constexpr (sizeof(E) <= 4)
      if (fits_tensor_cores(p, {&q, &k, &v, &out})) {
        if constexpr (sizeof(E) == 2)
          if (attend_on_hopper(device, p, to, logs)) return;
        return visit_tiles(p, [&]<int D, bool plain>() {
          constexpr TileSize tile = forward_tile(D, plain, sizeof(E) == 4);
          launch({device, blocks_of(p.heads() * ceil_div(p.T, tile.own())), dim3(kMmaThreads),
                  forward_shared_bytes<E>(D, plain)},
                 attend_mma<E, D, plain>, p, to, logs);
        });
      }
    launch(general_grid(device, p, p.T), attend<E>, p, to, logs);
  });
}

void attention_backward(Cuda device, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse,
                        const AttentionArgs& args, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv) {
  const Tensor delta = empty(lse.shape(), lse.dtype(), lse.device());
  visit_any_float("attention", q.dtype(), [&]<class E>(E) {
    const AttentionInput<E> p(device, q, k, v, args);
    auto* const sums = data_of<Wide<E>>(device, delta);
    const AttentionGradients<E> to{{device, dout}, data_of<Wide<E>>(device, lse),
                                   sums,           {device, dq},
                                   {device, dk},   {device, dv}};
    const bool vectors = in_chunks<E>(p.D, {&dout, &out});
    launch({device, blocks_of(ceil_div(p.heads() * p.T * 8, kThreads)), dim3(kThreads)},
           vectors ? dout_times_out<E, kChunk<E>> : dout_times_out<E, 1>, p, to.dout,
           Heads<const E>(device, out), sums);
    const auto run = [&]<bool keys>() {
      if constexpr (sizeof(E) <= 4)
        if (fits_tensor_cores(p, {&dout, &q, &k, &v, &dq, &dk, &dv})) {
          if constexpr (sizeof(E) == 2)
            if (gradients_on_hopper<E, keys>(device, p, to)) return;
          return visit_tiles(p, [&]<int D, bool plain>() {
            constexpr TileSize tile = backward_tile(D, keys, plain, sizeof(E) == 4);
            launch({device, blocks_of(p.heads() * ceil_div(keys ? p.S : p.T, tile.own())),
                    dim3(kMmaThreads), backward_shared_bytes<E>(D, keys, plain)},
                   attention_gradients_mma<E, D, keys, plain>, p, to);
          });
        }
      launch(general_grid(device, p, keys ? p.S : p.T), attention_gradients<E, keys>, p, to);
    };
    if (dq.defined()) run.template operator()<false>();
    if (dk.defined() || dv.defined()) run.template operator()<true>();
  });
}

}  // namespace triad::kernels
