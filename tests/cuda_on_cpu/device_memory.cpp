#include <device_memory.h>

#include <poison.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace simt {
namespace {

constexpr std::size_t kArena = std::size_t(4) << 30, kAlignment = 256, kGap = 256, kPage = 4096;

}  // namespace

Arena& Arena::of(int device) {
  static Arena* const arenas = new Arena[triad::cuda::kSimulatedDevices];
  return arenas[device];
}

bool Arena::has(const void* address) const { return address >= base_ && address < base_ + kArena; }

Arena::Arena() {
  void* block = mmap(nullptr, kArena, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<std::byte*>(block);
  free_[0] = kArena;
}

// First fit, among the free ranges in the order of addresses.
void* Arena::take(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const std::size_t size = (bytes + kGap + kAlignment - 1) / kAlignment * kAlignment;
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    const auto [first, length] = *range;
    if (length < size) continue;
    free_.erase(range);
    if (length > size) free_[first + size] = length - size;
    blocks_[first] = {size, bytes};
    used_ = std::max(used_, first + size);
    ASAN_UNPOISON_MEMORY_REGION(base_ + first, size);
    if (accesses_ == 0) protect(first, size, PROT_READ | PROT_WRITE);
    std::memset(base_ + first, 0xff, size);
    if (accesses_ == 0) protect(first, size, PROT_NONE);
    ASAN_POISON_MEMORY_REGION(base_ + first + bytes, size - bytes);
    return base_ + first;
  }
  return nullptr;
}

bool Arena::is_block(const void* address) {
  const std::lock_guard lock(mutex_);
  return has(address) &&
         blocks_.contains(std::size_t(static_cast<const std::byte*>(address) - base_));
}

void Arena::give_back(void* block) {
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
  std::memset(block, 0xff, bytes);
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

void Arena::open(int more) {
  const std::lock_guard lock(mutex_);
  accesses_ += more;
  if (accesses_ == (more + 1) / 2)  // the first opens it, the last closes it
    protect(0, used_, more > 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
}

void Arena::protect([[maybe_unused]] std::size_t first, [[maybe_unused]] std::size_t bytes,
                    [[maybe_unused]] int how) const {
#ifdef __SANITIZE_ADDRESS__
  const std::size_t start = first / kPage * kPage;
  mprotect(base_ + start, (first + bytes - start + kPage - 1) / kPage * kPage, how);
#endif
}

}  // namespace simt
