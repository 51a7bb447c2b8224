// The steps of training a language model on a text, the same for every program that does so.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <triad/examples/common/failure.h>
#include <triad/examples/common/text_data.h>
#include <triad/nn/optimizer.h>
#include <triad/nn/transformer.h>

namespace triad::examples {

struct Metrics {
  std::int64_t step = 0;  // steps done
  double loss = 0;        // nats per byte, of this step's batch
  std::optional<double> val_loss = {};
  double lr = 0, tokens_per_s = 0, seconds = 0;  // seconds since training began
};

// A loss, or a norm of the gradient, that is NaN or infinite.
struct Diverged : Failure {
  using Failure::Failure;
};

// AdamW with weight decay 0.1, gradients clipped to norm 1, and a learning rate that rises over the
// first tenth of the steps (at most 100) and then falls along a cosine to a tenth. On the model's
// device, which it must be on before.
class Trainer {
 public:
  struct Options {
    std::int64_t steps = 1, batch = 1;
    double lr = 1e-3;
  };
  Trainer(nn::TransformerLM& model, const TextData& text, const Options& options);

  // One step, all of the metrics but val_loss and seconds. One that would make the model NaN is
  // not taken: Diverged is thrown instead.
  Metrics step();
  // The mean over the held-out windows, in nats per byte; nothing after a stop signal.
  std::optional<double> held_out_loss();
  std::int64_t steps_done() const { return done_; }

 private:
  Device device() const { return model_.tok.weight.device(); }

  nn::TransformerLM& model_;
  const TextData& text_;
  const Options options_;
  std::vector<Tensor> parameters_;
  nn::AdamW optimizer_;
  std::int64_t done_ = 0;
};

}  // namespace triad::examples
