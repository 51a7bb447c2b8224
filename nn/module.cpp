#include <triad/nn/module.h>

#include <algorithm>
#include <set>
#include <tuple>

#include <triad/core/format.h>

namespace triad::nn {
namespace {

// Calls on_parameter with the dotted name of every parameter below a module, or of every buffer
// too, and on_module before each module's parts.
class Walk : public Visitor {
 public:
  Function<void(const std::string&, Tensor&)> on_parameter = [](const std::string&, Tensor&) {};
  Function<void(const std::string&, Module&)> on_module = [](const std::string&, Module&) {};
  bool buffers = false;

  void start(Module& module) {
    on_module("", module);
    module.visit(*this);
  }
  void operator()(const std::string& name, Tensor& parameter) override {
    if (parameter.defined()) on_parameter(prefix_ + name, parameter);
  }
  void buffer(const std::string& name, Tensor& buffer) override {
    if (buffers) (*this)(name, buffer);
  }
  void operator()(const std::string& name, Module& module) override {
    on_module(prefix_ + name, module);
    const std::string outer = prefix_;
    prefix_ += name + ".";
    module.visit(*this);
    prefix_ = outer;
  }

 private:
  std::string prefix_;
};

void for_each_parameter(Module& module, Function<void(const std::string&, Tensor&)> f,
                        bool buffers = false) {
  Walk walk;
  walk.buffers = buffers;
  walk.on_parameter = std::move(f);
  walk.start(module);
}

// visit() hands out references, so that to() can replace parameters; reading changes nothing.
Module& readable(const Module& module) { return const_cast<Module&>(module); }

// What two names of one parameter have in common. The node alone is not enough: a frozen parameter,
// one after requires_grad_(false), has none.
using Identity = std::tuple<const Node*, const Storage*, std::int64_t>;
Identity identity(const Tensor& p) {
  return {p.node().get(), p.storage().get(), p.layout().offset};
}

}  // namespace

Tensor parameter(Tensor value) { return value.requires_grad_(); }

NamedTensors Module::named_parameters() const {
  NamedTensors found;
  std::set<Identity> seen;
  for_each_parameter(readable(*this), [&](const std::string& name, Tensor& p) {
    if (seen.insert(identity(p)).second) found.emplace_back(name, p);
  });
  return found;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> found;
  for (auto& [name, p] : named_parameters()) found.push_back(p);
  return found;
}

std::int64_t Module::parameter_count() const {
  std::int64_t count = 0;
  for (const Tensor& p : parameters()) count += p.numel();
  return count;
}

StateDict Module::state_dict() const {
  StateDict state;
  auto add = [&](const std::string& name, Tensor& tensor) { state[name] = tensor.detach(); };
  for_each_parameter(readable(*this), add, true);
  return state;
}

LoadReport Module::load_state_dict(const StateDict& state, bool strict) {
  return load_state(type_name(), state_dict(), state, strict);
}

namespace {

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  auto bytes = [](const Tensor& t) {
    return t.storage()->data() + t.layout().offset * std::int64_t(item_size(t.dtype()));
  };
  return std::equal(bytes(x), bytes(x) + x.numel() * std::int64_t(item_size(x.dtype())), bytes(y));
}

}  // namespace

LoadReport load_state(const std::string& whose, const StateDict& own, const StateDict& state,
                      bool strict) {
  LoadReport report;
  std::vector<std::pair<Tensor, Tensor>> pairs;
  std::map<const Storage*, Tensor> given;  // by the memory that it goes to: tied names share theirs
  for (const auto& [name, here] : own) {
    auto it = state.find(name);
    if (it == state.end()) {
      report.missing.push_back(name);
    } else if (const Tensor& there = it->second;
               there.shape() != here.shape() || there.dtype() != here.dtype()) {
      report.mismatched.push_back(fmt::format("{} (here {}{}, there {}{})", name, here.dtype(),
                                              here.shape(), there.dtype(), there.shape()));
    } else if (!same_bits(given.try_emplace(here.storage().get(), there).first->second, there)) {
      report.mismatched.push_back(name + " (tied to a name that has other values)");
    } else {
      pairs.emplace_back(here, there);
    }
  }
  for (const auto& [name, value] : state)
    if (!own.contains(name)) report.unexpected.push_back(name);
  if (strict && !report.empty())
    throw_error<ValueError>("load_state_dict of {}: missing [{}], unexpected [{}], mismatched [{}]",
                            whose, fmt::join(report.missing, ", "),
                            fmt::join(report.unexpected, ", "), fmt::join(report.mismatched, ", "));
  for (const auto& [here, there] : pairs) here.copy_(there);
  return report;
}

void Module::apply(const Function<void(Module&)>& f) {
  Walk walk;
  walk.on_module = [&](const std::string&, Module& module) { f(module); };
  walk.start(*this);
}

void Module::train(bool on) {
  apply([on](Module& module) { module.training_ = on; });
}

namespace {

// Replaces every parameter and buffer, those with two names by the same new one; what is frozen
// stays frozen, and a buffer with history loses it.
void replace_tensors(Module& module, const Function<Tensor(const Tensor&)>& make) {
  std::map<Identity, Tensor> made;
  std::vector<Tensor> kept;  // so that nothing new takes the address of something replaced
  auto replace = [&](const std::string&, Tensor& p) {
    kept.push_back(p);
    auto [it, is_new] = made.try_emplace(identity(p));
    if (is_new) it->second = make(p.detach()).requires_grad_(p.requires_grad() && p.is_leaf());
    p = it->second;
  };
  for_each_parameter(module, replace, true);
}

}  // namespace

void Module::to(DType dtype) {
  replace_tensors(
      *this, [dtype](const Tensor& p) { return is_floating_point(p.dtype()) ? p.to(dtype) : p; });
}

void Module::to(Device device) {
  replace_tensors(*this, [device](const Tensor& p) { return p.to(device); });
}

void Module::zero_grad() {
  for (const Tensor& p : parameters())
    if (p.requires_grad()) p.set_grad({});
}

std::string Module::str() const {
  std::string text;
  Walk walk;
  walk.on_module = [&](const std::string& path, Module& module) {
    const std::size_t depth =
        path.empty() ? 0 : 1 + std::size_t(std::count(path.begin(), path.end(), '.'));
    const std::string name = path.substr(path.rfind('.') + 1);
    text += fmt::format("{}{}{}{}({}): {} parameters\n", std::string(2 * depth, ' '), name,
                        name.empty() ? "" : ": ", module.type_name(), module.options_text(),
                        module.parameter_count());
  };
  walk.start(readable(*this));
  return text;
}

}  // namespace triad::nn
