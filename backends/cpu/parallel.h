// Loops shared among OpenMP's threads.
#pragma once

#include <omp.h>

#include <algorithm>

#include <triad/backends/cpu/index.h>

namespace triad::cpu {

// Elements that are worth a thread of their own (starting one costs about 2 us on 2 AVX-512 cores):
// where memory sets the pace, and where each takes 20 to 40 times as much arithmetic.
inline constexpr Index kGrain = 65536, kHeavyGrain = 16384;

// Calls f(begin, end) on ranges that make up [0, n); bounds other than n are multiples of `grain`,
// the number of items that are worth a thread's while (a few microseconds). One range, on the
// calling thread, where there is no more than that or a parallel region is already running. f must
// not throw, and where the ranges end must not change what it computes.
template <class F>
void parallel_ranges(Index n, Index grain, F f) {
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
template <class F>
void parallel_for(Index n, Index grain, F f) {
  parallel_ranges(n, grain, [f](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) f(i);
  });
}

}  // namespace triad::cpu
