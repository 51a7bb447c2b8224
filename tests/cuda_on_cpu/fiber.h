// Stacks that a thread of the host switches between.
#pragma once

#include <cstddef>

namespace simt {

// A stack on which one function runs for ever, and where it goes on. The default one is the stack
// of whoever switches first.
struct Fiber {
  void* stack_pointer = nullptr;
  char* memory = nullptr;

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  explicit Fiber(void (*run)());
  ~Fiber();
};

void switch_fiber(Fiber& from, Fiber& to);
void fiber_begins();  // what `run` calls first

}  // namespace simt
