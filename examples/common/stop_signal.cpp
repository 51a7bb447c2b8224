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

void note_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
  // A closed pipe and a limit on the size of files then show as errors of the write.
  for (int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
}

int stop_signal() { return noted; }

}  // namespace triad::examples
