// Freed blocks are kept for the next allocation of about their size: a training step asks for the
// same sizes over and over, and fresh memory from the system costs a page fault every 4 KiB.
#include <triad/core/storage.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include <triad/core/error.h>
#include <triad/core/format.h>

namespace triad {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kCacheBlocks = false;  // so that every use after free and every overrun is seen
#else
constexpr bool kCacheBlocks = true;
#endif
constexpr std::size_t kAlignment = 64;

// Block sizes are 4 steps to the octave, so that at most a fifth of a block is wasted.
std::size_t block_size(std::size_t bytes) {
  if (bytes <= 4 * kAlignment)
    return (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  std::size_t step = std::size_t(1) << (63 - __builtin_clzll(bytes - 1));  // the octave's lower end
  step = std::max(step / 4, kAlignment);
  return (bytes + step - 1) / step * step;
}

struct Cache {
  std::mutex mutex;
  std::map<std::size_t, std::vector<void*>> free;
  MemoryStats stats;

  void* take(std::size_t bytes) {
    const std::size_t size = block_size(bytes);
    std::lock_guard lock(mutex);
    void* block = nullptr;
    if (auto& blocks = free[size]; !blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
      stats.cached_bytes -= std::int64_t(size);
    } else if (size >= bytes) {  // else its computation overflowed
      const std::size_t asked = kCacheBlocks ? size : std::max<std::size_t>(bytes, 1);
      block = ::operator new(asked, std::align_val_t(kAlignment), std::nothrow);
      if (!block) {  // what the cache keeps may be what is missing
        clear();
        block = ::operator new(asked, std::align_val_t(kAlignment), std::nothrow);
      }
    }
    if (!block)
      throw_error<Error>("out of memory: asked for {} bytes while tensors hold {}", bytes,
                         stats.live_bytes);
    count(bytes);
    return block;
  }

  void give_back(void* block, std::size_t bytes) noexcept {
    const std::size_t size = block_size(bytes);
    std::lock_guard lock(mutex);
    try {
      if (kCacheBlocks) {
        free[size].push_back(block);
        stats.cached_bytes += std::int64_t(size);
        return;
      }
    } catch (const std::bad_alloc&) {  // no memory to remember it by
    }
    ::operator delete(block, std::align_val_t(kAlignment));
  }

  void clear() {
    for (auto& [size, blocks] : free)
      for (void* block : blocks) ::operator delete(block, std::align_val_t(kAlignment));
    free.clear();
    stats.cached_bytes = 0;
  }

  void count(std::size_t bytes) {
    stats.live_blocks += 1;
    stats.live_bytes += std::int64_t(bytes);
    stats.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes);
  }
};

// Never destroyed: a tensor with static lifetime may outlive any other object.
Cache& cache() {
  static Cache* cache = new Cache;
  return *cache;
}

}  // namespace

Storage::Storage(std::byte* data, std::size_t bytes, Device device, std::shared_ptr<void> owner)
    : data_(data), bytes_(bytes), device_(device), owner_(std::move(owner)) {}

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, Device device) {
  auto* block = static_cast<std::byte*>(cache().take(bytes));
  return std::shared_ptr<Storage>(new Storage(block, bytes, device, nullptr));
}

std::shared_ptr<Storage> Storage::borrow(void* data, std::size_t bytes,
                                         std::shared_ptr<void> owner) {
  {
    std::lock_guard lock(cache().mutex);
    cache().count(bytes);
  }
  return std::shared_ptr<Storage>(
      new Storage(static_cast<std::byte*>(data), bytes, {}, std::move(owner)));
}

Storage::~Storage() {
  if (!owner_) cache().give_back(data_, bytes_);
  std::lock_guard lock(cache().mutex);
  cache().stats.live_blocks -= 1;
  cache().stats.live_bytes -= std::int64_t(bytes_);
}

MemoryStats memory_stats() {
  std::lock_guard lock(cache().mutex);
  return cache().stats;
}

void empty_cache() {
  std::lock_guard lock(cache().mutex);
  cache().clear();
}

}  // namespace triad
