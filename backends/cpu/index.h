#pragma once

#include <cstdint>

namespace triad::cpu {

using Index = std::int64_t;  // a number of things, or the place of one: elements, rows, strides

// n / size, rounded up: how many pieces of `size` make n.
constexpr Index ceil_div(Index n, Index size) { return (n + size - 1) / size; }

}  // namespace triad::cpu
