// The layers that transformers are made of. Names, parameters and initial values are PyTorch's.
#pragma once

#include <memory>

#include <triad/nn/activations.h>

namespace triad::nn {

// x [...,in] -> x weight^T + bias; weight [out,in] and bias [out] start uniform in +-1/sqrt(in).
class Linear : public Layer {
 public:
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
  std::string type_name() const override { return "Linear"; }
  std::string options_text() const override;

  Tensor weight, bias;
};

// ids i64 [...] -> weight[ids] [...,C]; weight [count,C] starts as N(0,1).
class Embedding : public Layer {
 public:
  Embedding(std::int64_t num_embeddings, std::int64_t embedding_dim)
      : weight(parameter(randn({num_embeddings, embedding_dim}))) {}

  Tensor forward(const Tensor& ids) override { return embedding(ids, weight); }
  void visit(Visitor& visitor) override { visitor("weight", weight); }
  std::string type_name() const override { return "Embedding"; }
  std::string options_text() const override;

  Tensor weight;
};

// Over the last axis, of size `features`; weight starts at 1, bias at 0.
class LayerNorm : public Layer {
 public:
  explicit LayerNorm(std::int64_t features, double eps = 1e-5)
      : weight(parameter(ones({features}))), bias(parameter(zeros({features}))), eps(eps) {}

  Tensor forward(const Tensor& x) override { return layer_norm(x, weight, bias, eps); }
  void visit(Visitor& visitor) override { visitor("weight", weight, "bias", bias); }
  std::string type_name() const override { return "LayerNorm"; }
  std::string options_text() const override;

  Tensor weight, bias;
  double eps;
};

class Dropout : public Layer {
 public:
  explicit Dropout(double p = 0.5);
  Tensor forward(const Tensor& x) override { return dropout(x, p, training()); }
  void visit(Visitor&) override {}
  std::string type_name() const override { return "Dropout"; }
  std::string options_text() const override;

  double p;
};

// One layer after another, named 0, 1, ...: Sequential net(Linear(8, 32), GELU(), Linear(32, 4)).
class Sequential : public Layer {
 public:
  template <class... L> explicit Sequential(L... layers) { (push_back(std::move(layers)), ...); }
  template <class L> void push_back(L layer) {
    layers_.push_back(std::make_unique<L>(std::move(layer)));
  }
  std::size_t size() const { return layers_.size(); }
  Layer& operator[](std::size_t i) { return *layers_.at(i); }

  Tensor forward(const Tensor& x) override;
  void visit(Visitor& visitor) override;
  std::string type_name() const override { return "Sequential"; }

 private:
  std::vector<std::unique_ptr<Layer>> layers_;
};

// The feed-forward part of a transformer: fc1 to 4M, exact GELU, fc2 back to M, dropout.
class MLP : public Layer {
 public:
  explicit MLP(std::int64_t d_model, double dropout = 0)
      : fc1(d_model, 4 * d_model), fc2(4 * d_model, d_model), drop(dropout) {}

  Tensor forward(const Tensor& x) override { return drop(fc2(gelu(fc1(x)))); }
  void visit(Visitor& visitor) override { visitor("fc1", fc1, "fc2", fc2, "drop", drop); }
  std::string type_name() const override { return "MLP"; }

  Linear fc1, fc2;
  Dropout drop;
};

// Over the last axis, of size `features`; weight starts at 1.
class RMSNorm : public Layer {
 public:
  explicit RMSNorm(std::int64_t features, double eps = 1e-6)
      : weight(parameter(ones({features}))), eps(eps) {}
  Tensor forward(const Tensor& x) override { return rms_norm(x, weight, eps); }
  void visit(Visitor& visitor) override { visitor("weight", weight); }
  std::string type_name() const override { return "RMSNorm"; }
  std::string options_text() const override;

  Tensor weight;
  double eps;
};

}  // namespace triad::nn
