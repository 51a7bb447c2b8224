// GradScaler: PyTorch's numbers, steps that are skipped, and state that goes on.
#include <triad/tests/module_checks.h>
#include <triad/tests/temporary_folder.h>

using namespace triad;

namespace {

struct Fixture {
  Tensor p = nn::parameter(from_vector<float>({1, -2, 3}));
  nn::AdamW optimizer{nn::NamedTensors{{"p", p}}, {.lr = 0.1}};

  // A step whose gradients are those of sum(p * by), times the scale.
  bool step(nn::GradScaler& scaler, const std::vector<float>& by) {
    optimizer.zero_grad();
    scaler.scale(sum(p * from_vector(by))).backward();
    const bool done = scaler.step(optimizer);
    scaler.update();
    return done;
  }
  std::vector<double> everything() const {
    std::vector<double> all = values(p);
    for (const auto& [name, x] : optimizer.state_dict())
      for (double value : values(x)) all.push_back(value);
    return all;
  }
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("the scale grows and shrinks as PyTorch's does") {
  // torch.amp.GradScaler("cpu", init_scale=1024., growth_factor=2., backoff_factor=0.5,
  // growth_interval=3), over gradients that are finite (1) and not (0): get_scale() after update().
  Fixture f;
  nn::GradScaler scaler({.init_scale = 1024, .growth_interval = 3});
  const bool finite[] = {true, true, true, true, false, true, true, false, true, true, true, true};
  const double scales[] = {1024, 1024, 2048, 2048, 1024, 1024, 1024, 512, 512, 512, 1024, 1024};
  CHECK(scaler.get_scale() == 1024);
  for (int i = 0; i < 12; ++i) {
    CHECK(f.step(scaler, {1, finite[i] ? 2 : kInfinity, 3}) == finite[i]);
    CHECK(scaler.get_scale() == scales[i]);
  }
  CHECK(f.optimizer.state_dict().at("p.step").item<std::int64_t>() == 10);
  CHECK(nn::GradScaler().get_scale() == 65536);
  // It does not grow to what f32 cannot hold.
  nn::GradScaler large({.init_scale = 0x1p126, .growth_factor = 4, .growth_interval = 1});
  for (int i = 0; i < 3; ++i) CHECK(f.step(large, {0, 0, 0}));
  CHECK(large.get_scale() == 0x1p126);
}

TEST_CASE("a step that is not finite changes nothing, and others are as without a scaler") {
  for (float bad : {kInfinity, -kInfinity, std::nanf("")}) {
    Fixture scaled, plain;
    nn::GradScaler scaler;
    const auto both = [&](const std::vector<float>& by) {
      CHECK(scaled.step(scaler, by));
      plain.optimizer.zero_grad();
      sum(plain.p * from_vector(by)).backward();
      plain.optimizer.step();
      CHECK(scaled.everything() == plain.everything());  // powers of two round nothing
      CHECK(values(scaled.p.grad()) == values(plain.p.grad()));
    };
    both({1, 2, 3});
    CHECK(!scaled.step(scaler, {1, bad, 2}));
    CHECK(scaled.everything() == plain.everything());
    CHECK(scaler.get_scale() == 32768);
    both({-1, 0.5f, 1e-6f});
  }
}

TEST_CASE("gradients that are small in f16 are kept by the scale, and large ones are found") {
  const auto gradient = [](double scale, double factor) {
    Tensor x = full({4, 4}, 0.5).requires_grad_();
    const Autocast guard(f16);
    (sum(matmul(x, ones({4, 4}))) * factor * scale).backward();
    return values(x.grad())[0] / scale;
  };
  CHECK(gradient(1, 1e-9) == 0);
  CHECK(gradient(65536, 1e-9) == doctest::Approx(4e-9).epsilon(1e-3));
  CHECK(gradient(65536, 1) == kInfinity);
  CHECK(gradient(1024, 1) == 4);
}

TEST_CASE("gradients are clipped and looked at after unscale_") {
  Fixture f;
  nn::GradScaler scaler({.init_scale = 8});
  scaler.scale(sum(f.p * from_vector<float>({3, 0, 4}))).backward();
  CHECK(values(f.p.grad()) == std::vector<double>{24, 0, 32});
  scaler.unscale_(f.optimizer);
  CHECK(values(f.p.grad()) == std::vector<double>{3, 0, 4});
  CHECK(nn::clip_grad_norm({f.p}, 1).item<double>() == doctest::Approx(5));
  CHECK(values(f.p.grad())[2] == doctest::Approx(0.8).epsilon(1e-5));
  CHECK(scaler.step(f.optimizer));  // does not unscale again
  CHECK(values(f.p.grad())[2] == doctest::Approx(0.8).epsilon(1e-5));
  scaler.update();
  // What unscale_ has found, clipping does not hide.
  f.optimizer.zero_grad();
  scaler.scale(sum(f.p * from_vector<float>({kInfinity, 0, 4}))).backward();
  scaler.unscale_(f.optimizer);
  CHECK(nn::clip_grad_norm({f.p}, 1).item<double>() == kInfinity);
  CHECK(!scaler.step(f.optimizer));
}

TEST_CASE("each optimizer is skipped for itself, and the scale is that of all") {
  Fixture a, b;
  nn::GradScaler scaler({.init_scale = 4});
  const std::vector<double> before = b.everything();
  scaler.scale(sum(a.p) + sum(b.p * full({3}, INFINITY))).backward();
  CHECK(scaler.step(a.optimizer));
  CHECK(!scaler.step(b.optimizer));
  scaler.update();
  CHECK(scaler.get_scale() == 2);
  CHECK(b.everything() == before);
  // Without any gradient there is nothing to be found.
  Fixture none;
  CHECK(scaler.step(none.optimizer));
}

TEST_CASE("its state goes on through a file") {
  TemporaryFolder folder;
  Fixture f;
  nn::GradScaler first({.init_scale = 64, .growth_interval = 4});
  f.step(first, {1, kInfinity, 1});
  for (int i = 0; i < 3; ++i) f.step(first, {1, 1, 1});
  nn::save_safetensors(folder / "x", first.state_dict());
  nn::GradScaler second({.init_scale = 7, .growth_interval = 4});
  second.load_state_dict(nn::load_safetensors(folder / "x"));
  CHECK(second.get_scale() == 32);
  for (nn::GradScaler* scaler : {&first, &second}) {
    f.step(*scaler, {1, 1, 1});
    CHECK(scaler->get_scale() == 64);
  }
  CHECK(message_of<ValueError>([&] {
          second.load_state_dict({});
        }).starts_with("load_state_dict of GradScaler: missing [_growth_tracker, scale]"));
  CHECK(second.get_scale() == 64);
}

TEST_CASE("what comes out of order, and what cannot be") {
  Fixture f;
  nn::GradScaler scaler;
  CHECK(message_of<ValueError>([&] { scaler.update(); }) ==
        "GradScaler: update comes after step or unscale_");
  scaler.scale(sum(f.p)).backward();
  scaler.unscale_(f.optimizer);
  const char* once = "GradScaler: unscale_ comes once before each update, and not after step";
  CHECK(message_of<ValueError>([&] { scaler.unscale_(f.optimizer); }) == once);
  CHECK(scaler.step(f.optimizer));
  CHECK(message_of<ValueError>([&] { scaler.unscale_(f.optimizer); }) == once);
  scaler.update();
  for (const nn::GradScalerOptions& o :
       {nn::GradScalerOptions{.init_scale = 0}, nn::GradScalerOptions{.growth_factor = 1},
        nn::GradScalerOptions{.backoff_factor = 1}, nn::GradScalerOptions{.growth_interval = 0}})
    CHECK(message_of<ValueError>([&] {
            nn::GradScaler wrong(o);
          }).starts_with("GradScaler: needs init_scale > 0"));
  Tensor half = nn::parameter(ones({2}, {.dtype = f16}));
  nn::SGD optimizer(nn::NamedTensors{{"half", half}});
  sum(half).backward();
  CHECK(message_of<DTypeError>([&] { nn::GradScaler().step(optimizer); }) ==
        "GradScaler: needs parameters in f32, half is f16");
}
