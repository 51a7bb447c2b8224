// backends/cuda/runtime.h on the CPU: a device whose memory is an arena of its own.
//
// Fresh blocks are full of NaN, and so is what lies between them: what has been written there shows
// when a block is given back. Under AddressSanitizer it can't be read or written, and the host can
// read or write that memory only within a copy: at all other times it is protected, and where the
// host uses a pointer of the device, it is a crash.
#include <triad/backends/cuda/runtime.h>

#include <poison.h>
#include <simt.h>
#include <simulated_device.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <vector>

extern const char __executable_start;  // the linker's

namespace triad::cuda {

int blocks_left = -1, refusals_left = INT_MAX, capability_shown = 9;
std::size_t shared_bytes_shown = 227 << 10;
std::string ranges_seen;

namespace {

constexpr std::size_t kArena = std::size_t(4) << 30, kAlignment = 256, kGap = 256;

// First fit, among the free ranges in the order of addresses.
class Arena {
 public:
  static Arena& get() {
    static Arena& arena = *new Arena;
    return arena;
  }

  void* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (blocks_left == 0 && refusals_left > 0) return --refusals_left, nullptr;
    if (blocks_left > 0) --blocks_left;
    const std::size_t size = (bytes + kGap + kAlignment - 1) / kAlignment * kAlignment;
    for (auto range = free_.begin(); range != free_.end(); ++range) {
      const auto [first, length] = *range;
      if (length < size) continue;
      free_.erase(range);
      if (length > size) free_[first + size] = length - size;
      blocks_[first] = {size, bytes};
      used_ = std::max(used_.load(), first + size);
      const Access access(*this);
      ASAN_UNPOISON_MEMORY_REGION(base_ + first, size);
      std::memset(base_ + first, 0xff, size);
      ASAN_POISON_MEMORY_REGION(base_ + first + bytes, size - bytes);
      return base_ + first;
    }
    return nullptr;
  }

  void give_back(void* block) {
    const std::lock_guard lock(mutex_);
    auto first = std::size_t(static_cast<std::byte*>(block) - base_);
    const auto own = blocks_.find(first);
    [[maybe_unused]] auto [size, bytes] = own->second;
    blocks_.erase(own);
#ifndef __SANITIZE_ADDRESS__
    if (std::any_of(base_ + first + bytes, base_ + first + size,
                    [](std::byte b) { return b != std::byte(0xff); })) {
      std::fprintf(stderr, "a kernel has written behind a block of %zu bytes\n", bytes);
      std::abort();
    }
#endif
    ASAN_POISON_MEMORY_REGION(block, size);
    auto after = free_.lower_bound(first);
    if (after != free_.end() && after->first == first + size) {
      size += after->second;
      after = free_.erase(after);
    }
    if (after != free_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == first) {
        before->second += size;
        return;
      }
    }
    free_[first] = size;
  }

  // While one lives, the memory can be read and written, by its thread.
  class Access {
   public:
    explicit Access(Arena& arena) : arena_(arena), lock_(arena.in_use_) {
      if (arena_.open_++ == 0) arena_.protect(PROT_READ | PROT_WRITE);
    }
    ~Access() {
      if (--arena_.open_ == 0) arena_.protect(PROT_NONE);
    }

   private:
    Arena& arena_;
    std::lock_guard<std::recursive_mutex> lock_;
  };

 private:
  struct Block {
    std::size_t size, bytes;  // with what lies behind it, and its own
  };

  Arena() {
    void* block = mmap(nullptr, kArena, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(block);
    free_[0] = kArena;
  }
  void protect([[maybe_unused]] int how) {
#ifdef __SANITIZE_ADDRESS__
    mprotect(base_, (used_ + 4095) / 4096 * 4096, how);
#endif
  }

  std::byte* base_;
  std::mutex mutex_;  // of what follows but for open_
  std::recursive_mutex in_use_;
  std::map<std::size_t, std::size_t> free_;  // sizes by first byte
  std::map<std::size_t, Block> blocks_;      // likewise
  std::atomic<std::size_t> used_ = 0;        // no block has reached beyond
  int open_ = 0;
};

using Steps = std::vector<std::function<void()>>;
thread_local std::unique_ptr<Steps> captured;  // while this thread captures a graph

}  // namespace

int device_count() { return 1; }
void* stream(Cuda) { return nullptr; }
int multiprocessors(Cuda) { return 3; }
int capability(Cuda) { return capability_shown; }
std::size_t shared_memory(Cuda) { return shared_bytes_shown; }
void synchronize(Cuda) {}

void* allocate(int, std::size_t bytes) { return Arena::get().take(bytes); }
void release(int, void* block) noexcept { Arena::get().give_back(block); }

void enqueue(Cuda, std::function<void()> f) {
  if (captured) return captured->push_back(std::move(f));
  const Arena::Access access(Arena::get());
  f();
}

// Into a file of the folder that the environment names: "offset in the program, schedule" a line.
void note_launch(const void* kernel) {
  static std::FILE* const file = [] {
    const char* folder = std::getenv("TRIAD_LAUNCHES");
    return folder ? std::fopen((std::string(folder) + "/" + program_invocation_short_name).c_str(),
                               "a")
                  : nullptr;
  }();
  static std::set<std::pair<std::ptrdiff_t, int>> known;
  const auto offset = static_cast<const char*>(kernel) - &__executable_start;
  if (!file || !known.emplace(offset, simt::schedule).second) return;
  std::fprintf(file, "%tx %d\n", offset, simt::schedule);
  std::fflush(file);
}

void copy_to_device(int device, void* to, const void* from, std::size_t bytes) {
  const auto* first = static_cast<const std::byte*>(from);
  enqueue({device}, [to, kept = std::vector(first, first + bytes)] {
    std::memcpy(to, kept.data(), kept.size());
  });
}
void copy_to_host(int, void* to, const void* from, std::size_t bytes) {
  if (captured) throw Error("no value can be read while a step is captured");
  const Arena::Access access(Arena::get());
  std::memcpy(to, from, bytes);
}

void begin_capture(Cuda) { captured = std::make_unique<Steps>(); }

Function<void()> end_capture() {
  return [steps = std::shared_ptr(std::move(captured))] {
    const Arena::Access access(Arena::get());
    for (const auto& step : *steps) step();
  };
}

bool is_capturing() { return captured != nullptr; }

void push_range(const std::string& name) { ranges_seen += name + "("; }
void pop_range() { ranges_seen += ")"; }

}  // namespace triad::cuda
