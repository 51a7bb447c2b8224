// The device that cuda_on_cpu simulates: what kernels can ask of it, and that it sees what they do
// wrong. (Copies, products and barriers of Hopper are tested by the kernels that use them.)
#include <triad/tests/reference.h>
#include <triad/tests/test_device.h>

#include <triad/backends/cuda/mma.h>

#include <doctest/doctest.h>

#include <array>
#include <numeric>

using namespace triad;

namespace {

// Runs one block of so many threads, under every kind of schedule; the last one's is left.
void run_block(int threads, const std::function<void()>& body) {
  const auto run = [&] { simt::run(dim3(1), dim3(unsigned(threads)), 1024, body); };
  for_schedules(run);
  run();
}

// What is wrong with it, under every schedule.
void check_fails(const char* what, int threads, const std::function<void()>& body) {
  const auto check = [&] {
    std::string error;
    try {
      simt::run(dim3(1), dim3(unsigned(threads)), 1024, body);
    } catch (const std::logic_error& e) {
      error = e.what();
    }
    CHECK(error.substr(0, std::string(what).size()) == what);
  };
  for_schedules(check);
  check();
}

int thread() { return int(threadIdx.x); }

}  // namespace

TEST_CASE("lanes of a warp give each other values") {
  int from[64], across[64], up[64], down[64];
  run_block(64, [&] {
    from[thread()] = __shfl_sync(~0u, thread(), 3);
    across[thread()] = __shfl_xor_sync(~0u, thread(), 5);
    up[thread()] = __shfl_up_sync(~0u, thread(), 2);
    down[thread()] = __shfl_down_sync(~0u, thread(), 30);
  });
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32;
    CHECK(from[i] == i - lane + 3);
    CHECK(across[i] == i - lane + (lane ^ 5));
    CHECK(up[i] == (lane < 2 ? i : i - 2));
    CHECK(down[i] == (lane < 2 ? i + 30 : i));
  }
}

TEST_CASE("lanes of a warp vote and reduce, without those that have ended") {
  constexpr int kLanes = 20;  // of the second warp
  struct Found {
    unsigned ballot, all_bits, any_bit, odd_bits;
    int any, all, sum, least, most;
    unsigned whole;
  };
  std::array<Found, 32 + kLanes> found;
  run_block(32 + kLanes, [&] {
    const int i = thread();
    const unsigned bit = 1u << simt::lane;
    found[std::size_t(i)] = {__ballot_sync(~0u, i % 3 == 0), __reduce_and_sync(~0u, ~bit),
                             __reduce_or_sync(~0u, bit),     __reduce_xor_sync(~0u, bit | 1u),
                             __any_sync(~0u, i == 40),       __all_sync(~0u, i >= 32),
                             __reduce_add_sync(~0u, i - 40), __reduce_min_sync(~0u, i - 40),
                             __reduce_max_sync(~0u, i - 40), __reduce_add_sync(~0u, 1u << 31)};
  });
  for (int i = 0; i < int(found.size()); ++i) {
    const Found& f = found[std::size_t(i)];
    const int first = i / 32 * 32, count = i < 32 ? 32 : kLanes;
    const unsigned lanes = count == 32 ? ~0u : (1u << count) - 1;
    unsigned thirds = 0;
    int sum = 0;
    for (int j = first; j < first + count; ++j)
      thirds |= unsigned(j % 3 == 0) << (j - first), sum += j - 40;
    CHECK(f.ballot == thirds);
    CHECK(f.all_bits == ~lanes);
    CHECK(f.any_bit == lanes);
    CHECK(f.odd_bits == (lanes & ~1u));  // the first bit an even number of times
    CHECK(f.any == int(i >= 32));
    CHECK(f.all == int(i >= 32));
    CHECK(f.sum == sum);
    CHECK(f.least == first - 40);
    CHECK(f.most == first + count - 1 - 40);
    CHECK(f.whole == 0);  // an even number of them, modulo 2^32
  }
}

TEST_CASE("atomics on whole numbers give what was there") {
  unsigned sum, bits, flipped, kept;
  int least, most, down;
  unsigned long long wide, slot;
  std::array<bool, 100> seen;
  run_block(100, [&] {
    if (thread() == 0) {
      sum = bits = flipped = 0, kept = ~0u, least = 1000, most = -1000, down = 0;
      wide = 0, slot = 1000, seen.fill(false);
    }
    __syncthreads();
    seen[atomicAdd(&sum, 1)] = true;
    atomicSub(&down, 2);
    atomicMin(&least, thread() - 50);
    atomicMax(&most, thread() - 50);
    atomicOr(&bits, 1u << thread() % 32);
    atomicAnd(&kept, ~(1u << thread() % 32));
    atomicXor(&flipped, 1u << thread() % 32);
    atomicAdd(&wide, 1ull << 40);
    if (atomicCAS(&slot, 1000, std::uint64_t(thread())) == 1000)
      CHECK(slot == std::uint64_t(thread()));
    else CHECK(slot < 100);
  });
  CHECK(sum == 100);
  CHECK(std::accumulate(seen.begin(), seen.end(), 0) == 100);
  CHECK(down == -200);
  CHECK(least == -50);
  CHECK(most == 49);
  CHECK(bits == ~0u);
  CHECK(kept == 0);
  CHECK(flipped == 0xfffffff0);  // 4 threads for each of the first bits, 3 for the others
  CHECK(wide == 100ull << 40);
  int last = 7;
  run_block(1, [&] { CHECK(atomicExch(&last, 7) == 7); });
}

TEST_CASE("a named barrier holds back those who share it, and nobody else") {
  // Warps 0 and 1 write for 2 and 3 and wait for their answer; warp 4 takes no part.
  int sums[2];
  run_block(160, [&] {
    auto* const numbers = static_cast<int*>(simt::dynamic_shared());
    const int i = thread();
    for (int round = 1; i < 128 && round <= 3; ++round) {
      if (i < 64) numbers[i] = i * round;
      simt::named_barrier(1, 128);
      if (i == 64 || i == 96) sums[i / 32 - 2] = std::accumulate(numbers, numbers + 64, round);
      simt::named_barrier(2, 128);
    }
    if (i >= 96) simt::named_barrier(3, 64);
  });
  CHECK(sums[0] == 2016 * 3 + 3);
  CHECK(sums[1] == 2016 * 3 + 3);

  check_fails("threads wait for a barrier whose phase does not end", 64,
              [] { simt::named_barrier(1, 128); });
  check_fails("a barrier is for as many threads as the first one says", 64,
              [] { simt::named_barrier(1, thread() < 32 ? 64 : 96); });
  check_fails("there is no such barrier", 32, [] { simt::named_barrier(16, 32); });
}

TEST_CASE("a barrier that is missing shows") {
  bool differs = false;
  for (bool with_barrier : {true, false}) {
    const auto run = [&] {
      float got[64];
      simt::run(dim3(1), dim3(64), 256, [&] {
        auto* const numbers = static_cast<float*>(simt::dynamic_shared());
        numbers[thread()] = float(thread());
        if (with_barrier) __syncthreads();
        got[thread()] = numbers[63 - thread()];
      });
      for (int i = 0; i < 64; ++i) {
        if (with_barrier) CHECK(got[i] == float(63 - i));
        else differs |= got[i] != float(63 - i);  // NaN, as nobody had written there
      }
    };
    for_schedules(run);
    run();
  }
  CHECK(differs);
}

TEST_CASE("a copy that is not waited for has not arrived") {
  alignas(16) const float from[] = {1, 2, 3, 4};
  float early = 0, late = 0, zeros = 1;
  run_block(1, [&] {
    auto* const to = static_cast<float*>(simt::dynamic_shared());
    cuda::copy_later(to, from, true);
    cuda::copy_later(to + 4, from, false);
    cuda::commit_copies();
    early = to[3];
    cuda::wait_copies<0>();
    late = to[3], zeros = to[7];
  });
  CHECK(std::isnan(early));
  CHECK(late == 4);
  CHECK(zeros == 0);
}

TEST_CASE("a copy may arrive at once, where others still read") {
  alignas(16) const float from[] = {1, 2, 3, 4};
  bool seen = false;
  for_schedules([&] {
    run_block(64, [&] {
      auto* const to = static_cast<float*>(simt::dynamic_shared());
      if (thread() == 32) to[0] = 5;
      __syncthreads();
      if (thread() == 0) cuda::copy_later(to, from, true);
      if (thread() == 32) seen |= to[0] != 5;
      cuda::commit_copies();
      cuda::wait_copies<0>();
    });
  });
  CHECK(seen);
}

TEST_CASE("what no device would do is an error") {
  check_fails("a lane that its mask leaves out calls __shfl_xor_sync", 32,
              [] { __shfl_xor_sync(0xffff, 1, 1); });
  check_fails("lanes of one warp wait at", 32, [] {
    if (thread() < 16) __syncwarp();
    else __shfl_sync(~0u, 1, 0);
  });
  check_fails("lanes of one warp wait at a warp operation and at __syncthreads", 32, [] {
    if (thread() < 16) __syncwarp();
    else __syncthreads();
  });
  check_fails("a warp operation reads from a lane that has ended", 32, [] {
    if (thread() > 0) __shfl_sync(~0u, 1, 0);
  });
  check_fails("index 8 of a shared array of 8", 1, [] {
    __shared__ cuda::Shared<float, 8> numbers;
    numbers[8] = 1;
  });
  check_fails("a write beside a shared array", 1, [] {
    __shared__ cuda::Shared<float, 8> numbers;
    numbers.data()[8] = 1;
  });
  check_fails("a misaligned vector access", 1,
              [] { cuda::check_aligned(static_cast<char*>(simt::dynamic_shared()) + 8, 16); });
  for (const auto& [grid, block, bytes] : {std::tuple(dim3(0), dim3(1), 0),
                                           {dim3(1, 65536), dim3(1), 0},
                                           {dim3(1), dim3(1025), 0},
                                           {dim3(1), dim3(32), 228 << 10}})
    CHECK_THROWS_AS(simt::run(grid, block, std::size_t(bytes), [] {}), std::logic_error);
}

namespace {

float left_element(int i, int k) { return float((i * 7 + k * 3) % 11 - 5); }
float right_element(int k, int j) { return float((k * 5 + j * 2) % 13 - 6); }

// d [16,8] = a [16,16] b [16,8] of whole numbers, which 16 bits hold; a lane of it.
template <class E> void multiply(float* d) {
  const int row = simt::lane / 4, column = simt::lane % 4 * 2;
  unsigned a[4], b[2];
  for (int i = 0; i < 4; ++i) {
    const int r = row + i % 2 * 8, k = column + i / 2 * 8;
    a[i] = cuda::pair_of<E>(left_element(r, k), left_element(r, k + 1));
    if (i % 2 == 0) b[i / 2] = cuda::pair_of<E>(right_element(k, row), right_element(k + 1, row));
  }
  float acc[4] = {};
  cuda::multiply_add<E>(acc, a, b[0], b[1]);
  for (int e = 0; e < 4; ++e) d[(row + e / 2 * 8) * 8 + column + e % 2] = acc[e];
}

}  // namespace

TEST_CASE("what a product on tensor cores means, in both formats") {
  for (bool half : {false, true}) {
    reference::Values d(128);
    float got[128];
    simt::run(dim3(1), dim3(32), 0,
              [&] { half ? multiply<float16>(got) : multiply<bfloat16>(got); });
    for (int i = 0; i < 128; ++i) {
      for (int k = 0; k < 16; ++k) d[i] += left_element(i / 8, k) * right_element(k, i % 8);
      CHECK(double(got[i]) == d[i]);
    }
  }
}
