// What every example program does at its edges: the command line, errors of one line, exit codes.
//
//   0  done        1  failed on the way (a full disk, a loss that is NaN)
//   2  the command line, or a file that it names, cannot be used       128 + n  stopped by signal n
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <string_view>

#include <triad/examples/common/failure.h>

namespace triad::examples {

// Runs the body and returns its exit code. An exception becomes one line on stderr, with the code 1
// for a Failure and 2 for anything else.
int run_program(const char* name, const std::function<int()>& body);

// Reads the command line. False after --help, which is answered here; an error is an exception with
// one line of text.
bool parse(CLI::App& app, int argc, char** argv);

// A check for CLI options: low <= number <= high, and no NaN.
CLI::Validator in_range(double low, double high);

// Prints, and shows it at once. Errors are kept in ferror(stdout): that the terminal went away is
// no reason to end a training run.
void say(std::string_view text);

}  // namespace triad::examples
