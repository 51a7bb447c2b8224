// Colours and marks of the charts, the same everywhere. The colours are those of Okabe and Ito
// ("Color Universal Design", 2008), which colour-blind readers can tell apart; marks and dashes say
// the same of lines in black and white; bars are labelled or always in this order.
#pragma once

#include <array>
#include <string>

#include <triad/nn/attention.h>

namespace triad::examples {

struct Style {
  const char* color;
  int point, dash;  // gnuplot's numbers
};

// Of the five configurations, in their order; the first three are those of the pure head types.
inline constexpr std::array<Style, 5> kStyles{{
    {"#0072b2", 7, 1},   // standard
    {"#e69f00", 5, 2},   // spectral
    {"#009e73", 9, 4},   // holonomy
    {"#cc79a7", 13, 5},  // mixed
    {"#555555", 11, 3},  // balanced
}};

// A second spectral head beside the first one.
inline constexpr const char* kDarkSpectral = "#8c5e00";

inline const Style& style(nn::HeadType type) { return kStyles[std::size_t(type)]; }

// A color as a number, as gnuplot reads it from a data file.
inline unsigned long color_number(const Style& style) {
  return std::stoul(style.color + 1, nullptr, 16);
}

}  // namespace triad::examples
