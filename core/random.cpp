#include <triad/core/random.h>

#include <atomic>

namespace triad {

static std::atomic<std::uint64_t> seed, stream;  // what next_stream() will give

RandomStream next_stream() { return {seed, stream++}; }
RandomStream random_state() { return {seed, stream}; }
void set_random_state(RandomStream state) {
  seed = state.seed;
  stream = state.stream;
}

}  // namespace triad
