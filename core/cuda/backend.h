// What core and the CUDA backend, where it is built, give each other: memory (core/device.cpp,
// backends/cuda/runtime.h).
#pragma once

#include <utility>

#include <triad/core/device.h>

namespace triad::cuda {

int device_count();                              // 0 without a driver
void* allocate(int device, std::size_t bytes);   // null where there is not so much
void release(int device, void* block) noexcept;  // once what was launched before is done with it
// In the order of launches; one that ends on the CPU has happened on return. While a step is
// captured the first is repeated by every replay, the second an Error.
void copy_to_device(int device, void* to, const void* from, std::size_t bytes);
void copy_to_host(int device, void* to, const void* from, std::size_t bytes);

}  // namespace triad::cuda

namespace triad {

#ifdef TRIAD_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;  // none of the functions above is there
#endif

// Whether freed blocks are kept for later: not where every use after free and every overrun is to
// be seen, under AddressSanitizer and, unless a test asks for it, on the simulated device.
#if defined(TRIAD_CUDA_ON_CPU)
inline bool caches_blocks = false;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr bool caches_blocks = false;
#else
inline constexpr bool caches_blocks = true;
#endif

inline thread_local MemoryPool* private_pool = nullptr;  // where this thread allocates, or null

// Memory of a device apart from all other: what this thread allocates on it while a Use lives comes
// from blocks that nothing else is given, before or after. They go back to the system with the last
// tensor that holds one.
class PrivatePool {
 public:
  explicit PrivatePool(Device device);
  ~PrivatePool();
  PrivatePool(const PrivatePool&) = delete;

  class Use {
   public:
    explicit Use(const PrivatePool& pool) : before_(std::exchange(private_pool, pool.pool_)) {}
    ~Use() { private_pool = before_; }
    Use(const Use&) = delete;

   private:
    MemoryPool* before_;
  };

 private:
  MemoryPool* pool_;
};

}  // namespace triad
