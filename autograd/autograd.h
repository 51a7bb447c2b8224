// Reverse-mode automatic differentiation.
//
// An op computes its result, then calls record() with its inputs and a rule that turns the gradient
// of the result into the gradients of the inputs. That makes a Node; nodes point at the nodes of
// their inputs, so the handles that are still in use hold exactly the history they need.
// backward() walks from an output to the leaves, newest node first: a node is always newer than its
// inputs, so by the time its turn comes, its gradient is complete. Nothing here is recursive.
//
// To add a differentiable function of your own:
//
//   Tensor cube(const Tensor& x) {
//     Tensor y = x.detach() * x.detach() * x.detach();
//     return record("cube", y, {x}, [x](const Tensor& g) { return Tensors{g * 3.0 * x * x}; });
//   }
#pragma once

#include <initializer_list>

#include <triad/core/tensor.h>

namespace triad {

using Tensors = std::vector<Tensor>;

// From the gradient of an op's result to those of its inputs, in their order. An undefined Tensor,
// or a shorter list, means "no gradient"; x.requires_grad() of a captured x tells if it is wanted.
using Rule = Function<Tensors(const Tensor& gradient)>;

// A tensor that a rule may read, and the writes to its memory when the op ran.
struct Saved {
  std::weak_ptr<Storage> storage;
  std::uint64_t writes;
};

struct Node {
  const char* name;     // of the op, "leaf" for a leaf; a string literal: it must outlive the node
  std::uint64_t order;  // a node is newer, and its number higher, than its inputs
  Shape shape;          // of the value, and so of its gradient
  DType dtype;
  std::vector<std::shared_ptr<Node>> inputs;  // empty pointers for inputs without history
  Rule rule;                                  // empty for a leaf, and once backward has used it up
  std::vector<Saved> saved;  // the op's inputs and output, unless the rule can hold no tensor
  const char* composite = nullptr;  // of a fused op: what it could be composed of to be
                                    // differentiated twice
  std::optional<Layout> window;     // a slice: its gradient adds to this part of the input's
  bool leaf = false;
  Tensor grad;                                         // of a leaf
  std::vector<Function<Tensor(const Tensor&)>> hooks;  // see Tensor::register_hook

  Node(const char* name, const Tensor& value);
  ~Node();  // a loop: a chain of a million nodes needs no deep stack
};

// Gives `out`, the result of op `name` on `inputs`, its history, if gradients are on and an input
// has one. The rule is written in ops, so that it can be differentiated again.
Tensor record(const char* name, Tensor out, const Tensors& inputs, Rule rule);
// A tensor in a list of inputs, {a, b}, not copied.
struct TensorRef {
  const Tensor& x;
  TensorRef(const Tensor& x) : x(x) {}
  operator const Tensor&() const { return x; }
};
// Is there history to make, or, with DetectAnomaly, a result to look at?
bool is_recorded(std::initializer_list<TensorRef> inputs);
template <class F>
Tensor record(const char* name, Tensor out, std::initializer_list<TensorRef> inputs, F&& rule) {
  if (!is_recorded(inputs)) return out;
  const Tensors all(inputs.begin(), inputs.end());
  return record(name, std::move(out), all, Rule(std::forward<F>(rule)));
}
// The same for a rule that calls kernels: to differentiate that again throws, by the op's name, and
// names the composite that can be.
Tensor record_fused(const char* name, Tensor out, const Tensors& inputs, Rule rule,
                    const char* composite);

// For the rule of an op on x, to add in its own pass over memory: takes away the sum of gradients
// that x has got so far; the rule returns all. May be undefined; others may hold its memory.
Tensor take_gradient(const Tensor& x);

// Do ops on this thread record history? Yes, unless a guard says otherwise.
bool grad_enabled();

// While it, or one of those below, lives, a flag of this thread is set; then what it was before.
template <class Flag> class FlagGuard {
 public:
  FlagGuard(Flag& flag, Flag on) : flag_(flag), before_(std::exchange(flag, on)) {}
  ~FlagGuard() { flag_ = before_; }
  FlagGuard(const FlagGuard&) = delete;

 private:
  Flag& flag_;
  Flag before_;
};

// Ops record no history.
struct NoGradGuard : FlagGuard<bool> {
  NoGradGuard();
};

// A NaN that an op or its rule makes is a ValueError that names it.
struct DetectAnomaly : FlagGuard<bool> {
  DetectAnomaly();
};

// linear, matmul and scaled_dot_product_attention take their inputs, but f64, in `dtype`; softmax,
// norms, losses and sums of bf16 or f16 give f32, as does arithmetic of two types. Parameters stay
// f32, as do their gradients: that is mixed-precision training (Micikevicius et al. 2018, arXiv
// 1710.03740). f16 needs an nn::GradScaler. Under Autocast(f32) all is as without.
struct Autocast : FlagGuard<DType> {
  explicit Autocast(DType dtype = bf16);
};
DType autocast_dtype();  // f32 where there is none
inline bool autocast_enabled() { return autocast_dtype() != f32; }

// no_grad([&] { return model(x); })
template <class F> auto no_grad(F&& f) {
  NoGradGuard guard;
  return f();
}

// The gradients of sum(outputs * gradients) with respect to `inputs`, which may be leaves or
// results; no leaf's grad() changes, and the history behind the oldest input is neither walked nor
// used up. An input that no output depends on is an AutogradError, or with allow_unused an
// undefined gradient. Undefined `gradients` stand for 1 and need a scalar output.
Tensors grad(const Tensors& outputs, const Tensors& inputs, const Tensors& gradients = {},
             BackwardOptions options = {});

// f's value at x and the gradient of sum(f(x) * v) with respect to x; the derivative of each
// element of f(x) by each of x, [f's sizes..., x's sizes...].
std::pair<Tensor, Tensor> vjp(const Function<Tensor(const Tensor&)>& f, const Tensor& x,
                              const Tensor& v);
Tensor jacobian(const Function<Tensor(const Tensor&)>& f, const Tensor& x);

}  // namespace triad
