// The CUDA runtime, as far as the rest of the backend uses it, beside what core/cuda/backend.h has.
//
// All work of a device, of all threads of the program, is on one stream: an op starts when those
// launched before are done. That makes it right to give a freed block of memory to the next op at
// once, and to launch without ever waiting. What is captured is recorded from a stream apart.
//
// Nothing here is destroyed at the program's end, when the driver may be gone already.
#pragma once

#include <algorithm>
#include <memory>

#include <triad/core/cuda/backend.h>
#include <triad/core/cuda/range.h>
#include <triad/core/function.h>

#include <cuda_runtime.h>  // in tests on the CPU, that of tests/cuda_on_cpu

namespace triad::cuda {

cudaStream_t stream(Cuda device);  // makes the device the calling thread's current one
int multiprocessors(Cuda device);
int capability(Cuda device);             // its major number: 9 for 9.0
std::size_t shared_memory(Cuda device);  // bytes that a block may have
void synchronize(Cuda device);           // returns once all that was launched is done

// An Error with CUDA's words, where a call has failed.
void check(cudaError_t status);
// While a graph is captured: it has this for as long as it lives.
void keep_for_graph(std::shared_ptr<const void> used);

// What this thread launches on the device between the two does not run; end_capture returns what
// replays it, or nothing where the capture has failed. A thread captures one graph at a time.
void begin_capture(Cuda device);
Function<void()> end_capture();

// What call() returns, errors too; where that is one of `causes`, of which the first says that
// memory is short and others may, once more without triad's cache. Then the first is an OutOfMemory.
template <class R, class F>
R with_memory(Cuda device, const char* what, std::initializer_list<R> causes, const F& call) {
  for (bool again : {false, true}) {
    const R result = call();
    if (again ? result != *causes.begin() : !std::ranges::count(causes, result)) return result;
    cudaGetLastError();  // forgotten
    empty_cache();
    check(cudaSetDevice(device.index));  // the last one whose blocks that has freed is the current
  }
  throw OutOfMemory(std::string(Range::op_or("CUDA")) + ": out of memory on " +
                    name(Device::cuda(device.index)) + ": asked for " + what);
}

}  // namespace triad::cuda
