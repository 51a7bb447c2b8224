// What the CUDA backend, where it is built, gives to core: memory (backends/cuda/runtime.h).
#pragma once

#include <cstddef>

namespace triad::cuda {

int device_count();                              // 0 without a driver
void* allocate(int device, std::size_t bytes);   // null where there is not so much
void release(int device, void* block) noexcept;  // once what was launched before is done with it
// In the order of launches; one that ends on the CPU has happened on return. While a step is
// captured the first is repeated by every replay, the second an Error.
void copy_to_device(int device, void* to, const void* from, std::size_t bytes);
void copy_to_host(int device, void* to, const void* from, std::size_t bytes);

bool is_capturing();

}  // namespace triad::cuda
