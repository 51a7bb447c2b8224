// Learning rates as functions of the step, counted from 0:
//
//   optimizer.set_lr(nn::cosine_lr(step, {.lr = 3e-4, .steps = 1000, .warmup_steps = 100}));
#pragma once

#include <cstdint>

namespace triad::nn {

struct Schedule {
  double lr = 1e-3;               // the highest
  std::int64_t steps = 1;         // where `final_lr` is reached; it stays there
  std::int64_t warmup_steps = 0;  // rising evenly: step n has lr (n + 1) / (warmup_steps + 1)
  double final_lr = 0;
};

// A negative step or length, or a warm-up that is not shorter than `steps`, is a ValueError.

// `lr` for ever after the warm-up; `steps` and `final_lr` play no part.
double constant_lr(std::int64_t step, const Schedule& schedule);
// From `lr` to `final_lr` in a straight line.
double linear_lr(std::int64_t step, const Schedule& schedule);
// From `lr` to `final_lr` along half a cosine. Loshchilov & Hutter 2017, arXiv 1608.03983.
double cosine_lr(std::int64_t step, const Schedule& schedule);

}  // namespace triad::nn
