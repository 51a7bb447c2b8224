// Layers, activations and containers. Names, parameters and initial values are PyTorch's.
#pragma once

#include <triad/nn/module.h>

namespace triad::nn {

// x [...,in] -> x weight^T + bias; weight [out,in] and bias [out] start uniform in +-1/sqrt(in).
struct Linear : Layer {
  struct Options {
    std::int64_t in_features = 0, out_features = 0;
    bool bias = true;
  };
  explicit Linear(const Options& options);
  Linear(std::int64_t in_features, std::int64_t out_features, bool bias = true)
      : Linear(Options{in_features, out_features, bias}) {}

  Tensor forward(const Tensor& x) override { return linear(x, weight, bias); }
  // The same for output features [begin, end) alone: what is not needed is not computed.
  Tensor forward_rows(const Tensor& x, std::int64_t begin, std::int64_t end);
  void visit(Visitor& visitor) override { visitor("weight", weight, "bias", bias); }
  std::string options_text() const override;

  Tensor weight, bias;
};

// ids i64 [...] -> weight[ids] [...,C]; weight [count,C] starts as N(0,1).
struct Embedding : Layer {
  Embedding(std::int64_t num_embeddings, std::int64_t embedding_dim)
      : weight(parameter(randn({num_embeddings, embedding_dim}))) {}

  Tensor forward(const Tensor& ids) override { return embedding(ids, weight); }
  void visit(Visitor& visitor) override { visitor("weight", weight); }
  std::string options_text() const override;

  Tensor weight;
};

// Over the last axis, of size `features`; weight starts at 1, bias at 0. `narrow`: see layer_norm.
struct LayerNorm : Layer {
  explicit LayerNorm(std::int64_t features, double eps = 1e-5)
      : weight(parameter(ones({features}))), bias(parameter(zeros({features}))), eps(eps) {}

  Tensor forward(const Tensor& x) override { return layer_norm(x, weight, bias, eps, narrow); }
  void visit(Visitor& visitor) override { visitor("weight", weight, "bias", bias); }
  std::string options_text() const override;

  Tensor weight, bias;
  double eps;
  bool narrow = false;
};

// Over the last axis, of size `features`; weight starts at 1.
struct RMSNorm : Layer {
  explicit RMSNorm(std::int64_t features, double eps = 1e-6)
      : weight(parameter(ones({features}))), eps(eps) {}
  Tensor forward(const Tensor& x) override { return rms_norm(x, weight, eps); }
  void visit(Visitor& visitor) override { visitor("weight", weight); }
  std::string options_text() const override;

  Tensor weight;
  double eps;
};

struct Dropout : Layer {
  explicit Dropout(double p = 0.5);
  Tensor forward(const Tensor& x) override { return dropout(x, p, training()); }
  void visit(Visitor&) override {}
  std::string options_text() const override;

  double p;
};

// Activations: what Sequential needs between two Linear.
template <Tensor (*function)(const Tensor&)> struct Activation : Layer {
  Tensor forward(const Tensor& x) override { return function(x); }
  void visit(Visitor&) override {}
};

struct ReLU : Activation<relu> {};
struct GELU : Activation<gelu> {};
struct SiLU : Activation<silu> {};
struct Tanh : Activation<tanh> {};
struct Sigmoid : Activation<sigmoid> {};
struct Softplus : Activation<softplus> {};

// The feed-forward part of a transformer: fc1 to 4M, GELU, fc2 back to M, dropout.
struct MLP : Layer {
  explicit MLP(std::int64_t d_model, double dropout = 0)
      : fc1(d_model, 4 * d_model), fc2(4 * d_model, d_model), drop(dropout) {}

  Tensor forward(const Tensor& x) override {
    if (approximate == Gelu::tanh && !fc1.has_forward_hooks() && !fc2.has_forward_hooks())
      return drop(mlp(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias));
    return drop(fc2(gelu(fc1(x), approximate)));
  }
  void visit(Visitor& visitor) override { visitor("fc1", fc1, "fc2", fc2, "drop", drop); }

  Linear fc1, fc2;
  Dropout drop;
  Gelu approximate = Gelu::none;
};

// Modules named 0, 1, ..., to call as one likes: for (auto& layer : layers) x = x + (*layer)(x);
// T is what all of them are: Layer, one type, or Module. The list itself is a Base.
template <class T = Layer, class Base = Module> class ModuleList : public Base {
 public:
  template <class... M> explicit ModuleList(M... modules) { (push_back(std::move(modules)), ...); }
  template <class M> void push_back(M module) {
    modules_.push_back(std::make_unique<M>(std::move(module)));
  }
  std::size_t size() const { return modules_.size(); }
  T& operator[](std::size_t i) { return *modules_.at(i); }
  auto begin() const { return modules_.begin(); }
  auto end() const { return modules_.end(); }
  void visit(Visitor& visitor) override {
    for (std::size_t i = 0; i < size(); ++i) visitor(std::to_string(i), *modules_[i]);
  }

 private:
  std::vector<std::unique_ptr<T>> modules_;
};

// One layer after another, named 0, 1, ...: Sequential net(Linear(8, 32), GELU(), Linear(32, 4)).
struct Sequential : ModuleList<Layer, Layer> {
  using ModuleList::ModuleList;
  Tensor forward(const Tensor& x) override {
    Tensor y = x;
    for (auto& layer : *this) y = (*layer)(y);
    return y;
  }
};

// Like ModuleList, under names, in the order of insertion: for (auto& [name, module] : dict) ...
template <class T = Layer> class ModuleDict : public Module {
 public:
  template <class M> void insert(const std::string& name, M module) {
    if (contains(name) || name.empty() || name.find('.') != name.npos)
      throw ValueError("ModuleDict: needs a new name without dots, got '" + name + "'");
    modules_.emplace_back(name, std::make_unique<M>(std::move(module)));
  }
  bool contains(const std::string& name) const { return find(name) != nullptr; }
  T& operator[](const std::string& name) {
    if (T* module = find(name)) return *module;
    throw ValueError("ModuleDict: needs a name that it has, got '" + name + "'");
  }
  auto begin() const { return modules_.begin(); }
  auto end() const { return modules_.end(); }
  void visit(Visitor& visitor) override {
    for (auto& [name, module] : modules_) visitor(name, *module);
  }

 private:
  T* find(const std::string& name) const {
    for (auto& [key, module] : modules_)
      if (key == name) return module.get();
    return nullptr;
  }
  std::vector<std::pair<std::string, std::unique_ptr<T>>> modules_;
};

}  // namespace triad::nn
