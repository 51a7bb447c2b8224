#include <fiber.h>
#include <poison.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

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
  ASAN_UNPOISON_MEMORY_REGION(memory, kStack);
  munmap(memory, kStack);
}

#ifdef __SANITIZE_ADDRESS__
static const void* host_stack;  // the scheduler's, as a fiber that it switches to learns it
static std::size_t host_stack_size;

void switch_fiber(Fiber& from, Fiber& to) {
  void* fake;
  __sanitizer_start_switch_fiber(&fake, to.memory ? to.memory : host_stack,
                                 to.memory ? kStack : host_stack_size);
  triad_switch_stack(&from.stack_pointer, to.stack_pointer);
  if (from.memory) __sanitizer_finish_switch_fiber(fake, &host_stack, &host_stack_size);
  else __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}
void fiber_begins() { __sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_stack_size); }
#else
void switch_fiber(Fiber& from, Fiber& to) {
  triad_switch_stack(&from.stack_pointer, to.stack_pointer);
}
void fiber_begins() {}
#endif

}  // namespace simt
