// What tensors lie on and kernels run on: the devices' tags, their memory and threads.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <triad/core/cuda/range.h>
#include <triad/core/error.h>

namespace triad {

// The tags of kernels: those that run on the CPU, and those that run on a CUDA device.
struct Cpu {};
struct Cuda {
  int index;
};

struct Device {
  enum class Kind : unsigned char { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  static Device cuda(int index = 0) { return {Kind::cuda, index}; }
  auto operator<=>(const Device&) const = default;
};
std::string name(Device device);  // "cpu", "cuda:0"

// How many CUDA devices there are: none in a build without CUDA, or on a machine without a driver.
int cuda_device_count();
inline bool cuda_is_available() { return cuda_device_count() > 0; }

// Calls f, which is part of an op, with the device's tag: kernels are chosen by overload on it; a
// missing one is a link error. A build without CUDA has no tensors on such a device.
template <class F> auto on([[maybe_unused]] Device device, const char* op, F&& f) {
  const Range range(op);
#ifdef TRIAD_CUDA
  if (device.kind == Device::Kind::cuda) return f(Cuda{device.index});
#endif
  return f(Cpu{});
}
// The op is the function that calls.
template <class F> auto on(Device device, F&& f, const char* op = __builtin_FUNCTION()) {
  return on(device, op, f);
}

// How many threads the calling thread's ops may use: by default OMP_NUM_THREADS, else all cores.
void set_num_threads(int threads);  // at least 1
int get_num_threads();

struct MemoryPool;  // blocks of one device, core/device.cpp

// A block of memory shared by every tensor that views it.
class Storage {
 public:
  // Uninitialised, 64-byte aligned (on a CUDA device 256), from a cache of freed blocks. Not enough
  // of it is an OutOfMemory that names the op, by default the function that calls; a device that is
  // not there a DeviceError.
  static std::shared_ptr<Storage> allocate(std::size_t bytes, Device device = {},
                                           const char* op = __builtin_FUNCTION());
  // Memory that `owner` keeps alive: a mapped file, a buffer of the user's.
  static std::shared_ptr<Storage> borrow(void* data, std::size_t bytes,
                                         std::shared_ptr<void> owner);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  std::uint64_t writes = 0;  // how often ops have written to it after it was filled

 private:
  Storage(void* data, std::size_t bytes, Device device, MemoryPool* pool,
          std::shared_ptr<void> owner);

  std::byte* data_;
  std::size_t bytes_;
  Device device_;
  MemoryPool* pool_;             // counts it
  std::shared_ptr<void> owner_;  // empty: the block goes back to the pool
};

// Copies between the memories of two devices, of which one is the CPU.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes);

struct MemoryStats {
  std::int64_t live_blocks = 0;   // storages that tensors hold now
  std::int64_t live_bytes = 0;    // their size
  std::int64_t peak_bytes = 0;    // the most that live_bytes has been
  std::int64_t cached_bytes = 0;  // freed blocks kept for the next allocation
};
MemoryStats memory_stats(Device device = {});
void empty_cache();  // gives cached blocks of every device back to the system

}  // namespace triad
