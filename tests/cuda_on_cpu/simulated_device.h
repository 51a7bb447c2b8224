// What tests can ask of the simulated devices, and tell them.
#pragma once

#include <climits>
#include <cstddef>
#include <string>

namespace triad::cuda {

inline constexpr int kSimulatedDevices = 2;

// The devices' kind, 9 for Hopper, and the shared memory of a block: kernels are chosen by them.
inline int capability_shown = 9;
inline std::size_t shared_bytes_shown = 227 << 10;

// How many more blocks their memory gives, below 0 as many as fit, and how many it refuses then.
inline int blocks_left = -1, refusals_left = INT_MAX;

inline int epilogues_seen = 0;   // of cuBLASLt's products: their bits
inline std::string ranges_seen;  // of NVTX: "softmax()mlp(linear())"

}  // namespace triad::cuda
