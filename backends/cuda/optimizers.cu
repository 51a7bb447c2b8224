// Updates of parameters, in place: one pass over the memory of a parameter and its state. The
// arithmetic is that of torch.optim; what depends on the step alone is in double.
#include <triad/backends/cuda/elements.h>
#include <triad/backends/cuda/replay.h>

namespace triad::kernels {
namespace {

using namespace cuda;

// Adam: Kingma and Ba, arXiv 1412.6980; AdamW: Loshchilov and Hutter, arXiv 1711.05101.
template <class T>
__global__ void adam(AdamArgs args, const ReplayState* replay, Index n, const T* gradient, T* p,
                     T* m, T* v) {
  if (replay) {  // captured with lr = 1 at some step
    args.lr *= replay->lr;
    args.step += replay->steps;
  }
  const double correction1 = 1 - pow(args.beta1, double(args.step));
  const double correction2 = 1 - pow(args.beta2, double(args.step));
  const T step = T(args.lr / correction1), decay = T(1 - args.lr * args.weight_decay);
  const T new1 = T(1 - args.beta1), keep2 = T(args.beta2), new2 = T(1 - args.beta2);
  const T l2 = T(args.l2), eps = T(args.eps), root_scale = T(1 / sqrt(correction2));
  for (Index i = first_index(); i < n; i += stride()) {
    const T d = math::fma(l2, p[i], gradient[i]);
    const T mean = math::fma(d - m[i], new1, m[i]);
    const T square = math::fma(d * d, new2, v[i] * keep2);
    m[i] = mean, v[i] = square;
    p[i] = math::fma(-step, mean / math::fma(math::sqrt(square), root_scale, eps), p[i] * decay);
  }
}

}  // namespace

void adam_step(Cuda device, const AdamArgs& args, const Tensor& gradient, const Tensor& p,
               const Tensor& m, const Tensor& v) {
  visit_float("adam_step", p.dtype(), [&]<class T>(T) {
    launch(grid_for(device, p.numel()), adam<T>, args, replay_state(device), p.numel(),
           data_of<T>(device, gradient), data_of<T>(device, p), data_of<T>(device, m),
           data_of<T>(device, v));
  });
}

}  // namespace triad::kernels
