// Launches the kernels of attention_hopper.cuh. With nvcc this file is for sm_90a, whatever the
// others are for.
#include <triad/backends/cuda/attention_hopper.h>
#include <triad/backends/cuda/attention_hopper.cuh>

namespace triad::cuda {
namespace {

// Boxes of `rows` rows of x [B,H,length,D]; along an axis of size 1 any stride is right.
template <class E>
BoxMap boxes(const AttentionInput<E>& p, const Heads<const E>& x, int length, int rows) {
  const Index size = sizeof(E), b = p.B > 1 ? x.b * size : 16, h = p.H > 1 ? x.h * size : 16;
  return map_boxes(x.data, dtype_of<E>(), {p.B, p.H, length, p.D},
                   {b, h, length > 1 ? x.t * size : 16}, rows);
}

// Whether there is a kernel for this GPU and attention. Boxes are not of repeated rows.
template <class E>
bool is_for_hopper(Cuda device, const AttentionInput<E>& p,
                   std::initializer_list<const Heads<const E>*> tensors) {
  if (capability(device) != 9 || (p.D != 64 && p.D != 128)) return false;
  if (p.heads() == 0 || p.T == 0 || p.S == 0) return false;
  if (p.mask || p.token_mask || p.threshold > 0) return false;
  for (const auto* x : tensors)
    if ((p.B > 1 && x->b == 0) || (p.H > 1 && x->h == 0) || x->t == 0) return false;
  return true;
}

// As many blocks as run at once.
template <class E>
Grid grid_of(Cuda device, const AttentionInput<E>& p, int rows, const HopperSize& size,
             std::size_t shared_bytes) {
  const Index tiles = p.heads() * ceil_div(rows, size.own());
  if (tiles > INT_MAX / 2) throw DeviceError("attention: too many rows for a CUDA device");
  Grid grid = blocks_for(device, tiles, dim3(size.threads()), 1);
  grid.shared_bytes = shared_bytes;
  return grid;
}

template <int D, class E>
void attend_tiles(Cuda device, const AttentionInput<E>& p, const Heads<E>& out, float* lse) {
  using Kernel = ForwardOnHopper<E, D>;
  launch(grid_of(device, p, p.T, Kernel::size, Kernel::shared_bytes), attend_hopper<E, D>, p,
         boxes(p, p.q, p.T, Kernel::size.own()), boxes(p, p.k, p.S, Kernel::size.others),
         boxes(p, p.v, p.S, Kernel::size.others), out, lse);
}

template <int D, bool keys, class E>
void gradients(Cuda device, const AttentionInput<E>& p, const AttentionGradients<E>& to) {
  using Kernel = BackwardOnHopper<E, D, keys>;
  const int own = Kernel::size.own(), others = Kernel::size.others;
  const int of_queries = keys ? others : own, of_keys = keys ? own : others;
  const BoxMap q = boxes(p, p.q, p.T, of_queries), dout = boxes(p, to.dout, p.T, of_queries);
  const BoxMap k = boxes(p, p.k, p.S, of_keys), v = boxes(p, p.v, p.S, of_keys);
  launch(grid_of(device, p, keys ? p.S : p.T, Kernel::size, Kernel::shared_bytes),
         attention_gradients_hopper<E, D, keys>, p, to, keys ? k : q, keys ? v : dout, keys ? q : k,
         keys ? dout : v);
}

}  // namespace

template <class E>
bool attend_on_hopper(Cuda device, const AttentionInput<E>& p, const Heads<E>& out, float* lse) {
  if (!is_for_hopper(device, p, {&p.q, &p.k, &p.v})) return false;
  p.D == 64 ? attend_tiles<64>(device, p, out, lse) : attend_tiles<128>(device, p, out, lse);
  return true;
}
template <class E, bool keys>
bool gradients_on_hopper(Cuda device, const AttentionInput<E>& p, const AttentionGradients<E>& to) {
  if (!is_for_hopper(device, p, {&p.q, &p.k, &p.v, &to.dout})) return false;
  p.D == 64 ? gradients<64, keys>(device, p, to) : gradients<128, keys>(device, p, to);
  return true;
}

#define TRIAD_FOR(E)                                                                       \
  template bool attend_on_hopper(Cuda, const AttentionInput<E>&, const Heads<E>&, float*); \
  template bool gradients_on_hopper<E, false>(Cuda, const AttentionInput<E>&,              \
                                              const AttentionGradients<E>&);               \
  template bool gradients_on_hopper<E, true>(Cuda, const AttentionInput<E>&,               \
                                             const AttentionGradients<E>&);
TRIAD_FOR(bfloat16)
TRIAD_FOR(float16)
#undef TRIAD_FOR

}  // namespace triad::cuda
