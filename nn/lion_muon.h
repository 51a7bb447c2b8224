// Optimizers with one running mean for each parameter, and AdamW's weight decay.
#pragma once

#include <triad/nn/optimizer.h>

namespace triad::nn {

struct LionOptions {
  double lr = 1e-4;
  std::pair<double, double> betas = {0.9, 0.99};
  double weight_decay = 0;
};
// p -= lr sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g. Chen et al. 2023, arXiv
// 2302.06675.
class Lion : public Optimizer {
 public:
  explicit Lion(const std::vector<ParameterGroup>& groups, const LionOptions& options = {});
  explicit Lion(const NamedTensors& parameters, const LionOptions& options = {})
      : Lion(std::vector<ParameterGroup>{{parameters}}, options) {}

 private:
  void update(const Parameter& p, const Tensor& gradient, double lr) override;
  const LionOptions options_;
};

struct MuonOptions {
  double lr = 1e-3, weight_decay = 0.1, momentum = 0.95;
  bool nesterov = true;
};
// For matrices [R,C] alone: b = momentum b + (1 - momentum) g; u is b, or with nesterov
// momentum b + (1 - momentum) g; p -= lr sqrt(max(1, R/C)) u with singular values near 1, most
// from 0.7 to 1.2, by a Newton-Schulz iteration. K. Jordan 2024, kellerjordan.github.io/posts/muon.
class Muon : public Optimizer {
 public:
  explicit Muon(const std::vector<ParameterGroup>& groups, const MuonOptions& options = {});
  explicit Muon(const NamedTensors& parameters, const MuonOptions& options = {})
      : Muon(std::vector<ParameterGroup>{{parameters}}, options) {}

 private:
  void update(const Parameter& p, const Tensor& gradient, double lr) override;
  const MuonOptions options_;
};

}  // namespace triad::nn
