// Ctrl-C as a question that the program asks when it suits it.
#pragma once

namespace triad::examples {

// From here on the first SIGINT (Ctrl-C) or SIGTERM is only noted; one that comes two seconds later
// or more ends the program. SIGPIPE is ignored, as the reader of the output may have had its own
// Ctrl-C, and so is SIGXFSZ: a file that may not grow is an error of the write.
void note_stop_signals();

int stop_signal();  // its number, or 0

}  // namespace triad::examples
