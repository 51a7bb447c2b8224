// cuda_runtime.h: streams are queues of closures, a graph is a list of them.
#include <cuda_runtime.h>

#include <device_memory.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

using Work = std::function<void()>;

struct SimulatedGraph {
  std::vector<Work> nodes;
};

struct SimulatedGraphExec {
  std::shared_ptr<const std::vector<Work>> nodes;
  void* memory;  // of the device, as a real one takes some
};

struct SimulatedStream {
  int device;
  std::deque<std::pair<int, Work>> waiting = {};  // and the schedule under which it was launched
  std::int64_t done = 0;
  std::unique_ptr<SimulatedGraph> recorded = nullptr;  // while it captures
  bool is_invalid = false;                             // what it captures
  bool is_destroyed = false;
};

struct SimulatedEvent {
  int device;
  SimulatedStream* stream = nullptr;  // where it was recorded,
  std::int64_t number = 0;            // behind so much work
};

namespace {

extern "C" const char __executable_start;  // the linker's

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
std::recursive_mutex mutex;  // of all that follows, and of every stream

std::set<SimulatedStream*>& streams() {
  static auto& all = *new std::set<SimulatedStream*>;
  return all;
}
// Of dynamic shared memory, that a kernel may have on a device, where that has been set.
std::map<std::pair<const void*, int>, std::size_t>& dynamic_bytes() {
  static auto& all = *new std::map<std::pair<const void*, int>, std::size_t>;
  return all;
}
std::string failures[triad::cuda::kSimulatedDevices];  // the first of each device's
thread_local std::string last_failure;                 // that this thread has been told

using Lock = std::lock_guard<std::recursive_mutex>;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// Does the stream's work until so much of it has been done.
void work_off(SimulatedStream& stream, std::int64_t until) {
  if (stream.done >= until) return;
  const simt::Arena::Access access(simt::Arena::of(stream.device));
  while (stream.done < until) {
    const auto [schedule, work] = std::move(stream.waiting.front());
    stream.waiting.pop_front();
    ++stream.done;
    const int before = std::exchange(simt::schedule, schedule);
    std::string& failure = failures[stream.device];
    try {
      if (failure.empty()) work();  // nothing more on a device that is broken
    } catch (const std::exception& error) {
      failure = error.what();
    }
    simt::schedule = before;
  }
}
std::int64_t end_of(const SimulatedStream& stream) {
  return stream.done + std::int64_t(stream.waiting.size());
}
// An error, of a device that a kernel has broken.
cudaError_t state_of(int device) {
  if (failures[device].empty()) return cudaSuccess;
  last_failure = failures[device];
  return result(cudaErrorLaunchFailure);
}

// Does what the host waits for, and tells whether the device is broken.
cudaError_t wait(SimulatedStream& stream, std::int64_t until) {
  work_off(stream, until);
  return state_of(stream.device);
}

// For coverage.py, into a file of the folder that the environment names: "offset of the kernel in
// the program, schedule" a line.
void note_run(const void* kernel) {
  static std::FILE* const file = [] {
    const char* folder = std::getenv("TRIAD_LAUNCHES");
    return folder ? std::fopen((std::string(folder) + "/" + program_invocation_short_name).c_str(),
                               "a")
                  : nullptr;
  }();
  static std::set<std::pair<std::ptrdiff_t, int>> known;
  const auto offset = static_cast<const char*>(kernel) - &__executable_start;
  if (!file || !known.emplace(offset, simt::schedule).second) return;
  std::fprintf(file, "%tx %d\n", offset, simt::schedule);
  std::fflush(file);
}

// Is there one more, for those who ask for memory?
bool takes_a_block() {
  using triad::cuda::blocks_left, triad::cuda::refusals_left;
  if (blocks_left == 0 && refusals_left > 0) return --refusals_left, false;
  if (blocks_left > 0) --blocks_left;
  return true;
}

// Blocks that are given back as soon as what may use them is done.
std::set<const void*>& freed() {
  static auto& all = *new std::set<const void*>;
  return all;
}
void work_off_all(int device) {
  for (SimulatedStream* stream : streams())
    if (stream->device == device) work_off(*stream, end_of(*stream));
}

}  // namespace

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorLaunchFailure: return last_failure.c_str();
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
  }
  return "unrecognized error code";
}
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

// ---------------------------------------------------------------------- devices

cudaError_t cudaGetDeviceCount(int* count) {
  *count = triad::cuda::kSimulatedDevices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= triad::cuda::kSimulatedDevices) return result(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device < 0 || device >= triad::cuda::kSimulatedDevices) return result(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 3; break;
    case cudaDevAttrComputeCapabilityMajor: *value = triad::cuda::capability_shown; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = int(triad::cuda::shared_bytes_shown);
      break;
  }
  return cudaSuccess;
}

// ---------------------------------------------------------------------- streams, events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(mutex);
  *stream = new SimulatedStream{current_device};
  streams().insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(mutex);
  if (stream->is_destroyed) return result(cudaErrorInvalidResourceHandle);
  if (stream->recorded) {  // which spoils what it captures
    stream->is_invalid = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  return wait(*stream, end_of(*stream));
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(mutex);
  stream->is_destroyed = true;  // it does what was launched, and events know it
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new SimulatedEvent{current_device};
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(mutex);
  if (event->device != stream->device || stream->is_destroyed)
    return result(cudaErrorInvalidResourceHandle);
  if (stream->recorded)  // CUDA would make it part of the graph; triad never does that
    return result(cudaErrorStreamCaptureUnsupported);
  event->stream = stream, event->number = end_of(*stream);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(mutex);
  return event->stream ? wait(*event->stream, event->number) : cudaSuccess;
}

// ---------------------------------------------------------------------- memory

cudaError_t cudaMalloc(void** block, std::size_t bytes) {
  const Lock lock(mutex);
  *block = nullptr;
  if (const auto error = state_of(current_device)) return error;
  if (takes_a_block()) {
    *block = simt::Arena::of(current_device).take(bytes);
    if (!*block) {
      work_off_all(current_device);
      *block = simt::Arena::of(current_device).take(bytes);
    }
  }
  return *block ? cudaSuccess : result(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* block) {
  const Lock lock(mutex);
  const int device = simt::device_of(block);
  if (!block) return cudaSuccess;
  if (device < 0 || !simt::Arena::of(device).is_block(block) || !freed().insert(block).second)
    return result(cudaErrorInvalidValue);
  // Once what every stream has to do by now is done, and forgotten.
  const std::shared_ptr<void> end(block, [device](void* block) {
    const Lock lock(mutex);
    freed().erase(block);
    simt::Arena::of(device).give_back(block);
  });
  for (SimulatedStream* stream : streams())
    if (stream->device == device && !stream->waiting.empty())
      stream->waiting.emplace_back(simt::schedule, [end] {});
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** block, std::size_t bytes) {
  *block = std::malloc(bytes);
  return *block ? cudaSuccess : result(cudaErrorMemoryAllocation);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const bool to_device = kind == cudaMemcpyHostToDevice;
  if (simt::device_of(to) != (to_device ? stream->device : -1) ||
      simt::device_of(from) != (to_device ? -1 : stream->device))
    return result(cudaErrorInvalidValue);
  return simt::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}

// ---------------------------------------------------------------------- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(mutex);
  if (stream->is_destroyed) return result(cudaErrorInvalidResourceHandle);
  if (stream->recorded) return result(cudaErrorStreamCaptureUnsupported);
  stream->recorded = std::make_unique<SimulatedGraph>();
  stream->is_invalid = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(mutex);
  *graph = nullptr;
  if (!stream->recorded) return result(cudaErrorInvalidValue);
  const auto recorded = std::move(stream->recorded);
  if (stream->is_invalid) return result(cudaErrorStreamCaptureInvalidated);
  *graph = new SimulatedGraph(*recorded);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  void* memory;
  if (const auto error = cudaMalloc(&memory, 64)) return error;
  *exec = new SimulatedGraphExec{std::make_shared<const std::vector<Work>>(graph->nodes), memory};
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return simt::enqueue(stream, [nodes = exec->nodes] {
    for (const Work& node : *nodes) node();
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const Lock lock(mutex);
  cudaFree(exec->memory);
  delete exec;
  return cudaSuccess;
}

// ---------------------------------------------------------------------- kernels

int simt::device_of(const void* address) {
  for (int device = 0; device < triad::cuda::kSimulatedDevices; ++device)
    if (Arena::of(device).has(address)) return device;
  return -1;
}

std::size_t simt::live_blocks(int device) { return Arena::of(device).blocks(); }

cudaError_t simt::enqueue(cudaStream_t stream, Work work) {
  const Lock lock(mutex);
  if (stream->is_destroyed) return result(cudaErrorInvalidResourceHandle);
  if (const auto error = state_of(stream->device)) return error;
  if (stream->recorded && stream->is_invalid) return result(cudaErrorStreamCaptureInvalidated);
  if (stream->recorded) stream->recorded->nodes.push_back(std::move(work));
  else stream->waiting.emplace_back(simt::schedule, std::move(work));
  return cudaSuccess;
}

cudaError_t simt::set_attribute(const void* kernel, int bytes) {
  const Lock lock(mutex);
  if (bytes < 0 || std::size_t(bytes) > triad::cuda::shared_bytes_shown)
    return result(cudaErrorInvalidValue);
  dynamic_bytes()[{kernel, current_device}] = std::size_t(bytes);
  return cudaSuccess;
}

std::string simt::finish() {
  const Lock lock(mutex);
  std::string all;
  for (int device = 0; device < triad::cuda::kSimulatedDevices; ++device) {
    work_off_all(device);
    all += std::exchange(failures[device], "");
  }
  return all;
}

cudaError_t simt::enqueue_kernel(const void* kernel, const cudaLaunchConfig_t& config, Work body) {
  const Lock lock(mutex);
  if (config.stream->device != current_device) return result(cudaErrorInvalidResourceHandle);
  if (!simt::can_run(config.gridDim, config.blockDim)) return result(cudaErrorInvalidConfiguration);
  const auto own = dynamic_bytes().find({kernel, current_device});
  if (config.dynamicSmemBytes > (own == dynamic_bytes().end() ? 48 << 10 : own->second))
    return result(cudaErrorInvalidValue);
  static auto& loaded = *new std::set<std::pair<const void*, int>>;  // by the first launch
  if (!loaded.contains({kernel, current_device})) {
    if (!takes_a_block()) return result(cudaErrorMemoryAllocation);
    loaded.emplace(kernel, current_device);
  }
  return enqueue(config.stream, [kernel, config, body = std::move(body)] {
    note_run(kernel);
    run(config.gridDim, config.blockDim, config.dynamicSmemBytes, body);
  });
}
