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
  // After an exception. AddressSanitizer, which is not told of switches (a fifth of the time went
  // there), does not know what lay on the stack, and warns once that it doesn't.
  void forget_frames();
};

void switch_fiber(Fiber& from, Fiber& to);

}  // namespace simt
