// What all CPU kernels include: the contract, with <cmath>, <complex>, <cstdint>, <memory>,
// <string> and <vector>; loops shared among OpenMP's threads; working memory that a thread keeps.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::cpu {

using Index = std::int64_t;  // a number of things, or the place of one: elements, rows, strides

// n / size, rounded up: how many pieces of `size` make n.
constexpr Index ceil_div(Index n, Index size) { return (n + size - 1) / size; }

// Elements that are worth a thread of their own (starting one costs about 2 us on 2 AVX-512 cores):
// where memory sets the pace, and where each takes 20 to 40 times as much arithmetic.
inline constexpr Index kGrain = 65536, kHeavyGrain = 16384;

// Calls f(begin, end) on ranges that make up [0, n); bounds other than n are multiples of `grain`,
// the number of items that are worth a thread's while (a few microseconds). One range, on the
// calling thread, where there is no more than that or a parallel region is already running. f must
// not throw, and where the ranges end must not change what it computes.
template <class F> void parallel_ranges(Index n, Index grain, F f) {
  if (n <= 0) return;
  const Index grains = ceil_div(n, grain);
  const Index threads = std::min<Index>(grains, omp_get_max_threads());
  if (threads == 1 || omp_in_parallel()) return f(Index(0), n);
#pragma omp parallel num_threads(int(threads))
  {
    const Index team = omp_get_num_threads(), self = omp_get_thread_num();
    const Index begin = grains * self / team * grain, end = grains * (self + 1) / team * grain;
    if (begin < std::min(end, n)) f(begin, std::min(end, n));
  }
}

// The same with f(i) for each i of [0, n).
template <class F> void parallel_for(Index n, Index grain, F f) {
  parallel_ranges(n, grain, [f](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) f(i);
  });
}

// Room for `count` values of T, uninitialised, aligned to a cache line. It belongs to the calling
// thread until its next call for the same T, and stays allocated while the thread lives.
template <class T> T* scratch(Index count) {
  constexpr std::align_val_t kLine{64};
  using Free = decltype([](T* p) { ::operator delete(p, kLine); });
  thread_local std::unique_ptr<T, Free> memory;
  thread_local Index size = 0;
  if (size < count) {
    memory.reset();
    size = 0;
    memory.reset(static_cast<T*>(::operator new(count * sizeof(T), kLine)));
    size = count;
  }
  return memory.get();
}

}  // namespace triad::cpu

namespace triad::kernels {
using namespace cpu;  // in all that include this
}
