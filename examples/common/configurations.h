// The five configurations of eight heads that the hybrid demo and the benchmark compare.
#pragma once

#include <array>

namespace triad::examples {

struct Configuration {
  const char *name, *heads;
};

inline constexpr std::array<Configuration, 5> kConfigurations{{
    {"All standard (8)", "standard*8"},
    {"All spectral (8)", "spectral*8"},
    {"All holonomy (8)", "holonomy*8"},
    {"Mixed (4+2+2)", "standard*4, spectral*2, holonomy*2"},
    {"Balanced (3+3+2)", "standard*3, spectral*3, holonomy*2"},
}};

}  // namespace triad::examples
