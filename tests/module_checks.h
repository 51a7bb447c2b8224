// What the tests of modules share: numbers out of tensors, parameters with values that hide
// nothing, and the check of all gradients of a module at once.
#pragma once

#include <doctest/doctest.h>
#include <triad/triad.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

// AddressSanitizer makes everything several times slower: there loops are shorter.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// The elements in row-major order, as double.
inline std::vector<double> values(const triad::Tensor& x) {
  return x.detach().to(triad::f64).to_vector<double>();
}

inline double largest(const triad::Tensor& x) {
  double most = 0;
  for (double v : values(x)) most = std::isnan(v) ? v : std::max(most, std::abs(v));
  return most;
}

// Of two tensors of the same sizes; NaN where either holds one.
inline double largest_difference(const triad::Tensor& a, const triad::Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const std::vector<double> x = values(a), y = values(b);
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double difference = std::abs(x[i] - y[i]);
    if (!(difference <= most)) most = difference;
    if (std::isnan(most)) return most;
  }
  return most;
}

inline double norm_of(const std::vector<double>& x) {
  double squares = 0;
  for (double v : x) squares += v * v;
  return std::sqrt(squares);
}

inline bool same_bits(const triad::Tensor& a, const triad::Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && values(a) == values(b);
}

// The text of the triad::Error that f throws, of type E; "no error" without one.
template <class E, class F> std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::exception& error) {
    return (dynamic_cast<const E*>(&error) ? "" : "another type of error: ") +
           std::string(error.what());
  }
  return "no error";
}

// Gives every parameter random values of a size at which a wrong or a missing one shows: none is
// zero or one, filters are far from flat, curvature as large as a projection.
inline void randomise(triad::nn::Module& module) {
  triad::NoGradGuard guard;
  for (auto& [name, p] : module.named_parameters()) {
    const std::string leaf = name.substr(name.rfind('.') + 1);
    triad::Tensor noise = randn(p.shape(), {.dtype = p.dtype()});
    if (leaf == "log_gain") {
      p.copy_(noise * 0.3);
    } else if (leaf == "phase") {
      p.copy_(noise * 0.5);
    } else if (leaf == "bias") {
      p.copy_(noise * 0.1);
    } else if (p.dim() == 1) {  // the weight of a norm
      p.copy_(noise * 0.2 + 1.0);
    } else {
      p.copy_(noise * (1 / std::sqrt(double(p.size(-1)))));
    }
  }
}

// Puts other tensors in the place of a module's parameters, by name.
class Replace : public triad::nn::Visitor {
 public:
  explicit Replace(const std::map<std::string, triad::Tensor>& by_name) : by_name_(by_name) {}

  void operator()(const std::string& name, triad::Tensor& parameter) override {
    if (auto it = by_name_.find(prefix_ + name); it != by_name_.end()) parameter = it->second;
  }
  void operator()(const std::string& name, triad::nn::Module& module) override {
    const std::string outer = prefix_;
    prefix_ += name + ".";
    module.visit(*this);
    prefix_ = outer;
  }

 private:
  const std::map<std::string, triad::Tensor>& by_name_;
  std::string prefix_;
};

// Gradcheck, in f64, of forward(inputs) with respect to every input and to every parameter of the
// module but those in `unused`, which take no part in it. Tied parameters are one.
inline void check_gradients(triad::nn::Module& module, const triad::Tensors& inputs,
                            const std::function<triad::Tensor(const triad::Tensors&)>& forward,
                            const std::set<std::string>& unused = {}) {
  module.to(triad::f64);
  randomise(module);
  const triad::nn::NamedTensors parameters = module.named_parameters();
  std::map<std::string, std::size_t> place;  // of every name among `checked`
  triad::Tensors checked = inputs;
  std::string order = std::to_string(inputs.size()) + " inputs";
  for (const auto& [name, p] : parameters) {
    if (unused.contains(name)) continue;
    order += ", " + name;
    for (const auto& [other, value] : module.state_dict())
      if (value.storage() == p.storage()) place[other] = checked.size();
    checked.push_back(p.detach());
  }
  // One thread: these are thousands of passes over a few numbers, where waking others costs most.
  const int threads = triad::get_num_threads();
  triad::set_num_threads(1);
  const auto result = gradcheck(
      [&](const triad::Tensors& leaves) {
        std::map<std::string, triad::Tensor> by_name;
        for (const auto& [name, i] : place) by_name[name] = leaves[i];
        Replace replace(by_name);
        module.visit(replace);
        return forward({leaves.begin(), leaves.begin() + std::ptrdiff_t(inputs.size())});
      },
      checked);
  triad::set_num_threads(threads);
  CHECK_MESSAGE(result.passed, module.str(), "checked were ", order, ": ", result.message,
                ", relative error ", result.worst);
}
