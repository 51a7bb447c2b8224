// What tensors lie on and kernels run on: the device's tag, its memory and its threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <triad/core/error.h>

namespace triad {

struct Cpu {};  // the tag of kernels that run on the CPU

struct Device {
  enum class Kind : unsigned char { cpu };
  Kind kind = Kind::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  bool operator==(const Device&) const = default;
};

// Calls f(Cpu{}): kernels are chosen by overload on this tag; a missing one is a link error.
template <class F> auto on(Device, F&& f) { return f(Cpu{}); }

// How many threads the calling thread's ops may use: by default OMP_NUM_THREADS, else all cores.
void set_num_threads(int threads);  // at least 1
int get_num_threads();

// A block of memory shared by every tensor that views it.
class Storage {
 public:
  // Uninitialised, 64-byte aligned, from a cache of freed blocks. Not enough of it is an Error.
  static std::shared_ptr<Storage> allocate(std::size_t bytes, Device device = {});
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
  Storage(void* data, std::size_t bytes, Device device, std::shared_ptr<void> owner);

  std::byte* data_;
  std::size_t bytes_;
  Device device_;
  std::shared_ptr<void> owner_;  // empty: the block goes back to the cache
};

struct MemoryStats {
  std::int64_t live_blocks = 0;   // storages that tensors hold now
  std::int64_t live_bytes = 0;    // their size
  std::int64_t peak_bytes = 0;    // the most that live_bytes has been
  std::int64_t cached_bytes = 0;  // freed blocks kept for the next allocation
};
MemoryStats memory_stats();
void empty_cache();  // gives cached blocks back to the system

}  // namespace triad
