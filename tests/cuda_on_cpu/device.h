// The simulated device: what it runs, and what tests can ask of it.
#pragma once

#include <functional>
#include <string>

#include <triad/core/device.h>

namespace triad::cuda {

// Runs f, now or, while a graph is captured, at each replay of it.
void enqueue(Cuda device, std::function<void()> f);

extern int capability_shown;     // 9 unless a test sets it: there are other kernels for others
extern int blocks_left;          // that its memory can give; below 0: as many as fit
extern std::string ranges_seen;  // of NVTX: "softmax()mlp(linear())"

}  // namespace triad::cuda
