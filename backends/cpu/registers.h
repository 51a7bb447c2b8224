// Loops over arrays a register at a time, the last one perhaps in part, and the sums made in them.
#pragma once

#include <triad/backends/cpu/vec.h>

namespace triad::cpu {

template <class T> struct FullRegister {
  Vec<T> load(const T* p, T = T(0)) const { return Vec<T>::load(p); }
  void store(Vec<T> v, T* p) const { v.store(p); }
  Vec<T> keep(Vec<T> v) const { return v; }
};

// The first `count` lanes, count < lanes. The others read as `rest`, are not written, and in what
// is kept become zero.
template <class T> struct PartOfRegister {
  Index count;

  Vec<T> load(const T* p, T rest = T(0)) const {
    return select(mask(), Vec<T>::load_first(p, count), Vec<T>(rest));
  }
  void store(Vec<T> v, T* p) const { v.store_first(p, count); }
  Vec<T> keep(Vec<T> v) const { return select(mask(), v, Vec<T>()); }
  auto mask() const { return hn::FirstN(Vec<T>::tag, count); }
};

// Calls f(i, part) for the registers of n elements; part loads and stores at an address + i.
template <class T, class F> inline void for_each_register(Index n, F f) {
  constexpr Index lanes = Vec<T>::lanes;
  Index i = 0;
  for (; i + lanes <= n; i += lanes) f(i, FullRegister<T>());
  if (i < n) f(i, PartOfRegister<T>{n - i});
}

// A running sum of registers of T, in double. On f32 that costs two conversions a register, which
// memory hides, and makes the order of a sum of floats all but irrelevant. Sums of doubles go over
// blocks of kSumBlock elements, whose sums are added in pairs: the rounding then grows with the
// logarithm of the length.
template <class T> class Accumulator;

inline constexpr Index kSumBlock = 1024;

template <> class Accumulator<double> {
 public:
  void add(Vec<double> x) { sum_ += x; }
  void add_product(Vec<double> a, Vec<double> b) { sum_ = fma(a, b, sum_); }
  double total() const { return sum_lanes(sum_); }

 private:
  Vec<double> sum_;
};

template <> class Accumulator<float> {
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
template <class S> S pairwise_sum(const S* p, Index n, Index stride) {
  if (n == 1) return *p;
  const Index half = n / 2;
  return pairwise_sum(p, half, stride) + pairwise_sum(p + half * stride, n - half, stride);
}

}  // namespace triad::cpu
