// CUDA kernels, compiled by a plain C++ compiler and run on the CPU: what the CUDA language adds to
// C++, for a build with -DTRIAD_CUDA=cpu. backends/cuda/launch.h includes this in place of CUDA's
// own headers, and the same kernels run, one fiber per CUDA thread, so that their indexing and
// their synchronisation are tested where there is no GPU.
//
// A block runs alone. A thread runs until it waits: at a warp operation for the other lanes of its
// warp, at __syncthreads for the rest of the block. Which warp goes first, how far it runs ahead of
// the others, and the order of lanes and of blocks, is the schedule: a result that depends on it
// misses a barrier. What is wrong in any schedule is an exception from the launch: lanes of a warp
// that wait at different operations, one that reads what a lane that has ended should have sent, an
// index outside a shared array, a write beside it, an address that a vector load cannot take.
// Shared memory is full of NaN until it is written; what copies and products that run on their own
// have to write is NaN until a thread has waited for them.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static  // one block at a time

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern uint3 threadIdx, blockIdx;  // of the thread that runs now
extern dim3 blockDim, gridDim;

namespace simt {

struct Thread;

extern int lane;  // of the thread that runs now

// 0: the first warp runs as far as it can, 1: the last one; n > 1: at random, n is the seed. Copies
// (cp.async) happen as late as they may, or, under odd ones, at once.
extern int schedule;
// Is there a device that takes so many blocks and threads?
bool can_run(dim3 grid, dim3 block);
// Runs a kernel: `body` is one thread of it. What goes wrong is a std::logic_error.
void run(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body);

[[noreturn]] void fail(const std::string& what);

// ---------------------------------------------------------------------- waiting for other threads

void block_barrier();
// PTX's bar.sync: the first `threads` that come to barrier `id` (0 to 15, apart from
// __syncthreads).
void named_barrier(int id, int threads);
// The warp's next mailbox: every lane writes its letter (at most 64 bytes) and waits for the others
// at the same `operation`; then all 32 can be read until this thread's next call.
struct Mailbox {
  const std::byte* box;
  std::uint32_t present;  // the lanes that have written
};
std::byte* own_letter();
Mailbox exchange_letters(const char* operation);

template <class T> struct Letters : Mailbox {
  T operator[](int lane) const {
    if (!(present >> (lane & 31) & 1)) fail("a warp operation reads from a lane that has ended");
    T letter;
    std::memcpy(&letter, box + 64 * (lane & 31), sizeof letter);
    return letter;
  }
};
// `lanes`: the mask that the operation was given.
template <class T>
Letters<T> exchange(const char* operation, const T& letter, unsigned lanes = ~0u) {
  static_assert(sizeof letter <= 64);
  if (!(lanes >> lane & 1)) fail(std::string("a lane that its mask leaves out calls ") + operation);
  std::memcpy(own_letter(), &letter, sizeof letter);
  return {exchange_letters(operation)};
}

// combine(a, b), which is combine(b, a), of the letters of all lanes that have not ended.
template <class T, class F>
T reduce_lanes(const char* operation, unsigned lanes, T value, F combine) {
  const auto all = exchange(operation, value, lanes);
  T result = value;
  for (int i = 0; i < 32; ++i)
    if (i != lane && all.present >> i & 1) result = combine(result, all[i]);
  return result;
}

template <class T>
concept Word = std::same_as<T, int> || std::same_as<T, unsigned>;
template <class T>
concept Countable = Word<T> || std::same_as<T, unsigned long long>;

// ---------------------------------------------------------------------- shared memory

// A __shared__ array; the runtime fills it with NaN for every block and looks at its surroundings.
class SharedBytes {
 public:
  SharedBytes(std::byte* bytes, std::size_t size);
};
inline constexpr std::size_t kGuard = 64;  // bytes on either side

template <class T, int N> class SharedArray {
 public:
  T& operator[](std::int64_t i) {
    if (i < 0 || i >= N)
      fail("index " + std::to_string(i) + " of a shared array of " + std::to_string(N));
    return *(data() + i);
  }
  T* data() { return reinterpret_cast<T*>(bytes_ + kGuard); }

 private:
  alignas(64) std::byte bytes_[kGuard + N * sizeof(T) + kGuard];
  SharedBytes registered_{bytes_, N * sizeof(T)};
};

void* dynamic_shared();

// ---------------------------------------------------------------------- asynchronous copies

// 16 bytes (zeros where there is no `source`), which arrive when wait_copies() says so, not before.
void copy_later(void* shared, const void* source);
void commit_copies();               // those since the last commit are a group
void wait_copies(int groups_left);  // all but the newest so many groups have arrived

// ---------------------------------------------------------------------- Hopper's ways to wait

// Until `ready` is true; it is asked again after may_be_ready(). That it never will be is an error.
void wait_until(const std::function<bool()>& ready);
void may_be_ready();
// `work` is done some time, when threads wait for it at the latest.
void do_late(std::function<void()> work);

// The thread's products: done, group by group, when wait_products() says so, not before.
void multiply_later(std::function<void()> product);
void commit_products();
void wait_products(int groups_left);

inline void check_aligned(const void* address, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) fail("a misaligned vector access");
}

}  // namespace simt

inline void __syncthreads() { simt::block_barrier(); }
inline void __syncwarp() { simt::exchange("__syncwarp", 0); }
template <class T> T __shfl_sync(unsigned lanes, T value, int from) {
  return simt::exchange("__shfl_sync", value, lanes)[from];
}
template <class T> T __shfl_xor_sync(unsigned lanes, T value, int mask) {
  return simt::exchange("__shfl_xor_sync", value, lanes)[simt::lane ^ mask];
}
template <class T> T __shfl_up_sync(unsigned lanes, T value, int by) {  // the lowest keep theirs
  return simt::exchange("__shfl_up_sync", value,
                        lanes)[simt::lane < by ? simt::lane : simt::lane - by];
}
template <class T> T __shfl_down_sync(unsigned lanes, T value, int by) {  // the highest keep theirs
  return simt::exchange("__shfl_down_sync", value,
                        lanes)[simt::lane + by < 32 ? simt::lane + by : simt::lane];
}

// Votes and reductions are those of the lanes that have not ended.
inline unsigned __ballot_sync(unsigned lanes, int predicate) {
  return simt::reduce_lanes("__ballot_sync", lanes, unsigned(predicate != 0) << simt::lane,
                            std::bit_or());
}
inline int __any_sync(unsigned lanes, int predicate) {
  return simt::reduce_lanes("__any_sync", lanes, predicate != 0, std::logical_or());
}
inline int __all_sync(unsigned lanes, int predicate) {
  return simt::reduce_lanes("__all_sync", lanes, predicate != 0, std::logical_and());
}
template <simt::Word T> T __reduce_add_sync(unsigned lanes, T value) {
  return T(
      simt::reduce_lanes("__reduce_add_sync", lanes, unsigned(value), std::plus()));  // modulo 2^32
}
template <simt::Word T> T __reduce_min_sync(unsigned lanes, T value) {
  return simt::reduce_lanes("__reduce_min_sync", lanes, value,
                            [](T a, T b) { return a < b ? a : b; });
}
template <simt::Word T> T __reduce_max_sync(unsigned lanes, T value) {
  return simt::reduce_lanes("__reduce_max_sync", lanes, value,
                            [](T a, T b) { return a < b ? b : a; });
}
inline unsigned __reduce_and_sync(unsigned lanes, unsigned value) {
  return simt::reduce_lanes("__reduce_and_sync", lanes, value, std::bit_and());
}
inline unsigned __reduce_or_sync(unsigned lanes, unsigned value) {
  return simt::reduce_lanes("__reduce_or_sync", lanes, value, std::bit_or());
}
inline unsigned __reduce_xor_sync(unsigned lanes, unsigned value) {
  return simt::reduce_lanes("__reduce_xor_sync", lanes, value, std::bit_xor());
}

// Of whole numbers: their order does not change a result. Those of floats, triad does without.
template <simt::Countable T> T atomicExch(T* at, std::type_identity_t<T> value) {
  return std::exchange(*at, value);
}
template <simt::Countable T> T atomicAdd(T* at, std::type_identity_t<T> value) {
  return atomicExch(at, T(std::make_unsigned_t<T>(*at) + std::make_unsigned_t<T>(value)));
}
template <simt::Word T> T atomicSub(T* at, std::type_identity_t<T> value) {
  return atomicExch(at, T(unsigned(*at) - unsigned(value)));
}
template <simt::Countable T> T atomicMin(T* at, std::type_identity_t<T> value) {
  return atomicExch(at, value < *at ? value : *at);
}
template <simt::Countable T> T atomicMax(T* at, std::type_identity_t<T> value) {
  return atomicExch(at, *at < value ? value : *at);
}
template <simt::Countable T> T atomicAnd(T* at, std::type_identity_t<T> value) {
  return atomicExch(at, *at & value);
}
template <simt::Countable T> T atomicOr(T* at, std::type_identity_t<T> value) {
  return atomicExch(at, *at | value);
}
template <simt::Countable T> T atomicXor(T* at, std::type_identity_t<T> value) {
  return atomicExch(at, *at ^ value);
}
template <simt::Countable T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return atomicExch(at, *at == expected ? value : *at);
}

inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline float __fdividef(float a, float b) { return a / b; }  // there to 2 ulp, of a b < 2^126
