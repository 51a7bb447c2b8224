#include <triad/nn/module.h>

#include <cxxabi.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>
#include <tuple>
#include <typeinfo>

#include <triad/core/format.h>

namespace triad::nn {
namespace {

// Calls on_parameter and on_buffer with each by its dotted name, on_module before a module's parts.
class Walk : public Visitor {
 public:
  using OnTensor = Function<void(const std::string&, Tensor&)>;
  using OnModule = Function<void(const std::string&, Module&)>;

  // visit() hands out references, so that to() can replace parameters; reading changes nothing.
  Walk(const Module& start, OnTensor on_parameter, OnModule on_module = {}, OnTensor on_buffer = {})
      : on_parameter_(std::move(on_parameter)), on_buffer_(std::move(on_buffer)),
        on_module_(std::move(on_module)) {
    auto& module = const_cast<Module&>(start);
    if (on_module_) on_module_("", module);
    module.visit(*this);
  }
  void operator()(const std::string& name, Tensor& parameter) override {
    if (parameter.defined() && on_parameter_) on_parameter_(prefix_ + name, parameter);
  }
  void buffer(const std::string& name, Tensor& buffer) override {
    if (buffer.defined() && on_buffer_) on_buffer_(prefix_ + name, buffer);
  }
  void operator()(const std::string& name, Module& module) override {
    if (on_module_) on_module_(prefix_ + name, module);
    const std::string outer = std::exchange(prefix_, prefix_ + name + ".");
    module.visit(*this);
    prefix_ = outer;
  }

 private:
  OnTensor on_parameter_, on_buffer_;
  OnModule on_module_;
  std::string prefix_;
};

// What two names of one parameter have in common; not the node alone: a frozen one has none.
using Identity = std::tuple<const Node*, const Storage*, std::int64_t>;
Identity identity(const Tensor& p) {
  return {p.node().get(), p.storage().get(), p.layout().offset};
}

// Replaces every parameter and buffer by x.to(target), those with two names by the same new one;
// what is frozen stays frozen, and a dtype is for floating types only.
template <class Target> void move_tensors(Module& module, Target target) {
  std::map<Identity, std::pair<Tensor, Tensor>> moved;  // the old and the new tensor
  auto replace = [&](const std::string&, Tensor& x) {
    auto& [old, made] = moved[identity(x)];
    const bool stays = std::is_same_v<Target, DType> && !is_floating_point(x.dtype());
    if (!made.defined())
      made = (stays ? x.detach() : x.detach().to(target))
                 .requires_grad_(x.requires_grad() && x.is_leaf());
    old = std::exchange(x, made);  // lives on, so that nothing new takes its address
  };
  Walk(module, replace, {}, replace);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  auto bytes = [](const Tensor& x) {
    return std::string_view(reinterpret_cast<const char*>(x.first_byte()),
                            std::size_t(x.numel()) * item_size(x.dtype()));
  };
  auto near = [](const Tensor& x) { return x.detach().to(Device::cpu()).contiguous(); };
  return bytes(near(a)) == bytes(near(b));
}

}  // namespace

Tensor parameter(Tensor value) { return value.requires_grad_(); }

NamedTensors Module::named_parameters() const {
  NamedTensors found;
  std::set<Identity> seen;
  Walk(*this, [&](const std::string& name, Tensor& p) {
    if (seen.insert(identity(p)).second) found.emplace_back(name, p);
  });
  return found;
}
std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> found;
  for (const auto& [name, p] : named_parameters()) found.push_back(p);
  return found;
}
std::int64_t Module::parameter_count() const {
  std::int64_t count = 0;
  for (const Tensor& p : parameters()) count += p.numel();
  return count;
}

StateDict Module::state_dict() const {
  StateDict state;
  auto add = [&](const std::string& name, Tensor& x) { state[name] = x.detach(); };
  Walk(*this, add, {}, add);
  return state;
}

LoadReport Module::load_state_dict(const StateDict& state, bool strict) {
  return load_state(type_name(), state_dict(), state, strict);
}

LoadReport load_state(const std::string& whose, const StateDict& own, const StateDict& state,
                      bool strict) {
  LoadReport report;
  std::vector<std::pair<Tensor, Tensor>> pairs;
  std::map<const Storage*, Tensor> given;  // by the memory that it goes to: tied names share theirs
  for (const auto& [name, here] : own) {
    auto it = state.find(name);
    if (it == state.end()) report.missing.push_back(name);
    else if (const Tensor& there = it->second;
             there.shape() != here.shape() || there.dtype() != here.dtype())
      report.mismatched.push_back(fmt::format("{} (here {}{}, there {}{})", name, here.dtype(),
                                              here.shape(), there.dtype(), there.shape()));
    else if (!same_bits(given.try_emplace(here.storage().get(), there).first->second, there))
      report.mismatched.push_back(name + " (tied to a name that has other values)");
    else pairs.emplace_back(here, there);
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
  Walk(*this, {}, [&](const std::string&, Module& module) { f(module); });
}
void Module::train(bool on) {
  apply([on](Module& module) { module.training_ = on; });
}
void Module::to(DType dtype) { move_tensors(*this, dtype); }
void Module::to(Device device) { move_tensors(*this, device); }
void Module::zero_grad() {
  for (const Tensor& p : parameters())
    if (p.requires_grad()) p.set_grad({});
}

std::string Module::type_name() const {
  const std::shared_ptr<char> whole(
      abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, nullptr), std::free);
  const std::string name(whole.get(), std::strcspn(whole.get(), "<"));  // not what templates are of
  return name.substr(name.rfind(':') + 1);
}

std::string Module::str() const {
  std::string text;
  Walk(*this, {}, [&](const std::string& path, Module& module) {
    const auto depth = path.empty() ? 0 : 1 + std::count(path.begin(), path.end(), '.');
    const std::string name = path.substr(path.rfind('.') + 1);
    text += fmt::format("{}{}{}{}({}): {} parameters\n", std::string(2 * std::size_t(depth), ' '),
                        name, name.empty() ? "" : ": ", module.type_name(), module.options_text(),
                        module.parameter_count());
  });
  return text;
}

Tensor Layer::operator()(const Tensor& x) {
  const Range range([&] { return type_name(); });
  Tensor y = forward(x);
  for (const auto& [id, hook] : std::vector(hooks_))  // a copy: a hook may remove itself
    if (Tensor other = hook(*this, x, y); other.defined()) y = other;
  return y;
}

int Layer::register_forward_hook(ForwardHook hook) {
  hooks_.emplace_back(++last_hook_, std::move(hook));
  return last_hook_;
}
void Layer::remove_forward_hook(int id) {
  std::erase_if(hooks_, [id](const auto& entry) { return entry.first == id; });
}

}  // namespace triad::nn
