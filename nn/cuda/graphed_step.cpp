#include <triad/nn/cuda/graphed_step.h>

#include <triad/autograd/ops.h>
#include <triad/core/format.h>

#ifdef TRIAD_CUDA
#include <triad/backends/cuda/replay.h>
#endif

namespace triad::nn {

struct GraphedStep::Captured {
  Tensors batch;  // where every replay reads it
  Tensor loss;
  std::vector<std::int64_t> steps;  // of each parameter then; 0: it is not updated
#ifdef TRIAD_CUDA
  cuda::CapturedStep step;
#endif
};

GraphedStep::GraphedStep(Adam& optimizer, Function<Tensor(const Tensors&)> loss,
                         const Options& options)
    : optimizer_(optimizer), loss_(std::move(loss)), options_(options) {
  if (!(options.max_norm >= 0))
    throw_error<ValueError>("GraphedStep: needs max_norm >= 0, got {}", options.max_norm);
}
GraphedStep::~GraphedStep() = default;

Tensor GraphedStep::run(const Tensors& batch) {
  optimizer_.zero_grad();
  Tensor loss = loss_(batch);
  loss.backward();
  Tensors leaves;
  for (const auto& p : optimizer_.parameters_) leaves.push_back(p.leaf);
  if (options_.max_norm > 0) clip_grad_norm(leaves, options_.max_norm);
  optimizer_.step();
  return loss.detach();
}

#ifdef TRIAD_CUDA

// Counts the parameters' steps on, as optimizer_.step() does, and gives how many further they are
// than at the capture; nothing, and counts none, where some are further than others.
std::optional<std::int64_t> GraphedStep::count_steps() {
  std::optional<std::int64_t> further;
  auto& parameters = optimizer_.parameters_;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (captured_->steps[i] == 0) continue;
    const std::int64_t own = parameters[i].step + 1 - captured_->steps[i];
    if (further.value_or(own) != own) return {};
    further = own;
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].step += captured_->steps[i] > 0;
  return further.value_or(0);
}

void GraphedStep::capture(const Tensors& batch) {
  captured_.reset();
  Tensors own;
  for (const Tensor& x : batch) own.push_back(x.detach().clone());
  Tensor loss;
  auto& parameters = optimizer_.parameters_;
  std::vector<std::int64_t> before, steps;
  for (const auto& p : parameters) before.push_back(p.step);
  const double lr = optimizer_.lr();
  const auto restore = [&] {
    optimizer_.set_lr(lr);
    for (std::size_t i = 0; i < before.size(); ++i) {
      const std::int64_t now = std::exchange(parameters[i].step, before[i]);
      steps.push_back(now > before[i] ? now : 0);
    }
  };
  optimizer_.set_lr(1);  // which every replay multiplies by its own
  try {
    captured_.reset(
        new Captured{own, {}, {}, {{parameters[0].leaf.device().index}, [&] { loss = run(own); }}});
  } catch (...) {
    restore();
    throw;
  }
  restore();
  captured_->loss = loss;
  captured_->steps = steps;
}

#endif

Tensor GraphedStep::operator()(const Tensors& batch) {
  if (!has_run_ || optimizer_.parameters_[0].leaf.device() == Device::cpu()) {
    const Tensor loss = run(batch);
    has_run_ = true;
    return loss;
  }
#ifdef TRIAD_CUDA
  if (is_capturing()) throw Error("GraphedStep: a captured step cannot contain another");
  if (!captured_) capture(batch);
  if (batch.size() > captured_->batch.size())
    throw_error<ShapeError>("GraphedStep: the batch was {} tensors, got {}",
                            captured_->batch.size(), batch.size());
  for (std::size_t i = 0; i < captured_->batch.size(); ++i) {
    const Tensor& own = captured_->batch[i];
    if (i >= batch.size() || batch[i].shape() != own.shape())
      throw_error<ShapeError>("GraphedStep: tensor {} of the batch was {}, got {}", i, own.shape(),
                              i < batch.size() ? batch[i].shape() : Shape());
    if (batch[i].dtype() != own.dtype())
      throw_error<DTypeError>("GraphedStep: tensor {} of the batch was {}, got {}", i, own.dtype(),
                              batch[i].dtype());
    own.copy_(batch[i]);
  }
  std::optional<std::int64_t> further = count_steps();
  if (!further) {
    capture(batch);
    further = count_steps();
  }
  captured_->step.replay(optimizer_.lr(), *further);
#endif
  return captured_->loss;
}

}  // namespace triad::nn
