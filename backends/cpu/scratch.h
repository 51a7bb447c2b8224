// Working memory that a thread keeps between calls: kernels called in a loop allocate nothing.
#pragma once

#include <triad/backends/cpu/index.h>
#include <memory>
#include <new>

namespace triad::cpu {

// Room for `count` values of T, uninitialised, aligned to a cache line. It belongs to the calling
// thread until its next call for the same T.
template <class T>
T* scratch(Index count) {
  constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(p, kLine); }
  };
  thread_local std::unique_ptr<T, Free> memory;
  thread_local Index size = 0;
  if (size < count) {
    memory.reset();
    size = 0;
    memory.reset(static_cast<T*>(::operator new(count * sizeof(T), kLine)));
    size = count;
  }
  return memory.get();
}

}  // namespace triad::cpu
