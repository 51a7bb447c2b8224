// Random numbers by Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011): a function from (seed, stream, counter) to 128 random bits, with no state to carry.
//
// Every op that draws takes one stream; its element i is lane i % 4 of counter i / 4, or of 64 bits
// (f64, i64) the two lanes from i % 2 * 2 on of counter i / 2, the high half first: it depends on
// the seed, the random ops before and i alone. Dropout draws its mask again in backward.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>

#include <triad/core/dtype.h>

namespace triad {

struct Philox4 {
  std::uint32_t lane[4];
};

TRIAD_HD inline Philox4 philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter) {
  std::uint32_t c0 = std::uint32_t(counter), c1 = std::uint32_t(counter >> 32);
  std::uint32_t c2 = std::uint32_t(stream), c3 = std::uint32_t(stream >> 32);
  std::uint32_t k0 = std::uint32_t(seed), k1 = std::uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    std::uint64_t p0 = std::uint64_t(0xD2511F53u) * c0, p1 = std::uint64_t(0xCD9E8D57u) * c2;
    c0 = std::uint32_t(p1 >> 32) ^ c1 ^ k0;
    c2 = std::uint32_t(p0 >> 32) ^ c3 ^ k1;
    c1 = std::uint32_t(p1);
    c3 = std::uint32_t(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// 32 random bits as a float in [0, 1), 24 of them used; 64 as a double, 53 used.
TRIAD_HD inline float uniform_float(std::uint32_t bits) { return float(bits >> 8) * 0x1p-24f; }
TRIAD_HD inline double uniform_double(std::uint32_t high, std::uint32_t low) {
  return double((std::uint64_t(high) << 21) ^ (low >> 11)) * 0x1p-53;
}
// A uniform float below p is one of bits >> 8 < dropout_threshold(p): then an element is dropped.
inline std::uint32_t dropout_threshold(double p) { return std::uint32_t(std::ceil(p * 0x1p24)); }

// One op's share of the random numbers.
struct RandomStream {
  std::uint64_t seed = 0, stream = 0;
};

// The generator that randn, rand and dropout draw from: a seed and the number of streams taken.
struct Generator {
  static inline std::atomic<std::uint64_t> seed, stream;
};
inline RandomStream next_stream() { return {Generator::seed, Generator::stream++}; }
// To save in a checkpoint, and to continue from it.
inline RandomStream random_state() { return {Generator::seed, Generator::stream}; }
inline void set_random_state(RandomStream state) {
  Generator::seed = state.seed, Generator::stream = state.stream;
}
inline void manual_seed(std::uint64_t seed) { set_random_state({.seed = seed}); }

}  // namespace triad
