// Single ops at several sizes, the same on the peer's side as a line of Python.
#pragma once

#include <triad/bench/workloads.h>

namespace triad::bench {

// `expression` over x and y, f32 [n], or for transforms z, c64 [64,n]; the numbers are the same on
// both sides.
struct OpWorkload {
  Workload workload;
  double bytes = 0;  // that it must read and write; 0: memory does not set its pace
};

// The ops that tests/op_cases.h names for it, at n elements; transforms at rows of n, for the
// lengths that they are measured at.
std::vector<OpWorkload> ops(std::int64_t n);
std::vector<OpWorkload> transforms(std::int64_t n);

}  // namespace triad::bench
