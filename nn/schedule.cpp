#include <triad/nn/schedule.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include <triad/core/format.h>

namespace triad::nn {
namespace {

// Blends from lr to final_lr by `share`, a function from how much of the way after the warm-up is
// done, 0 to 1, to how much of lr is left.
template <class Share>
double scheduled(const char* op, std::int64_t step, const Schedule& s, Share share) {
  if (step < 0 || s.warmup_steps < 0 || s.warmup_steps >= s.steps)
    throw_error<ValueError>("{}: needs step >= 0 and 0 <= warmup_steps < steps, got {}, {} and {}",
                            op, step, s.warmup_steps, s.steps);
  if (step < s.warmup_steps) return s.lr * double(step + 1) / double(s.warmup_steps + 1);
  const double done = double(step - s.warmup_steps) / double(s.steps - s.warmup_steps);
  return s.final_lr + (s.lr - s.final_lr) * share(std::min(done, 1.0));
}

}  // namespace

double constant_lr(std::int64_t step, const Schedule& schedule) {
  Schedule endless = schedule;
  endless.steps = endless.warmup_steps + 1;
  return scheduled("constant_lr", step, endless, [](double) { return 1.0; });
}

double linear_lr(std::int64_t step, const Schedule& schedule) {
  return scheduled("linear_lr", step, schedule, [](double done) { return 1 - done; });
}

double cosine_lr(std::int64_t step, const Schedule& schedule) {
  return scheduled("cosine_lr", step, schedule,
                   [](double done) { return (1 + std::cos(std::numbers::pi * done)) / 2; });
}

}  // namespace triad::nn
