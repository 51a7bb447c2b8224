// Something that went wrong after the input had been found good: exit code 1 (see program.h).
#pragma once

#include <triad/core/error.h>

namespace triad::examples {

struct Failure : Error {
  using Error::Error;
};

}  // namespace triad::examples
