// A whole training step as one launch.
#pragma once

#include <triad/nn/optimizer.h>

namespace triad::nn {

// zero_grad, forward, backward, clip_grad_norm where max_norm > 0, step() of Adam or AdamW: the
// same numbers as one by one, without the time that the CPU takes for hundreds of launches.
//
//   nn::AdamW optimizer(nn::decay_groups(model, 0.1), {.lr = 3e-4});
//   nn::GraphedStep step(optimizer, [&](const Tensors& batch) {
//     return cross_entropy(model(batch[0]), batch[1]);
//   }, {.max_norm = 1});
//   for (...) Tensor loss = step({ids, targets});
//
// The first call runs as usual; on a CUDA device the second is captured, and from then on replayed
// in a CUDA graph, where batches must keep their sizes (a ShapeError) and `loss` must not read
// values (an Error, at the second call) nor depend on anything but its batch, the parameters and
// random numbers, which each replay draws anew, as the seed then is. Every leaf that gets a
// gradient is the optimizer's (an Error). The optimizer's lr may change, and so may its state;
// other threads may use the device. Indices that are out of range are a NaN in the loss, as nobody
// can look at them in time. On the CPU every call runs as usual. What is referred to must outlive
// this and not move.
//
// For Autocast(f16) there is the option `scaler`: each call scales the loss, unscales the gradients
// before they are clipped, skips the step if they are not finite, and ends with the scaler's
// update(). It is two launches then, and waits for the device between them, to learn about that.
class GraphedStep {
 public:
  struct Options {
    double max_norm = 0;           // of the gradients; 0: not clipped
    GradScaler* scaler = nullptr;  // for Autocast(f16)
  };
  GraphedStep(Adam& optimizer, Function<Tensor(const Tensors& batch)> loss, const Options& options);
  ~GraphedStep();

  // The loss before the step, without history; its memory belongs to this and changes with the next
  // call.
  Tensor operator()(const Tensors& batch);

 private:
  struct Captured;
  struct Gradients {  // the leaves have them
    Tensor loss, norm;
  };
  Device device() const { return optimizer_.parameters_[0].leaf.device(); }
  Tensors leaves() const;
  // Where there is a scale, the loss is multiplied by it, and the gradients, which have a norm
  // then, are divided by it.
  Gradients gradients(const Tensors& batch, const Tensor& scale);
  void update();  // clips and steps
  void tell_scaler(bool finite);
  Tensor run(const Tensors& batch);
  void capture(const Tensors& batch);
  std::optional<std::int64_t> steps_further() const;
  void replay();

  Adam& optimizer_;
  Function<Tensor(const Tensors&)> loss_;
  Options options_;
  std::unique_ptr<Captured> captured_;
  bool has_run_ = false;
};

}  // namespace triad::nn
