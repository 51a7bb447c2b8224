// A sequence of launches, captured once and replayed: a training step.
//
// What changes from one replay to the next, kernels read from device memory: how far random numbers
// and step counts have advanced, and the learning rate. What a captured step allocates lies in
// memory of its own, which nothing else uses between replays.
#pragma once

#include <triad/backends/cuda/runtime.h>
#include <triad/core/random.h>

namespace triad::cuda {

struct ReplayState {
  std::uint64_t seed;     // of random numbers
  std::uint64_t streams;  // how many streams of random numbers further than the capture
  std::int64_t steps;     // how many optimizer steps further
  double lr;              // the optimizer's, which was 1 at the capture
};

// On the device; null unless this thread is capturing a step.
const ReplayState* replay_state();

class CapturedStep {
 public:
  // Captures what `step` launches on the device, which runs nothing. `step` may throw.
  CapturedStep(Cuda device, const Function<void()>& step);
  // Runs it, so many optimizer steps further than the capture; random_state() moves on as if `step`
  // had been called.
  void replay(double lr, std::int64_t steps);

 private:
  Cuda device_;
  PrivatePool pool_;
  std::shared_ptr<Storage> state_;
  std::uint64_t first_stream_, streams_ = 0;
  Function<void()> graph_;
};

}  // namespace triad::cuda
