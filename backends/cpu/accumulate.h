// Sums that keep their digits: everything floating is added up in double.
//
// On f32 that costs two conversions a register, which memory hides, and makes the order of a sum of
// floats all but irrelevant. Sums of doubles go over blocks of kSumBlock elements, whose sums are
// added in pairs, so that the rounding grows with the logarithm of the length.
#pragma once

#include <triad/backends/cpu/vec.h>

namespace triad::cpu {

inline constexpr Index kSumBlock = 1024;

// A running sum of registers of T.
template <class T>
class Accumulator;

template <>
class Accumulator<double> {
 public:
  void add(Vec<double> x) { sum_ += x; }
  void add_product(Vec<double> a, Vec<double> b) { sum_ = fma(a, b, sum_); }
  double total() const { return sum_lanes(sum_); }

 private:
  Vec<double> sum_;
};

template <>
class Accumulator<float> {
 public:
  void add(Vec<float> x) {
    low_ += widen_low(x);
    high_ += widen_high(x);
  }
  void add_product(Vec<float> a, Vec<float> b) {
    low_ = fma(widen_low(a), widen_low(b), low_);
    high_ = fma(widen_high(a), widen_high(b), high_);
  }
  double total() const { return sum_lanes(low_ + high_); }

 private:
  Vec<double> low_, high_;
};

// The sum of p[0], p[stride], ..., n of them, in pairs.
template <class S>
S pairwise_sum(const S* p, Index n, Index stride) {
  if (n == 1) return *p;
  const Index half = n / 2;
  return pairwise_sum(p, half, stride) + pairwise_sum(p + half * stride, n - half, stride);
}

}  // namespace triad::cpu
