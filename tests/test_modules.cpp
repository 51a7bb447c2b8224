// Module and the plain layers: names, state dicts, modes, moving, and modules of the user's own.
#include <triad/tests/module_checks.h>

using namespace triad;

namespace {

// As in the comment of nn/module.h.
struct Affine : nn::Module {
  Tensor weight = nn::parameter(ones({8}));
  nn::Linear out{8, 4};
  void visit(nn::Visitor& v) override {
    v("weight", weight);
    v("out", out);
  }
  Tensor operator()(const Tensor& x) { return out(x * weight); }
};

// Two names for one parameter.
struct Tied : nn::Module {
  nn::Linear first{3, 3, false}, second{3, 3, false};
  Tied() { second.weight = first.weight; }
  void visit(nn::Visitor& v) override {
    v("first", first);
    v("second", second);
  }
};

std::vector<std::string> names_of(const nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& [name, p] : module.named_parameters()) names.push_back(name);
  return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a module of the user's own has names, gradients and a state dict") {
  manual_seed(1);
  Affine module;
  CHECK(names_of(module) == Names{"weight", "out.weight", "out.bias"});
  CHECK(module.parameter_count() == 8 + 32 + 4);
  Tensor x = randn({5, 8});
  square(module(x)).backward(randn({5, 4}));
  for (const Tensor& p : module.parameters()) CHECK(largest(p.grad()) > 0);
  module.zero_grad();
  for (const Tensor& p : module.parameters()) CHECK(!p.grad().defined());
}

TEST_CASE("a function of the user's own, recorded by the same record()") {
  manual_seed(1);
  auto cube = [](const Tensor& x) {
    Tensor y = x.detach() * x.detach() * x.detach();
    return record("cube", y, {x}, [x](const Tensor& g) { return Tensors{g * 3.0 * x * x}; });
  };
  const auto result =
      gradcheck([&](const Tensors& x) { return cube(x[0]); }, {randn({3, 5}, {.dtype = f64})});
  CHECK_MESSAGE(result.passed, result.message);
  Tensor x = from_vector<double>({2, -3}, {2}, true);
  Tensor once = grad({sum(cube(x))}, {x}, {}, {.create_graph = true})[0];
  Tensor twice = grad({sum(once)}, {x})[0];
  CHECK(values(twice) == std::vector<double>{12, -18});  // 6 x
}

TEST_CASE("state dicts: under every name, sharing memory, without history") {
  manual_seed(2);
  nn::Linear linear(3, 2);
  nn::StateDict state = linear.state_dict();
  CHECK(state.size() == 2);
  CHECK(!state["weight"].requires_grad());
  CHECK(state["weight"].storage() == linear.weight.storage());
  nn::Linear other(3, 2);
  CHECK(!same_bits(other.weight, linear.weight));
  CHECK(other.load_state_dict(state).empty());
  CHECK(same_bits(other.weight, linear.weight));
  CHECK(same_bits(other.bias, linear.bias));
  CHECK(other.weight.storage() != linear.weight.storage());
  CHECK(other.weight.requires_grad());
}

TEST_CASE("load_state_dict names all that does not fit, and changes nothing") {
  manual_seed(3);
  Affine module;
  const Tensor before = module.weight.detach().clone();
  const nn::StateDict wrong{{"weight", zeros({8})},
                            {"out.weight", zeros({4, 9})},
                            {"out.bias", zeros({4}, {.dtype = f64})},
                            {"aside", zeros({1})}};
  CHECK(message_of<ValueError>([&] { module.load_state_dict(wrong); }) ==
        "load_state_dict of Affine: missing [], unexpected [aside], mismatched "
        "[out.bias (here f32[4], there f64[4]), out.weight (here f32[4,8], there f32[4,9])]");
  CHECK(message_of<ValueError>([&] {
          module.load_state_dict({{"out.bias", zeros({4})}});
        }) ==
        "load_state_dict of Affine: missing [out.weight, weight], unexpected [], mismatched []");
  CHECK(same_bits(module.weight, before));
  CHECK(largest(module.out.bias) > 0);

  const auto report = module.load_state_dict(wrong, false);
  CHECK(report.missing.empty());
  CHECK(report.unexpected == Names{"aside"});
  CHECK(report.mismatched.size() == 2);
  CHECK(largest(module.weight) == 0);
  CHECK(largest(module.out.weight) > 0);
}

TEST_CASE("tied parameters are one, under two names") {
  manual_seed(4);
  Tied module;
  CHECK(names_of(module) == Names{"first.weight"});
  CHECK(module.parameter_count() == 9);
  CHECK(module.state_dict().size() == 2);
  for (DType dtype : {f64, f32}) {
    module.to(dtype);
    CHECK(module.first.weight.dtype() == dtype);
    CHECK(module.first.weight.storage() == module.second.weight.storage());
    CHECK(names_of(module) == Names{"first.weight"});
  }
  sum(module.second(module.first(ones({1, 3})))).backward();
  CHECK(same_bits(module.first.weight.grad(), module.second.weight.grad()));
}

TEST_CASE("parameters that are frozen stay frozen, each with its own values") {
  manual_seed(5);
  nn::Linear linear(3, 2);
  linear.weight.requires_grad_(false);
  linear.bias.requires_grad_(false);
  CHECK(names_of(linear) == Names{"weight", "bias"});
  linear.zero_grad();
  linear.to(f64);
  CHECK(linear.weight.shape() == Shape{2, 3});
  CHECK(linear.bias.shape() == Shape{2});
  CHECK(!linear.weight.requires_grad());
  CHECK(!linear(ones({1, 3}, {.dtype = f64})).requires_grad());
}

TEST_CASE("train and eval reach every module below") {
  nn::Sequential net(nn::Linear(4, 4), nn::Dropout(0.5), nn::MLP(4, 0.5));
  auto modes = [&] {
    std::vector<bool> found;
    net.apply([&](nn::Module& module) { found.push_back(module.training()); });
    return found;
  };
  const std::size_t modules = 1 + 1 + 1 + 4;  // Sequential, Linear, Dropout, MLP with its three
  CHECK(modes() == std::vector<bool>(modules, true));
  net.eval();
  CHECK(modes() == std::vector<bool>(modules, false));
  manual_seed(6);
  Tensor x = randn({3, 4});
  CHECK(same_bits(net(x), net(x)));
  net.train();
  CHECK(!same_bits(net(x), net(x)));
}

TEST_CASE("to(dtype) makes new leaves and rounds their values") {
  manual_seed(7);
  Affine module;
  const Tensor before = module.out.weight;
  module.to(f64);
  CHECK(module.out.weight.dtype() == f64);
  CHECK(module.out.weight.is_leaf());
  CHECK(module.out.weight.requires_grad());
  CHECK(values(module.out.weight) == values(before));
  CHECK(module(ones({2, 8}, {.dtype = f64})).dtype() == f64);
  CHECK(message_of<DTypeError>([&] {
          module(ones({2, 8}));
        }) == "mul: the types differ, f32 and f64; write .to(f32) or .to(f64)");
  module.to(f32);
  CHECK(same_bits(module.out.weight, before));
}

TEST_CASE("a moved module keeps its parameters") {
  manual_seed(8);
  nn::Sequential net(nn::Linear(4, 3), nn::GELU());
  Tensor x = randn({2, 4}), y = net(x);
  const Tensor weight = net.parameters()[0];
  nn::Sequential moved = std::move(net);
  CHECK(moved.parameters()[0].storage() == weight.storage());
  CHECK(same_bits(moved(x), y));

  nn::HybridAttentionLayer layer(
      {.d_model = 12, .head_types = nn::heads("standard, spectral, holonomy"), .max_seq_len = 8});
  Tensor sequence = randn({1, 5, 12}), out = layer(sequence);
  nn::HybridAttentionLayer elsewhere = std::move(layer);
  CHECK(same_bits(elsewhere(sequence), out));
}

TEST_CASE("Sequential: in order, by number, growing") {
  manual_seed(9);
  nn::Sequential net(nn::Linear(4, 3), nn::GELU());
  net.push_back(nn::Linear(3, 2));
  CHECK(net.size() == 3);
  CHECK(names_of(net) == Names{"0.weight", "0.bias", "2.weight", "2.bias"});
  Tensor x = randn({2, 4});
  CHECK(same_bits(net(x), net[2](gelu(net[0](x)))));
  nn::Sequential nothing;
  CHECK(same_bits(nothing(x), x));
}

TEST_CASE("the summary has a line for each module") {
  nn::Sequential net(nn::Linear(4, 3, false), nn::LayerNorm(3), nn::MLP(3, 0.1));
  CHECK(net.str() ==
        "Sequential(): 105 parameters\n"
        "  0: Linear(4 -> 3, no bias): 12 parameters\n"
        "  1: LayerNorm(3, eps 1e-05): 6 parameters\n"
        "  2: MLP(): 87 parameters\n"
        "    fc1: Linear(3 -> 12): 48 parameters\n"
        "    fc2: Linear(12 -> 3): 39 parameters\n"
        "    drop: Dropout(0.1): 0 parameters\n");
}

TEST_CASE("initial values are PyTorch's") {
  manual_seed(10);
  nn::Linear linear(100, 200);
  CHECK(largest(linear.weight) <= 0.1);  // uniform in +-1/sqrt(100)
  CHECK(largest(linear.weight) > 0.0999);
  CHECK(mean(linear.weight).item<double>() == doctest::Approx(0).epsilon(0.002));
  CHECK(largest(linear.bias) <= 0.1);
  nn::Embedding table(100, 200);
  CHECK(sqrt(var(table.weight)).item<double>() == doctest::Approx(1).epsilon(0.02));
  nn::LayerNorm norm(7);
  CHECK(values(norm.weight) == std::vector<double>(7, 1));
  CHECK(values(norm.bias) == std::vector<double>(7, 0));
}

TEST_CASE("bad arguments of layers") {
  nn::Linear linear(3, 2);
  CHECK(message_of<ShapeError>([&] {
          linear(ones({2, 4}));
        }) == "linear: needs x [...,K], weight [N,K], bias [N], got [2,4], [2,3], [2]");
  CHECK(message_of<DTypeError>([&] {
          linear(ones({2, 3}, {.dtype = f64}));
        }) == "linear: the types differ, f64 and f32; write .to(f64) or .to(f32)");
  CHECK(message_of<ValueError>([] { nn::Linear(-1, 2); }) ==
        "Linear: sizes must not be negative, got -1 and 2");
  CHECK(message_of<ValueError>([] { nn::Dropout(1); }) == "Dropout: needs 0 <= p < 1, got 1");
  CHECK(message_of<ValueError>([] { nn::Dropout(-0.1); }) == "Dropout: needs 0 <= p < 1, got -0.1");
  nn::Embedding table(5, 3);
  CHECK(message_of<IndexError>([&] {
          table(from_vector<std::int64_t>({0, 5}));
        }) == "embedding: needs indices in 0..4, got 5");
  CHECK(message_of<IndexError>([&] {
          table(from_vector<std::int64_t>({0, -1}));
        }) == "embedding: needs indices in 0..4, got -1");
  CHECK(message_of<DTypeError>([&] { table(ones({2})); }) ==
        "embedding: needs i64 indices, got f32; write x.to(i64)");
  nn::LayerNorm norm(3);
  CHECK(message_of<ShapeError>([&] {
          norm(ones({2, 4}));
        }) == "layer_norm: needs weight and bias [4] for x [2,4], got [3]");
}
