// The types of attention heads, and lists of them as text.
#pragma once

#include <string>
#include <vector>

namespace triad::nn {

// In the order in which heads lie grouped in a layer.
enum class HeadType { standard, spectral, holonomy };

const char* name(HeadType type);
// "standard*4, spectral*2, holonomy" -> a list of seven. An unknown type or count is a ValueError.
std::vector<HeadType> heads(const std::string& text);
std::string heads_text(const std::vector<HeadType>& types);  // and back

}  // namespace triad::nn
