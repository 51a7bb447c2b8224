// The simulated device: what it runs, and what tests can ask of it.
#pragma once

#include <functional>
#include <string>

#include <triad/core/device.h>

namespace triad::cuda {

// Runs f, now or, while a graph is captured, at each replay of it.
void enqueue(Cuda device, std::function<void()> f);

// Writes down which kernel has run under which schedule, for coverage.py.
void note_launch(const void* kernel);

// What a test may set: the device's kind, 9 for Hopper, and the shared memory of a block, 227 KiB,
// since kernels are chosen by them; how many more blocks its memory gives, below 0 as many as fit,
// and how many it refuses then.
extern int capability_shown, blocks_left, refusals_left;
extern std::size_t shared_bytes_shown;
extern std::string ranges_seen;  // of NVTX: "softmax()mlp(linear())"

}  // namespace triad::cuda
