// Where tests that run on any device put what they make.
#pragma once

#include <triad/core/device.h>

#include <cstdlib>
#include <string_view>

#ifdef TRIAD_CUDA_ON_CPU
#include <simt.h>
#include <simulated_device.h>
#include <triad/core/cuda/backend.h>
#endif

inline const triad::Device kCuda = triad::Device::cuda();

// The environment variable TRIAD_TEST_DEVICE says "cuda", or nothing.
inline triad::Device test_device() {
  static const char* name = std::getenv("TRIAD_TEST_DEVICE");
  return name && name == std::string_view("cuda") ? triad::Device::cuda() : triad::Device::cpu();
}

// Is it the one that tests/cuda_on_cpu simulates? Then what takes long is left out.
inline bool is_simulated() {
#ifdef TRIAD_CUDA_ON_CPU
  return test_device() != triad::Device::cpu();
#else
  return false;
#endif
}

// Calls f under every order of warps, lanes and blocks of the simulated device but the one that is
// set; elsewhere once.
template <class F> void for_schedules(F f) {
#ifdef TRIAD_CUDA_ON_CPU
  for (int schedule : {1, 2, 3}) {
    simt::schedule = schedule;
    f();
  }
  simt::schedule = 0;
#else
  f();
#endif
}

// While one lives the cache of memory is at work on the simulated device, as on a GPU. All that is
// allocated meanwhile has to go before it.
struct CachedBlocks {
#ifdef TRIAD_CUDA_ON_CPU
  CachedBlocks() { triad::caches_blocks = true; }
  ~CachedBlocks() {
    triad::caches_blocks = false;
    triad::empty_cache();
  }
  CachedBlocks(const CachedBlocks&) = delete;
#endif
};

// Calls f with a simulated device of every kind for which there are kernels of their own (Hopper,
// and all others); elsewhere once.
template <class F> void for_capabilities(F f) {
#ifdef TRIAD_CUDA_ON_CPU
  for (int shown : {8, 9}) {
    triad::cuda::capability_shown = shown;
    f();
  }
#else
  f();
#endif
}
