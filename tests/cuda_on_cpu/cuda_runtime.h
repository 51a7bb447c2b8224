// CUDA's runtime on the CPU, as far as backends/cuda calls it, in the words of NVIDIA's manual;
// what of it a program must not do is an error here, too.
//
// Nothing that goes to a stream is done before the host waits for it: a copy reads its source, and
// a kernel runs, in cudaStreamSynchronize or cudaEventSynchronize, in the order of the stream. (And
// where cudaMalloc finds no room, as what is freed is given back behind the work that may use it.)
// After what a kernel has done wrong its device is broken: whoever waits for it, or asks something
// of it, is told. Memory is
// an arena of the device's own (device_memory.h), which the host cannot touch.
#pragma once

#include <functional>
#include <tuple>

#include <simt.h>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
const char* cudaGetErrorString(cudaError_t error);  // of a launch failure, what has failed
cudaError_t cudaGetLastError();                     // and forgets it

enum cudaDataType {
  CUDA_R_32F = 0,
  CUDA_R_64F = 1,
  CUDA_R_16F = 2,
  CUDA_C_32F = 4,
  CUDA_C_64F = 5,
  CUDA_R_16BF = 14
};

// ---------------------------------------------------------------------- devices

enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);  // of this thread
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);

// ---------------------------------------------------------------------- streams, events

using cudaStream_t = struct SimulatedStream*;
using cudaEvent_t = struct SimulatedEvent*;
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);  // at once if it was never recorded

// ---------------------------------------------------------------------- memory

cudaError_t cudaMalloc(void** block, std::size_t bytes);
cudaError_t cudaFree(void* block);
cudaError_t cudaMallocHost(void** block, std::size_t bytes);
template <class T> cudaError_t cudaMallocHost(T** block, std::size_t bytes) {
  return cudaMallocHost(reinterpret_cast<void**>(block), bytes);
}
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);

// ---------------------------------------------------------------------- graphs

using cudaGraph_t = struct SimulatedGraph*;
using cudaGraphExec_t = struct SimulatedGraphExec*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);  // once what was launched of it is done

// ---------------------------------------------------------------------- kernels

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace simt {
int device_of(const void* address);   // below 0: it is the host's
std::size_t live_blocks(int device);  // that have not been given back
// `work` is done when the stream comes to it, or becomes part of the graph that it records.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);
cudaError_t enqueue_kernel(const void* kernel, const cudaLaunchConfig_t& config,
                           std::function<void()> body);
cudaError_t set_attribute(const void* kernel, int bytes);
// Does all that has been launched, and gives what kernels have done wrong; the devices are whole
// again.
std::string finish();
}  // namespace simt

template <class T> cudaError_t cudaFuncSetAttribute(T* kernel, cudaFuncAttribute, int bytes) {
  return simt::set_attribute(reinterpret_cast<const void*>(kernel), bytes);
}
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...),
                               A&&... args) {
  static_assert((std::is_trivially_copyable_v<P> && ...));
  static_assert(sizeof(std::tuple<P...>) <= 32764, "there is no room for more parameters");
  return simt::enqueue_kernel(
      reinterpret_cast<const void*>(kernel), *config,
      [kernel, given = std::tuple<P...>(std::forward<A>(args)...)] { std::apply(kernel, given); });
}
