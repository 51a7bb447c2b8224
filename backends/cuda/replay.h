// What changes from one replay of a captured step to the next, read by kernels from device memory.
#pragma once

#include <cstdint>

#include <triad/core/device.h>

namespace triad::cuda {

struct ReplayState {
  std::uint64_t streams;  // how many streams of random numbers further than the capture
  std::int64_t steps;     // how many optimizer steps further
  double lr;              // the optimizer's
};

// On the device; null unless a step is being captured.
const ReplayState* replay_state(Cuda device);
void set_replay_state(Cuda device, const ReplayState* state);

}  // namespace triad::cuda
