#include <triad/examples/common/progress.h>

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>

#include <triad/examples/common/program.h>

namespace triad::examples {
namespace {

constexpr double kSecondsBetweenLines = 10, kSecondsBetweenRewrites = 0.1;
const double kBit = std::log(2.0);

std::string loss_text(double nats) {
  return fmt::format("{:.3f} ({:.2f} bits)", nats, nats / kBit);
}

std::string time_text(double seconds) {
  const auto s = std::int64_t(std::ceil(seconds));
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace

Progress::Progress(std::int64_t steps) : steps_(steps), terminal_(isatty(STDOUT_FILENO)) {}

void Progress::show(const Metrics& m, double seconds_left) {
  const bool keep = m.val_loss || m.step == steps_;
  const double wait = terminal_ ? kSecondsBetweenRewrites : kSecondsBetweenLines;
  if (!keep && m.seconds - last_line_ < wait) return;
  last_line_ = m.seconds;
  std::string line = fmt::format("step {}/{}  loss {}", m.step, steps_, loss_text(m.loss));
  if (m.val_loss) line += fmt::format("  held out {}", loss_text(*m.val_loss));
  line += fmt::format("  {:.0f} tokens/s  {} left", m.tokens_per_s, time_text(seconds_left));
  if (terminal_) line = "\r" + line + "\x1b[K";
  open_ = terminal_ && !keep;
  say(line + (open_ ? "" : "\n"));
}

void Progress::end() {
  if (open_) say("\n");
  open_ = false;
}

}  // namespace triad::examples
