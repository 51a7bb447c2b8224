#include <triad/core/random.h>

#include <mutex>

namespace triad {

static std::mutex mutex;
static RandomStream next;  // what next_stream() will give; guarded by `mutex`

RandomStream next_stream() {
  std::lock_guard lock(mutex);
  return {next.seed, next.stream++};
}

RandomStream random_state() {
  std::lock_guard lock(mutex);
  return next;
}

void set_random_state(RandomStream state) {
  std::lock_guard lock(mutex);
  next = state;
}

void manual_seed(std::uint64_t seed) { set_random_state({.seed = seed, .stream = 0}); }

}  // namespace triad
