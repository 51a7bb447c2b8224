// How many threads the ops that the calling thread runs may use. The default is OpenMP's:
// OMP_NUM_THREADS, else all cores.
#pragma once

namespace triad {

void set_num_threads(int threads);  // at least 1
int get_num_threads();

}  // namespace triad
