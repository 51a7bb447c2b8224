// Charts drawn by gnuplot from files that stay beside them, so that anybody can draw them anew.
#pragma once

#include <filesystem>
#include <string>

namespace triad::examples {

// Writes NAME.dat and NAME.gnuplot into the folder and has gnuplot run the script there. Returns ""
// or, where the chart could not be drawn, what to do about it in one line. A file that cannot be
// written is a FileError.
std::string draw_chart(const std::filesystem::path& folder, const std::string& name,
                       const std::string& data, const std::string& script);

}  // namespace triad::examples
