// Checks a gradient against central differences.
#pragma once

#include <triad/autograd/autograd.h>

namespace triad {

struct GradcheckOptions {
  double eps = 1e-6;          // step of the central difference
  double tolerance = 1e-6;    // of the error, relative to the largest derivative of that input
  bool allow_unused = false;  // an input that f does not depend on is no error
};

struct GradcheckResult {
  bool passed = false;
  double worst = 0;     // the largest error, relative to the largest derivative of the same input
  std::string message;  // the worst element with both values, or what made the check void
  explicit operator bool() const { return passed; }
};

// f maps f64 leaves to a tensor; it is checked through sum(f(inputs) * c) with a random c, so that
// no error can cancel. Comparing nothing but zeros fails; an input that f does not depend on is an
// AutogradError. f must give the same value each time: fix the seed inside it where it draws random
// numbers. It may call grad() itself: so second derivatives are checked.
GradcheckResult gradcheck(const Function<Tensor(const Tensors&)>& f, const Tensors& inputs,
                          GradcheckOptions options = {});

// The same of the gradient of sum(f(inputs) * v) with respect to inputs, as a function of both
// inputs and v: whether f's rules are right when they are differentiated themselves.
GradcheckResult gradgradcheck(const Function<Tensor(const Tensors&)>& f, const Tensors& inputs,
                              GradcheckOptions options = {});

}  // namespace triad
