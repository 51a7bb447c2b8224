// Learning rates over the steps.
#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <string>

#include <triad/core/error.h>
#include <triad/nn/optimizer.h>

using namespace triad;
using doctest::Approx;

TEST_CASE("all rise evenly to lr") {
  const nn::Schedule schedule{.lr = 0.8, .steps = 20, .warmup_steps = 3, .final_lr = 0.1};
  for (auto* lr : {nn::constant_lr, nn::linear_lr, nn::cosine_lr}) {
    CHECK(lr(0, schedule) == Approx(0.2));
    CHECK(lr(1, schedule) == Approx(0.4));
    CHECK(lr(2, schedule) == Approx(0.6));
    CHECK(lr(3, schedule) == Approx(0.8));
  }
}

TEST_CASE("then they stay, or fall to final_lr and stay there") {
  const nn::Schedule schedule{.lr = 0.8, .steps = 20, .warmup_steps = 4, .final_lr = 0.1};
  for (int step = 4; step < 20; ++step) {
    const double done = (step - 4) / 16.0;
    CHECK(nn::constant_lr(step, schedule) == 0.8);
    CHECK(nn::linear_lr(step, schedule) == Approx(0.8 - 0.7 * done));
    // torch.optim.lr_scheduler.CosineAnnealingLR with T_max 16 and eta_min 0.1
    CHECK(nn::cosine_lr(step, schedule) ==
          Approx(0.1 + 0.7 * (1 + std::cos(std::numbers::pi * done)) / 2));
  }
  for (int step : {20, 21, 1000000}) {
    CHECK(nn::constant_lr(step, schedule) == 0.8);
    CHECK(nn::linear_lr(step, schedule) == Approx(0.1));
    CHECK(nn::cosine_lr(step, schedule) == Approx(0.1));
  }
}

TEST_CASE("without a warm-up they start at lr") {
  const nn::Schedule schedule{.lr = 0.8, .steps = 1};
  for (auto* lr : {nn::constant_lr, nn::linear_lr, nn::cosine_lr}) CHECK(lr(0, schedule) == 0.8);
  CHECK(nn::linear_lr(1, schedule) == 0);
}

TEST_CASE("what schedules refuse") {
  auto failure = [](std::int64_t step, const nn::Schedule& schedule) -> std::string {
    try {
      nn::cosine_lr(step, schedule);
    } catch (const ValueError& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(failure(-1, {.steps = 10}) ==
        "cosine_lr: needs step >= 0 and 0 <= warmup_steps < steps, got -1, 0 and 10");
  CHECK(failure(0, {.steps = 10, .warmup_steps = 10}) ==
        "cosine_lr: needs step >= 0 and 0 <= warmup_steps < steps, got 0, 10 and 10");
  CHECK(failure(0, {.steps = 10, .warmup_steps = -1}) != "no error");
  CHECK(failure(0, {.steps = 0}) != "no error");
  CHECK(nn::constant_lr(5, {.lr = 0.8, .warmup_steps = 3}) == 0.8);  // has no use for `steps`
}
