// How far training is, on one line that a terminal rewrites. Elsewhere it is plain lines: the first
// step, those with a held-out loss, and one every ten seconds.
#pragma once

#include <string>

#include <triad/examples/common/run_folder.h>

namespace triad::examples {

class Progress {
 public:
  explicit Progress(std::int64_t steps);
  void show(const Metrics& metrics, double seconds_left);
  void end();  // leaves the line that was being rewritten

 private:
  std::int64_t steps_;
  bool terminal_, open_ = false;
  double last_line_ = -1e9;  // in seconds of training
};

}  // namespace triad::examples
