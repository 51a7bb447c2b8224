#include <triad/autograd/gradcheck.h>

#include <cmath>

#include <triad/autograd/ops.h>
#include <triad/core/format.h>

namespace triad {

GradcheckResult gradcheck(const Function<Tensor(const Tensors&)>& f, const Tensors& inputs,
                          GradcheckOptions options) {
  Tensors x;
  for (const Tensor& input : inputs) {
    if (input.dtype() != f64)
      throw_error<DTypeError>("gradcheck: needs f64 inputs, got {}", input.dtype());
    x.push_back(input.detach().clone().requires_grad_());
  }
  Tensor y = f(x);
  if (y.dtype() != f64)
    throw_error<DTypeError>("gradcheck: the function must give f64, not {}", y.dtype());
  const RandomStream before = random_state();
  Tensor c = randn(y.shape(), {.dtype = f64, .device = y.device()});
  set_random_state(before);
  const Tensors analytic = grad({y}, x, {c}, {.allow_unused = options.allow_unused});

  // Gradients stay on: an f that differentiates is how second derivatives are checked.
  auto value = [&] { return sum(f(x).detach() * c).item<double>(); };
  GradcheckResult result;
  if (x.empty()) result.message = "no input was given";
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool used = analytic[i].defined();
    const Tensor ours = (used ? analytic[i] : zeros_like(x[i])).reshape({-1});
    const Tensor inputs = x[i].detach().reshape({-1}), differences = zeros_like(ours);
    for (std::int64_t j = 0; j < ours.numel(); ++j) {
      const Tensor at = inputs.select(0, j);
      const double kept = at.item<double>();
      at.fill_(kept + options.eps);
      const double up = value();
      at.fill_(kept - options.eps);
      differences.select(0, j).fill_((up - value()) / (2 * options.eps));
      at.fill_(kept);
    }
    if (!any(ours).item<bool>() && !any(differences).item<bool>()) {
      if (!used) continue;
      result.message = fmt::format("input {} {}: nothing but zeros was compared", i, x[i].shape());
      return result;
    }
    const auto [error, place] = max(abs(ours - differences), 0);
    const double largest = max(maximum(abs(ours), abs(differences))).item<double>();
    const double relative = error.item<double>() / largest;
    if (!(relative <= result.worst)) {  // NaN too, and then no later input may hide it
      result.worst = relative;
      const std::int64_t j = place.item<std::int64_t>();
      result.message = fmt::format(
          "input {} {}, element {}: gradient {:.12g}, central difference {:.12g}", i, x[i].shape(),
          j, ours.select(0, j).item<double>(), differences.select(0, j).item<double>());
      if (std::isnan(relative)) return result;
    }
  }
  result.passed = !x.empty() && result.worst <= options.tolerance;
  return result;
}

GradcheckResult gradgradcheck(const Function<Tensor(const Tensors&)>& f, const Tensors& inputs,
                              GradcheckOptions options) {
  Tensors all = inputs;
  all.push_back(randn(no_grad([&] { return f(inputs); }).shape(), {.dtype = f64}));
  auto gradients = [&](const Tensors& x) {
    const Tensors own(x.begin(), x.end() - 1);
    Tensors flat;
    for (const Tensor& g : triad::grad({f(own)}, own, {x.back()}, {.create_graph = true}))
      flat.push_back(g.reshape({-1}));
    return cat(flat);
  };
  options.allow_unused = true;  // of a linear f the gradient depends on v alone
  return gradcheck(gradients, all, options);
}

}  // namespace triad
