#include <fiber.h>
#include <poison.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace simt {

constexpr std::size_t kStack = 256 << 10;

#ifndef __x86_64__
#error "fiber.cpp switches stacks in the assembly of x86-64 only"
#endif

// Saves the registers that a call must keep on the stack, and continues on another one.
extern "C" void triad_switch_stack(void** from, void* to);
asm(R"(
  .text
  .globl triad_switch_stack
  .type triad_switch_stack, @function
triad_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size triad_switch_stack, .-triad_switch_stack
)");

Fiber::Fiber(void (*run)()) {
  void* block = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  memory = static_cast<char*>(block);
  mprotect(memory, 4096, PROT_NONE);  // a stack that overflows is a crash, not a surprise
  auto* top = reinterpret_cast<void**>(memory + kStack) - 8;  // 6 registers, where to go, a gap
  std::fill_n(top, 8, nullptr);
  top[6] = reinterpret_cast<void*>(run);
  stack_pointer = top;
}

Fiber::~Fiber() {
  if (!memory) return;
  forget_frames();
  munmap(memory, kStack);
}

void Fiber::forget_frames() { ASAN_UNPOISON_MEMORY_REGION(memory, kStack); }

void switch_fiber(Fiber& from, Fiber& to) {
  triad_switch_stack(&from.stack_pointer, to.stack_pointer);
}

}  // namespace simt
