// Attention on a GPU. Elements of 16 bits and the usual head sizes go to tensor cores
// (attention_mma.cuh); the kernels here take everything else: f32 and f64, which those would round,
// any D, any alignment.
//
// A block has a tile of rows of one head, and 64 columns of the result; it walks along tiles of 64
// others. Scores are sums over all of D, brought to shared memory 32 columns at a time, and
// weighted sums take the tile's 64 columns of the others: whatever D is, a thread's registers are
// enough.
#include <triad/backends/cuda/attention_mma_backward.cuh>

namespace triad::cuda {
namespace {

constexpr int kOthers = 64, kColumns = 64, kDepth = 32, kBlock = 128;

// A thread has rows y + 8 i and others x + 16 j of a tile of scores: of its rows, the 16 threads of
// half a warp have all others. Rows in shared memory are a vector longer than they need be, so that
// eight neighbours lie in different banks.
template <class Real> struct Tile {
  static constexpr int vector = 16 / sizeof(Real), rows_each = sizeof(Real) == 8 ? 4 : 8;
  static constexpr int rows = 8 * rows_each;
  static constexpr int depth_stride = kDepth + vector, column_stride = kColumns + vector;
  // The operands of scores or, in the same place, those of a weighted sum; and the weights.
  static constexpr int operands = std::max((rows + kOthers) * depth_stride, kOthers* column_stride);
  static constexpr std::size_t shared_bytes = (operands + rows * (kOthers + vector)) * sizeof(Real);
};
template <class Real> using Scores = Real[Tile<Real>::rows_each][4];

__device__ inline int thread_x() { return int(threadIdx.x) % 16; }
__device__ inline int thread_y() { return int(threadIdx.x) / 16; }
// The place in a tile of a thread's i-th row, and of its j-th other.
__device__ inline int row_at(int i) { return thread_y() + 8 * i; }
__device__ inline int other_at(int j) { return thread_x() + 16 * j; }

// to [count, columns] = the rows' columns from `first` on, and zeros where they have ended.
template <int count, int columns, class Real, class E>
__device__ void load_tile(Real* to, const Rows<const E>& from, int first, int D) {
  for (int row = int(threadIdx.x) / 32; row < count; row += kBlock / 32)
    for (int column = lane_index(); column < columns; column += 32)
      to[row * (columns + Tile<Real>::vector) + column] =
          row < from.count && first + column < D ? Real(from[row][first + column]) : Real(0);
}

// scores = rows others^T
template <class Real, class E>
__device__ void multiply_tiles(Scores<Real>& scores, const Rows<const E>& rows,
                               const Rows<const E>& others, int D) {
  using Tile = cuda::Tile<Real>;
  constexpr int R = Tile::rows_each, V = Tile::vector, stride = Tile::depth_stride;
  Real *const left = dynamic_shared<Real>(), *const right = left + Tile::rows * stride;
  repeat<R * 4>([&](int i) { scores[i / 4][i % 4] = 0; });
  for (int first = 0; first < D; first += kDepth) {
    __syncthreads();  // nobody reads what was here
    load_tile<Tile::rows, kDepth>(left, rows, first, D);
    load_tile<cuda::kOthers, kDepth>(right, others, first, D);
    __syncthreads();
    repeat<kDepth / V, 2>([&](int step) {
      const int k = step * V;
      Vector<Real, V> a[R], b[4];
      repeat<R>([&](int i) { a[i] = load_vector<V>(left + row_at(i) * stride + k); });
      repeat<4>([&](int j) { b[j] = load_vector<V>(right + other_at(j) * stride + k); });
      repeat<R * 4>([&](int i) {
        repeat<V>([&](int v) { scores[i / 4][i % 4] += a[i / 4].at[v] * b[i % 4].at[v]; });
      });
    });
  }
}

// sums += weights others, of the columns `first` + 4 x .. of a thread's rows.
template <class Real, class E>
__device__ void add_weighted(Scores<Real>& sums, const Scores<Real>& weights,
                             const Rows<const E>& others, int first, int D) {
  using Tile = cuda::Tile<Real>;
  constexpr int R = Tile::rows_each, V = Tile::vector, stride = kOthers + V;
  Real *const right = dynamic_shared<Real>(), *const left = right + Tile::operands;
  __syncthreads();  // nobody reads what was here
  repeat<R * 4>(
      [&](int i) { left[row_at(i / 4) * stride + other_at(i % 4)] = weights[i / 4][i % 4]; });
  load_tile<kOthers, kColumns>(right, others, first, D);
  __syncthreads();
  repeat<kOthers / V, 2>([&](int step) {
    const int k = step * V;
    Vector<Real, V> a[R];
    repeat<R>([&](int i) { a[i] = load_vector<V>(left + row_at(i) * stride + k); });
    repeat<V>([&](int v) {
      const Real* b = right + (k + v) * Tile::column_stride + 4 * thread_x();
      repeat<4 / V>([&](int part) {
        const auto values = load_vector<V>(b + part * V);
        repeat<R * V>(
            [&](int i) { sums[i / V][part * V + i % V] += a[i / V].at[v] * values.at[i % V]; });
      });
    });
  });
}

// What add_weighted has summed, to rows that have four columns here or fewer.
template <class Real, class E, class F>
__device__ void store_sums(const Rows<E>& to, const Scores<Real>& sums, int first, int D,
                           const F& factor) {
  repeat<Tile<Real>::rows_each * 4>([&](int i) {
    const int row = row_at(i / 4), column = first + 4 * thread_x() + i % 4;
    if (row < to.count && column < D) to[row][column] = E(sums[i / 4][i % 4] * factor(i / 4));
  });
}

// Which tile of which head a block has, and from which column on.
struct Place {
  Head head;
  int first, column;
};
template <class E>
__device__ Place place_of(const AttentionInput<E>& p, int rows, int tile_rows, bool last_first) {
  const int tiles = (rows + tile_rows - 1) / tile_rows;
  const int parts = std::max(1, (p.D + kColumns - 1) / kColumns);
  const int index = int(blockIdx.x) / parts, tile = index % tiles;
  return {p.head(index / tiles), (last_first ? tiles - 1 - tile : tile) * tile_rows,
          int(blockIdx.x) % parts * kColumns};
}

template <class E> __device__ bool allows(const AttentionInput<E>& p, Head head, int t, int s) {
  return t < p.T && s < p.keys_seen(t) && (!p.has_masks() || p.masks_allow(head, t, s));
}

template <class E>
__global__ void __launch_bounds__(kBlock, 2)
    attend(AttentionInput<E> p, Heads<E> out, Wide<E>* lse) {
  using Real = Wide<E>;
  using Tile = cuda::Tile<Real>;
  constexpr int R = Tile::rows_each;
  const auto [head, first, column] = place_of(p, p.T, Tile::rows, true);
  const int end = p.keys_seen(std::min(first + Tile::rows, p.T) - 1);

  Scores<Real> values = {};
  Real largest[R], sum[R] = {};  // as in attention_mma.cuh, of scaled scores
  repeat<R>([&](int i) { largest[i] = -INFINITY; });
  for (int s = 0; s < end; s += kOthers) {
    Scores<Real> weights;
    multiply_tiles<Real>(weights, p.q.rows(head, first, p.T), p.k.rows(head, s, p.S), p.D);
    repeat<R>([&](int i) {
      const int t = first + row_at(i);
      Real top = largest[i];
      repeat<4>([&](int j) {
        Real& score = weights[i][j];
        score = allows(p, head, t, s + other_at(j)) ? score * p.scale : Real(-INFINITY);
        top = score > top ? score : top;
      });
      for (int by = 1; by < 16; by *= 2) {
        const Real theirs = __shfl_xor_sync(~0u, top, by);
        top = theirs > top ? theirs : top;
      }
      const Real shift = top == Real(-INFINITY) ? 0 : top;
      const Real factor = math::exp(largest[i] - shift);
      largest[i] = top;
      sum[i] *= factor;
      repeat<4>([&](int j) {
        Real& weight = weights[i][j];
        weight = math::exp(weight - shift);
        sum[i] += weight;
        values[i][j] *= factor;
        if (p.threshold > 0 && !p.keeps(head, t, s + other_at(j))) weight = 0;
      });
    });
    add_weighted<Real>(values, weights, p.v.rows(head, s, p.S), column, p.D);
  }

  repeat<R>([&](int i) {
    for (int by = 1; by < 16; by *= 2) sum[i] += __shfl_xor_sync(~0u, sum[i], by);
    const int t = first + row_at(i);
    if (column == 0 && thread_x() == 0 && t < p.T)
      lse[Index(head.index) * p.T + t] = largest[i] + math::log(sum[i]);
    sum[i] = sum[i] == 0 ? 0 : p.kept / sum[i];
  });
  store_sums(out.rows(head, first, p.T), values, column, p.D, [&](int i) { return sum[i]; });
}

// delta, a warp a row.
template <class E>
__global__ void dout_times_out(AttentionInput<E> p, Heads<const E> dout, Heads<const E> out,
                               Wide<E>* delta) {
  const Index row = Index(blockIdx.x) * (kBlock / 32) + threadIdx.x / 32;
  if (row >= Index(p.B) * p.H * p.T) return;
  const Head head = p.head(int(row / p.T));
  const int t = int(row % p.T);
  const E *a = dout.rows(head, t, p.T)[0], *b = out.rows(head, t, p.T)[0];
  Wide<E> sum = 0;
  for (int d = lane_index(); d < p.D; d += 32) sum += Wide<E>(a[d]) * Wide<E>(b[d]);
  for (int by = 1; by < 32; by *= 2) sum += __shfl_xor_sync(~0u, sum, by);
  if (lane_index() == 0) delta[row] = sum;
}

// The two kernels of attention_mma_backward.cuh.
template <class E, bool keys>
__global__ void __launch_bounds__(kBlock, 2)
    attention_gradients(AttentionInput<E> p, AttentionGradients<E> to) {
  using Real = Wide<E>;
  using Tile = cuda::Tile<Real>;
  constexpr int R = Tile::rows_each;
  const int owns = keys ? p.S : p.T, count = keys ? p.T : p.S;
  const auto [head, first, column] = place_of(p, owns, Tile::rows, !keys);
  const int begin = keys ? p.first_query(first) / kOthers * kOthers : 0;
  const int end = keys ? p.T : p.keys_seen(std::min(first + Tile::rows, p.T) - 1);

  Scores<Real> grad1 = {}, grad2 = {};
  for (int at = begin; at < end; at += kOthers) {
    const auto others1 = (keys ? p.q : p.k).rows(head, at, count);
    const auto others2 = (keys ? to.dout : p.v).rows(head, at, count);
    Scores<Real> weights, ds;
    multiply_tiles<Real>(weights, (keys ? p.k : p.q).rows(head, first, owns), others1, p.D);
    multiply_tiles<Real>(ds, (keys ? p.v : to.dout).rows(head, first, owns), others2, p.D);
    repeat<R * 4>([&](int i) {
      const int own = first + row_at(i / 4), other = at + other_at(i % 4);
      const int t = keys ? other : own, s = keys ? own : other;
      Real &weight = weights[i / 4][i % 4], &da = ds[i / 4][i % 4];
      const Index row = Index(head.index) * p.T + t;
      // A query that sees nothing, whose lse is -inf, is allowed nothing.
      const bool allowed = allows(p, head, t, s);
      weight = allowed ? math::exp(weight * p.scale - to.lse[row]) : Real(0);
      const bool kept = p.threshold == 0 || p.keeps(head, t, s);
      da = allowed ? weight * ((kept ? da * p.kept : Real(0)) - to.delta[row]) : Real(0);
      if (!kept) weight = 0;
    });
    if (keys && to.dv.data) add_weighted<Real>(grad2, weights, others2, column, p.D);
    if ((keys ? to.dk : to.dq).data) add_weighted<Real>(grad1, ds, others1, column, p.D);
  }
  const auto store = [&](const Heads<E>& heads, const Scores<Real>& grad, Real factor) {
    if (heads.data)
      store_sums(heads.rows(head, first, owns), grad, column, p.D, [&](int) { return factor; });
  };
  store(keys ? to.dk : to.dq, grad1, p.scale);
  if (keys) store(to.dv, grad2, p.kept);
}

// ---------------------------------------------------------------------- which kernel

Grid blocks_of(Cuda device, Index heads, Index rows, int tile_rows, Index parts, int threads,
               std::size_t shared_bytes) {
  const Index blocks = heads * ceil_div(rows, tile_rows) * parts;
  if (blocks > INT_MAX) throw DeviceError("attention: too many rows for a CUDA device");
  return {device, dim3(unsigned(blocks)), dim3(unsigned(threads)), shared_bytes};
}

template <class E> Grid general_grid(Cuda device, const AttentionInput<E>& p, int rows) {
  using Tile = cuda::Tile<Wide<E>>;
  return blocks_of(device, Index(p.B) * p.H, rows, Tile::rows,
                   std::max<Index>(1, ceil_div(p.D, kColumns)), kBlock, Tile::shared_bytes);
}

// Whether tensor cores can take these: whole rows in pieces of 16 bytes.
template <class E>
bool fits_tensor_cores(const AttentionInput<E>& p, std::initializer_list<const Tensor*> tensors) {
  if (!(p.scale > 0) || p.D == 0 || p.D > 128 || p.D % kChunk<E> != 0) return false;
  for (const Tensor* x : tensors) {
    if (!x->defined()) continue;
    if (!is_aligned(x->first_byte())) return false;
    for (int i = 0; i < 3; ++i)
      if (x->shape()[i] > 1 && x->strides()[i] % kChunk<E> != 0) return false;
  }
  return true;
}

// f<D, plain>() with the head size and whether there are neither masks nor dropout.
template <class E, class F> void visit_tiles(const AttentionInput<E>& p, const F& f) {
  const bool plain = !p.mask && !p.token_mask && p.threshold == 0;
  const auto with = [&]<int D>() {
    if (p.D <= D - 32 || p.D > D) return;
    if (plain) f.template operator()<D, true>();
    else f.template operator()<D, false>();
  };
  with.template operator()<32>();
  with.template operator()<64>();
  with.template operator()<96>();
  with.template operator()<128>();
}

// f<E>() with the element type.
template <class F> void visit_attention(DType dtype, const F& f) {
  if (dtype == bf16) f.template operator()<bfloat16>();
  else visit_float("attention", dtype, [&]<class E>(E) { f.template operator()<E>(); });
}

void check_sizes(const Tensor& q, const Tensor& k) {
  for (const Tensor* x : {&q, &k})
    for (std::int64_t size : x->shape())
      if (size > INT_MAX / 2)
        throw DeviceError("attention: too long for a CUDA device: " + x->shape().str());
}

}  // namespace
}  // namespace triad::cuda

namespace triad::kernels {

using namespace cuda;

void attention(Cuda device, const Tensor& q, const Tensor& k, const Tensor& v,
               const AttentionArgs& args, const Tensor& out, const Tensor& lse) {
  check_sizes(q, k);
  visit_attention(q.dtype(), [&]<class E>() {
    const AttentionInput<E> p(device, q, k, v, args);
    const Heads<E> to(device, out);
    auto* const logs = data_of<Wide<E>>(device, lse);
    if constexpr (sizeof(E) <= 4)
      if (fits_tensor_cores(p, {&q, &k, &v, &out}))
        return visit_tiles(p, [&]<int D, bool plain>() {
          constexpr TileSize tile = forward_tile(D, plain, sizeof(E) == 4);
          launch(blocks_of(device, Index(p.B) * p.H, p.T, tile.own(), 1, kMmaThreads,
                           forward_shared_bytes<E>(D, plain)),
                 attend_mma<E, D, plain>, p, to, logs);
        });
    launch(general_grid(device, p, p.T), attend<E>, p, to, logs);
  });
}

void attention_backward(Cuda device, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse,
                        const AttentionArgs& args, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv) {
  check_sizes(q, k);
  const Tensor delta = empty(lse.shape(), lse.dtype(), lse.device());
  visit_attention(q.dtype(), [&]<class E>() {
    const AttentionInput<E> p(device, q, k, v, args);
    auto* const sums = data_of<Wide<E>>(device, delta);
    const AttentionGradients<E> to{{device, dout}, data_of<Wide<E>>(device, lse),
                                   sums,           {device, dq},
                                   {device, dk},   {device, dv}};
    launch(blocks_of(device, 1, lse.numel(), kBlock / 32, 1, kBlock, 0), dout_times_out<E>, p,
           to.dout, Heads<const E>(device, out), sums);
    const auto run = [&]<bool keys>() {
      if constexpr (sizeof(E) <= 4)
        if (fits_tensor_cores(p, {&dout, &q, &k, &v, &dq, &dk, &dv}))
          return visit_tiles(p, [&]<int D, bool plain>() {
            constexpr TileSize tile = backward_tile(D, keys, plain, sizeof(E) == 4);
            launch(blocks_of(device, Index(p.B) * p.H, keys ? p.S : p.T, tile.own(), 1, kMmaThreads,
                             backward_shared_bytes<E>(D, keys, plain)),
                   attention_gradients_mma<E, D, keys, plain>, p, to);
          });
      launch(general_grid(device, p, keys ? p.S : p.T), attention_gradients<E, keys>, p, to);
    };
    if (dq.defined()) run.template operator()<false>();
    if (dk.defined() || dv.defined()) run.template operator()<true>();
  });
}

}  // namespace triad::kernels
