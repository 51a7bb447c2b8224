#include <triad/autograd/gradcheck.h>

#include <algorithm>
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
  Tensor c = randn(y.shape(), {.dtype = f64});
  set_random_state(before);
  const Tensors analytic = grad({y}, x, {c}, {.allow_unused = options.allow_unused});

  // Gradients stay on: an f that differentiates is how second derivatives are checked.
  auto value = [&] { return sum(f(x).detach() * c).item<double>(); };
  GradcheckResult result;
  if (x.empty()) result.message = "no input was given";
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool used = analytic[i].defined();
    const std::vector<double> ours =
        (used ? analytic[i] : zeros_like(x[i].detach())).to_vector<double>();
    double largest = 0, worst = -1, worst_difference = 0;
    std::size_t at = 0;
    double* data = x[i].data<double>();
    for (std::size_t j = 0; j < ours.size(); ++j) {
      const double kept = data[j];
      data[j] = kept + options.eps;
      const double up = value();
      data[j] = kept - options.eps;
      const double down = value();
      data[j] = kept;
      const double difference = (up - down) / (2 * options.eps),
                   error = std::abs(ours[j] - difference);
      largest = std::max({largest, std::abs(difference), std::abs(ours[j])});
      if (!(error <= worst)) worst = error, worst_difference = difference, at = j;
      if (std::isnan(error)) break;
    }
    if (!used && largest == 0) continue;
    if (ours.empty() || (largest == 0 && worst == 0)) {
      result.message = fmt::format("input {} {}: nothing but zeros was compared", i, x[i].shape());
      return result;
    }
    const double relative = worst / largest;
    if (!(relative <= result.worst)) {  // NaN too, and then no later input may hide it
      result.worst = relative;
      result.message =
          fmt::format("input {} {}, element {}: gradient {:.12g}, central difference {:.12g}", i,
                      x[i].shape(), at, ours[at], worst_difference);
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
