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
#ifdef TRIAD_CUDA
  cuda::CapturedStep step;
#endif
};

GraphedStep::GraphedStep(Adam& optimizer, Function<Tensor(const Tensors&)> loss,
                         const Options& options)
    : optimizer_(optimizer), loss_(std::move(loss)), options_(options) {}
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

Tensor GraphedStep::operator()(const Tensors& batch) {
  const bool on_cpu = batch.empty() || batch[0].device() == Device::cpu();
  if (on_cpu || !std::exchange(has_run_, true)) return run(batch);
#ifdef TRIAD_CUDA
  const double lr = optimizer_.lr();
  const bool is_first = !captured_;  // whose steps the capture counts
  if (is_first) {
    Tensors own;
    for (const Tensor& x : batch) own.push_back(x.detach().clone());
    Tensor loss;
    optimizer_.set_lr(1);  // which every replay multiplies by its own
    auto step = [&] { loss = run(own); };
    try {
      captured_.reset(new Captured{own, {}, {{batch[0].device().index}, step}});
    } catch (...) {
      optimizer_.set_lr(lr);
      throw;
    }
    optimizer_.set_lr(lr);
    captured_->loss = loss;
  }
  if (batch.size() > captured_->batch.size())
    throw_error<ShapeError>("GraphedStep: the batch was {} tensors, got {}",
                            captured_->batch.size(), batch.size());
  for (std::size_t i = 0; i < captured_->batch.size(); ++i) {
    const Tensor& own = captured_->batch[i];
    if (i >= batch.size() || batch[i].shape() != own.shape())
      throw_error<ShapeError>("GraphedStep: tensor {} of the batch was {}, got {}", i, own.shape(),
                              i < batch.size() ? batch[i].shape() : Shape());
    own.copy_(batch[i]);
  }
  captured_->step.replay(lr);
  for (auto& p : optimizer_.parameters_)
    if (!is_first && p.step > 0) ++p.step;
#endif
  return captured_->loss;
}

}  // namespace triad::nn
