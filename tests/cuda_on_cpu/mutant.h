// What mutants.py writes into a kernel: numbers that change nothing but where TRIAD_MUTANT in the
// environment is n. `a + b` becomes `a + mutant::sign(7) * b`, so one compilation holds every
// mutant of a source, and the script needs not know where an operand ends. (Operators of a class of
// their own would do for all types, but g++ 12 forgets captures of lambdas that take part in them.)
#pragma once

#include <cstdlib>
#include <type_traits>

namespace mutant {

inline const int number = [] {
  const char* text = std::getenv("TRIAD_MUTANT");
  return text ? std::atoi(text) : -1;
}();
constexpr bool is(int n) { return !std::is_constant_evaluated() && n == number; }

constexpr int sign(int n) { return is(n) ? -1 : 1; }
constexpr int one(int n) { return is(n) ? 0 : 1; }
constexpr int more(int n) { return is(n) ? 1 : 0; }
constexpr int less(int n) { return is(n) ? -1 : 0; }
constexpr int warp(int n) { return is(n) ? 16 : 32; }

}  // namespace mutant
