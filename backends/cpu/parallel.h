// Loops shared among OpenMP's threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace triad::cpu {

// Calls f(begin, end) on ranges that make up [0, n); bounds other than n are multiples of `grain`,
// the number of items that are worth a thread's while (a few microseconds). One range, on the
// calling thread, where there is no more than that or a parallel region is already running. f must
// not throw, and where the ranges end must not change what it computes.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F f) {
  if (n <= 0) return;
  const std::int64_t grains = (n + grain - 1) / grain;
  const std::int64_t threads = std::min<std::int64_t>(grains, omp_get_max_threads());
  if (threads == 1 || omp_in_parallel()) return f(std::int64_t(0), n);
#pragma omp parallel num_threads(int(threads))
  {
    const std::int64_t team = omp_get_num_threads(), self = omp_get_thread_num();
    const std::int64_t begin = grains * self / team * grain,
                       end = grains * (self + 1) / team * grain;
    if (begin < std::min(end, n)) f(begin, std::min(end, n));
  }
}

}  // namespace triad::cpu
