// Module: something with parameters. It names its parts once, in visit(); parameters, state dicts,
// moving, counting and printing all follow from that.
//
//   struct Affine : nn::Module {
//     Tensor weight = nn::parameter(ones({8}));
//     nn::Linear out{8, 4};
//     void visit(nn::Visitor& v) override { v("weight", weight, "out", out); }
//     Tensor operator()(const Tensor& x) { return out(x * weight); }
//   };
#pragma once

#include <map>

#include <triad/autograd/ops.h>

namespace triad::nn {

class Module;

// Sees each part of a module, by the name it has there.
class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void operator()(const std::string& name, Tensor& parameter) = 0;  // undefined: skipped
  virtual void operator()(const std::string& name, Module& module) = 0;
  // Several parts in one call: visitor("weight", weight, "out", out).
  template <class Part, class... Rest>
  void operator()(const std::string& name, Part& part, const std::string& next, Rest&... rest) {
    (*this)(name, part);
    (*this)(next, rest...);
  }
  // A tensor that is saved and moved with the parameters, but is none: it gets no gradient.
  virtual void buffer(const std::string& /*name*/, Tensor& /*buffer*/) {}
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using StateDict = std::map<std::string, Tensor>;

struct LoadReport {
  std::vector<std::string> missing, unexpected, mismatched;
  bool empty() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
};
// Copies the values of `state` into those tensors of `own` that have the same name, sizes and type.
// With `strict` one ValueError, about `whose`, lists all that does not match; nothing was changed.
LoadReport load_state(const std::string& whose, const StateDict& own, const StateDict& state,
                      bool strict);

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  // A copy would share its parameters with the original; a move keeps them.
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  Module(Module&&) = default;
  Module& operator=(Module&&) = default;

  virtual void visit(Visitor& visitor) = 0;
  virtual std::string type_name() const;                   // "Linear": that of the class
  virtual std::string options_text() const { return ""; }  // what the summary shows in brackets

  // By dotted name, in the order of visit(). One that has two names (tied) comes under the first.
  NamedTensors named_parameters() const;
  std::vector<Tensor> parameters() const;
  std::int64_t parameter_count() const;

  // Every parameter and buffer under every name, sharing memory with the module, without history.
  StateDict state_dict() const;
  LoadReport load_state_dict(const StateDict& state, bool strict = true);  // see load_state()

  void apply(const Function<void(Module&)>& f);  // to this module and all below it

  void train(bool on = true);  // dropout acts in training only; a new module is in training
  void eval() { train(false); }
  bool training() const { return training_; }
  void to(DType dtype);    // of floating ones; new leaves: make the optimizer afterwards
  void to(Device device);  // likewise
  void zero_grad();        // forgets every gradient

  std::string str() const;  // a line a module, indented, with its options and parameter count

 private:
  bool training_ = true;
};

Tensor parameter(Tensor value);  // a leaf that requires a gradient

// A module from one tensor to one tensor: what Sequential is made of.
class Layer : public Module {
 public:
  virtual Tensor forward(const Tensor& x) = 0;
  Tensor operator()(const Tensor& x);  // forward(), then the hooks
  // What a hook returns, unless undefined, takes the place of the output. Gives the hook's id.
  using ForwardHook = Function<Tensor(Layer&, const Tensor& input, const Tensor& output)>;
  int register_forward_hook(ForwardHook hook);
  void remove_forward_hook(int id);
  bool has_forward_hooks() const { return !hooks_.empty(); }

 private:
  std::vector<std::pair<int, ForwardHook>> hooks_;
  int last_hook_ = 0;
};

}  // namespace triad::nn
