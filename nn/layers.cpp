#include <triad/nn/layers.h>

#include <cmath>

#include <triad/core/format.h>

namespace triad::nn {

Linear::Linear(const Options& options) {
  const auto [in, out, with_bias] = options;
  if (in < 0 || out < 0)
    throw_error<ValueError>("Linear: sizes must not be negative, got {} and {}", in, out);
  const double bound = in > 0 ? 1 / std::sqrt(double(in)) : 0;
  auto uniform = [&](const Shape& shape) { return parameter((rand(shape) * 2.0 - 1.0) * bound); };
  weight = uniform({out, in});
  if (with_bias) bias = uniform({out});
}

Tensor Linear::forward_rows(const Tensor& x, std::int64_t begin, std::int64_t end) {
  if (begin == 0 && end == weight.size(0)) return forward(x);
  return linear(x, weight.slice(0, begin, end), bias.defined() ? bias.slice(0, begin, end) : bias);
}

std::string Linear::options_text() const {
  return fmt::format("{} -> {}{}", weight.size(1), weight.size(0),
                     bias.defined() ? "" : ", no bias");
}
std::string Embedding::options_text() const {
  return fmt::format("{} x {}", weight.size(0), weight.size(1));
}
std::string LayerNorm::options_text() const {
  return fmt::format("{}, eps {}", weight.size(0), eps);
}
std::string RMSNorm::options_text() const { return fmt::format("{}, eps {}", weight.size(0), eps); }
std::string Dropout::options_text() const { return fmt::format("{}", p); }

Dropout::Dropout(double p) : p(p) {
  if (!(p >= 0 && p < 1)) throw_error<ValueError>("Dropout: needs 0 <= p < 1, got {}", p);
}

}  // namespace triad::nn
