#include <triad/core/random.h>

#include <mutex>

namespace triad {
namespace {

struct Generator {
  std::mutex mutex;
  RandomStream next{.seed = 0, .stream = 0};
};

Generator& generator() {
  static Generator generator;
  return generator;
}

}  // namespace

void manual_seed(std::uint64_t seed) { set_random_state({.seed = seed, .stream = 0}); }

RandomStream next_stream() {
  std::lock_guard lock(generator().mutex);
  RandomStream taken = generator().next;
  ++generator().next.stream;
  return taken;
}

RandomStream random_state() {
  std::lock_guard lock(generator().mutex);
  return generator().next;
}

void set_random_state(RandomStream state) {
  std::lock_guard lock(generator().mutex);
  generator().next = state;
}

}  // namespace triad
