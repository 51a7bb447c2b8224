#include <triad/core/threads.h>

#include <omp.h>

#include <triad/core/error.h>
#include <triad/core/format.h>

namespace triad {

void set_num_threads(int threads) {
  if (threads < 1) throw_error<ValueError>("set_num_threads: needs at least 1, got {}", threads);
  omp_set_num_threads(threads);
}

int get_num_threads() { return omp_get_max_threads(); }

}  // namespace triad
