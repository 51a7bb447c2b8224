// Ctrl-C as a question that the program asks when it suits it.
#pragma once

namespace triad::examples {

// From here on the first SIGINT (Ctrl-C) or SIGTERM is only noted; a second one ends the program.
// SIGPIPE is ignored: the reader of the output may have had its own Ctrl-C.
void note_stop_signals();

int stop_signal();  // its number, or 0

}  // namespace triad::examples
