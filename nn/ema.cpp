#include <triad/nn/ema.h>

#include <triad/core/format.h>

namespace triad::nn {

EMA::EMA(Module& model, double decay) : model_(model), decay_(decay) {
  if (!(decay >= 0 && decay <= 1))
    throw_error<ValueError>("EMA: needs decay in 0..1, got {}", decay);
  for (const auto& [name, t] : model.state_dict())
    means_[name] = t.dtype() == bf16 ? t.to(f32) : t.clone();
}

void EMA::update() {
  for (const auto& [name, t] : model_.state_dict()) {
    const Tensor& mean = means_.at(name);
    mean.copy_(is_floating_point(t.dtype()) ? lerp(t.to(mean.dtype()), mean, decay_) : t);
  }
}

void EMA::copy_to() const {
  for (const auto& [name, t] : model_.state_dict()) t.copy_(means_.at(name));
}

std::shared_ptr<void> EMA::average_parameters() const {
  StateDict own = model_.state_dict();
  for (auto& [name, t] : own) t = t.clone();
  copy_to();
  return {nullptr, [own, &model = model_](void*) { model.load_state_dict(own); }};
}

}  // namespace triad::nn
