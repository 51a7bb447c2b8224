// The running mean of weights against the same in fp64.
#include <triad/tests/module_checks.h>
#include <triad/tests/temporary_folder.h>

using namespace triad;

namespace {

using Values = std::vector<double>;

struct Model : nn::Module {
  nn::Linear first{3, 4}, second{3, 4};
  Tensor scale = full({2}, 5), count = scalar(1, {.dtype = i64});
  Model() { second.weight = first.weight; }
  void visit(nn::Visitor& v) override {
    v("first", first);
    v("second", second);
    v.buffer("scale", scale);
    v.buffer("count", count);
  }
};

// As a training step would: other values for everything.
void change(Model& model) {
  randomise(model);
  model.scale = rand({2}) + 1.0;  // a new tensor in the buffer's place
  model.count.copy_(model.count + 1.0);
}

}  // namespace

TEST_CASE("means of weights and floating buffers, step by step") {
  manual_seed(1);
  Model model;
  nn::EMA ema(model, 0.9);
  std::map<std::string, Values> means;
  for (const auto& [name, t] : model.state_dict()) means[name] = values(t);
  for (int step = 0; step < 6; ++step) {
    change(model);
    ema.update();
    for (const auto& [name, t] : model.state_dict()) {
      CAPTURE(name);
      const Values now = values(t), mean = values(ema.state_dict().at(name));
      REQUIRE(mean.size() == now.size());
      for (std::size_t i = 0; i < now.size(); ++i) {
        double& expected = means[name][i];
        expected = name == "count" ? now[i] : 0.9 * expected + 0.1 * now[i];
        CHECK(mean[i] == doctest::Approx(expected).epsilon(1e-5));
      }
    }
  }
  CHECK(ema.state_dict().at("count").item<std::int64_t>() == 7);
  CHECK(!same_bits(ema.state_dict().at("first.bias"), model.first.bias.detach()));
}

TEST_CASE("the first mean is the weights, in memory of its own") {
  manual_seed(2);
  Model model;
  nn::EMA ema(model);
  for (const auto& [name, t] : model.state_dict()) {
    CHECK(same_bits(ema.state_dict().at(name), t));
    CHECK(ema.state_dict().at(name).storage() != t.storage());
  }
  for (int i = 0; i < 3; ++i) ema.update();
  CHECK(largest_difference(ema.state_dict().at("first.weight"), model.first.weight) < 1e-7);
}

TEST_CASE("the model has the means for an evaluation, then its own weights, also on an exception") {
  manual_seed(3);
  Model model;
  nn::EMA ema(model, 0.5);
  change(model);
  ema.update();
  nn::StateDict own;
  for (const auto& [name, t] : model.state_dict()) own[name] = t.clone();
  const Tensor weight = model.first.weight;
  auto check = [&](const nn::StateDict& expected) {
    for (const auto& [name, t] : model.state_dict()) CHECK(same_bits(t, expected.at(name)));
  };
  CHECK_THROWS([&] {
    auto averaged = ema.average_parameters();
    check(ema.state_dict());
    CHECK(model.first.weight.storage() == weight.storage());
    CHECK(model.first.weight.requires_grad());
    CHECK(!same_bits(model.first.weight, own.at("first.weight")));
    throw ValueError("in the evaluation");
  }());
  check(own);
  ema.copy_to();
  check(ema.state_dict());
}

TEST_CASE("its state goes through a file, into a model or another mean") {
  manual_seed(4);
  TemporaryFolder folder;
  Model model, other;
  nn::EMA ema(model, 0.5);
  change(model);
  ema.update();
  nn::save_safetensors(folder / "ema", ema.state_dict());
  const nn::StateDict state = nn::load_safetensors(folder / "ema");
  CHECK(other.load_state_dict(state).empty());
  nn::EMA resumed(model, 0.5);
  resumed.load_state_dict(state);
  change(model);
  ema.update();
  resumed.update();
  for (const auto& [name, mean] : ema.state_dict())
    CHECK(same_bits(resumed.state_dict().at(name), mean));
  CHECK(!same_bits(other.first.bias, ema.state_dict().at("first.bias")));
  CHECK(message_of<ValueError>([&] {
          ema.load_state_dict({{"first.bias", zeros({5})}});
        }) ==
        "load_state_dict of EMA: missing [count, first.weight, scale, second.bias, second.weight], "
        "unexpected [], mismatched [first.bias (here f32[4], there f32[5])]");
}

TEST_CASE("of a bf16 model the means are f32: small steps are not rounded away") {
  nn::Linear linear(2, 2);
  linear.to(bf16);
  nn::init::trunc_normal_(linear.weight);
  nn::EMA ema(linear, 0.999);
  const Values before = values(linear.weight);
  no_grad([&] { linear.weight.copy_(linear.weight.to(f32) + 1.0); });
  const Values after = values(linear.weight);
  ema.update();
  const Values mean = values(ema.state_dict().at("weight"));
  CHECK(ema.state_dict().at("weight").dtype() == f32);
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(std::abs(mean[i] - (0.999 * before[i] + 0.001 * after[i])) < 1e-6);
  ema.copy_to();
  CHECK(linear.weight.dtype() == bf16);
}

TEST_CASE("a decay outside 0..1 is refused") {
  nn::Linear linear(2, 2);
  CHECK(message_of<ValueError>([&] { nn::EMA(linear, 1.5); }) ==
        "EMA: needs decay in 0..1, got 1.5");
  CHECK(message_of<ValueError>([&] { nn::EMA(linear, std::nan("")); }) ==
        "EMA: needs decay in 0..1, got nan");
}
