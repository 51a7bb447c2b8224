// The running mean of a module's weights, often better than the last ones: ema.update() after each
// optimizer.step(), and auto averaged = ema.average_parameters() before an evaluation.
#pragma once

#include <triad/nn/module.h>

namespace triad::nn {

// Of all that state_dict() names: floating types are averaged (bf16 in f32), others copied. The
// model must outlive this, not move, and be on its device before.
class EMA {
 public:
  explicit EMA(Module& model, double decay = 0.999);
  void update();         // mean = decay mean + (1 - decay) weight
  void copy_to() const;  // the means into the model
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
