// Medians and quartiles of what was measured.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace triad::examples {

// The value below which the given share of them lies, between two of them by linear interpolation
// (NumPy's default); 0 of none.
inline double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = share * double(values.size() - 1);
  const auto below = std::size_t(place), above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - double(below)) * (values[above] - values[below]);
}

inline double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

}  // namespace triad::examples
