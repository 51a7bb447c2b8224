// Single ops at several sizes, the same on the peer's side as a line of Python.
#pragma once

#include <triad/bench/workloads.h>

namespace triad::bench {

struct OpWorkload {
  Workload workload;  // an expression over BenchInputs, the same on both sides
  double bytes = 0;   // that it must read and write; 0: memory does not set its pace
};

// Every op of tests/op_cases_bench.cpp at n elements; Fourier transforms of 64 rows of n.
std::vector<OpWorkload> ops(std::int64_t n);
std::vector<OpWorkload> transforms(std::int64_t n);

}  // namespace triad::bench
