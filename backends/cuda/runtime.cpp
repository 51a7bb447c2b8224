// runtime.h, core/cuda/backend.h and the functions of core/cuda/range.h.
#include <triad/backends/cuda/runtime.h>

#include <cstdio>
#include <cstring>
#include <mutex>
#include <vector>

#include <triad/core/format.h>

#include <nvtx3/nvToolsExt.h>

namespace triad::cuda {
namespace {

constexpr std::size_t kStaging = 4 << 20;  // bytes of a pinned buffer

// What a device has of its own, made when it is first used, the stream last.
struct State {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0;
  std::mutex copies;           // of the two buffers below
  std::byte* staging[2] = {};  // pinned: the device reads and writes them itself
  cudaEvent_t staged[2] = {};  // when it is done with each
};

int attribute(int device, cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

State& state(int device) {
  static State* const states = new State[std::size_t(device_count())];
  static auto& mutex = *new std::mutex;
  check(cudaSetDevice(device));  // of this thread, which may have no context yet
  const std::lock_guard lock(mutex);
  State& own = states[device];
  if (own.stream) return own;
  own.multiprocessors = attribute(device, cudaDevAttrMultiProcessorCount);
  for (int i = 0; i < 2; ++i) {
    if (!own.staging[i]) check(cudaMallocHost(&own.staging[i], kStaging));
    if (!own.staged[i]) check(cudaEventCreateWithFlags(&own.staged[i], cudaEventDisableTiming));
  }
  check(cudaStreamCreateWithFlags(&own.stream, cudaStreamNonBlocking));
  return own;
}

// Copies by way of the buffers, which take turns: to the device one fills while the other is read.
void copy_staged(State& own, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const std::lock_guard lock(own.copies);
  for (std::size_t first = 0, turn = 0; first < bytes; first += kStaging, turn = 1 - turn) {
    auto* const target = static_cast<std::byte*>(to) + first;
    const auto* const source = static_cast<const std::byte*>(from) + first;
    const std::size_t count = std::min(kStaging, bytes - first);
    std::byte* const buffer = own.staging[turn];
    check(cudaEventSynchronize(own.staged[turn]));
    if (kind == cudaMemcpyHostToDevice) {
      std::memcpy(buffer, source, count);
      check(cudaMemcpyAsync(target, buffer, count, kind, own.stream));
      check(cudaEventRecord(own.staged[turn], own.stream));
    } else {
      check(cudaMemcpyAsync(buffer, source, count, kind, own.stream));
      check(cudaStreamSynchronize(own.stream));
      std::memcpy(target, buffer, count);
    }
  }
}

struct Graph {
  int device;
  cudaStream_t stream;              // where it runs
  cudaStream_t recorder = nullptr;  // apart, so that other threads' work is not recorded, but runs
  std::vector<std::shared_ptr<const void>> used = {};
  cudaGraphExec_t run = nullptr;
  ~Graph() {
    cudaStreamSynchronize(stream);  // it may be running, and reads what it uses
    if (run) cudaGraphExecDestroy(run);
    if (recorder) cudaStreamDestroy(recorder);
  }
};
thread_local std::shared_ptr<Graph> captured;  // while this thread captures it
bool records(int device) { return captured && captured->device == device; }

}  // namespace

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // forgotten, unless the device itself has broken down
  throw_error<DeviceError>("CUDA: {}", cudaGetErrorString(status));
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  std::fprintf(stderr, "triad: CUDA cannot be used (%s); everything runs on the CPU\n",
               cudaGetErrorString(cudaGetLastError()));
  return 0;
}

cudaStream_t stream(Cuda device) {
  const State& own = state(device.index);
  return records(device.index) ? captured->recorder : own.stream;
}
int multiprocessors(Cuda device) { return state(device.index).multiprocessors; }
int capability(Cuda device) { return attribute(device.index, cudaDevAttrComputeCapabilityMajor); }
std::size_t shared_memory(Cuda device) {
  return std::size_t(attribute(device.index, cudaDevAttrMaxSharedMemoryPerBlockOptin));
}
void synchronize(Cuda device) { check(cudaStreamSynchronize(state(device.index).stream)); }

void* allocate(int device, std::size_t bytes) {
  state(device);
  void* block = nullptr;
  const cudaError_t status = cudaMalloc(&block, bytes);
  if (status == cudaErrorMemoryAllocation) return cudaGetLastError(), nullptr;
  check(status);
  return block;
}

void release(int device, void* block) noexcept {
  cudaSetDevice(device);
  cudaFree(block);  // waits for what may still use it
}

void copy_to_device(int device, void* to, const void* from, std::size_t bytes) {
  if (!records(device)) return copy_staged(state(device), to, from, bytes, cudaMemcpyHostToDevice);
  const auto* first = static_cast<const std::byte*>(from);
  const auto copy = std::make_shared<std::vector<std::byte>>(first, first + bytes);
  keep_for_graph(copy);  // for its replays
  check(cudaMemcpyAsync(to, copy->data(), bytes, cudaMemcpyHostToDevice, captured->recorder));
}

void copy_to_host(int device, void* to, const void* from, std::size_t bytes) {
  if (records(device)) throw Error("no value can be read while a step is captured");
  copy_staged(state(device), to, from, bytes, cudaMemcpyDeviceToHost);
}

// Relaxed: what a capture cannot contain, such as asking for memory, happens beside it.
void begin_capture(Cuda device) {
  std::shared_ptr<Graph> graph(new Graph{device.index, state(device.index).stream});
  check(cudaStreamCreateWithFlags(&graph->recorder, cudaStreamNonBlocking));
  check(cudaStreamBeginCapture(graph->recorder, cudaStreamCaptureModeRelaxed));
  captured = std::move(graph);
}

Function<void()> end_capture() {
  const std::shared_ptr own = std::move(captured);
  state(own->device);  // the current one
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(own->recorder, &graph) != cudaSuccess || !graph)
    return cudaGetLastError(), Function<void()>();
  const std::shared_ptr<void> recorded(graph, cudaGraphDestroy);
  check(with_memory({own->device}, "a graph", {cudaErrorMemoryAllocation},
                    [&] { return cudaGraphInstantiate(&own->run, graph, 0); }));
  return [own] { check(cudaGraphLaunch(own->run, state(own->device).stream)); };
}

bool is_capturing() { return captured != nullptr; }
void keep_for_graph(std::shared_ptr<const void> used) {
  if (captured) captured->used.push_back(std::move(used));
}

void push_range(const std::string& name) { nvtxRangePushA(name.c_str()); }
void pop_range() { nvtxRangePop(); }

}  // namespace triad::cuda
