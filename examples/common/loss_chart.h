// A chart of the loss over the steps, drawn by gnuplot.
#pragma once

#include <vector>

#include <triad/examples/common/run_folder.h>

namespace triad::examples {

// Writes loss.dat and loss.gnuplot into the folder and has gnuplot draw loss.svg from them there.
// Returns "" or, where that was not possible, what to do about it. A file that cannot be written is
// a FileError.
std::string draw_loss_chart(const RunFolder& folder, const std::vector<Metrics>& metrics);

}  // namespace triad::examples
