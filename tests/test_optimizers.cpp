// Optimizers against the arithmetic of torch.optim written out in fp64, their state in a file, and
// clipping.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <triad/nn/layers.h>
#include <triad/nn/optimizer.h>
#include <triad/nn/safetensors.h>
#include <triad/nn/transformer.h>
#include <triad/tests/module_checks.h>
#include <triad/tests/temporary_folder.h>

using namespace triad;

namespace {

using Values = std::vector<double>;

// Parameters of odd sizes with gradients that change from step to step.
struct Fixture {
  explicit Fixture(DType dtype = f64) {
    manual_seed(1);
    parameters = {{"a.weight", nn::parameter(randn({7, 5}, {.dtype = dtype}))},
                  {"a.bias", nn::parameter(randn({3}, {.dtype = dtype}))}};
  }
  void new_gradients() {
    for (auto& [name, p] : parameters) p.set_grad(randn(p.shape(), {.dtype = p.dtype()}));
  }
  nn::NamedTensors parameters;
};

// torch.optim._single_tensor_adam, element by element.
struct AdamTwin {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
  Values m, v;

  void step(Values& p, const Values& gradient, int n) {
    m.resize(p.size());
    v.resize(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      double g = gradient[i];
      if (decoupled) p[i] *= 1 - lr * weight_decay;
      else g += weight_decay * p[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const double mean = m[i] / (1 - std::pow(beta1, n)), square = v[i] / (1 - std::pow(beta2, n));
      p[i] -= lr * mean / (std::sqrt(square) + eps);
    }
  }
};

// torch.optim._single_tensor_sgd.
struct SgdTwin {
  nn::SGDOptions o;
  Values buffer = {};

  void step(Values& p, const Values& gradient, int) {
    const bool first = buffer.empty();
    buffer.resize(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      double g = gradient[i] + o.weight_decay * p[i];
      if (o.momentum != 0) {
        buffer[i] = first ? g : o.momentum * buffer[i] + (1 - o.dampening) * g;
        g = o.nesterov ? g + o.momentum * buffer[i] : buffer[i];
      }
      p[i] -= o.lr * g;
    }
  }
};

// Five steps of both, from the same values with the same gradients.
template <class Twin>
void check_against_twin(Fixture& fixture, nn::Optimizer& optimizer, std::vector<Twin> twins) {
  std::vector<Values> expected;
  for (auto& [name, p] : fixture.parameters) expected.push_back(values(p));
  const bool is_f64 = fixture.parameters[0].second.dtype() == f64;
  for (int n = 1; n <= 5; ++n) {
    fixture.new_gradients();
    optimizer.step();
    for (std::size_t i = 0; i < twins.size(); ++i) {
      const Tensor& p = fixture.parameters[i].second;
      twins[i].step(expected[i], values(p.grad()), n);
      const Values actual = values(p);
      for (std::size_t j = 0; j < actual.size(); ++j)
        CHECK(std::abs(actual[j] - expected[i][j]) < (is_f64 ? 1e-12 : 2e-6));
    }
  }
}

std::vector<nn::ParameterGroup> two_groups(const nn::NamedTensors& p) {
  return {{.parameters = {p[0]}, .weight_decay = 0.3},
          {.parameters = {p[1]}, .weight_decay = 0, .lr_factor = 0.5}};
}

}  // namespace

TEST_CASE("Adam and AdamW are PyTorch's") {
  for (DType dtype : {f64, f32}) {
    CAPTURE(name(dtype));
    {
      Fixture f(dtype);
      nn::AdamW optimizer(f.parameters);
      check_against_twin<AdamTwin>(f, optimizer,
                                   {2, AdamTwin{1e-3, 0.9, 0.999, 1e-8, 0.01, true, {}, {}}});
    }
    {
      Fixture f(dtype);
      nn::Adam optimizer(f.parameters);
      check_against_twin<AdamTwin>(f, optimizer,
                                   {2, AdamTwin{1e-3, 0.9, 0.999, 1e-8, 0, false, {}, {}}});
    }
    {
      Fixture f(dtype);
      nn::Adam optimizer(two_groups(f.parameters),
                         {.lr = 0.1, .betas = {0.8, 0.9}, .eps = 1e-3, .weight_decay = 7});
      check_against_twin<AdamTwin>(
          f, optimizer,
          {{0.1, 0.8, 0.9, 1e-3, 0.3, false, {}, {}}, {0.05, 0.8, 0.9, 1e-3, 0, false, {}, {}}});
    }
    {
      Fixture f(dtype);
      nn::AdamW optimizer(two_groups(f.parameters), {.lr = 7, .betas = {0.8, 0.9}});
      optimizer.set_lr(0.1);
      CHECK(optimizer.lr() == 0.1);
      check_against_twin<AdamTwin>(
          f, optimizer,
          {{0.1, 0.8, 0.9, 1e-8, 0.3, true, {}, {}}, {0.05, 0.8, 0.9, 1e-8, 0, true, {}, {}}});
    }
  }
}

TEST_CASE("SGD is PyTorch's") {
  const nn::SGDOptions cases[] = {
      {},
      {.lr = 0.1, .weight_decay = 0.3},
      {.lr = 0.1, .momentum = 0.9},
      {.lr = 0.1, .momentum = 0.9, .dampening = 0.2, .weight_decay = 0.3},
      {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.3, .nesterov = true},
  };
  for (const nn::SGDOptions& options : cases) {
    for (DType dtype : {f64, f32}) {
      CAPTURE(name(dtype));
      Fixture f(dtype);
      nn::SGD optimizer(f.parameters, options);
      check_against_twin<SgdTwin>(f, optimizer, {2, SgdTwin{options}});
    }
  }
}

TEST_CASE("a parameter without a gradient keeps its value, its state and its step") {
  Fixture f;
  nn::AdamW optimizer(f.parameters, {.lr = 0.1});
  f.new_gradients();
  optimizer.step();
  const Values a = values(f.parameters[0].second), b = values(f.parameters[1].second);
  optimizer.zero_grad();
  CHECK_FALSE(f.parameters[0].second.grad().defined());
  optimizer.step();
  CHECK(values(f.parameters[0].second) == a);
  f.parameters[0].second.set_grad(ones({7, 5}, {.dtype = f64}));
  optimizer.step();
  CHECK(values(f.parameters[0].second) != a);
  CHECK(values(f.parameters[1].second) == b);
  CHECK(optimizer.state_dict().at("a.weight.step").item<std::int64_t>() == 2);
  CHECK(optimizer.state_dict().at("a.bias.step").item<std::int64_t>() == 1);
}

TEST_CASE("frozen parameters are left out") {
  Fixture f;
  f.parameters[1].second.requires_grad_(false);
  nn::AdamW optimizer(f.parameters, {.lr = 0.1});
  CHECK(optimizer.state_dict().size() == 3);  // of a.weight alone
  const Values frozen = values(f.parameters[1].second);
  f.parameters[0].second.set_grad(ones({7, 5}, {.dtype = f64}));
  optimizer.step();
  CHECK(values(f.parameters[1].second) == frozen);
}

TEST_CASE("gradients of any strides") {
  Fixture f, g;
  nn::AdamW first(f.parameters), second(g.parameters);
  const Tensor gradient = randn({5, 7}, {.dtype = f64}).transpose(0, 1);
  REQUIRE_FALSE(gradient.is_contiguous());
  f.parameters[0].second.set_grad(gradient);
  g.parameters[0].second.set_grad(gradient.contiguous());
  first.step();
  second.step();
  CHECK(values(f.parameters[0].second) == values(g.parameters[0].second));
}

TEST_CASE("a quadratic is minimised") {
  manual_seed(3);
  const Tensor target = randn({20}), curvature = rand({20}) * 3.0 + 0.5;
  auto distance = [&](auto make) {
    Tensor x = nn::parameter(zeros({20}));
    auto optimizer = make(nn::NamedTensors{{"x", x}});
    for (int i = 0; i < 400; ++i) {
      optimizer.zero_grad();
      sum(curvature * square(x - target)).backward();
      optimizer.step();
    }
    return norm(x.detach() - target).item<double>();
  };
  CHECK(distance([](auto p) { return nn::SGD(p, {.lr = 0.05}); }) < 1e-3);
  CHECK(distance([](auto p) { return nn::SGD(p, {.lr = 0.02, .momentum = 0.8}); }) < 1e-3);
  CHECK(distance([](auto p) { return nn::Adam(p, {.lr = 0.05}); }) < 1e-2);
  CHECK(distance([](auto p) { return nn::AdamW(p, {.lr = 0.05, .weight_decay = 0}); }) < 1e-2);
}

TEST_CASE("a state that went through a file continues bit for bit") {
  TemporaryFolder folder;
  auto run = [&](auto make, const std::string& one_entry) {
    Fixture f(f32);
    auto optimizer = make(f.parameters);
    for (int i = 0; i < 3; ++i) {
      f.new_gradients();
      optimizer.step();
    }
    CHECK(optimizer.state_dict().contains(one_entry));
    nn::save_safetensors(folder / "state", optimizer.state_dict());
    Fixture copy(f32);
    auto resumed = make(copy.parameters);
    for (std::size_t i = 0; i < 2; ++i)
      copy.parameters[i].second.detach().copy_(f.parameters[i].second.detach());
    resumed.load_state_dict(nn::load_safetensors(folder / "state"));
    for (int i = 0; i < 3; ++i) {
      f.new_gradients();
      for (std::size_t j = 0; j < 2; ++j)
        copy.parameters[j].second.set_grad(f.parameters[j].second.grad());
      optimizer.step();
      resumed.step();
    }
    for (std::size_t i = 0; i < 2; ++i)
      CHECK(f.parameters[i].second.to_vector<float>() ==
            copy.parameters[i].second.to_vector<float>());
  };
  run([](auto p) { return nn::AdamW(p, {.lr = 0.1}); }, "a.weight.exp_avg_sq");
  run([](auto p) { return nn::Adam(p, {.lr = 0.1, .weight_decay = 0.1}); }, "a.bias.exp_avg");
  run([](auto p) { return nn::SGD(p, {.lr = 0.1, .momentum = 0.9}); }, "a.bias.momentum_buffer");
  run([](auto p) { return nn::SGD(p, {.lr = 0.1}); }, "a.bias.step");
}

TEST_CASE("a state that does not match is listed and changes nothing") {
  Fixture f;
  nn::AdamW optimizer(f.parameters);
  f.new_gradients();
  optimizer.step();
  const Values before = values(optimizer.state_dict().at("a.weight.exp_avg"));
  nn::StateDict state;
  for (auto& [name, value] : optimizer.state_dict())
    state[name] = value.dtype() == i64 ? value : zeros(value.shape(), {.dtype = value.dtype()});
  state.erase("a.bias.exp_avg");
  state["b.exp_avg"] = zeros({3});
  state["a.bias.exp_avg_sq"] = zeros({4}, {.dtype = f64});
  CHECK(message_of<ValueError>([&] { optimizer.load_state_dict(state); }) ==
        "load_state_dict of AdamW: missing [a.bias.exp_avg], unexpected [b.exp_avg], mismatched "
        "[a.bias.exp_avg_sq (here f64[3], there f64[4])]");
  state = optimizer.state_dict();
  state["a.bias.step"] = from_vector<std::int64_t>({-1}, {});
  CHECK(message_of<ValueError>([&] { optimizer.load_state_dict(state); }) ==
        "load_state_dict of AdamW: a.bias.step is -1");
  CHECK(values(optimizer.state_dict().at("a.weight.exp_avg")) == before);
  state = optimizer.state_dict();
  state["a.bias.exp_avg"] = state["a.bias.exp_avg"].to(f32);
  CHECK(message_of<ValueError>([&] { optimizer.load_state_dict(state); }) ==
        "load_state_dict of AdamW: missing [], unexpected [], mismatched [a.bias.exp_avg (here "
        "f64[3], there f32[3])]");
}

TEST_CASE("what an optimizer refuses") {
  Fixture f;
  CHECK(message_of<ValueError>([&] { nn::AdamW(f.parameters, {.lr = -1}); }) ==
        "AdamW: needs lr >= 0 and < inf, got -1");
  CHECK(message_of<ValueError>([&] {
          nn::AdamW(f.parameters, {.betas = {0.9, 1}});
        }) == "AdamW: needs betas >= 0 and < 1, got 1");
  CHECK(message_of<ValueError>([&] { nn::Adam(f.parameters, {.eps = std::nan("")}); }) ==
        "Adam: needs eps >= 0 and < inf, got nan");
  CHECK(message_of<ValueError>([&] { nn::SGD(f.parameters, {.momentum = -1}); }) ==
        "SGD: needs momentum >= 0 and < inf, got -1");
  CHECK(message_of<ValueError>([&] { nn::SGD(f.parameters, {.nesterov = true}); }) ==
        "SGD: nesterov needs a momentum and no dampening, got 0 and 0");
  CHECK(message_of<ValueError>([&] { nn::SGD(std::vector<nn::ParameterGroup>{}); }) ==
        "SGD: needs parameters that require a gradient, got none");
  CHECK(message_of<ValueError>([&] {
          nn::SGD({{f.parameters}, {{f.parameters[1]}}});
        }) == "SGD: needs every parameter once, got a.bias twice");
  CHECK(message_of<ValueError>([&] {
          nn::SGD(nn::NamedTensors{{"x", zeros({2})}});
        }) == "SGD: needs parameters that require a gradient, got none");
  CHECK(message_of<ValueError>([&] {
          nn::SGD(nn::NamedTensors{{"x", f.parameters[0].second * 2.0}});
        }) == "SGD: needs contiguous leaves, x is not one");
  nn::SGD optimizer(f.parameters);
  CHECK(message_of<ValueError>([&] {
          optimizer.set_lr(std::numeric_limits<double>::infinity());
        }) == "SGD: needs lr >= 0 and < inf, got inf");
}

TEST_CASE("norms, biases, positions and filters do not decay") {
  nn::TransformerLM model({.vocab_size = 8,
                           .d_model = 8,
                           .layers = 1,
                           .head_types = nn::heads("standard, spectral, holonomy*2"),
                           .max_seq_len = 4});
  const auto groups = nn::decay_groups(model, 0.1);
  REQUIRE(groups.size() == 2);
  auto names = [](const nn::ParameterGroup& group) {
    std::vector<std::string> found;
    for (auto& [name, p] : group.parameters) found.push_back(name);
    std::sort(found.begin(), found.end());
    return found;
  };
  CHECK(*groups[0].weight_decay == 0.1);
  CHECK(names(groups[0]) ==
        std::vector<std::string>{
            "blocks.0.attn.W_o.weight", "blocks.0.attn.W_qkv.weight",
            "blocks.0.attn.attention_modules.holonomy.curvature",
            "blocks.0.attn.attention_modules.spectral.spectral_attn.W_o.weight",
            "blocks.0.attn.attention_modules.spectral.spectral_attn.W_qkv.weight",
            "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight", "head.weight", "tok.weight"});
  CHECK(*groups[1].weight_decay == 0);
  CHECK(groups[0].parameters.size() + groups[1].parameters.size() ==
        model.named_parameters().size());
}

TEST_CASE("clip_grad_norm") {
  Fixture f(f32);
  const std::vector<Tensor> parameters = {f.parameters[0].second, f.parameters[1].second,
                                          nn::parameter(zeros({4}))};  // the last has no gradient
  f.new_gradients();
  f.parameters[0].second.set_grad(randn({5, 7}).transpose(0, 1));
  double squares = 0;
  std::vector<Values> before;
  for (int i : {0, 1}) {
    before.push_back(values(parameters[i].grad()));
    for (double g : before.back()) squares += g * g;
  }
  const double expected = std::sqrt(squares);

  CHECK(nn::clip_grad_norm(parameters, 2 * expected).item<double>() ==
        doctest::Approx(expected).epsilon(1e-9));
  for (std::size_t i : {0, 1}) CHECK(values(parameters[i].grad()) == before[i]);

  CHECK(nn::clip_grad_norm(parameters, 0.5).item<double>() ==
        doctest::Approx(expected).epsilon(1e-9));
  for (std::size_t i : {0, 1}) {
    const Values after = values(parameters[i].grad());
    for (std::size_t j = 0; j < after.size(); ++j)
      CHECK(after[j] == doctest::Approx(before[i][j] * 0.5 / (expected + 1e-6)).epsilon(1e-6));
  }
  CHECK(nn::clip_grad_norm(parameters, 0.5).item<double>() == doctest::Approx(0.5).epsilon(1e-5));

  Values bad = values(parameters[1].grad());
  bad[1] = std::numeric_limits<double>::infinity();
  parameters[1].set_grad(from_vector(bad, {3}).to(f32));
  CHECK(std::isinf(nn::clip_grad_norm(parameters, 0.5).item<double>()));
  CHECK(values(parameters[1].grad()) == bad);
  CHECK(message_of<ValueError>([&] { nn::clip_grad_norm(parameters, 0); }) ==
        "clip_grad_norm: needs max_norm > 0, got 0");
}
