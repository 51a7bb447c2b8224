// What the kernels of attention are given: head tensors, masks, dropout and gradients.
#pragma once

#include <triad/backends/cuda/random.h>

namespace triad::cuda {

constexpr float kLog2E = 1.44269504f;

__device__ inline int lane_index() { return int(threadIdx.x % 32); }

template <class E> constexpr int kChunk = 16 / int(sizeof(E));  // elements of 16 bytes

// `count` rows, `columns` of each, `stride` elements apart.
template <class E> struct Rows {
  E* first;
  Index stride;
  int count, columns;
  __device__ E* operator[](int i) const { return first + i * stride; }
};

// The head that a block works on.
struct Head {
  int index, b, h;
};

// A head tensor [B,H,T,D] of any strides but 1 along D; without data for an undefined one.
template <class E> struct Heads {
  E* data;
  Index b = 0, h = 0, t = 0;  // strides
  int D = 0;

  Heads(Cuda device, const Tensor& x) : data(data_of<std::remove_const_t<E>>(device, x)) {
    if (data) b = x.strides()[0], h = x.strides()[1], t = x.strides()[2], D = int(x.shape()[3]);
  }
  // From row `from` up to `end`.
  __device__ Rows<E> rows(Head head, int from, int end) const {
    return {data + head.b * b + head.h * h + from * t, t, end - from, D};
  }
};

template <class E> struct AttentionInput {
  using Real = Wide<E>;
  Heads<const E> q, k, v;
  int B, H, T, S, D;
  Real scale, kept = 1;         // kept: what weights that are not dropped are multiplied by
  std::uint32_t threshold = 0;  // of dropout, 0 without
  bool causal;
  const bool *mask, *token_mask;
  Index mask_strides[4] = {}, token_strides[2] = {};
  DeviceRandom random{};

  AttentionInput(Cuda device, const Tensor& q, const Tensor& k, const Tensor& v,
                 const kernels::AttentionArgs& args)
      : q(device, q), k(device, k), v(device, v), B(int(q.shape()[0])), H(int(q.shape()[1])),
        T(int(q.shape()[2])), S(int(k.shape()[2])), D(int(q.shape()[3])), scale(Real(args.scale)),
        causal(args.causal), mask(data_of<bool>(device, args.mask)),
        token_mask(data_of<bool>(device, args.token_mask)) {
    for (const Tensor* x : {&q, &k})
      for (std::int64_t size : x->shape())
        if (size > INT_MAX / 2)
          throw DeviceError("attention: too long for a CUDA device: " + x->shape().str());
    if (mask) std::copy_n(args.mask.strides().begin(), 4, mask_strides);
    if (token_mask) std::copy_n(args.token_mask.strides().begin(), 2, token_strides);
    if (args.dropout <= 0) return;
    random = on_device(args.random);
    threshold = dropout_threshold(args.dropout);
    kept = Real(1 / (1 - args.dropout));
  }

  TRIAD_HD Index heads() const { return Index(B) * H; }
  __device__ Head head(int index) const { return {index, index / H, index % H}; }
  // Masks aside, query t sees the keys below this, and key s is seen by the queries from that on.
  __device__ int keys_seen(int t) const {
    return causal ? std::max(0, std::min(S, t + S - T + 1)) : S;
  }
  __device__ int first_query(int s) const { return causal ? std::max(0, s - S + T) : 0; }
  __device__ bool has_masks() const { return mask || token_mask; }
  __device__ bool masks_allow(Head head, int t, int s) const {
    if (t >= T || s >= S) return false;
    if (token_mask && !token_mask[head.b * token_strides[0] + s * token_strides[1]]) return false;
    return !mask || mask[head.b * mask_strides[0] + head.h * mask_strides[1] + t * mask_strides[2] +
                         s * mask_strides[3]];
  }
  __device__ bool keeps(Head head, int t, int s) const {
    const auto row = std::uint64_t(head.index) * T + t;
    return random.word(row * S + s) >> 8 >= threshold;
  }
};

// Of two kernels: one walks from its own queries along keys, the other from its own keys along
// queries. What they call so is
//
//   keys    own1  own2  others   grad1  grad2
//   false   q     dout  k, v     dq
//   true    k     v     q, dout  dk     dv
template <class E> struct AttentionGradients {
  Heads<const E> dout;
  const Wide<E>* lse;    // [B,H,T]
  const Wide<E>* delta;  // [B,H,T]
  Heads<E> dq, dk, dv;

  // lse or delta of query t, and what kernels make of it: such that the weights of a query that is
  // not there, or sees nothing, are 0.
  __device__ float fetch(const AttentionInput<E>& p, Head head, int t, bool is_delta) const {
    return t < p.T ? (is_delta ? delta : lse)[Index(head.index) * p.T + t] : -INFINITY;
  }
  __device__ static float usable(float x, bool is_delta) {
    return x == -INFINITY ? (is_delta ? 0 : INFINITY) : is_delta ? x : x * kLog2E;
  }
};

}  // namespace triad::cuda
