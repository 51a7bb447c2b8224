#include <triad/core/device.h>

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <string_view>
#include <vector>

#include <triad/core/cuda/backend.h>
#include <triad/core/format.h>

namespace triad {

void set_num_threads(int threads) {
  if (threads < 1) throw_error<ValueError>("set_num_threads: needs at least 1, got {}", threads);
  omp_set_num_threads(threads);
}

int get_num_threads() { return omp_get_max_threads(); }

namespace {

constexpr std::size_t kAlignment = 64;

// Block sizes are 64, 128, ..., 512, then 8 steps to the octave, which waste at most a ninth.
std::size_t number_of_size(std::size_t bytes) {
  if (bytes <= 8 * kAlignment) return bytes == 0 ? 0 : (bytes - 1) / kAlignment;
  const int octave = 63 - __builtin_clzll(bytes - 1);
  return std::size_t(8 * octave - 72) + ((bytes - 1) >> (octave - 3));
}
std::size_t block_size(std::size_t number) {
  return number < 8 ? (number + 1) * kAlignment : (9 + number % 8) << (number / 8 + 5);
}

bool is_cpu(Device device) { return device.kind == Device::Kind::cpu; }

}  // namespace

// Freed blocks are kept for the next allocation of about their size: a training step asks for the
// same sizes over and over, and fresh memory from the system costs a page fault every 4 KiB. On a
// CUDA device all work is on one stream: a block may be used again while launches still use it.
struct MemoryPool {
  Device device;
  std::shared_ptr<MemoryStats> stats = std::make_shared<MemoryStats>();  // of the device
  std::int64_t blocks = 0;                                               // that tensors hold
  MemoryPool* main = nullptr;  // a private one has another, and caches: its blocks are of a graph
  bool abandoned = false;      // a private one, without its PrivatePool
  std::vector<void*> free[448] = {};

  void* from_system(std::size_t bytes) const {
    if constexpr (kHasCuda)
      if (!is_cpu(device)) return cuda::allocate(device.index, bytes);
    return ::operator new(bytes, std::align_val_t(kAlignment), std::nothrow);
  }
  void to_system(void* block) const noexcept {
    if constexpr (kHasCuda)
      if (!is_cpu(device)) return cuda::release(device.index, block);
    ::operator delete(block, std::align_val_t(kAlignment));
  }

  void* take(std::size_t bytes, std::string_view op) {
    const std::size_t number = number_of_size(bytes), size = block_size(number);
    if (auto& blocks = free[number]; !blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      stats->cached_bytes -= std::int64_t(size);
      count(1, std::int64_t(bytes));
      return block;
    }
    const std::size_t asked = caches_blocks || main ? size : std::max<std::size_t>(bytes, 1);
    for (int attempt = 0; attempt < 2 && size >= bytes; ++attempt) {  // else size overflowed
      if (void* block = from_system(asked)) {
        count(1, std::int64_t(bytes));
        return block;
      }
      (main ? main : this)->clear();  // what the cache keeps may be what is missing
    }
    if (op == "operator()") op = {};  // a rule: backward() says whose
    throw_error<OutOfMemory>("{}{}out of memory on {}: asked for {} bytes while tensors hold {}",
                             op, op.empty() ? "" : ": ", name(device), asked, stats->live_bytes);
  }

  void give_back(void* block, std::size_t bytes) noexcept {
    if (!caches_blocks && !main) return to_system(block);
    const std::size_t number = number_of_size(bytes);
    try {
      free[number].push_back(block);
      stats->cached_bytes += std::int64_t(block_size(number));
    } catch (const std::bad_alloc&) {  // no memory to remember it by
      to_system(block);
    }
  }

  void clear() {
    for (std::size_t number = 0; number < std::size(free); ++number) {
      if (free[number].empty()) continue;
      for (void* block : free[number]) to_system(block);
      stats->cached_bytes -= std::int64_t(free[number].size() * block_size(number));
      free[number].clear();
    }
  }

  void count(std::int64_t more, std::int64_t bytes) {
    blocks += more;
    stats->live_blocks += more;
    stats->live_bytes += bytes;
    stats->peak_bytes = std::max(stats->peak_bytes, stats->live_bytes);
  }
};

namespace {

void check_device(Device device) {
  if (is_cpu(device)) return;
  const int count = cuda_device_count();
  if (device.index >= 0 && device.index < count) return;
  throw_error<DeviceError>("{} is not there: this {} has {} CUDA devices", name(device),
                           kHasCuda ? "machine" : "build of triad", count);
}

// For one thread at a time. Never destroyed: a tensor with static lifetime may outlive all else.
struct LockedPool {
  static inline std::mutex mutex;
  std::lock_guard<std::mutex> lock{mutex};
  MemoryPool* pool;

  static std::deque<MemoryPool>& all() {
    static auto& pools = *new std::deque<MemoryPool>{{Device::cpu()}};
    return pools;
  }
  explicit LockedPool(MemoryPool* pool) : pool(pool) {}
  explicit LockedPool(Device device) {
    check_device(device);
    const auto at = std::size_t(is_cpu(device) ? 0 : 1 + device.index);
    while (all().size() <= at) all().push_back({Device::cuda(int(all().size()) - 1)});
    pool = &all()[at];
  }
  MemoryPool* operator->() const { return pool; }
  void clear_abandoned() const {
    pool->clear();
    if (pool->blocks == 0) delete pool;
  }
};

}  // namespace

std::string name(Device device) {
  return is_cpu(device) ? "cpu" : fmt::format("cuda:{}", device.index);
}
int cuda_device_count() {
  if constexpr (kHasCuda) {
    static const int count = cuda::device_count();
    return count;
  } else return 0;
}

Storage::Storage(void* data, std::size_t bytes, Device device, MemoryPool* pool,
                 std::shared_ptr<void> owner)
    : data_(static_cast<std::byte*>(data)), bytes_(bytes), device_(device), pool_(pool),
      owner_(std::move(owner)) {}

Storage::~Storage() {
  const LockedPool pool(pool_);
  pool->count(-1, -std::int64_t(bytes_));
  if (!owner_) pool->give_back(data_, bytes_);
  if (pool->abandoned) pool.clear_abandoned();
}

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, Device device, const char* op) {
  const auto [block, pool] = [=] {
    const bool apart = private_pool && private_pool->device == device;
    const LockedPool pool = apart ? LockedPool(private_pool) : LockedPool(device);
    return std::pair(pool->take(bytes, Range::op_or(op)), pool.pool);
  }();
  return std::shared_ptr<Storage>(new Storage(block, bytes, device, pool, nullptr));
}

std::shared_ptr<Storage> Storage::borrow(void* data, std::size_t bytes,
                                         std::shared_ptr<void> owner) {
  const LockedPool pool(Device::cpu());
  pool->count(1, std::int64_t(bytes));
  return std::shared_ptr<Storage>(new Storage(data, bytes, {}, pool.pool, std::move(owner)));
}

PrivatePool::PrivatePool(Device device) {
  const LockedPool main(device);
  pool_ = new MemoryPool{.device = device, .stats = main->stats, .main = main.pool};
}
PrivatePool::~PrivatePool() {
  const LockedPool pool(pool_);
  pool->abandoned = true;
  pool.clear_abandoned();
}

void copy_bytes(void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes) {
  if (bytes == 0) return;
  if (is_cpu(to_device) && is_cpu(from_device)) std::memcpy(to, from, bytes);
  else if constexpr (kHasCuda) {
    if (is_cpu(to_device)) cuda::copy_to_host(from_device.index, to, from, bytes);
    else cuda::copy_to_device(to_device.index, to, from, bytes);
  }
}

MemoryStats memory_stats(Device device) { return *LockedPool(device)->stats; }
void empty_cache() {
  const LockedPool lock(Device::cpu());
  for (MemoryPool& pool : lock.all()) pool.clear();
}

}  // namespace triad
