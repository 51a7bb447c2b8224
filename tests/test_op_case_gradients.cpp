// The gradients of every op in the table of op_cases.h: by central differences, once and twice, and
// in the other types against those in f64.
#include <triad/tests/op_case_inputs.h>

using namespace op_test;

namespace {

// The case as a function of the inputs whose type changes, where complex ones come as pairs.
struct Differentiated {
  const Case& c;
  Tensors inputs;  // undefined where a variable stands
  bool pairs;
  Tensors variables = {};

  Differentiated(const Case& c, const Inputs& sizes, DType dtype, unsigned seed)
      : c(c), inputs(make(sizes, dtype, seed)), pairs(is_complex(dtype)) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (!sizes[i].dtype) {
        variables.push_back(pairs ? view_as_real(inputs[i]).clone() : inputs[i]);
        inputs[i] = {};
      }
  }
  Tensor operator()(const Tensors& x) const {
    Tensors all = inputs;
    std::size_t next = 0;
    for (Tensor& input : all)
      if (!input.defined()) {
        input = pairs ? view_as_complex(x[next]) : x[next];
        ++next;
      }
    return joined(c.call(all));
  }
};

Tensors as_leaves(const Tensors& all) {
  Tensors leaves;
  for (const Tensor& x : all) leaves.push_back(x.detach().clone().requires_grad_());
  return leaves;
}

void check_derivatives(const Case& c, const Inputs& sizes, DType dtype, unsigned seed, bool again) {
  const std::string what = c.title() + " of " + name(dtype);
  const Differentiated f(c, sizes, dtype, seed);
  check_gradient(what, f, f.variables);
  if (!again) return;
  if (c.gradient == Gradient::twice) return check_second_gradient(what, f, f.variables);
  const Tensors leaves = as_leaves(f.variables);
  const Tensor y = f(leaves);
  for (const Tensor& g : grad({y}, leaves, {noise(y.shape())}, {.create_graph = true})) {
    std::string text = "no error";
    try {
      grad({sum(square(g))}, leaves, {}, {.retain_graph = true});
    } catch (const AutogradError& error) {
      text = error.what();
    }
    bool named = false;
    for (const char* op : c.said)
      named |= text.starts_with(op + std::string(": the gradient of this fused op cannot be "
                                                 "differentiated again; compose it of "));
    CHECK_MESSAGE(named, what, " twice: ", text);
  }
}

// The gradients of another type are those of f64 or c128, rounded; each leaf has its own memory.
void check_gradient_types(const Case& c, const Inputs& sizes, DType dtype, unsigned seed) {
  const std::string what = "the gradient of " + c.title() + " of " + name(dtype);
  const DType wide = is_complex(dtype) ? c128 : f64;
  Tensors narrow = make(sizes, dtype, seed), exact, leaves, exact_leaves;
  for (std::size_t i = 0; i < narrow.size(); ++i) {
    exact.push_back(sizes[i].dtype ? narrow[i] : narrow[i].to(wide).clone());
    if (sizes[i].dtype) continue;
    leaves.push_back(narrow[i].requires_grad_());
    exact_leaves.push_back(exact[i].requires_grad_());
  }
  const Tensor y = joined(c.call(narrow));
  const Tensor v = random_tensor(y.shape(), y.dtype(), seed + 50);
  y.backward(v);
  joined(c.call(exact)).backward(v.to(f64));
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const Tensor g = leaves[i].grad(), want = exact_leaves[i].grad();
    REQUIRE_MESSAGE(g.defined() == want.defined(), what);
    if (!g.defined()) continue;
    CHECK_MESSAGE(g.dtype() == dtype, what, " is ", type_name(g.dtype()));
    REQUIRE_MESSAGE(g.shape() == leaves[i].shape(), what);
    CHECK_MESSAGE(g.storage() != v.storage(), what, " shares the memory of its cotangent");
    CHECK_MESSAGE(g.storage() != leaves[i].storage(), what, " shares the memory of its input");
    for (std::size_t j = 0; j < i; ++j)
      CHECK_MESSAGE(g.storage() != leaves[j].grad().storage(), what, ": two leaves share memory");
    double largest = 0, error = 0;
    const Numbers got = numbers(g).values, exactly = numbers(want).values;
    for (std::size_t j = 0; j < got.size(); ++j) {
      largest = std::max(largest, std::abs(exactly[j]));
      if (std::isnan(std::abs(got[j])) != std::isnan(std::abs(exactly[j]))) error = kInf;
      error = std::max(error, std::abs(got[j] - exactly[j]));
    }
    if (y.numel() == 0) CHECK_MESSAGE(largest == 0, what, " by input ", i, " is not zero");
    const double unit = dtype == bf16 ? 0x1p-5 : dtype == f16 ? 0x1p-8 : dtype == wide ? 0 : 1e-5;
    const double bound = c.bound * unit;
    CHECK_MESSAGE(error <= bound * (largest + 1), what, " by input ", i, " is off by ", error,
                  " of ", largest);
  }
}

void check_no_history(const Case& c, const Inputs& sizes, DType dtype, unsigned seed) {
  Tensors inputs = make(sizes, dtype, seed), leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!sizes[i].dtype) leaves.push_back(inputs[i].requires_grad_());
  for (const Tensor& y : c.call(inputs)) {
    CHECK_MESSAGE(y.requires_grad() == (c.gradient == Gradient::zero), c.title());
    if (!y.requires_grad()) continue;
    for (const Tensor& g : grad({y}, leaves, {ones_like(y.detach())}))
      for (C value : numbers(g).values)
        CHECK_MESSAGE(value == 0.0, "the gradient of ", c.title(), " is not zero");
  }
}

}  // namespace

TEST_CASE("first and second derivatives") {
  unsigned seed = 2;
  for_each_case([&](const Case& c) {
    if (c.gradient < Gradient::once) return;
    for (DType dtype : {f64, c128}) {
      if (!takes(c, dtype)) continue;
      for (const Inputs& sizes : c.inputs) {
        const bool first = &sizes == &c.inputs[0];
        if (first ||
            (!is_simulated() && sizes.size() > 1 && count(sizes) <= 40 && !has_nothing(sizes)))
          check_derivatives(c, sizes, dtype, seed += 10, first);
      }
    }
  });
}

TEST_CASE("gradients of every type, and of nothing") {
  const OneThread guard;
  unsigned seed = 3;
  for_each_case([&](const Case& c) {
    for (DType dtype : kInexactTypes) {
      if (!takes(c, dtype)) continue;
      for (const Inputs& sizes : c.inputs) {
        if (c.gradient < Gradient::once) check_no_history(c, sizes, dtype, seed += 10);
        else check_gradient_types(c, sizes, dtype, seed += 10);
      }
    }
  });
}

TEST_CASE("third derivatives of functions of one tensor") {
  const OneThread guard;
  for (const Case& c : op_cases::function_cases()) {
    if (c.gradient != Gradient::twice || c.name == std::string("abs")) continue;
    const auto second = [&](const Tensors& x) {
      const Tensor y = c.call(x)[0] * exp(x[0]);
      const Tensor first = grad({sum(y)}, x, {}, {.create_graph = true})[0];
      return grad({sum(square(first))}, x, {}, {.create_graph = true})[0];
    };
    const double low = std::max(c.inputs[0][0].low, -1.0);
    const auto result = gradcheck(second, {between(low, 1, {5})}, {.tolerance = 1e-5});
    CHECK_MESSAGE(result.passed, c.title(), ": ", result.message, ", error ", result.worst);
  }
}
