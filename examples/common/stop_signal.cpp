#include <triad/examples/common/stop_signal.h>

#include <csignal>
#include <ctime>
#include <initializer_list>

namespace triad::examples {
namespace {

volatile std::sig_atomic_t noted = 0;
volatile std::sig_atomic_t when = 0;  // in seconds of a steady clock

// The first signal is noted. One that comes two seconds later or more is from somebody who will not
// wait; one that comes at once is the same keystroke, sent to a program and to its group.
void note(int signal) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto seconds = std::sig_atomic_t(now.tv_sec);
  if (noted == 0) {
    noted = signal;
    when = seconds;
  } else if (seconds - when >= 2) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

// The handler has a stack of its own: oneDNN's matrix products use the stack pointer as one more
// register, and a frame written where it points would lie on somebody's data. The kernel gives a
// process's signals to its first thread, whose stack this is, as long as that does not block them.
void note_stop_signals() {
  alignas(64) static char memory[1 << 16];
  const stack_t stack = {.ss_sp = memory, .ss_flags = 0, .ss_size = sizeof memory};
  sigaltstack(&stack, nullptr);
  struct sigaction action = {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  for (int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
  // A closed pipe and a limit on the size of files then show as errors of the write.
  for (int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
}

int stop_signal() { return noted; }

}  // namespace triad::examples
