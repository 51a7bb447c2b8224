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

}  // namespace

std::string time_text(double seconds) {
  const auto s = std::int64_t(std::ceil(seconds));
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

ProgressLine::ProgressLine() : terminal_(isatty(STDOUT_FILENO)) {}

bool ProgressLine::wants_more(bool keep) const {
  const std::chrono::duration<double> since = Clock::now() - last_;
  return keep || !shown_ ||
         since.count() >= (terminal_ ? kSecondsBetweenRewrites : kSecondsBetweenLines);
}

void ProgressLine::show(const std::string& line, bool keep) {
  if (!wants_more(keep)) return;
  last_ = Clock::now();
  shown_ = true;
  open_ = terminal_ && !keep;
  say((terminal_ ? "\r" + line + "\x1b[K" : line) + (open_ ? "" : "\n"));
}

void ProgressLine::end() {
  if (open_) say("\n");
  open_ = false;
}

void Progress::show(const Metrics& m, double seconds_left) {
  const bool keep = m.val_loss || m.step == steps_;
  if (!line_.wants_more(keep)) return;
  std::string line = fmt::format("step {}/{}  loss {}", m.step, steps_, loss_text(m.loss));
  if (m.val_loss) line += fmt::format("  held out {}", loss_text(*m.val_loss));
  line += fmt::format("  {:.0f} tokens/s  {} left", m.tokens_per_s, time_text(seconds_left));
  line_.show(line, keep);
}

}  // namespace triad::examples
