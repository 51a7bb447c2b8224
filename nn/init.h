// Initial values, by PyTorch's names: each writes into a leaf and returns it.
#pragma once

#include <triad/core/tensor.h>

namespace triad::nn::init {

enum class Mode { fan_in, fan_out };  // of [out,in,...]: in, or out, times the sizes behind
enum class Nonlinearity { linear, sigmoid, tanh, relu, leaky_relu, selu };
double calculate_gain(Nonlinearity nonlinearity, double slope = 0.01);  // slope of leaky_relu

// Of variance 2 gain^2 / (fan_in + fan_out). Glorot & Bengio 2010.
Tensor xavier_uniform_(const Tensor& weight, double gain = 1);
Tensor xavier_normal_(const Tensor& weight, double gain = 1);

struct KaimingOptions {
  double a = 0;  // the slope of leaky_relu
  Mode mode = Mode::fan_in;
  Nonlinearity nonlinearity = Nonlinearity::leaky_relu;
};
// Of variance gain^2 / fan. He et al. 2015, arXiv 1502.01852.
Tensor kaiming_uniform_(const Tensor& weight, const KaimingOptions& options = {});
Tensor kaiming_normal_(const Tensor& weight, const KaimingOptions& options = {});

// N(mean, std^2) given that a <= x <= b.
Tensor trunc_normal_(const Tensor& x, double mean = 0, double std = 1, double a = -2, double b = 2);
// As a matrix of `out` rows: these, or its columns if there are fewer, become orthogonal and of
// length `gain`. Saxe et al. 2013, arXiv 1312.6120.
Tensor orthogonal_(const Tensor& weight, double gain = 1);

}  // namespace triad::nn::init
