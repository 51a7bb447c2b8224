#include <triad/examples/common/stop_signal.h>

#include <csignal>
#include <initializer_list>

namespace triad::examples {
namespace {

volatile std::sig_atomic_t noted = 0;

}  // namespace

void note_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int signal) { noted = signal; };
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  for (int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

int stop_signal() { return noted; }

}  // namespace triad::examples
