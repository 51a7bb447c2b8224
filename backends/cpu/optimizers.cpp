// One pass over the memory of a parameter and its state per optimizer step: that memory is all that
// a step costs. The arithmetic is that of torch.optim; what depends on the step alone is in double.
#include <triad/backends/cpu/vec.h>

namespace triad::kernels {
// Adam: Kingma and Ba, arXiv 1412.6980; AdamW: Loshchilov and Hutter, arXiv 1711.05101.
void adam_step(Cpu, const std::vector<AdamUpdate>& updates) {
  const auto step = [&]<class T>(T, const AdamUpdate& u) {
    const auto& [args, gradient, p, m, v] = u;
    using X = Vec<T>;
    const double correction1 = 1 - std::pow(args.beta1, double(args.step));
    const double correction2 = 1 - std::pow(args.beta2, double(args.step));
    const X size{T(args.lr / correction1)}, decay(T(1 - args.lr * args.weight_decay));
    const X new1{T(1 - args.beta1)}, keep2{T(args.beta2)}, new2{T(1 - args.beta2)};
    const X l2{T(args.l2)}, eps{T(args.eps)}, root_scale{T(1 / std::sqrt(correction2))};
    const T* g = gradient.first<T>();
    T *parameter = p.first<T>(), *mean = m.first<T>(), *square = v.first<T>();
    const auto update = [=](Index i, auto part) {
      X x = part.load(parameter + i), a = part.load(mean + i), b = part.load(square + i);
      const X d = fma(l2, x, part.load(g + i));
      a = fma(d - a, new1, a);
      b = fma(d * d, new2, b * keep2);
      x = fnma(size, a / fma(sqrt(b), root_scale, eps), x * decay);
      part.store(a, mean + i);
      part.store(b, square + i);
      part.store(x, parameter + i);
    };
    parallel_ranges(p.numel(), kHeavyGrain, [&](Index begin, Index end) {
      for_each_register<T>(end - begin, [&](Index i, auto part) { update(begin + i, part); });
    });
  };
  for (const AdamUpdate& u : updates)
    visit_float("adam_step", u.p.dtype(), [&]<class T>(T type) { step(type, u); });
}

void clip(Cpu, const Tensor& squares, double max_norm, const std::vector<Tensor>& xs) {
  const double factor = max_norm / (std::sqrt(*squares.first<double>()) + 1e-6);
  if (factor > 0 && factor < 1)
    for (const Tensor& x : xs) binary_scalar(Cpu{}, Binary::mul, x, factor, false, x);
}

}  // namespace triad::kernels
