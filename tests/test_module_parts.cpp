// Buffers, forward hooks, containers, activations and RMSNorm.
#include <triad/tests/module_checks.h>

using namespace triad;

namespace {

// Keeps a running mean of what it sees, as BatchNorm does, and counts.
struct Centre : nn::Layer {
  Tensor weight = nn::parameter(full({3}, 2));
  Tensor running_mean = zeros({3}), count = scalar(0, {.dtype = i64}), undefined;
  void visit(nn::Visitor& v) override {
    v("weight", weight);
    v.buffer("running_mean", running_mean);
    v.buffer("count", count);
    v.buffer("undefined", undefined);
  }
  Tensor forward(const Tensor& x) override {
    if (training()) {
      running_mean.copy_(lerp(running_mean, mean(x.detach(), {0}), 0.1));
      count.copy_(count + 1.0);
    }
    return (x - running_mean) * weight;
  }
};

struct Holder : nn::Module {
  nn::ModuleList<> layers{nn::Linear(3, 3), Centre()};
  nn::ModuleDict<> heads;
  Holder() {
    heads.insert("small", nn::Linear(3, 1));
    heads.insert("large", nn::Linear(3, 5));
  }
  void visit(nn::Visitor& v) override {
    v("layers", layers);
    v("heads", heads);
  }
  Tensor operator()(Tensor x, const std::string& head) {
    for (auto& layer : layers) x = x + (*layer)(x);
    return heads[head](x);
  }
};

using Names = std::vector<std::string>;

Names keys(const nn::StateDict& state) {
  Names names;
  for (const auto& [name, value] : state) names.push_back(name);
  return names;
}

}  // namespace

TEST_CASE("a buffer is saved, loaded and moved, and is no parameter") {
  manual_seed(1);
  nn::Sequential net(nn::Linear(4, 3), Centre());
  CHECK(net.parameter_count() == 12 + 3 + 3);
  CHECK(net.named_parameters().size() == 3);
  CHECK(keys(net.state_dict()) ==
        Names{"0.bias", "0.weight", "1.count", "1.running_mean", "1.weight"});
  const Tensor x = randn({5, 4});
  for (int i = 0; i < 3; ++i) sum(net(x)).backward();
  auto& centre = static_cast<Centre&>(net[1]);
  CHECK(centre.count.item<std::int64_t>() == 3);
  CHECK(!centre.running_mean.requires_grad());
  CHECK(largest(centre.running_mean) > 0);
  CHECK(net.state_dict().at("1.running_mean").storage() == centre.running_mean.storage());

  nn::Sequential other(nn::Linear(4, 3), Centre());
  CHECK(other.load_state_dict(net.state_dict()).empty());
  auto& there = static_cast<Centre&>(other[1]);
  CHECK(same_bits(there.running_mean, centre.running_mean));
  CHECK(there.running_mean.storage() != centre.running_mean.storage());
  CHECK(there.count.item<std::int64_t>() == 3);
  net.eval(), other.eval();
  CHECK(same_bits(net(x), other(x)));

  nn::StateDict state = net.state_dict();
  state.erase("1.count");
  CHECK(message_of<ValueError>([&] { other.load_state_dict(state); }) ==
        "load_state_dict of Sequential: missing [1.count], unexpected [], mismatched []");

  net.to(f64);
  CHECK(centre.running_mean.dtype() == f64);
  CHECK(!centre.running_mean.requires_grad());
  CHECK(values(centre.running_mean) == values(there.running_mean));
  CHECK(centre.count.dtype() == i64);  // as in PyTorch
  CHECK(centre.count.item<std::int64_t>() == 3);
  CHECK(centre.weight.requires_grad());
  CHECK(net(x.to(f64)).dtype() == f64);
}

TEST_CASE("a buffer with history loses it when it moves") {
  Centre centre;
  centre.running_mean = centre.weight * 3.0;
  CHECK(!centre.state_dict().at("running_mean").requires_grad());
  centre.to(f64);
  CHECK(!centre.running_mean.requires_grad());
  CHECK(values(centre.running_mean) == std::vector<double>(3, 6));
  CHECK(centre.parameters().size() == 1);
}

TEST_CASE("forward hooks see input and output, replace it, and go") {
  nn::ReLU relu;
  const Tensor x = tensor({-1, 2});
  Names calls;
  const int first =
      relu.register_forward_hook([&](nn::Layer& layer, const Tensor& input, const Tensor& output) {
        calls.push_back(layer.type_name());
        CHECK(&layer == &relu);
        CHECK(same_bits(input, x));
        CHECK(values(output) == std::vector<double>{0, 2});
        return Tensor();
      });
  CHECK(values(relu(x)) == std::vector<double>{0, 2});
  CHECK(calls == Names{"ReLU"});
  auto plus = [&](double number) {
    return relu.register_forward_hook(
        [&, number](nn::Layer&, const Tensor&, const Tensor& y) { return y * 2.0 + number; });
  };
  const int second = plus(1), third = plus(10);
  CHECK(values(relu(x)) == std::vector<double>{12, 20});  // (2 y + 1) 2 + 10
  relu.remove_forward_hook(second);
  CHECK(values(relu(x)) == std::vector<double>{10, 14});
  relu.remove_forward_hook(third);
  relu.remove_forward_hook(second);  // a second time: nothing
  CHECK(plus(0) > third);            // an id is not used again
  relu.remove_forward_hook(third);
  CHECK(values(relu(x)) == std::vector<double>{0, 4});
  CHECK(calls.size() == 4);
  relu.remove_forward_hook(first);
  relu(x);
  CHECK(calls.size() == 4);
}

TEST_CASE("hooks act inside other layers, on gradients too, and may remove themselves") {
  manual_seed(2);
  nn::Sequential net(nn::Linear(4, 3), nn::Tanh());
  const Tensor x = randn({2, 4}), plain = net(x);
  int calls = 0, id = 0;
  id = net[0].register_forward_hook([&](nn::Layer& layer, const Tensor&, const Tensor& y) {
    ++calls;
    layer.remove_forward_hook(id);
    return y * 0.0;
  });
  const Tensor hooked = net(x);
  CHECK(largest(hooked) == 0);
  sum(hooked).backward();
  CHECK(largest(net.parameters()[0].grad()) == 0);
  CHECK(same_bits(net(x), plain));
  CHECK(calls == 1);

  nn::MLP mlp(4);
  mlp.fc1.register_forward_hook([](nn::Layer&, const Tensor&, const Tensor& y) { return y * 0.0; });
  for (const Gelu approximate : {Gelu::tanh, Gelu::none}) {
    mlp.approximate = approximate;
    CHECK(same_bits(mlp(x), mlp.fc2(zeros({2, 16}))));
  }
  nn::MLP moved = std::move(mlp);
  CHECK(same_bits(moved(x), moved.fc2(zeros({2, 16}))));
}

TEST_CASE("a list and a dict of modules in a module of the user's own") {
  manual_seed(3);
  Holder holder;
  Names names;
  for (const auto& [name, p] : holder.named_parameters()) names.push_back(name);
  CHECK(names == Names{"layers.0.weight", "layers.0.bias", "layers.1.weight", "heads.small.weight",
                       "heads.small.bias", "heads.large.weight", "heads.large.bias"});
  CHECK(holder.state_dict().contains("layers.1.running_mean"));
  CHECK(holder.layers.size() == 2);
  const Tensor x = randn({2, 3});
  holder.eval();
  const Tensor a = x + holder.layers[0](x), b = a + holder.layers[1](a);
  CHECK(same_bits(holder(x, "small"), holder.heads["small"](b)));
  CHECK(holder(x, "large").shape() == Shape{2, 5});
  Names keys;
  for (auto& [name, head] : holder.heads) keys.push_back(name + " " + head->type_name());
  CHECK(keys == Names{"small Linear", "large Linear"});
  CHECK(holder.heads.contains("small"));
  CHECK(!holder.heads.contains("medium"));

  holder.layers.push_back(nn::SiLU());
  CHECK(holder.str() ==
        "Holder(): 39 parameters\n"
        "  layers: ModuleList(): 15 parameters\n"
        "    0: Linear(3 -> 3): 12 parameters\n"
        "    1: Centre(): 3 parameters\n"
        "    2: SiLU(): 0 parameters\n"
        "  heads: ModuleDict(): 24 parameters\n"
        "    small: Linear(3 -> 1): 4 parameters\n"
        "    large: Linear(3 -> 5): 20 parameters\n");
  CHECK(message_of<ValueError>([&] { holder.heads["medium"]; }) ==
        "ModuleDict: needs a name that it has, got 'medium'");
  for (const std::string bad : {"small", "", "a.b"})
    CHECK(message_of<ValueError>([&] { holder.heads.insert(bad, nn::ReLU()); }) ==
          "ModuleDict: needs a new name without dots, got '" + bad + "'");
}

TEST_CASE("containers of one type, and of containers") {
  nn::ModuleList<nn::TransformerBlock> blocks;
  for (int i = 0; i < 2; ++i)
    blocks.push_back(nn::TransformerBlock({.d_model = 8, .head_types = nn::heads("standard")}));
  Tensor x = randn({1, 3, 8});
  for (auto& block : blocks) x = (*block)(x);
  CHECK(x.shape() == Shape{1, 3, 8});
  CHECK(blocks.state_dict().contains("1.mlp.fc1.weight"));

  nn::ModuleList<nn::Module> nested(nn::ModuleList(nn::Linear(2, 2)), nn::Linear(2, 1));
  CHECK(keys(nested.state_dict()) == Names{"0.0.bias", "0.0.weight", "1.bias", "1.weight"});
  nn::ModuleList<nn::Module> moved = std::move(nested);
  CHECK(moved.parameter_count() == 6 + 3);
}

TEST_CASE("activations are their functions") {
  manual_seed(4);
  const Tensor x = randn({3, 5});
  auto check = [&](nn::Layer&& layer, const Tensor& expected, const std::string& name) {
    CHECK(same_bits(layer(x), expected));
    CHECK(layer.str() == name + "(): 0 parameters\n");
  };
  check(nn::ReLU(), relu(x), "ReLU");
  check(nn::GELU(), gelu(x), "GELU");
  check(nn::SiLU(), silu(x), "SiLU");
  check(nn::Tanh(), tanh(x), "Tanh");
  check(nn::Sigmoid(), sigmoid(x), "Sigmoid");
  check(nn::Softplus(), softplus(x), "Softplus");
}

TEST_CASE("RMSNorm") {
  manual_seed(5);
  nn::RMSNorm norm(5, 0.1);
  CHECK(norm.str() == "RMSNorm(5, eps 0.1): 5 parameters\n");
  CHECK(nn::RMSNorm(5).eps == 1e-6);
  CHECK(values(norm.weight) == std::vector<double>(5, 1));
  check_gradients(norm, {randn({3, 5}, {.dtype = f64})},
                  [&](const Tensors& x) { return norm(x[0]); });
  const Tensor x = randn({3, 5}, {.dtype = f64}), y = norm(x);
  const std::vector<double> in = values(x), out = values(y), weight = values(norm.weight);
  for (std::size_t row = 0; row < 3; ++row) {
    double squares = 0;
    for (std::size_t i = 0; i < 5; ++i) squares += in[row * 5 + i] * in[row * 5 + i];
    for (std::size_t i = 0; i < 5; ++i)
      CHECK(out[row * 5 + i] ==
            doctest::Approx(in[row * 5 + i] / std::sqrt(squares / 5 + 0.1) * weight[i]));
  }
}
