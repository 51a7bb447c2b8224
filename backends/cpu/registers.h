// A loop over an array, one register at a time, the last one perhaps in part.
#pragma once

#include <triad/backends/cpu/vec.h>

namespace triad::cpu {

template <class T>
struct FullRegister {
  Vec<T> load(const T* p, T = T(0)) const { return Vec<T>::load(p); }
  void store(Vec<T> v, T* p) const { v.store(p); }
  Vec<T> keep(Vec<T> v) const { return v; }
};

// The first `count` lanes, count < lanes.
template <class T>
struct PartOfRegister {
  Index count;

  // The other lanes read as `rest`,
  Vec<T> load(const T* p, T rest = T(0)) const {
    return select(mask(), Vec<T>::load_first(p, count), Vec<T>(rest));
  }
  // are not written,
  void store(Vec<T> v, T* p) const { v.store_first(p, count); }
  // and become zero.
  Vec<T> keep(Vec<T> v) const { return select(mask(), v, Vec<T>()); }

 private:
  auto mask() const { return hn::FirstN(Vec<T>::tag, count); }
};

// Calls f(i, part) for the registers of n elements; part loads and stores at an address + i.
template <class T, class F>
inline void for_each_register(Index n, F f) {
  constexpr Index lanes = Vec<T>::lanes;
  Index i = 0;
  for (; i + lanes <= n; i += lanes) f(i, FullRegister<T>());
  if (i < n) f(i, PartOfRegister<T>{n - i});
}

}  // namespace triad::cpu
