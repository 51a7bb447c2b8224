// runtime.h and core/cuda/backend.h on a GPU.
#include <triad/backends/cuda/runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <vector>

#include <triad/core/format.h>

#include <nvtx3/nvToolsExt.h>

namespace triad::cuda {
namespace {

constexpr std::size_t kStaging = 4 << 20;  // bytes of a pinned buffer

// What a device has of its own, made when it is first used.
struct State {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0, capability = 0, shared_bytes = 0;  // those of a block at most
  std::mutex copies;                          // of the two buffers below
  std::byte* staging[2] = {};                 // pinned: the device reads and writes them itself
  cudaEvent_t staged[2] = {};                 // when it is done with each
};

thread_local int current = -1;  // what cudaSetDevice was last told

State& state(int device) {
  static auto& states = *new std::vector<std::unique_ptr<State>>(std::size_t(device_count()));
  static auto& mutex = *new std::mutex;
  if (current != device) {
    check(cudaSetDevice(device));
    current = device;
  }
  const std::lock_guard lock(mutex);
  std::unique_ptr<State>& own = states.at(std::size_t(device));
  if (own) return *own;
  auto made = std::make_unique<State>();
  check(cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking));
  check(cudaDeviceGetAttribute(&made->multiprocessors, cudaDevAttrMultiProcessorCount, device));
  check(cudaDeviceGetAttribute(&made->capability, cudaDevAttrComputeCapabilityMajor, device));
  check(
      cudaDeviceGetAttribute(&made->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  for (int i = 0; i < 2; ++i) {
    check(cudaMallocHost(&made->staging[i], kStaging));
    check(cudaEventCreateWithFlags(&made->staged[i], cudaEventDisableTiming));
  }
  own = std::move(made);
  return *own;
}

// Calls f(buffer, event, first, count) for the parts of `bytes` that fit a buffer, which takes
// turns.
template <class F> void in_parts(State& own, std::size_t bytes, F f) {
  const std::lock_guard lock(own.copies);
  int turn = 0;
  for (std::size_t first = 0; first < bytes; first += kStaging, turn = 1 - turn)
    f(turn, first, std::min(kStaging, bytes - first));
}

using Bytes = std::vector<std::byte>;
std::unique_ptr<std::vector<Bytes>> constants;  // while a graph is captured: what it copies

class CapturedGraph : public Graph {
 public:
  CapturedGraph(int device, cudaGraph_t graph, std::vector<Bytes> constants)
      : device_(device), graph_(graph), constants_(std::move(constants)) {
    check(cudaGraphInstantiate(&run_, graph, 0));
  }
  ~CapturedGraph() override {
    cudaGraphExecDestroy(run_);
    cudaGraphDestroy(graph_);
  }
  void replay() override { check(cudaGraphLaunch(run_, state(device_).stream)); }

 private:
  int device_;
  cudaGraph_t graph_;
  cudaGraphExec_t run_ = nullptr;
  std::vector<Bytes> constants_;
};

}  // namespace

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // forgotten, unless the device itself has broken down
  throw_error<DeviceError>("CUDA: {}", cudaGetErrorString(status));
}

int device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return count;
  cudaGetLastError();
  std::fprintf(stderr, "triad: CUDA cannot be used (%s); everything runs on the CPU\n",
               cudaGetErrorString(status));
  return 0;
}

void* stream(Cuda device) { return state(device.index).stream; }
int multiprocessors(Cuda device) { return state(device.index).multiprocessors; }
int capability(Cuda device) { return state(device.index).capability; }
std::size_t shared_memory(Cuda device) { return std::size_t(state(device.index).shared_bytes); }
void synchronize(Cuda device) { check(cudaStreamSynchronize(state(device.index).stream)); }

void* allocate(int device, std::size_t bytes) {
  state(device);
  void* block = nullptr;
  const cudaError_t status = cudaMalloc(&block, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status);
  return block;
}

void release(int device, void* block) noexcept {
  if (cudaSetDevice(device) == cudaSuccess) current = device;
  cudaFree(block);  // waits for what may still use it
}

void copy_to_device(int device, void* to, const void* from, std::size_t bytes) {
  State& own = state(device);
  if (constants) {  // the graph keeps a copy, for its replays
    const auto* first = static_cast<const std::byte*>(from);
    const Bytes& kept = constants->emplace_back(first, first + bytes);
    return check(cudaMemcpyAsync(to, kept.data(), bytes, cudaMemcpyHostToDevice, own.stream));
  }
  in_parts(own, bytes, [&](int turn, std::size_t first, std::size_t count) {
    check(cudaEventSynchronize(own.staged[turn]));
    std::memcpy(own.staging[turn], static_cast<const std::byte*>(from) + first, count);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + first, own.staging[turn], count,
                          cudaMemcpyHostToDevice, own.stream));
    check(cudaEventRecord(own.staged[turn], own.stream));
  });
}

void copy_to_host(int device, void* to, const void* from, std::size_t bytes) {
  if (constants) throw Error("no value can be read while a step is captured");
  State& own = state(device);
  in_parts(own, bytes, [&](int turn, std::size_t first, std::size_t count) {
    check(cudaEventSynchronize(own.staged[turn]));
    check(cudaMemcpyAsync(own.staging[turn], static_cast<const std::byte*>(from) + first, count,
                          cudaMemcpyDeviceToHost, own.stream));
    check(cudaStreamSynchronize(own.stream));
    std::memcpy(static_cast<std::byte*>(to) + first, own.staging[turn], count);
  });
}

// Relaxed: what a capture cannot contain, such as asking for memory, happens beside it.
void begin_capture(Cuda device) {
  check(cudaStreamBeginCapture(state(device.index).stream, cudaStreamCaptureModeRelaxed));
  constants = std::make_unique<std::vector<Bytes>>();
}

std::unique_ptr<Graph> end_capture(Cuda device) {
  const auto kept = std::move(constants);
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(state(device.index).stream, &graph) != cudaSuccess || !graph) {
    cudaGetLastError();
    return nullptr;
  }
  return std::make_unique<CapturedGraph>(device.index, graph, std::move(*kept));
}

bool is_capturing() { return constants != nullptr; }

void push_range(const std::string& name) { nvtxRangePushA(name.c_str()); }
void pop_range() { nvtxRangePop(); }

}  // namespace triad::cuda
