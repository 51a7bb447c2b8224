#include <triad/nn/cuda/graphed_step.h>

#include <triad/autograd/ops.h>
#include <triad/core/format.h>

#include <cmath>

#ifdef TRIAD_CUDA
#include <triad/backends/cuda/replay.h>
#endif

namespace triad::nn {

struct GraphedStep::Captured {
  Tensors batch;  // where every replay reads it
  Tensor loss;
  std::vector<std::int64_t> steps;  // of each parameter then; 0: it is not updated
  Tensor scale, norm;               // with a scaler: its scale, and of the gradients without it
#ifdef TRIAD_CUDA
  std::optional<cuda::CapturedStep> step, update;  // with a scaler the first ends with the norm
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
  GradScaler* const scaler = options_.scaler;
  optimizer_.zero_grad();
  Tensor loss = loss_(batch);
  (scaler ? scaler->scale(loss) : loss).backward();
  if (scaler) scaler->unscale_(optimizer_);
  clip();
  if (scaler) {
    scaler->step(optimizer_);
    scaler->update();
  } else optimizer_.step();
  return loss.detach();
}

Tensors GraphedStep::leaves() const {
  Tensors leaves;
  for (const auto& p : optimizer_.parameters_) leaves.push_back(p.leaf);
  return leaves;
}
void GraphedStep::clip() {
  if (options_.max_norm > 0) clip_grad_norm(leaves(), options_.max_norm);
}

#ifdef TRIAD_CUDA

// As far as it is known before a value is read whether the step is skipped.
void GraphedStep::run_scaled(Captured& c) {
  optimizer_.zero_grad();
  Tensor loss = loss_(c.batch);
  c.loss = loss.detach();
  (loss * c.scale).backward();
  for (const Tensor& leaf : leaves())
    if (const Tensor g = leaf.grad(); g.defined()) g.copy_(g.detach() / c.scale);
  c.norm = clip_grad_norm(leaves(), std::numeric_limits<double>::infinity());
}

void GraphedStep::capture(const Tensors& batch) {
  captured_.reset();
  auto own = std::make_unique<Captured>();
  for (const Tensor& x : batch) own->batch.push_back(x.detach().clone());
  auto& parameters = optimizer_.parameters_;
  std::vector<std::int64_t> before;
  for (const auto& p : parameters) before.push_back(p.step);
  const double lr = optimizer_.lr();
  const auto restore = [&] {
    optimizer_.set_lr(lr);
    for (std::size_t i = 0; i < before.size(); ++i) {
      const std::int64_t now = std::exchange(parameters[i].step, before[i]);
      own->steps.push_back(now > before[i] ? now : 0);
    }
  };
  optimizer_.set_lr(1);  // which every replay multiplies by its own
  const Device device = parameters[0].leaf.device();
  const Cuda where{device.index};
  try {
    if (options_.scaler) {
      own->scale = ones({}, {.device = device});
      own->step.emplace(where, [&] { run_scaled(*own); });
      own->update.emplace(where, [&] {
        clip();
        optimizer_.step();
      });
    } else own->step.emplace(where, [&] { own->loss = run(own->batch); });
  } catch (...) {
    restore();
    throw;
  }
  restore();
  captured_ = std::move(own);
}

// How many steps further than at the capture the next one of the parameters is; nothing where some
// are further than others.
std::optional<std::int64_t> GraphedStep::steps_further() const {
  std::optional<std::int64_t> further;
  const auto& parameters = optimizer_.parameters_;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (captured_->steps[i] == 0) continue;
    const std::int64_t own = parameters[i].step + 1 - captured_->steps[i];
    if (further.value_or(own) != own) return {};
    further = own;
  }
  return further.value_or(0);
}

void GraphedStep::replay() {
  std::optional<std::int64_t> further = steps_further();
  if (!further) {
    capture(Tensors(captured_->batch));
    further = steps_further();
  }
  GradScaler* const scaler = options_.scaler;
  if (scaler) captured_->scale.fill_(scaler->get_scale());
  captured_->step->replay(optimizer_.lr(), *further);
  if (scaler) {
    const bool finite = std::isfinite(captured_->norm.item<double>());
    scaler->is_finite_[&optimizer_] = finite;
    scaler->update();
    if (!finite) return;
    captured_->update->replay(optimizer_.lr(), *further);
  }
  auto& parameters = optimizer_.parameters_;
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].step += captured_->steps[i] > 0;
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
  replay();
#endif
  return captured_->loss;
}

}  // namespace triad::nn
