// Optimizers, and what goes with them: PyTorch's names, defaults, results.
//
//   nn::AdamW optimizer(nn::decay_groups(model, 0.1), {.lr = 3e-4});
//   for (...) {
//     optimizer.zero_grad();
//     loss(model).backward();
//     nn::clip_grad_norm(model.parameters(), 1.0);
//     optimizer.step();
//   }
#pragma once

#include <tuple>

#include <triad/nn/module.h>

namespace triad::nn {

// Parameters that are treated alike.
struct ParameterGroup {
  NamedTensors parameters;
  std::optional<double> weight_decay = {};  // the optimizer's, unless given here
  double lr_factor = 1;                     // times the optimizer's lr
};
struct ParameterGroups : std::vector<ParameterGroup> {
  using vector::vector;
  ParameterGroups(const vector& groups) : vector(groups) {}
  ParameterGroups(const NamedTensors& all) : vector{{all}} {}
  ParameterGroups(std::initializer_list<NamedTensors::value_type> all) : vector{{all}} {}
};

// What decays, and what must not: vectors (biases, weights of norms), position embeddings
// (pos.weight) and spectral filters (log_gain, phase) are in the second group, with weight_decay 0.
ParameterGroups decay_groups(const Module& model, double weight_decay);

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Changes every parameter that has a gradient; one without keeps its value and its state.
  void step();
  void zero_grad();  // forgets every gradient

  double lr() const { return lr_; }
  void set_lr(double lr);  // of every group, each times its lr_factor

  // What step() has learned, by parameter name (for Adam NAME.exp_avg, NAME.exp_avg_sq, NAME.step),
  // sharing its memory. With it, the model's state, the same options and lr, all goes on as before.
  StateDict state_dict() const;
  // Copies the values in. One ValueError lists all that does not match; nothing was changed then.
  void load_state_dict(const StateDict& state);

 protected:
  struct Parameter {
    std::string name;
    Tensor value;  // without history
    Tensor leaf;
    double weight_decay, lr_factor;
    std::int64_t step = 0;      // updates so far
    std::vector<Tensor> state;  // like value, in the order of the names given below
  };

  // Frozen parameters, which require no gradient, are left out. One that is no leaf, not contiguous
  // or there twice is a ValueError, as is a list with nothing left.
  Optimizer(const char* type, const ParameterGroups& groups, double lr, double weight_decay,
            std::vector<const char*> state_names);
  // What a constructor sets: one parameter's step, which p.step counts already, or that of several
  // of one device and type, each with its gradient and lr.
  Function<void(const Parameter& p, const Tensor& gradient, double lr)> update_;
  using Update = std::tuple<Parameter, Tensor, double>;
  Function<void(const std::vector<Update>& updates)> update_all_;
  // Throws a ValueError unless low <= value < high.
  void check_option(const char* option, double value, double low, double high) const;

 private:
  friend class GraphedStep;
  friend class GradScaler;

  const char* type_;
  double lr_;
  std::vector<const char*> state_names_;
  std::vector<Parameter> parameters_;
};

struct SGDOptions {
  double lr = 1e-3, momentum = 0, dampening = 0;
  double weight_decay = 0;  // added to the gradient, times the parameter
  bool nesterov = false;    // needs a momentum, and no dampening
};

// b = momentum b + (1 - dampening) g, at first b = g;  p -= lr b, or with nesterov
// p -= lr (g + momentum b). Sutskever et al. 2013.
struct SGD : Optimizer {
  explicit SGD(const ParameterGroups& groups, const SGDOptions& options = {});
};

struct AdamOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;  // added to the gradient, times the parameter
};

// m and v are running means of the gradient and of its square, corrected for their start at zero:
// p -= lr (m / (1 - beta1^n)) / (sqrt(v / (1 - beta2^n)) + eps) at step n. arXiv 1412.6980.
struct Adam : Optimizer {
  explicit Adam(const ParameterGroups& groups, const AdamOptions& options = {})
      : Adam("Adam", groups, options, false) {}

 protected:
  // Decoupled from the gradient is the weight decay.
  Adam(const char* type, const ParameterGroups& groups, const AdamOptions& options, bool decoupled);
};

struct AdamWOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.01;  // p -= lr weight_decay p, before the step
};

// Adam whose weight decay does not pass through m and v. Loshchilov & Hutter, arXiv 1711.05101.
struct AdamW : Adam {
  explicit AdamW(const ParameterGroups& groups, const AdamWOptions& o = {})
      : Adam("AdamW", groups, {o.lr, o.betas, o.eps, o.weight_decay}, true) {}
};

struct LionOptions {
  double lr = 1e-4;
  std::pair<double, double> betas = {0.9, 0.99};
  double weight_decay = 0;
};
// p -= lr sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g. arXiv 2302.06675.
struct Lion : Optimizer {
  explicit Lion(const ParameterGroups& groups, const LionOptions& options = {});
};

struct MuonOptions {
  double lr = 1e-3, weight_decay = 0.1, momentum = 0.95;
  bool nesterov = true;
};
// For matrices [R,C] alone: b = momentum b + (1 - momentum) g; u is b, or with nesterov
// momentum b + (1 - momentum) g; p -= lr sqrt(max(1, R/C)) u with singular values near 1, most
// from 0.7 to 1.2, by a Newton-Schulz iteration. K. Jordan 2024, kellerjordan.github.io/posts/muon.
struct Muon : Optimizer {
  explicit Muon(const ParameterGroups& groups, const MuonOptions& options = {});
};

// Scales all gradients down where their norm, as of one vector, exceeds max_norm, and returns that
// norm as it was, 0-d, f64, without waiting for it. If it is NaN or infinite they stay: skip the
// step. arXiv 1211.5063.
Tensor clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm);

struct GradScalerOptions {
  double init_scale = 65536, growth_factor = 2, backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;
};

// For training under Autocast(f16): a factor on the loss keeps small gradients above 2^-24. A step
// whose gradients are not finite is skipped and the scale goes down; after growth_interval others
// in a row it goes up. arXiv 1710.03740, section 3.2.
//
//   scaler.scale(loss).backward();
//   scaler.unscale_(optimizer);  // where gradients are clipped or looked at
//   nn::clip_grad_norm(model.parameters(), 1.0);
//   scaler.step(optimizer);
//   scaler.update();
//
// unscale_ twice before update, or update first, is a ValueError; a parameter in f16 a DTypeError.
class GradScaler {
 public:
  explicit GradScaler(const GradScalerOptions& options = {});
  Tensor scale(const Tensor& loss) const;
  void unscale_(Optimizer& optimizer);
  // unscale_, unless done, then optimizer.step(), or false: skipped, no parameter has changed.
  bool step(Optimizer& optimizer);
  void update();  // after the step of every optimizer
  double get_scale() const { return scale_.item<double>(); }
  StateDict state_dict() const { return {{"scale", scale_}, {"_growth_tracker", growth_tracker_}}; }
  void load_state_dict(const StateDict& s) { load_state("GradScaler", state_dict(), s, true); }

 private:
  friend class GraphedStep;

  GradScalerOptions options_;
  Tensor scale_, growth_tracker_;               // how many steps ago it changed
  std::map<const Optimizer*, bool> is_finite_;  // those unscaled since the last update
};

// The learning rate as a function of the step, counted from 0:
//   optimizer.set_lr(nn::cosine_lr(step, {.lr = 3e-4, .steps = 1000, .warmup_steps = 100}));
// A negative step or length, or a warm-up that is not shorter than `steps`, is a ValueError.
struct Schedule {
  double lr = 1e-3;               // the highest
  std::int64_t steps = 1;         // where `final_lr` is reached; it stays there
  std::int64_t warmup_steps = 0;  // rising evenly: step n has lr (n + 1) / (warmup_steps + 1)
  double final_lr = 0;
};
// After the warm-up `lr` for ever; or to `final_lr` in a straight line, or along half a cosine
// (Loshchilov & Hutter 2017, arXiv 1608.03983).
double constant_lr(std::int64_t step, const Schedule& schedule);  // ignores steps and final_lr
double linear_lr(std::int64_t step, const Schedule& schedule);
double cosine_lr(std::int64_t step, const Schedule& schedule);

// The running mean of a module's weights, often better than the last ones: ema.update() after each
// optimizer.step(), and auto averaged = ema.average_parameters() before an evaluation.
//
// Of all that state_dict() names: floating types are averaged (bf16 and f16 in f32), others copied.
// The model must outlive this, not move, and be on its device before.
class EMA {
 public:
  explicit EMA(Module& model, double decay = 0.999);
  void update();          // mean = decay mean + (1 - decay) weight
  void copy_to() const {  // the means into the model
    for (const auto& [name, t] : model_.state_dict()) t.copy_(means_.at(name));
  }
  // copy_to() while what it returns lives; then the model has its own weights again.
  [[nodiscard]] std::shared_ptr<void> average_parameters() const;
  StateDict state_dict() const { return means_; }  // by the model's names, sharing memory
  void load_state_dict(const StateDict& state) { load_state("EMA", means_, state, true); }

 private:
  Module& model_;
  double decay_;
  StateDict means_;
};

}  // namespace triad::nn
