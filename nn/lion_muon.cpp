#include <triad/nn/lion_muon.h>

#include <algorithm>
#include <cmath>

#include <triad/core/format.h>

namespace triad::nn {

Lion::Lion(const std::vector<ParameterGroup>& groups, const LionOptions& options)
    : Optimizer("Lion", groups, options.lr, options.weight_decay, {"exp_avg"}), options_(options) {
  check_option("betas", options.betas.first, 0, 1);
  check_option("betas", options.betas.second, 0, 1);
}

void Lion::update(const Parameter& p, const Tensor& gradient, double lr) {
  const Tensor &m = p.state[0], u = sign(lerp(gradient, m, options_.betas.first));
  p.value.copy_(p.value * (1 - lr * p.weight_decay) - u * lr);
  m.copy_(lerp(gradient, m, options_.betas.second));
}

Muon::Muon(const std::vector<ParameterGroup>& groups, const MuonOptions& options)
    : Optimizer("Muon", groups, options.lr, options.weight_decay, {"momentum_buffer"}),
      options_(options) {
  check_option("momentum", options.momentum, 0, 1);
  for (const ParameterGroup& group : groups)
    for (const auto& [name, p] : group.parameters)
      if (p.requires_grad() && p.dim() != 2)
        throw_error<ValueError>("Muon: needs matrices, {} is {}: put it into a group of AdamW",
                                name, p.shape());
}

void Muon::update(const Parameter& p, const Tensor& gradient, double lr) {
  const Tensor& b = p.state[0];
  b.copy_(lerp(gradient, b, options_.momentum));
  Tensor u = options_.nesterov ? lerp(gradient, b, options_.momentum) : b;
  const double ratio = double(u.size(0)) / double(std::max(u.size(1), std::int64_t(1)));
  auto turn = [&] { return ratio > 1 ? u.transpose(0, 1) : u; };  // the smaller u u^T
  u = turn() / clamp(norm(u), 1e-7);
  for (int step = 0; step < 5; ++step) {
    const Tensor a = matmul(u, u.transpose(0, 1));
    u = u * 3.4445 + matmul(a * -4.7750 + matmul(a, a) * 2.0315, u);
  }
  p.value.copy_(p.value * (1 - lr * p.weight_decay) -
                turn() * (lr * std::sqrt(std::max(1.0, ratio))));
}

}  // namespace triad::nn
