// What tests can ask of the simulated device.
#pragma once

#include <string>

namespace triad::cuda {

extern int blocks_left;          // that its memory can give; below 0: as many as fit
extern std::string ranges_seen;  // of NVTX: "softmax()mlp(linear())"

}  // namespace triad::cuda
