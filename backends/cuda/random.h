// Philox in kernels: the same words as on the CPU.
#pragma once

#include <triad/backends/cuda/elements.h>
#include <triad/backends/cuda/replay.h>

namespace triad::cuda {

// A stream of random words; in a captured step (replay.h) each replay has others.
struct DeviceRandom {
  std::uint64_t seed, stream;
  const ReplayState* replay;

  // Words 4 counter .. 4 counter + 3.
  __device__ Philox4 words(Index counter) const {
    if (!replay) return philox(seed, stream, std::uint64_t(counter));
    return philox(replay->seed, stream + replay->streams, std::uint64_t(counter));
  }
  __device__ std::uint32_t word(std::uint64_t element) const {
    return words(Index(element / 4)).lane[element % 4];
  }
};

inline DeviceRandom on_device(RandomStream random) {
  return {random.seed, random.stream, replay_state()};
}

}  // namespace triad::cuda
