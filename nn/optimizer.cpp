#include <triad/nn/optimizer.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <set>

#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad::nn {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// `share` maps how much of the way after the warm-up is done, 0 to 1, to how much of lr is left.
template <class Share>
static double scheduled(const char* op, std::int64_t step, const Schedule& s, Share share) {
  if (step < 0 || s.warmup_steps < 0 || s.warmup_steps >= s.steps)
    throw_error<ValueError>("{}: needs step >= 0 and 0 <= warmup_steps < steps, got {}, {} and {}",
                            op, step, s.warmup_steps, s.steps);
  if (step < s.warmup_steps) return s.lr * double(step + 1) / double(s.warmup_steps + 1);
  const double done = double(step - s.warmup_steps) / double(s.steps - s.warmup_steps);
  return s.final_lr + (s.lr - s.final_lr) * share(std::min(done, 1.0));
}

ParameterGroups decay_groups(const Module& model, double weight_decay) {
  ParameterGroup decayed{{}, weight_decay}, kept{{}, 0};
  for (const auto& [name, p] : model.named_parameters()) {
    auto is = [path = "." + name](const char* end) { return path.ends_with(end); };
    const bool decays = p.dim() >= 2 && !is(".log_gain") && !is(".phase") && !is(".pos.weight");
    (decays ? decayed : kept).parameters.emplace_back(name, p);
  }
  return {decayed, kept};
}

Optimizer::Optimizer(const char* type, const ParameterGroups& groups, double lr,
                     double weight_decay, std::vector<const char*> state_names)
    : type_(type), lr_(lr), state_names_(std::move(state_names)) {
  check_option("lr", lr, 0, kInfinity);
  check_option("weight_decay", weight_decay, 0, kInfinity);
  std::set<std::string> names;
  std::set<const Node*> leaves;
  for (const ParameterGroup& group : groups) {
    const double decay = group.weight_decay.value_or(weight_decay);
    check_option("weight_decay", decay, 0, kInfinity);
    check_option("lr_factor", group.lr_factor, 0, kInfinity);
    for (const auto& [name, leaf] : group.parameters) {
      if (!leaf.defined() || !leaf.is_leaf() || !leaf.is_contiguous())
        throw_error<ValueError>("{}: needs contiguous leaves, {} is not one", type_, name);
      if (!leaf.requires_grad()) continue;
      if (!names.insert(name).second || !leaves.insert(leaf.node().get()).second)
        throw_error<ValueError>("{}: needs every parameter once, got {} twice", type_, name);
      Parameter& p = parameters_.emplace_back(name, leaf.detach(), leaf, decay, group.lr_factor);
      while (p.state.size() < state_names_.size())
        p.state.push_back(zeros_like(p.value.to(wide_type(leaf.dtype()))));
    }
  }
  if (parameters_.empty())
    throw_error<ValueError>("{}: needs parameters that require a gradient, got none", type_);
}

void Optimizer::check_option(const char* option, double value, double low, double high) const {
  if (!(value >= low && value < high))
    throw_error<ValueError>("{}: needs {} >= {} and < {}, got {}", type_, option, low, high, value);
}
void Optimizer::set_lr(double lr) {
  check_option("lr", lr, 0, kInfinity);
  lr_ = lr;
}
void Optimizer::zero_grad() {
  for (const Parameter& p : parameters_) p.leaf.set_grad({});
}

// What kernels can take together.
template <class X> using Lists = std::map<std::pair<Device, DType>, std::vector<X>>;

void Optimizer::step() {
  Lists<Update> lists;
  for (Parameter& p : parameters_) {
    const Tensor gradient = p.leaf.grad();
    if (!gradient.defined()) continue;
    const DType wide = wide_type(p.value.dtype());  // bf16 and f16: updated in f32, then rounded
    Parameter in_wide = p;
    ++in_wide.step;
    in_wide.value = p.value.to(wide);
    lists[{gradient.device(), wide}].emplace_back(in_wide, gradient.detach().to(wide).contiguous(),
                                                  lr_ * p.lr_factor);
  }
  for (Parameter& p : parameters_) p.step += p.leaf.grad().defined();  // there is memory for it
  for (const auto& [where, list] : lists) {
    if (update_all_) update_all_(list);
    for (const auto& [p, gradient, lr] : list) {
      if (update_) update_(p, gradient, lr);
      if (p.leaf.dtype() != p.value.dtype()) p.leaf.detach().copy_(p.value);
      else ++p.value.storage()->writes;  // by a kernel
    }
  }
}

StateDict Optimizer::state_dict() const {
  StateDict dict;
  for (const Parameter& p : parameters_) {
    dict[p.name + ".step"] = from_vector<std::int64_t>({p.step}, {});
    for (std::size_t i = 0; i < p.state.size(); ++i)
      dict[p.name + "." + state_names_[i]] = p.state[i];
  }
  return dict;
}

void Optimizer::load_state_dict(const StateDict& dict) {
  const StateDict own = state_dict();
  for (const auto& [name, value] : dict)
    if (name.ends_with(".step") && value.dtype() == i64 && value.numel() == 1)
      if (const auto step = value.item<std::int64_t>(); step < 0)
        throw_error<ValueError>("load_state_dict of {}: {} is {}", type_, name, step);
  load_state(type_, own, dict, true);
  for (Parameter& p : parameters_) p.step = own.at(p.name + ".step").item<std::int64_t>();
}

SGD::SGD(const ParameterGroups& groups, const SGDOptions& o)
    : Optimizer("SGD", groups, o.lr, o.weight_decay,
                std::vector<const char*>(o.momentum != 0, "momentum_buffer")) {
  check_option("momentum", o.momentum, 0, kInfinity);
  check_option("dampening", o.dampening, -kInfinity, kInfinity);
  if (o.nesterov && (o.momentum == 0 || o.dampening != 0))
    throw_error<ValueError>("SGD: nesterov needs a momentum and no dampening, got {} and {}",
                            o.momentum, o.dampening);
  update_ = [o](const Parameter& p, const Tensor& gradient, double lr) {
    Tensor d = p.weight_decay != 0 ? gradient + p.value * p.weight_decay : gradient;
    if (o.momentum != 0) {
      const Tensor& b = p.state[0];
      b.copy_(p.step == 1 ? d : b * o.momentum + d * (1 - o.dampening));
      d = o.nesterov ? d + b * o.momentum : b;
    }
    p.value.copy_(p.value - d * lr);
  };
}

Adam::Adam(const char* type, const ParameterGroups& groups, const AdamOptions& o, bool decoupled)
    : Optimizer(type, groups, o.lr, o.weight_decay, {"exp_avg", "exp_avg_sq"}) {
  for (double beta : {o.betas.first, o.betas.second}) check_option("betas", beta, 0, 1);
  check_option("eps", o.eps, 0, kInfinity);
  update_all_ = [o, decoupled](const std::vector<Update>& updates) {
    std::vector<kernels::AdamUpdate> list;
    for (const auto& [p, gradient, lr] : updates) {
      const kernels::AdamArgs args{.lr = lr,
                                   .beta1 = o.betas.first,
                                   .beta2 = o.betas.second,
                                   .eps = o.eps,
                                   .weight_decay = decoupled ? p.weight_decay : 0,
                                   .l2 = decoupled ? 0 : p.weight_decay,
                                   .step = p.step};
      list.push_back({args, gradient, p.value, p.state[0], p.state[1]});
    }
    on(list[0].p.device(), "adam_step", [&](auto device) { kernels::adam_step(device, list); });
  };
}

Lion::Lion(const ParameterGroups& groups, const LionOptions& o)
    : Optimizer("Lion", groups, o.lr, o.weight_decay, {"exp_avg"}) {
  for (double beta : {o.betas.first, o.betas.second}) check_option("betas", beta, 0, 1);
  update_ = [o](const Parameter& p, const Tensor& gradient, double lr) {
    const Tensor &m = p.state[0], u = sign(lerp(gradient, m, o.betas.first));
    p.value.copy_(p.value * (1 - lr * p.weight_decay) - u * lr);
    m.copy_(lerp(gradient, m, o.betas.second));
  };
}

Muon::Muon(const ParameterGroups& groups, const MuonOptions& o)
    : Optimizer("Muon", groups, o.lr, o.weight_decay, {"momentum_buffer"}) {
  check_option("momentum", o.momentum, 0, 1);
  for (const ParameterGroup& group : groups)
    for (const auto& [name, p] : group.parameters)
      if (p.requires_grad() && p.dim() != 2)
        throw_error<ValueError>("Muon: needs matrices, {} is {}: put it into a group of AdamW",
                                name, p.shape());
  update_ = [o](const Parameter& p, const Tensor& gradient, double lr) {
    const Tensor& b = p.state[0];
    b.copy_(lerp(gradient, b, o.momentum));
    Tensor u = o.nesterov ? lerp(gradient, b, o.momentum) : b;
    const double ratio = double(u.size(0)) / double(std::max(u.size(1), std::int64_t(1)));
    auto turn = [&] { return ratio > 1 ? u.transpose(0, 1) : u; };  // the smaller u u^T
    u = turn() / clamp(norm(u), 1e-7);
    for (int step = 0; step < 5; ++step) {
      const Tensor a = matmul(u, u.transpose(0, 1));
      u = u * 3.4445 + matmul(a * -4.7750 + matmul(a, a) * 2.0315, u);
    }
    p.value.copy_(p.value * (1 - lr * p.weight_decay) -
                  turn() * (lr * std::sqrt(std::max(1.0, ratio))));
  };
}

Tensor clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm) {
  if (!(max_norm > 0))
    throw_error<ValueError>("clip_grad_norm: needs max_norm > 0, got {}", max_norm);
  std::vector<std::pair<Tensor, Tensor>> gradients;  // each as it is, and for kernels
  Lists<Tensor> lists;
  for (const Tensor& p : parameters)
    if (const Tensor g = p.grad().detach(); g.defined()) {
      gradients.emplace_back(g, g.to(wide_type(g.dtype())).contiguous());
      lists[{g.device(), wide_type(g.dtype())}].push_back(gradients.back().second);
    }
  Tensor squares;
  for (const auto& [where, list] : lists) {
    const Tensor own = empty({}, f64, where.first);
    on(where.first, [&](auto device) { kernels::sum_of_squares(device, list, own); });
    squares = squares.defined() ? squares + own.to(squares.device()) : own;
  }
  for (const auto& [at, list] : lists)
    on(at.first, [&](auto device) { kernels::clip(device, squares.to(at.first), max_norm, list); });
  for (const auto& [g, in_kernels] : gradients)
    if (g.storage() != in_kernels.storage()) g.copy_(in_kernels);
    else ++g.storage()->writes;
  return squares.defined() ? sqrt(squares) : zeros({}, {.dtype = f64});
}

GradScaler::GradScaler(const GradScalerOptions& o)
    : options_(o), scale_(full({}, o.init_scale, {.dtype = f64})),
      growth_tracker_(zeros({}, {.dtype = i64})) {
  if (!(o.init_scale > 0 && o.growth_factor > 1 && o.backoff_factor > 0 && o.backoff_factor < 1 &&
        o.growth_interval > 0))
    throw_error<ValueError>(
        "GradScaler: needs init_scale > 0, growth_factor > 1, 0 < backoff_factor < 1 and "
        "growth_interval > 0, got {}, {}, {} and {}",
        o.init_scale, o.growth_factor, o.backoff_factor, o.growth_interval);
}

Tensor GradScaler::scale(const Tensor& loss) const {
  if (is_capturing())
    throw Error("GradScaler: a captured step is scaled by an option of GraphedStep");
  return loss * get_scale();
}

void GradScaler::unscale_(Optimizer& optimizer) {
  if (is_finite_.contains(&optimizer))
    throw ValueError("GradScaler: unscale_ comes once before each update, and not after step");
  Tensors leaves;
  for (const auto& p : optimizer.parameters_) {
    if (p.value.dtype() == f16)
      throw_error<DTypeError>("GradScaler: needs parameters in f32, {} is f16", p.name);
    leaves.push_back(p.leaf);
  }
  for (const Tensor& leaf : leaves)
    if (const Tensor g = leaf.grad(); g.defined()) g.copy_(g.detach() / get_scale());
  is_finite_[&optimizer] = std::isfinite(clip_grad_norm(leaves, kInfinity).item<double>());
}

bool GradScaler::step(Optimizer& optimizer) {
  if (!is_finite_.contains(&optimizer)) unscale_(optimizer);
  if (is_finite_[&optimizer]) optimizer.step();
  return is_finite_[&optimizer];
}

void GradScaler::update() {
  if (is_finite_.empty()) throw ValueError("GradScaler: update comes after step or unscale_");
  const bool finite = std::ranges::all_of(is_finite_, [](auto& entry) { return entry.second; });
  is_finite_.clear();
  const std::int64_t steps = finite ? growth_tracker_.item<std::int64_t>() + 1 : 0;
  const bool grows = steps >= options_.growth_interval;
  growth_tracker_.fill_(grows ? 0 : double(steps));
  const double factor = grows ? options_.growth_factor : finite ? 1 : options_.backoff_factor;
  if (get_scale() * factor <= std::numeric_limits<float>::max()) scale_.fill_(get_scale() * factor);
}

double constant_lr(std::int64_t step, const Schedule& s) {
  const Schedule endless{.lr = s.lr, .steps = s.warmup_steps + 1, .warmup_steps = s.warmup_steps};
  return scheduled("constant_lr", step, endless, [](double) { return 1.0; });
}
double linear_lr(std::int64_t step, const Schedule& s) {
  return scheduled("linear_lr", step, s, [](double done) { return 1 - done; });
}
double cosine_lr(std::int64_t step, const Schedule& s) {
  auto share = [](double done) { return (1 + std::cos(std::numbers::pi * done)) / 2; };
  return scheduled("cosine_lr", step, s, share);
}

EMA::EMA(Module& model, double decay) : model_(model), decay_(decay) {
  if (!(decay >= 0 && decay <= 1))
    throw_error<ValueError>("EMA: needs decay in 0..1, got {}", decay);
  for (const auto& [name, t] : model.state_dict())
    means_[name] = is_narrow(t.dtype()) ? t.to(f32) : t.clone();
}

void EMA::update() {
  for (const auto& [name, t] : model_.state_dict()) {
    const Tensor& mean = means_.at(name);
    mean.copy_(is_floating_point(t.dtype()) ? lerp(t.to(mean.dtype()), mean, decay_) : t);
  }
}

std::shared_ptr<void> EMA::average_parameters() const {
  StateDict own = model_.state_dict();
  for (auto& [name, t] : own) t = t.clone();
  copy_to();
  return {nullptr, [own, &model = model_](void*) { model.load_state_dict(own); }};
}

}  // namespace triad::nn
