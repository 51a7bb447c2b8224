#include <triad/nn/cuda/graphed_step.h>

#include <triad/autograd/ops.h>
#include <triad/core/format.h>

#include <cmath>
#include <limits>

#ifdef TRIAD_CUDA
#include <triad/backends/cuda/replay.h>
#endif

namespace triad::nn {

struct GraphedStep::Captured {
  Tensors batch;                    // where every replay reads it,
  Tensor scale;                     // and the scaler's scale
  std::vector<std::int64_t> steps;  // of each parameter then; 0: it is not updated
  Gradients gradients;
#ifdef TRIAD_CUDA
  std::optional<cuda::CapturedStep> step, update;  // with a scaler: up to the norm, and the rest
#endif
};

GraphedStep::GraphedStep(Adam& optimizer, Function<Tensor(const Tensors&)> loss,
                         const Options& options)
    : optimizer_(optimizer), loss_(std::move(loss)), options_(options) {
  if (!(options.max_norm >= 0))
    throw_error<ValueError>("GraphedStep: needs max_norm >= 0, got {}", options.max_norm);
  for (const auto& p : optimizer.parameters_)
    if (options.scaler && p.value.dtype() == f16)
      throw_error<DTypeError>("GraphedStep: a scaler needs parameters in f32, {} is f16", p.name);
}
GraphedStep::~GraphedStep() = default;

Tensors GraphedStep::leaves() const {
  Tensors leaves;
  for (const auto& p : optimizer_.parameters_) leaves.push_back(p.leaf);
  return leaves;
}

GraphedStep::Gradients GraphedStep::gradients(const Tensors& batch, const Tensor& scale) {
  optimizer_.zero_grad();
  Tensor loss = loss_(batch);
  if (!scale.defined()) {
    loss.backward();
    return {loss.detach(), {}};
  }
  // What is bf16 or f16 is scaled in f32, as it is by a number.
  const Tensor in_f32 = scale.to(f32);
  const auto wide = [](const Tensor& x) { return x.to(wide_type(x.dtype())); };
  const auto scale_of = [&](const Tensor& x) { return x.dtype() == f64 ? scale : in_f32; };
  (wide(loss) * scale_of(loss)).to(loss.dtype()).backward();
  for (const Tensor& leaf : leaves())
    if (const Tensor g = leaf.grad(); g.defined()) g.copy_(wide(g.detach()) / scale_of(g));
  return {loss.detach(), clip_grad_norm(leaves(), std::numeric_limits<double>::infinity())};
}

void GraphedStep::update() {
  if (options_.max_norm > 0) clip_grad_norm(leaves(), options_.max_norm);
  optimizer_.step();
}

void GraphedStep::tell_scaler(bool finite) {
  options_.scaler->is_finite_[&optimizer_] = finite;
  options_.scaler->update();
}

Tensor GraphedStep::run(const Tensors& batch) {
  Tensor scale;
  if (options_.scaler)
    scale = full({}, options_.scaler->get_scale(), {.dtype = f64, .device = device()});
  const Gradients made = gradients(batch, scale);
  const bool finite = !options_.scaler || std::isfinite(made.norm.item<double>());
  if (finite) update();
  if (options_.scaler) tell_scaler(finite);
  return made.loss;
}

#ifdef TRIAD_CUDA

void GraphedStep::capture(const Tensors& batch) {
  captured_.reset();
  auto own = std::make_unique<Captured>();
  for (const Tensor& x : batch)
    own->batch.push_back(x.device() == Device::cpu() ? x.detach().to(device())
                                                     : x.detach().clone());
  if (options_.scaler) own->scale = zeros({}, {.dtype = f64, .device = device()});
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
  const Cuda where{device().index};
  try {
    own->step.emplace(where, [&] {
      own->gradients = gradients(own->batch, own->scale);
      if (!options_.scaler) update();
    });
    if (options_.scaler) own->update.emplace(where, [&] { update(); });
  } catch (...) {
    restore();
    optimizer_.zero_grad();  // nobody has computed them
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
  if (options_.scaler) captured_->scale.fill_(options_.scaler->get_scale());
  captured_->step->replay(optimizer_.lr(), *further);
  const bool finite = !options_.scaler || std::isfinite(captured_->gradients.norm.item<double>());
  if (finite && options_.scaler) captured_->update->replay(optimizer_.lr(), *further);
  auto& parameters = optimizer_.parameters_;
  for (std::size_t i = 0; i < parameters.size(); ++i)
    parameters[i].step += finite && captured_->steps[i] > 0;
  if (options_.scaler) tell_scaler(finite);
}

#endif

Tensor GraphedStep::operator()(const Tensors& batch) {
  if (options_.scaler && !options_.scaler->is_finite_.empty())
    throw ValueError("GraphedStep: comes after the scaler's update, not between unscale_ and it");
  if (!has_run_ || device() == Device::cpu()) {
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
  return captured_->gradients.loss;
}

}  // namespace triad::nn
