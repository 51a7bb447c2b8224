// Many Philox random words at once, a register of counters at a time.
//
// The definition is philox() of core/random.h. Here every 64-bit lane holds one counter's words in
// its low halves: the multiplication of low halves then gives the 64-bit product that a round needs
// without a shuffle, and what gathers in the high halves is never read.
#pragma once

#include <algorithm>
#include <cstdint>

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
  auto multiply = [&](auto a, auto b) {
    return hn::MulEven(hn::BitCast(half, a), hn::BitCast(half, b));
  };

  const auto counter = hn::Add(hn::Set(wide, first_counter), hn::Iota(wide, 0));
  const auto next = hn::Add(counter, hn::Set(wide, lanes));
  auto a0 = counter, a1 = hn::ShiftRight<32>(counter);
  auto b0 = next, b1 = hn::ShiftRight<32>(next);
  auto a2 = word(random.stream), a3 = word(random.stream >> 32), b2 = a2, b3 = a3;
  const auto m0 = word(0xD2511F53u), m1 = word(0xCD9E8D57u);
  std::uint32_t k0 = std::uint32_t(random.seed), k1 = std::uint32_t(random.seed >> 32);
  auto round = [&](auto& c0, auto& c1, auto& c2, auto& c3) {
    const auto p0 = multiply(m0, c0), p1 = multiply(m1, c2);
    c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c1), word(k0));
    c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c3), word(k1));
    c1 = p1;
    c3 = p0;
  };
  for (int i = 0; i < 10; ++i) {
    round(a0, a1, a2, a3);
    round(b0, b1, b2, b3);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  auto store = [&](auto c0, auto c1, auto c2, auto c3, std::uint32_t* to) {
    const auto first = hn::OddEven(hn::BitCast(half, hn::ShiftLeft<32>(c1)), hn::BitCast(half, c0));
    const auto second =
        hn::OddEven(hn::BitCast(half, hn::ShiftLeft<32>(c3)), hn::BitCast(half, c2));
    hn::StoreInterleaved2(hn::BitCast(wide, first), hn::BitCast(wide, second), wide,
                          reinterpret_cast<std::uint64_t*>(to));
  };
  store(a0, a1, a2, a3, out);
  store(b0, b1, b2, b3, out + 4 * lanes);
}

// out[i] = the random word of element first + i, 0 <= i < n: word e % 4 of counter e / 4 for
// element e. `first` need not be a multiple of 4.
inline void uniform_bits(RandomStream random, std::uint64_t first, Index n, std::uint32_t* out) {
  std::uint64_t counter = first / 4;
  std::uint32_t block[kPhiloxBlock];
  Index done = 0;
  if (Index skip = Index(first % 4); skip != 0 && n > 0) {
    philox_block(random, counter, block);
    done = std::min(n, kPhiloxBlock - skip);
    std::copy_n(block + skip, done, out);
    counter += kPhiloxBlock / 4;
  }
  for (; n - done >= kPhiloxBlock; done += kPhiloxBlock, counter += kPhiloxBlock / 4)
    philox_block(random, counter, out + done);
  if (done < n) {
    philox_block(random, counter, block);
    std::copy_n(block, n - done, out + done);
  }
}

// An element is dropped when its uniform is below p, which in whole numbers is
// bits >> 8 < dropout_threshold(p).
inline std::uint32_t dropout_threshold(double p) {
  const double scaled = p * 0x1p24;
  const auto whole = std::uint32_t(scaled);
  return whole + (double(whole) < scaled);
}

// bits >> 8 of a register's worth of words, as floating-point numbers.
template <class T>
Vec<T> high_bits(const std::uint32_t* bits) {
  constexpr hn::Rebind<std::uint32_t, typename Vec<T>::Tag> words;
  constexpr hn::Rebind<std::int32_t, typename Vec<T>::Tag> ints;
  return to_floating<T>(hn::BitCast(ints, hn::ShiftRight<8>(hn::LoadU(words, bits))));
}

}  // namespace triad::cpu
