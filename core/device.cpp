#include <triad/core/device.h>

#include <omp.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

#include <triad/core/format.h>

namespace triad {

void set_num_threads(int threads) {
  if (threads < 1) throw_error<ValueError>("set_num_threads: needs at least 1, got {}", threads);
  omp_set_num_threads(threads);
}

int get_num_threads() { return omp_get_max_threads(); }

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kCacheBlocks = false;  // so that every use after free and every overrun is seen
#else
constexpr bool kCacheBlocks = true;
#endif
constexpr std::size_t kAlignment = 64;

// Block sizes are 64, 128, 192, 256, then 4 steps to the octave, which waste at most a fifth.
std::size_t number_of_size(std::size_t bytes) {
  if (bytes <= 4 * kAlignment) return bytes == 0 ? 0 : (bytes - 1) / kAlignment;
  const int octave = 63 - __builtin_clzll(bytes - 1);
  return std::size_t(4 * octave - 32) + ((bytes - 1) >> (octave - 2));
}
std::size_t block_size(std::size_t number) {
  return number < 4 ? (number + 1) * kAlignment : (5 + number % 4) << (number / 4 + 5);
}

void free_block(void* block) { ::operator delete(block, std::align_val_t(kAlignment)); }

// Freed blocks are kept for the next allocation of about their size: a training step asks for the
// same sizes over and over, and fresh memory from the system costs a page fault every 4 KiB.
struct Cache {
  std::vector<void*> free[256];
  MemoryStats stats;

  void* take(std::size_t bytes) {
    const std::size_t number = number_of_size(bytes), size = block_size(number);
    if (auto& blocks = free[number]; !blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      stats.cached_bytes -= std::int64_t(size);
      count(1, std::int64_t(bytes));
      return block;
    }
    const std::size_t asked = kCacheBlocks ? size : std::max<std::size_t>(bytes, 1);
    for (int attempt = 0; attempt < 2 && size >= bytes; ++attempt) {  // else size overflowed
      void* block = ::operator new(asked, std::align_val_t(kAlignment), std::nothrow);
      if (block) {
        count(1, std::int64_t(bytes));
        return block;
      }
      clear();  // what the cache keeps may be what is missing
    }
    throw_error<Error>("out of memory: asked for {} bytes while tensors hold {}", bytes,
                       stats.live_bytes);
  }

  void give_back(void* block, std::size_t bytes) noexcept {
    if (!kCacheBlocks) return free_block(block);
    const std::size_t number = number_of_size(bytes);
    try {
      free[number].push_back(block);
      stats.cached_bytes += std::int64_t(block_size(number));
    } catch (const std::bad_alloc&) {  // no memory to remember it by
      free_block(block);
    }
  }

  void clear() {
    for (auto& blocks : free) {
      std::for_each(blocks.begin(), blocks.end(), free_block);
      blocks.clear();
    }
    stats.cached_bytes = 0;
  }

  void count(std::int64_t blocks, std::int64_t bytes) {
    stats.live_blocks += blocks;
    stats.live_bytes += bytes;
    stats.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes);
  }
};

std::mutex mutex;  // of the cache

// For one thread at a time. Never destroyed: a tensor with static lifetime may outlive all else.
struct LockedCache {
  std::lock_guard<std::mutex> lock{mutex};

  Cache* operator->() const {
    static Cache& cache = *new Cache;
    return &cache;
  }
};

}  // namespace

Storage::Storage(void* data, std::size_t bytes, Device device, std::shared_ptr<void> owner)
    : data_(static_cast<std::byte*>(data)), bytes_(bytes), device_(device),
      owner_(std::move(owner)) {}

Storage::~Storage() {
  const LockedCache cache;
  cache->count(-1, -std::int64_t(bytes_));
  if (!owner_) cache->give_back(data_, bytes_);
}

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, Device device) {
  void* block = LockedCache()->take(bytes);
  return std::shared_ptr<Storage>(new Storage(block, bytes, device, nullptr));
}

std::shared_ptr<Storage> Storage::borrow(void* data, std::size_t bytes,
                                         std::shared_ptr<void> owner) {
  LockedCache()->count(1, std::int64_t(bytes));
  return std::shared_ptr<Storage>(new Storage(data, bytes, {}, std::move(owner)));
}

MemoryStats memory_stats() { return LockedCache()->stats; }
void empty_cache() { LockedCache()->clear(); }

}  // namespace triad
