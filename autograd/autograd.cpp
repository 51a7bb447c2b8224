#include <algorithm>
#include <atomic>
#include <queue>
#include <unordered_map>

#include <triad/autograd/op_helpers.h>

namespace triad {

static thread_local bool enabled = true, anomaly = false;
static thread_local DType autocast = f32;
static std::atomic<std::uint64_t> nodes_made{0};

static void check_no_nan(const Tensor& x, const std::string& what) {
  if (!is_floating_point(x.dtype()) && !is_complex(x.dtype())) return;
  const FlagGuard unwatched(anomaly, false);
  if (any(isnan(is_complex(x.dtype()) ? view_as_real(x.detach()) : x.detach())).item<bool>())
    throw_error<ValueError>("{} is NaN", what);
}

// ---------------------------------------------------------------------- nodes

Node::Node(const char* name, const Tensor& value)
    : name(name), order(nodes_made++), shape(value.shape()), dtype(value.dtype()) {}

// Dropping a node drops its inputs, and tensors that its rule captured, which may drop further
// nodes. The outermost destructor collects all of them and lets them go one by one.
Node::~Node() {
  using Remains = std::pair<std::vector<std::shared_ptr<Node>>, Rule>;
  thread_local std::vector<Remains>* pending = nullptr;
  std::vector<Remains> remains;
  const bool outermost = !pending;
  if (outermost) pending = &remains;
  pending->emplace_back(std::move(inputs), std::move(rule));
  if (!outermost) return;
  while (!remains.empty()) {
    Remains last = std::move(remains.back());
    remains.pop_back();
  }
  pending = nullptr;
}

bool is_recorded(std::initializer_list<TensorRef> inputs) {
  const auto with_history = [](const TensorRef& input) { return input.x.requires_grad(); };
  return anomaly || (enabled && std::ranges::any_of(inputs, with_history));
}

Tensor record(const char* name, Tensor out, const Tensors& inputs, Rule rule) {
  const auto shares = [&](const Tensor& x) { return x.storage() == out.storage(); };
  if (anomaly && std::ranges::none_of(inputs, shares))  // what is no view
    check_no_nan(out, fmt::format("{}: the result", name));
  if (!enabled || std::ranges::none_of(inputs, &Tensor::requires_grad)) return out;
  auto node = std::make_shared<Node>(name, out);
  node->inputs.reserve(inputs.size());
  for (const Tensor& x : inputs) node->inputs.push_back(x.node());
  if (rule.holds_objects()) {
    node->saved.reserve(inputs.size() + 1);
    node->saved.push_back({out.storage(), out.storage()->writes});
    for (const Tensor& x : inputs)
      if (x.defined()) node->saved.push_back({x.storage(), x.storage()->writes});
  }
  node->rule = std::move(rule);
  out.set_node(std::move(node));
  return out;
}

Tensor record_fused(const char* name, Tensor out, const Tensors& inputs, Rule rule,
                    const char* composite) {
  out = record(name, std::move(out), inputs, std::move(rule));
  if (out.node()) out.node()->composite = composite;
  return out;
}

bool grad_enabled() { return enabled; }
NoGradGuard::NoGradGuard() : FlagGuard(enabled, false) {}
DetectAnomaly::DetectAnomaly() : FlagGuard(anomaly, true) {}
Autocast::Autocast(DType dtype) : FlagGuard(autocast, dtype) {
  if (wide_type(dtype) != f32)
    throw_error<DTypeError>("Autocast: needs bf16, f16 or f32, got {}", dtype);
}
DType autocast_dtype() { return autocast; }

// ---------------------------------------------------------------------- backward

namespace {

// A gradient on its way to a node: the sum of what has come in so far. The first one is taken as it
// is; a buffer is written to only when it was made here.
struct Running {
  Tensor sum;
  bool owned = false;

  void add(const Tensor& g, bool differentiable) {
    if (!sum.defined()) sum = g;
    else if (!owned || differentiable) sum = sum + g, owned = true;
    else on(g.device(), [&](auto device) { kernels::add_into(device, g, sum); });
  }

  // Adds g to a part of the sum, which has the sizes `shape`.
  void add_window(const Tensor& g, const Shape& shape, const Layout& window) {
    if (!sum.defined()) sum = zeros(shape, {.dtype = g.dtype(), .device = g.device()});
    else if (!owned) sum = sum.clone();
    owned = true;
    on(g.device(), [&](auto device) { kernels::add_into(device, g, sum.with_layout(window)); });
  }
};

// Of the sweep that runs, unless its gradients have a history or are watched for NaN.
thread_local std::unordered_map<Node*, Running>* gradients_so_far = nullptr;

class Sweep {
 public:
  // Gradients of `targets` are collected and not stored; without targets they go to the leaves.
  Sweep(BackwardOptions options, const Tensors* targets) : options_(options), to_leaves_(!targets) {
    if (!targets) return;
    oldest_ = ~std::uint64_t(0);
    for (const Tensor& x : *targets) {
      found_[x.node().get()];
      oldest_ = std::min(oldest_, x.node()->order);
    }
  }

  void send(const std::shared_ptr<Node>& node, const Tensor& g) {
    slot(node).add(g, options_.create_graph);
  }

  void run() {
    const FlagGuard current(gradients_so_far,
                            options_.create_graph || anomaly ? nullptr : &running_);
    const FlagGuard mode(enabled, options_.create_graph);
    const FlagGuard plain(autocast, f32);  // gradients have the types that values had
    while (!queue_.empty()) {
      std::shared_ptr<Node> node = queue_.top();
      queue_.pop();
      visit(node, std::move(running_.extract(node.get()).mapped().sum));
    }
  }

  const Tensor& found(const Tensor& x) { return found_[x.node().get()]; }

 private:
  Running& slot(const std::shared_ptr<Node>& node) {
    auto [it, is_new] = running_.try_emplace(node.get());
    if (is_new) queue_.push(node);
    return it->second;
  }

  void visit(const std::shared_ptr<Node>& node, Tensor g) {
    for (const auto& hook : node->hooks)
      if (Tensor replaced = hook(g); replaced.defined()) {
        if (replaced.shape() != g.shape() || replaced.dtype() != g.dtype())
          throw_error<AutogradError>("register_hook: the gradient is {}{}, the hook gave {}{}",
                                     g.dtype(), g.shape(), replaced.dtype(), replaced.shape());
        g = replaced;
      }
    if (auto it = found_.find(node.get()); it != found_.end()) it->second = g;
    if (!to_leaves_ && node->order <= oldest_) return;  // no target lies behind it
    if (node->leaf) {
      if (!to_leaves_) return;
      if (node->grad.defined() && is_capturing())
        throw AutogradError("backward: a captured step cannot add to a gradient from before it");
      // It is written to by optimizers and by clipping, so nobody else may look at it.
      const bool alone = g.storage().use_count() == 1 && g.is_contiguous();
      node->grad = node->grad.defined() ? node->grad + g : alone ? g : g.clone();
      return;
    }
    if (!node->rule)
      throw_error<AutogradError>(
          "backward: the history of {} was used by an earlier backward; pass retain_graph there",
          node->name);
    for (const Saved& saved : node->saved)
      if (const auto storage = saved.storage.lock(); storage && storage->writes != saved.writes)
        throw_error<AutogradError>(
            "backward of {}: what it needs was overwritten after it ran; write to a clone()",
            node->name);
    if (node->window && !options_.create_graph) {
      const auto& input = node->inputs[0];
      slot(input).add_window(g, input->shape, *node->window);
    } else {
      Tensors gradients;
      {
        const FlagGuard unwatched(anomaly, false);  // a NaN is reported by the name of this op
        const Range range([&] { return std::string("backward of ") + node->name; });
        try {
          gradients = node->rule(g);
        } catch (const OutOfMemory& error) {
          throw_error<OutOfMemory>("backward of {}: {}", node->name, error.what());
        }
      }
      pass_on(*node, gradients);
    }
    if (!options_.retain_graph && !options_.create_graph) {
      node->rule = {};
      node->saved.clear();
      node->inputs.clear();
    }
  }

  void pass_on(const Node& node, const Tensors& gradients) {
    for (std::size_t i = 0; i < gradients.size() && i < node.inputs.size(); ++i) {
      const auto& input = node.inputs[i];
      Tensor g = gradients[i];
      if (!input || !g.defined()) continue;
      if (g.shape() != input->shape || g.dtype() != input->dtype)
        throw_error<AutogradError>("backward of {}: input {} is {}{}, its gradient {}{}", node.name,
                                   i, input->dtype, input->shape, g.dtype(), g.shape());
      if (anomaly)
        check_no_nan(g, fmt::format("backward of {}: the gradient of input {}", node.name, i));
      if (node.composite && options_.create_graph) {
        // A fused rule's result depends on the op's inputs in ways nobody wrote down.
        Tensor x;
        x.set_node(input);
        auto refuse = [name = node.name, composite = node.composite](const Tensor&) -> Tensors {
          throw_error<AutogradError>(
              "{}: the gradient of this fused op cannot be differentiated again; compose it of {}",
              name, composite);
        };
        g = record(node.name, g, {x}, refuse);
      }
      send(input, g);
    }
  }

  BackwardOptions options_;
  bool to_leaves_;
  std::uint64_t oldest_ = 0;  // the order of the oldest target
  std::unordered_map<Node*, Running> running_;
  std::unordered_map<Node*, Tensor> found_;
  using NewestLast = decltype([](auto& a, auto& b) { return a->order < b->order; });
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, NewestLast> queue_;
};

Tensor first_gradient(const char* op, const Tensor& output, const Tensor& gradient) {
  if (!output.requires_grad())
    throw_error<AutogradError>("{}: the output has no history; no input of it requires a gradient",
                               op);
  if (!gradient.defined()) {
    if (output.numel() != 1)
      throw_error<AutogradError>("{}: needs a gradient for an output that is no scalar, {}", op,
                                 output.shape());
    return ones(output.shape(), {.dtype = output.dtype(), .device = output.device()});
  }
  if (gradient.shape() != output.shape() || gradient.dtype() != output.dtype())
    throw_error<AutogradError>("{}: the output is {}{}, the gradient given {}{}", op,
                               output.dtype(), output.shape(), gradient.dtype(), gradient.shape());
  check_same_device(op, output, gradient);
  return gradient;
}

}  // namespace

Tensor take_gradient(const Tensor& x) {
  if (!gradients_so_far || !gradients_so_far->contains(x.node().get())) return {};
  return std::exchange((*gradients_so_far)[x.node().get()], {}).sum;
}

void Tensor::backward(const Tensor& gradient, BackwardOptions options) const {
  Sweep sweep(options, nullptr);
  sweep.send(node_, first_gradient("backward", *this, gradient));
  sweep.run();
}

Tensors grad(const Tensors& outputs, const Tensors& inputs, const Tensors& gradients,
             BackwardOptions options) {
  if (!gradients.empty() && gradients.size() != outputs.size())
    throw_error<AutogradError>("grad: {} outputs, {} gradients", outputs.size(), gradients.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].requires_grad())
      throw_error<AutogradError>("grad: input {} does not require a gradient", i);
  Sweep sweep(options, &inputs);
  for (std::size_t i = 0; i < outputs.size(); ++i)
    sweep.send(outputs[i].node(),
               first_gradient("grad", outputs[i], gradients.empty() ? Tensor() : gradients[i]));
  sweep.run();
  Tensors result;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    result.push_back(sweep.found(inputs[i]));
    if (!result.back().defined() && !options.allow_unused)
      throw_error<AutogradError>("grad: no output depends on input {}", i);
  }
  return result;
}

std::pair<Tensor, Tensor> vjp(const Function<Tensor(const Tensor&)>& f, const Tensor& x,
                              const Tensor& v) {
  FlagGuard mode(enabled, true);
  Tensor leaf = x.detach().requires_grad_(), y = f(leaf);
  return {y.detach(), grad({y}, {leaf}, {v})[0]};
}

Tensor jacobian(const Function<Tensor(const Tensor&)>& f, const Tensor& x) {
  FlagGuard mode(enabled, true);
  Tensor leaf = x.detach().requires_grad_(), y = f(leaf);
  Tensors rows;
  for (std::int64_t i = 0; i < y.numel(); ++i) {
    Tensor one = zeros_like(y.detach());
    one.view({-1}).select(0, i).fill_(1);
    const BackwardOptions kept{.retain_graph = true, .allow_unused = true};
    Tensor row = y.requires_grad() ? grad({y}, {leaf}, {one}, kept)[0] : Tensor();
    rows.push_back(row.defined() ? row : zeros_like(leaf.detach()));
  }
  Shape shape = y.shape();
  for (std::int64_t size : x.shape()) shape.push_back(size);
  return rows.empty() ? empty(shape, x.dtype(), x.device()) : stack(rows).reshape(shape);
}

// ---------------------------------------------------------------------- leaves

Tensor& Tensor::requires_grad_(bool on) {
  if (!defined()) throw_error<AutogradError>("requires_grad_: got an undefined tensor");
  if (node_ && !node_->leaf)
    throw_error<AutogradError>("requires_grad_: the tensor is a result of {}; use detach()",
                               node_->name);
  if (on && !is_floating_point(dtype_) && !is_complex(dtype_))
    throw_error<DTypeError>("requires_grad_: needs a floating or complex type, got {}", dtype_);
  if (on && node_) return *this;
  node_ = on ? std::make_shared<Node>("leaf", *this) : nullptr;
  if (on) node_->leaf = true;
  return *this;
}

void Tensor::register_hook(Function<Tensor(const Tensor&)> hook) const {
  if (!node_) throw_error<AutogradError>("register_hook: the tensor does not require a gradient");
  node_->hooks.push_back(std::move(hook));
}

bool Tensor::is_leaf() const { return !node_ || node_->leaf; }
Tensor Tensor::grad() const { return node_ && node_->leaf ? node_->grad : Tensor(); }

void Tensor::set_grad(Tensor grad) const {
  if (!node_ || !node_->leaf) throw_error<AutogradError>("set_grad: the tensor is not a leaf");
  if (grad.defined() && (grad.shape() != shape() || grad.dtype() != dtype()))
    throw_error<ShapeError>("set_grad: the tensor is {}{}, the gradient {}{}", dtype(), shape(),
                            grad.dtype(), grad.shape());
  if (grad.defined()) check_same_device("set_grad", *this, grad);
  node_->grad = std::move(grad);
}

}  // namespace triad
