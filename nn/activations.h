// Activations as layers: what Sequential needs between two Linear.
#pragma once

#include <triad/nn/module.h>

namespace triad::nn {

struct ActivationName {
  char text[10];
};

template <Tensor (*function)(const Tensor&), ActivationName name> struct Activation : Layer {
  Tensor forward(const Tensor& x) override { return function(x); }
  void visit(Visitor&) override {}
  std::string type_name() const override { return name.text; }
};

using ReLU = Activation<relu, ActivationName{"ReLU"}>;
using GELU = Activation<gelu, ActivationName{"GELU"}>;
using SiLU = Activation<silu, ActivationName{"SiLU"}>;
using Tanh = Activation<tanh, ActivationName{"Tanh"}>;
using Sigmoid = Activation<sigmoid, ActivationName{"Sigmoid"}>;
using Softplus = Activation<softplus, ActivationName{"Softplus"}>;

}  // namespace triad::nn
