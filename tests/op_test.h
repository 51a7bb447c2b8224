// What the tests of core and autograd share: random inputs, views of them made by ops, gradient
// checks of first and second order, and checks of error messages.
#pragma once

#include <triad/tests/kernel_checks.h>
#include <triad/triad.h>

#include <functional>
#include <string>

namespace op_test {

using namespace triad;
using kernel_checks::check_close;
using kernel_checks::check_threads;
using kernel_checks::kInf;
using kernel_checks::kLies;
using kernel_checks::kNan;
using kernel_checks::laid;
using kernel_checks::Lie;
using kernel_checks::random_tensor;
using kernel_checks::same_bits;
using kernel_checks::tensor;
using kernel_checks::values;
using reference::Values;

// Standard normal numbers, others at every call and the same ones in every run.
inline Tensor noise(const Shape& shape, DType dtype = f64, double scale = 1) {
  static unsigned seed = 1000;
  return random_tensor(shape, dtype, ++seed, scale);
}

// Numbers between low and high.
inline Tensor between(double low, double high, const Shape& shape, DType dtype = f64) {
  Values spread = values(noise(shape));
  for (double& v : spread) v = low + (high - low) * (std::erf(v) + 1) / 2;
  return tensor(spread, shape, dtype);
}

// How far a result may be from its fp64 twin, relatively.
inline double bound(DType dtype) { return dtype == f32 ? 2e-6 : 1e-14; }

// ---------------------------------------------------------------------- gradients

// The values of x as a view that lies so, made by ops, so that gradients flow back to x.
inline Tensor as_view(Lie lie, const Tensor& x) {
  if (lie == Lie::contiguous || x.dim() == 0) return x;
  if (lie == Lie::transposed) {
    Shape back;
    for (int i = x.dim(); i-- > 0;) back.push_back(i);
    return x.permute(back).clone().permute(back);
  }
  if (lie == Lie::sliced)
    return stack({x * 2.0, x, x + 1.0}, -1).flatten(-2, -1).slice(-1, 1, kEnd, 3);
  return cat({x, x * 2.0}, -1).slice(-1, 0, x.size(-1));
}

using TensorFunction = std::function<Tensor(const Tensors&)>;

// One thread while it lives: gradient checks are thousands of passes over a few numbers, where
// waking others costs most.
struct OneThread {
  OneThread() { set_num_threads(1); }
  ~OneThread() { set_num_threads(before); }
  int before = get_num_threads();
};

// Gradcheck of f with its inputs lying in memory in every way.
inline void check_gradient(const std::string& what, const TensorFunction& f,
                           const Tensors& inputs) {
  const OneThread guard;
  for (Lie lie : kLies) {
    if (is_simulated() && lie != Lie::transposed) continue;
    const auto result = gradcheck(
        [&](const Tensors& x) {
          Tensors views;
          for (const Tensor& t : x) views.push_back(as_view(lie, t));
          return f(views);
        },
        inputs);
    CHECK_MESSAGE(result.passed, what, ", lie ", int(lie), ": ", result.message, ", error ",
                  result.worst);
  }
}

// Gradcheck of the gradient of sum(f^3 c), which is no constant even where f is linear.
inline void check_second_gradient(const std::string& what, const TensorFunction& f,
                                  const Tensors& inputs) {
  const OneThread guard;
  const auto gradient = [&](const Tensors& x) {
    Tensor y = f(x);
    const Tensors g =
        grad({square(y) * y}, x, {random_tensor(y.shape(), f64, 5)}, {.create_graph = true});
    Tensor total = scalar(0, {.dtype = f64, .device = y.device()});
    for (std::size_t i = 0; i < g.size(); ++i)
      total = total + sum(g[i] * random_tensor(g[i].shape(), f64, unsigned(6 + i)));
    return total;
  };
  const auto result = gradcheck(gradient, inputs);
  CHECK_MESSAGE(result.passed, what, ", second derivative: ", result.message, ", error ",
                result.worst);
}

// ---------------------------------------------------------------------- errors

// f throws an E, and no type derived from it or beside it, with one line that contains `part`.
template <class E, class F> void check_error(F&& f, const std::string& part) {
  std::string text = "no error";
  bool right_type = false;
  try {
    f();
  } catch (const Error& error) {
    text = error.what();
    right_type = typeid(error) == typeid(E);
  }
  CHECK_MESSAGE(right_type, "another type of error, or none: ", text);
  CHECK_MESSAGE(text.find(part) != std::string::npos, "\"", text, "\" lacks \"", part, "\"");
  CHECK_MESSAGE(text.find('\n') == std::string::npos, "more than one line: ", text);
}

}  // namespace op_test
