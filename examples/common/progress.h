// How far a program is, on one line that a terminal rewrites. Elsewhere it is plain lines: the
// first, those to be kept, and one every ten seconds.
#pragma once

#include <chrono>
#include <string>

#include <triad/examples/common/trainer.h>

namespace triad::examples {

class ProgressLine {
 public:
  ProgressLine();
  bool wants_more(bool keep) const;  // whether a line given now would be shown
  void show(const std::string& line, bool keep = false);
  void end();  // leaves the line that was being rewritten

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_, open_ = false, shown_ = false;
  Clock::time_point last_;
};

// Of training: loss, speed and time left; lines with a held-out loss are kept.
class Progress {
 public:
  explicit Progress(std::int64_t steps) : steps_(steps) {}
  void show(const Metrics& metrics, double seconds_left);
  void end() { line_.end(); }

 private:
  std::int64_t steps_;
  ProgressLine line_;
};

std::string time_text(double seconds);  // "1:05"

}  // namespace triad::examples
