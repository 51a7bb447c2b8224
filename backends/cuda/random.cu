// Random numbers: element i is a function of (seed, stream, i) alone, as core/random.h lays down. A
// thread takes one counter of Philox, four words, and makes of it what it gives.
#include <triad/backends/cuda/random.h>

namespace triad::kernels {
namespace {

using namespace cuda;

// f(words, values) makes the `each` elements of a counter; y [n].
template <int each, class F, class T>
__global__ void draw(DeviceRandom random, Index n, T* y, F f) {
  for (Index counter = first_index(); counter * each < n; counter += stride()) {
    T values[each];
    f(random.words(counter).lane, values);
    for (int i = 0; i < each; ++i)
      if (counter * each + i < n) y[counter * each + i] = values[i];
  }
}

template <class T, class F>
void launch_draw(Cuda device, RandomStream random, const Tensor& y, F f) {
  constexpr int each = 16 / sizeof(T);
  launch(grid_for(device, y.numel(), each), draw<each, F, T>, on_device(random), y.numel(), y, f);
}

struct Uniform {
  __device__ void operator()(const std::uint32_t* word, float (&y)[4]) const {
    for (int i = 0; i < 4; ++i) y[i] = uniform_float(word[i]);
  }
  __device__ void operator()(const std::uint32_t* word, double (&y)[2]) const {
    for (int i = 0; i < 2; ++i) y[i] = uniform_double(word[2 * i], word[2 * i + 1]);
  }
};

struct Normal {
  __device__ void operator()(const std::uint32_t* word, float (&y)[4]) const {
    for (int i = 0; i < 4; i += 2) {
      const auto pair =
          math::normal_pair((double(word[i]) + 1) * 0x1p-32, double(word[i + 1]) * 0x1p-32);
      y[i] = float(pair.cos), y[i + 1] = float(pair.sin);
    }
  }
  __device__ void operator()(const std::uint32_t* word, double (&y)[2]) const {
    const auto pair =
        math::normal_pair(1 - uniform_double(word[0], word[1]), uniform_double(word[2], word[3]));
    y[0] = pair.cos, y[1] = pair.sin;
  }
};

struct Integers {
  std::uint64_t low, range;
  __device__ void operator()(const std::uint32_t* word, std::int64_t (&y)[2]) const {
    for (int i = 0; i < 2; ++i) {
      const std::uint64_t bits = std::uint64_t(word[2 * i]) << 32 | word[2 * i + 1];
      y[i] = std::int64_t(low + std::uint64_t((unsigned __int128)(bits)*range >> 64));
    }
  }
};

template <class T>
__global__ void drop(DeviceRandom random, std::uint32_t threshold, T scale, Index n, const T* x,
                     T* y) {
  for (Index counter = first_index(); counter * 4 < n; counter += stride()) {
    const Philox4 words = random.words(counter);
    for (Index i = counter * 4; i < n && i < counter * 4 + 4; ++i)
      y[i] = words.lane[i % 4] >> 8 < threshold ? T(0) : x[i] * scale;
  }
}

}  // namespace

void uniform(Cuda device, RandomStream random, const Tensor& y) {
  visit_float("uniform", y.dtype(),
              [&]<class T>(T) { launch_draw<T>(device, random, y, Uniform()); });
}

void normal(Cuda device, RandomStream random, const Tensor& y) {
  visit_float("normal", y.dtype(),
              [&]<class T>(T) { launch_draw<T>(device, random, y, Normal()); });
}

void random_integers(Cuda device, RandomStream random, Index low, Index high, const Tensor& y) {
  const auto first = std::uint64_t(low);
  launch_draw<Index>(device, random, y, Integers{first, std::uint64_t(high) - first});
}

void dropout(Cuda device, RandomStream random, double p, const Tensor& x, const Tensor& y) {
  visit_float("dropout", x.dtype(), [&]<class T>(T) {
    launch(grid_for(device, x.numel(), 4), drop<T>, on_device(random), dropout_threshold(p),
           T(1 / (1 - p)), x.numel(), x, y);
  });
}

}  // namespace triad::kernels
