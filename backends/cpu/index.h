#pragma once

#include <cstdint>

namespace triad::cpu {

using Index = std::int64_t;  // a number of things, or the place of one: elements, rows, strides

}  // namespace triad::cpu
