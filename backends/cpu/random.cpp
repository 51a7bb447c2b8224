// Random numbers: element i is a function of (seed, stream, i) alone, as core/random.h lays down,
// so any thread may make any part. Words become numbers a tile at a time, while it is in cache.
#include <triad/backends/cpu/philox.h>

namespace triad::kernels {

constexpr Index kTile = 1024;  // words; the grain below is a multiple

// Calls f(first, count, words) for tiles of n elements, each of `per_element` words.
template <class F> static void for_each_tile(RandomStream random, Index n, Index per_element, F f) {
  const Index tile = kTile / per_element;
  parallel_ranges(n, kHeavyGrain, [&](Index begin, Index end) {
    std::uint32_t words[kTile];
    for (Index i = begin; i < end; i += tile) {
      const Index count = std::min(tile, end - i);
      uniform_bits(random, std::uint64_t(i * per_element), count * per_element, words);
      f(i, count, words);
    }
  });
}

void uniform(Cpu, RandomStream random, const Tensor& y) {
  visit_float("uniform", y.dtype(), [&]<class T>(T) {
    constexpr Index per_element = sizeof(T) / 4;
    T* out = y.first<T>();
    for_each_tile(random, y.numel(), per_element, [=](Index first, Index n, auto* words) {
      for (Index i = 0; i < n; ++i)
        if constexpr (per_element == 1) out[first + i] = uniform_float(words[i]);
        else out[first + i] = uniform_double(words[2 * i], words[2 * i + 1]);
    });
  });
}

void normal(Cpu, RandomStream random, const Tensor& y) {
  using V = Vec<double>;
  visit_float("normal", y.dtype(), [&]<class T>(T) {
    constexpr Index words_per_pair = sizeof(T) / 2;
    static_assert(kTile / words_per_pair % V::lanes == 0);
    const Index pairs = ceil_div(y.numel(), 2);
    for_each_tile(random, pairs, words_per_pair, [&](Index first, Index n, auto* words) {
      double u1[kTile / 2], u2[kTile / 2], normals[kTile];
      for (Index k = 0; k < n; ++k, words += words_per_pair) {
        if constexpr (sizeof(T) == 4) {
          u1[k] = (double(words[0]) + 1) * 0x1p-32;
          u2[k] = double(words[1]) * 0x1p-32;
        } else {
          u1[k] = 1 - uniform_double(words[0], words[1]);
          u2[k] = uniform_double(words[2], words[3]);
        }
      }
      for (Index k = n; k % V::lanes != 0; ++k) u1[k] = u2[k] = 1;
      for (Index k = 0; k < n; k += V::lanes) {
        const auto [cos, sin] = math::normal_pair(V::load(u1 + k), V::load(u2 + k));
        hn::StoreInterleaved2(cos.raw, sin.raw, V::tag, normals + 2 * k);
      }
      std::copy_n(normals, std::min(2 * n, y.numel() - 2 * first), y.first<T>() + 2 * first);
    });
  });
}

void random_integers(Cpu, RandomStream random, Index low, Index high, const Tensor& y) {
  const std::uint64_t range = std::uint64_t(high) - std::uint64_t(low);
  std::int64_t* out = y.first<std::int64_t>();
  for_each_tile(random, y.numel(), 2, [=](Index first, Index n, const std::uint32_t* words) {
    for (Index i = 0; i < n; ++i) {
      const unsigned __int128 bits = std::uint64_t(words[2 * i]) << 32 | words[2 * i + 1];
      out[first + i] = Index(std::uint64_t(low) + std::uint64_t(bits * range >> 64));
    }
  });
}

// By registers: the compiler's own loop reads x behind masks, which took twice as long.
void dropout(Cpu, RandomStream random, double p, const Tensor& x, const Tensor& y) {
  visit_float("dropout", x.dtype(), [&]<class T>(T) {
    const T* in = x.first<T>();
    T* out = y.first<T>();
    const Vec<T> limit{T(dropout_threshold(p))}, scale{T(1 / (1 - p))};
    for_each_tile(random, x.numel(), 1, [=](Index first, Index n, const std::uint32_t* words) {
      for_each_register<T>(n, [&](Index i, auto part) {
        const Vec<T> kept = part.load(in + first + i) * scale;
        part.store(select(high_bits<T>(words + i) < limit, Vec<T>(), kept), out + first + i);
      });
    });
  });
}

}  // namespace triad::kernels
