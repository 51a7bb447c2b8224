// Bad input to any op is an exception with one line that names the op: an undefined tensor in each
// place, every wrong type, and two types that do not mix.
#include <triad/tests/op_test.h>

#include <map>

using namespace op_test;

namespace {

const Tensor none;

struct Op {
  const char* name;  // as in its messages
  TensorFunction f;  // of as many tensors as it takes
  Tensors inputs;    // that it accepts
};

Tensor whole(const Shape& shape) { return zeros(shape, {.dtype = i64}); }
Tensor flags(const Shape& shape) { return zeros(shape, {.dtype = boolean}); }

// Every op that takes tensors.
std::vector<Op> all_ops() {
  const Tensor x = zeros({2, 3}), heads = zeros({1, 2, 4, 3}), points = zeros({4, 3});
  std::vector<Op> ops = {
      {"softmax", [](const Tensors& t) { return softmax(t[0], 0); }, {x}},
      {"log_softmax", [](const Tensors& t) { return log_softmax(t[0], -1); }, {x}},
      {"layer_norm", [](const Tensors& t) { return layer_norm(t[0]); }, {x}},
      {"embedding", [](const Tensors& t) { return embedding(t[0], t[1]); }, {whole({2}), x}},
      {"dropout", [](const Tensors& t) { return dropout(t[0], 0.5); }, {x}},
      {"cross_entropy",
       [](const Tensors& t) { return cross_entropy(t[0], t[1]); },
       {x, whole({2})}},
      {"mse_loss", [](const Tensors& t) { return mse_loss(t[0], t[1]); }, {x, x}},
      {"matmul", [](const Tensors& t) { return matmul(t[0], t[1]); }, {x, zeros({3, 2})}},
      {"linear", [](const Tensors& t) { return linear(t[0], t[1]); }, {x, x}},
      {"scaled_dot_product_attention",
       [](const Tensors& t) { return scaled_dot_product_attention(t[0], t[1], t[2]); },
       {heads, heads, heads}},
      {"at_bins", [](const Tensors& t) { return at_bins(t[0], 2); }, {x}},
      {"spectral_filter",
       [](const Tensors& t) { return spectral_filter(t[0], t[1], t[2]); },
       {heads, zeros({4, 2}), zeros({4, 2})}},
      {"causal_taps", [](const Tensors& t) { return causal_taps(t[0], t[1]); }, {points, points}},
      {"causal_convolution",
       [](const Tensors& t) { return causal_convolution(t[0], t[1]); },
       {heads, points}},
      {"dct", [](const Tensors& t) { return dct(t[0]); }, {heads}},
      {"idct", [](const Tensors& t) { return idct(t[0]); }, {heads}},
      {"where", [](const Tensors& t) { return where(t[0], t[1], t[2]); }, {flags({3}), x, x}},
      {"logical_and",
       [](const Tensors& t) { return logical_and(t[0], t[1]); },
       {flags({3}), flags({3})}},
      {"logical_or",
       [](const Tensors& t) { return logical_or(t[0], t[1]); },
       {flags({3}), flags({3})}},
      {"logical_not", [](const Tensors& t) { return logical_not(t[0]); }, {flags({3})}},
      {"sum", [](const Tensors& t) { return sum(t[0]); }, {x}},
      {"sum", [](const Tensors& t) { return sum(t[0], {0}); }, {x}},
      {"mean", [](const Tensors& t) { return mean(t[0]); }, {x}},
      {"var", [](const Tensors& t) { return var(t[0]); }, {x}},
      {"max", [](const Tensors& t) { return max(t[0], 0).first; }, {x}},
      {"max", [](const Tensors& t) { return argmax(t[0], 0); }, {x}},
      {"max", [](const Tensors& t) { return max(t[0]); }, {x}},
      {"min", [](const Tensors& t) { return min(t[0]); }, {x}},
      {"norm", [](const Tensors& t) { return norm(t[0]); }, {x}},
      {"all_finite", [](const Tensors& t) { return all_finite(t[0]) ? t[0] : t[0]; }, {x}},
      {"maximum", [](const Tensors& t) { return maximum(t[0], t[1]); }, {x, x}},
      {"minimum", [](const Tensors& t) { return minimum(t[0], t[1]); }, {x, x}},
      {"add", [](const Tensors& t) { return t[0] + t[1]; }, {x, x}},
      {"sub", [](const Tensors& t) { return t[0] - t[1]; }, {x, x}},
      {"mul", [](const Tensors& t) { return t[0] * t[1]; }, {x, x}},
      {"div", [](const Tensors& t) { return t[0] / t[1]; }, {x, x}},
      {"eq", [](const Tensors& t) { return t[0] == t[1]; }, {x, x}},
      {"ge", [](const Tensors& t) { return t[0] >= t[1]; }, {x, x}},
      {"cat",
       [](const Tensors& t) {
         return cat({t[0], t[1]});
       },
       {x, x}},
      {"stack",
       [](const Tensors& t) {
         return stack({t[0], t[1]});
       },
       {x, x}},
  };
  const std::pair<const char*, Tensor (*)(const Tensor&)> unary[] = {{
      "neg",
      operator- },
      {"abs", abs},
      {"sign", sign},
      {"exp", exp},
      {"log", log},
      {"sqrt", sqrt},
      {"square", square},
      {"tanh", tanh},
      {"sin", sin},
      {"cos", cos},
      {"gelu", gelu},
      {"add", [](const Tensor& t) { return t + 1.0; }},
      {"sub", [](const Tensor& t) { return 1.0 - t; }},
      {"mul", [](const Tensor& t) { return t * 2.0; }},
      {"div", [](const Tensor& t) { return 1.0 / t; }},
      {"lt", [](const Tensor& t) { return t < 1.0; }},
      {"reshape", [](const Tensor& t) { return t.reshape({-1}); }},
      {"view", [](const Tensor& t) { return t.view({-1}); }},
      {"flatten", [](const Tensor& t) { return t.flatten(); }},
      {"permute",
       [](const Tensor& t) {
         return t.permute({1, 0});
       }},
      {"transpose", [](const Tensor& t) { return t.transpose(0, 1); }},
      {"slice", [](const Tensor& t) { return t.slice(0, 0); }},
      {"select", [](const Tensor& t) { return t.select(0, 0); }},
      {"expand",
       [](const Tensor& t) {
         return t.expand({2, 2, 3});
       }},
      {"unsqueeze", [](const Tensor& t) { return t.unsqueeze(0); }},
      {"squeeze", [](const Tensor& t) { return t.squeeze(0); }},
      {"split", [](const Tensor& t) { return t.split(1)[0]; }},
      {"split",
       [](const Tensor& t) {
         return t.split({1, 1})[0];
       }},
      {"contiguous", [](const Tensor& t) { return t.contiguous(); }},
      {"clone", [](const Tensor& t) { return t.clone(); }},
      {"to", [](const Tensor& t) { return t.to(f64); }},
  };
  for (const auto& [name, op] : unary)
    ops.push_back({name, [op = op](const Tensors& t) { return op(t[0]); }, {x}});
  return ops;
}

}  // namespace

TEST_CASE("an undefined tensor in any place") {
  for (const Op& op : all_ops()) {
    CHECK_NOTHROW_MESSAGE(op.f(op.inputs), op.name);
    for (std::size_t i = 0; i < op.inputs.size(); ++i) {
      Tensors inputs = op.inputs;
      inputs[i] = none;
      check_error<ValueError>([&] { op.f(inputs); },
                              std::string(op.name) + ": got an undefined tensor");
    }
  }
}

TEST_CASE("two floating types do not mix, and the message says which cast to write") {
  for (const Op& op : all_ops()) {
    if (op.inputs.size() < 2) continue;
    std::size_t last = op.inputs.size() - 1;
    if (op.inputs[last].dtype() != f32 || op.inputs[last - 1].dtype() != f32) continue;
    Tensors inputs = op.inputs;
    inputs[last] = inputs[last].to(f64);
    check_error<DTypeError>(
        [&] { op.f(inputs); },
        std::string(op.name) + ": the types differ, f32 and f64; write .to(f32) or .to(f64)");
  }
}

TEST_CASE("bool is no number") {
  for (const char* name : {"add", "neg", "abs", "square", "max", "exp", "matmul", "softmax",
                           "scaled_dot_product_attention", "dct", "mse_loss", "sub", "mul", "div"})
    for (const Op& op : all_ops()) {
      if (op.name != std::string(name)) continue;
      Tensors inputs;
      for (const Tensor& x : op.inputs) inputs.push_back(x.to(boolean));
      check_error<DTypeError>([&] { op.f(inputs); }, ", got bool; write x.to(f32)");
    }
}

TEST_CASE("sizes that do not fit") {
  const Tensor x = zeros({2, 3});
  check_error<ShapeError>([&] { x + zeros({2}); }, "add: [2,3] and [2] do not broadcast");
  check_error<ShapeError>([&] { x / zeros({3, 2}); }, "div: [2,3] and [3,2] do not broadcast");
  check_error<ShapeError>([&] { x < zeros({4}); }, "lt: [2,3] and [4] do not broadcast");
  check_error<ShapeError>([&] { maximum(x, zeros({2})); }, "maximum: [2,3] and [2]");
  check_error<ShapeError>([&] { masked_fill(x, flags({2}), 0); }, "where: ");
}

TEST_CASE("every error is a triad::Error and a std::runtime_error") {
  const auto caught = [](auto&& f) {
    try {
      f();
    } catch (const std::runtime_error& error) {
      return dynamic_cast<const Error*>(&error) != nullptr;
    }
    return false;
  };
  CHECK(caught([] { throw ShapeError("x"); }));
  CHECK(caught([] { throw DTypeError("x"); }));
  CHECK(caught([] { throw DeviceError("x"); }));
  CHECK(caught([] { throw ValueError("x"); }));
  CHECK(caught([] { throw IndexError("x"); }));
  CHECK(caught([] { throw AutogradError("x"); }));
  CHECK(caught([] { throw FileError("x"); }));
}
