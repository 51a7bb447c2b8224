// Many Philox random words at once, a register of counters at a time.
//
// The definition is philox() of core/random.h. Here every 64-bit lane holds one counter's words in
// its low halves: the multiplication of low halves then gives the 64-bit product that a round needs
// without a shuffle, and what gathers in the high halves is never read.
#pragma once

#include <triad/backends/cpu/vec.h>
#include <triad/core/random.h>

namespace triad::cpu {

// Two registers of counters, so that the multiplications of one hide the latency of the other.
inline constexpr Index kPhiloxBlock = 8 * hn::MaxLanes(hn::ScalableTag<std::uint64_t>());

// out[4 i + lane] = word `lane` of counter first_counter + i, kPhiloxBlock words in all.
inline void philox_block(RandomStream random, std::uint64_t first_counter, std::uint32_t* out) {
  using Wide = hn::ScalableTag<std::uint64_t>;
  using Half = hn::Repartition<std::uint32_t, Wide>;
  constexpr Wide wide;
  constexpr Half half;
  constexpr std::uint64_t lanes = hn::MaxLanes(wide);
  auto word = [&](std::uint64_t value) { return hn::Set(wide, value & 0xffffffffu); };
  auto halves = [&](auto x) { return hn::BitCast(half, x); };
  auto multiply = [&](auto a, auto b) { return hn::MulEven(halves(a), halves(b)); };

  const auto counter = hn::Add(hn::Set(wide, first_counter), hn::Iota(wide, 0));
  const auto next = hn::Add(counter, hn::Set(wide, lanes));
  const auto stream = word(random.stream), stream_high = word(random.stream >> 32);
  hn::Vec<Wide> a[] = {counter, hn::ShiftRight<32>(counter), stream, stream_high};
  hn::Vec<Wide> b[] = {next, hn::ShiftRight<32>(next), stream, stream_high};
  const auto m0 = word(0xD2511F53u), m1 = word(0xCD9E8D57u);
  std::uint32_t k0 = std::uint32_t(random.seed), k1 = std::uint32_t(random.seed >> 32);
  for (int i = 0; i < 10; ++i, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    for (auto& c : {a, b}) {
      const auto p0 = multiply(m0, c[0]), p1 = multiply(m1, c[2]);
      c[0] = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c[1]), word(k0));
      c[2] = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c[3]), word(k1));
      c[1] = p1;
      c[3] = p0;
    }
  }
  auto pair = [&](auto low, auto high) {
    return hn::BitCast(wide, hn::OddEven(halves(hn::ShiftLeft<32>(high)), halves(low)));
  };
  auto* to = reinterpret_cast<std::uint64_t*>(out);
  hn::StoreInterleaved2(pair(a[0], a[1]), pair(a[2], a[3]), wide, to);
  hn::StoreInterleaved2(pair(b[0], b[1]), pair(b[2], b[3]), wide, to + 2 * lanes);
}

// out[i] = the random word of element first + i, 0 <= i < n: word e % 4 of counter e / 4 for
// element e. `first` need not be a multiple of 4.
inline void uniform_bits(RandomStream random, std::uint64_t first, Index n, std::uint32_t* out) {
  std::uint64_t counter = first / 4;
  Index skip = Index(first % 4);
  for (Index done = 0; done < n; counter += kPhiloxBlock / 4, skip = 0) {
    const Index count = std::min(n - done, kPhiloxBlock - skip);
    if (count < kPhiloxBlock) {
      std::uint32_t block[kPhiloxBlock];
      philox_block(random, counter, block);
      std::copy_n(block + skip, count, out + done);
    } else philox_block(random, counter, out + done);
    done += count;
  }
}

// bits >> 8 of a register's worth of words, as floating-point numbers.
template <class T> Vec<T> high_bits(const std::uint32_t* bits) {
  constexpr hn::Rebind<std::uint32_t, typename Vec<T>::Tag> words;
  constexpr hn::Rebind<std::int32_t, typename Vec<T>::Tag> ints;
  return to_floating<T>(hn::BitCast(ints, hn::ShiftRight<8>(hn::LoadU(words, bits))));
}

}  // namespace triad::cpu
