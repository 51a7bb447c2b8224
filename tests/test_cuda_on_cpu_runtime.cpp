// CUDA's runtime and libraries as cuda_on_cpu has them: that they do nothing before the host waits,
// and refuse what the real ones refuse.
#include <triad/tests/test_device.h>

#include <cublasLt.h>
#include <cufftXt.h>
#include <doctest/doctest.h>

#include <vector>

namespace {

struct Block {  // a block of the current device's memory
  void* data = nullptr;
  explicit Block(std::size_t bytes) { CHECK(cudaMalloc(&data, bytes) == cudaSuccess); }
  ~Block() { CHECK(cudaFree(data) == cudaSuccess); }
  Block(const Block&) = delete;
};

struct Stream {  // a stream of a device, which becomes the current one
  cudaStream_t stream = nullptr;
  explicit Stream(int device = 0) {
    CHECK(cudaSetDevice(device) == cudaSuccess);
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  }
  ~Stream() {
    CHECK(cudaStreamDestroy(stream) == cudaSuccess);
    cudaSetDevice(0);
  }
  Stream(const Stream&) = delete;

  cudaError_t copy_to(void* to, const int& from) const {
    return cudaMemcpyAsync(to, &from, sizeof from, cudaMemcpyHostToDevice, stream);
  }
  cudaError_t copy_from(int& to, const void* from) const {
    return cudaMemcpyAsync(&to, from, sizeof to, cudaMemcpyDeviceToHost, stream);
  }
};

void add_one(int* x) { ++*x; }
void fail(int*) { simt::fail("a fault"); }

cudaError_t launch(const Stream& on, void* x, void (*kernel)(int*) = add_one,
                   std::size_t shared = 0, unsigned threads = 1) {
  const cudaLaunchConfig_t config{dim3(1), dim3(threads), shared, on.stream};
  return cudaLaunchKernelEx(&config, kernel, static_cast<int*>(x));
}

}  // namespace

TEST_CASE("what goes to a stream is done when the host waits, in order, and not before") {
  const Stream on;
  const Block block(sizeof(int));
  static cudaEvent_t event;  // which stays
  CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);  // which was never recorded
  int from = 1, first = 0, last = 0;
  CHECK(on.copy_to(block.data, from) == cudaSuccess);
  from = 5;  // too early: the copy reads it later
  CHECK(launch(on, block.data) == cudaSuccess);
  CHECK(on.copy_from(first, block.data) == cudaSuccess);
  CHECK(cudaEventRecord(event, on.stream) == cudaSuccess);
  CHECK(launch(on, block.data) == cudaSuccess);
  CHECK(on.copy_from(last, block.data) == cudaSuccess);
  CHECK(first == 0);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(first == 6);
  CHECK(last == 0);
  CHECK(cudaStreamSynchronize(on.stream) == cudaSuccess);
  CHECK(last == 7);
}

TEST_CASE("what a kernel has done wrong shows where the host waits for its device") {
  const Stream other(1), on(0);
  const Block block(sizeof(int));
  CHECK(launch(on, block.data, fail) == cudaSuccess);
  CHECK(cudaStreamSynchronize(other.stream) == cudaSuccess);
  for (int i = 0; i < 2; ++i) {
    CHECK(cudaStreamSynchronize(on.stream) == cudaErrorLaunchFailure);
    CHECK(std::string(cudaGetErrorString(cudaErrorLaunchFailure)).starts_with("a fault, block 0"));
  }
  CHECK(simt::finish().starts_with("a fault"));
  CHECK(cudaStreamSynchronize(on.stream) == cudaSuccess);
  CHECK(launch(on, block.data, fail) == cudaSuccess);  // and nobody waits
  CHECK(simt::finish().starts_with("a fault"));
}

TEST_CASE("what is freed is given back when what may use it is done") {
  const Stream on;
  void *block, *next;
  CHECK(cudaMalloc(&block, 4) == cudaSuccess);
  CHECK(launch(on, block) == cudaSuccess);
  CHECK(cudaFree(block) == cudaSuccess);
  CHECK(cudaFree(block) == cudaErrorInvalidValue);
  CHECK(cudaMalloc(&next, 4) == cudaSuccess);
  CHECK(next != block);
  CHECK(cudaFree(next) == cudaSuccess);
  CHECK(cudaStreamSynchronize(on.stream) == cudaSuccess);
  CHECK(cudaMalloc(&next, 4) == cudaSuccess);
  CHECK(next == block);
  CHECK(cudaFree(static_cast<char*>(next) + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(next) == cudaSuccess);
}

TEST_CASE("a graph does nothing at its capture, and all at each launch") {
  const Stream on, records;
  const Block block(sizeof(int));
  const int from = 1;
  int got = 0;
  on.copy_to(block.data, from);
  CHECK(cudaStreamBeginCapture(records.stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  for (int i = 0; i < 3; ++i) CHECK(launch(records, block.data) == cudaSuccess);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CHECK(cudaStreamEndCapture(records.stream, &graph) == cudaSuccess);
  CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  for (int launches = 0; launches < 3; ++launches) {
    on.copy_from(got, block.data);
    CHECK(cudaGraphLaunch(exec, on.stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(on.stream) == cudaSuccess);
    CHECK(got == 1 + 3 * launches);
  }
  // A graph that is destroyed is still done if it was launched.
  on.copy_from(got, block.data);
  CHECK(cudaGraphLaunch(exec, on.stream) == cudaSuccess);
  CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
  on.copy_from(got, block.data);
  CHECK(got == 7);
  CHECK(cudaStreamSynchronize(on.stream) == cudaSuccess);
  CHECK(got == 13);
  // Who waits for a stream that captures spoils the capture.
  CHECK(cudaStreamBeginCapture(records.stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  CHECK(cudaStreamSynchronize(records.stream) == cudaErrorStreamCaptureUnsupported);
  CHECK(launch(records, block.data) == cudaErrorStreamCaptureInvalidated);
  CHECK(cudaStreamEndCapture(records.stream, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK(graph == nullptr);
}

TEST_CASE("what CUDA refuses") {
  const Stream on(0);
  const Block block(sizeof(int));
  int here = 0;
  CHECK(cudaSetDevice(triad::cuda::kSimulatedDevices) == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaFree(&here) == cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(&here, block.data, 4, cudaMemcpyHostToDevice, on.stream) ==
        cudaErrorInvalidValue);
  CHECK(launch(on, block.data, add_one, (48 << 10) + 1) == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(add_one, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10) ==
        cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(add_one, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10) ==
        cudaSuccess);
  CHECK(launch(on, block.data, add_one, (48 << 10) + 1) == cudaSuccess);
  CHECK(launch(on, block.data, add_one, 0, 1025) == cudaErrorInvalidConfiguration);
  const Stream other(1);  // of the device that is the current one from here on
  CHECK(launch(on, block.data) == cudaErrorInvalidResourceHandle);
  CHECK(other.copy_to(block.data, here) == cudaErrorInvalidValue);
  static cudaEvent_t event;  // which stays
  CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  CHECK(cudaEventRecord(event, on.stream) == cudaErrorInvalidResourceHandle);
  triad::cuda::blocks_left = 0;
  void* none;
  CHECK(cudaMalloc(&none, 4) == cudaErrorMemoryAllocation);
  triad::cuda::blocks_left = -1;
}

namespace {

// d [3,2] = a [3,4] b [4,2], by columns, f32; what a test makes of it before it is asked for.
struct Product {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, d;
  cublasLtMatmulPreferenceOpaque_t preference;

  Product() {
    cublasLtMatmulDescInit(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutInit(&a, CUDA_R_32F, 3, 4, 3);
    cublasLtMatrixLayoutInit(&b, CUDA_R_32F, 4, 2, 4);
    cublasLtMatrixLayoutInit(&d, CUDA_R_32F, 3, 2, 3);
    cublasLtMatmulPreferenceInit(&preference);
  }
  void set(cublasLtMatmulDescAttributes_t attribute, auto value) {
    CHECK(cublasLtMatmulDescSetAttribute(&product, attribute, &value, sizeof value) ==
          CUBLAS_STATUS_SUCCESS);
  }
  void align(std::uint32_t bytes) {
    for (const auto of :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      CHECK(cublasLtMatmulPreferenceSetAttribute(&preference, of, &bytes, sizeof bytes) ==
            CUBLAS_STATUS_SUCCESS);
  }
  cublasStatus_t run(const Stream& on, const float* from, float* result, float beta = 0) const {
    static cublasLtHandle_t handle = nullptr;
    if (!handle) CHECK(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulHeuristicResult_t found;
    int count;
    const auto status = cublasLtMatmulAlgoGetHeuristic(handle, &product, &a, &b, &d, &d,
                                                       &preference, 1, &found, &count);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const float alpha = 2;
    const Block workspace(64);
    return cublasLtMatmul(handle, &product, &alpha, from, &a, from, &b, &beta, result, &d, result,
                          &d, &found.algo, workspace.data, 64, on.stream);
  }
};

}  // namespace

TEST_CASE("cuBLASLt: a product by columns, and what it refuses") {
  const Stream on;
  const Block block(64 * sizeof(float));
  auto* const x = static_cast<float*>(block.data);
  std::vector<float> numbers(64);
  for (int i = 0; i < 64; ++i) numbers[std::size_t(i)] = float(i);
  CHECK(cudaMemcpyAsync(x, numbers.data(), 256, cudaMemcpyHostToDevice, on.stream) == cudaSuccess);
  // 2 a b + d, element (1, 1): a's row 1 is 1, 4, 7, 10, b's column 1 is 4, 5, 6, 7; d was 36.
  CHECK(Product().run(on, x, x + 32, 1) == CUBLAS_STATUS_INVALID_VALUE);  // not on 256 bytes
  Product plain;
  plain.align(128);
  CHECK(plain.run(on, x, x + 32, 1) == CUBLAS_STATUS_SUCCESS);
  float got = 0;
  CHECK(cudaMemcpyAsync(&got, x + 32 + 4, 4, cudaMemcpyDeviceToHost, on.stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(on.stream) == cudaSuccess);
  CHECK(got == 2 * (4 + 20 + 42 + 70) + 36);

  const auto refused = [&](auto change) {
    Product p;
    p.align(128);
    change(p);
    return p.run(on, x, x + 32);
  };
  CHECK(refused([](Product& p) { p.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T); }) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(refused([](Product& p) { p.a.column = 2; }) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(refused([](Product& p) { p.d.batch = 2; }) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(refused([](Product& p) { p.product.compute = CUBLAS_COMPUTE_64F; }) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(refused([&](Product& p) {  // not on 16 bytes
          p.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
          p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, x + 1);
        }) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(refused([&](Product& p) {  // rows of 3, not of a multiple of 8
          p.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX);
          p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, x);
          p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t(3));
        }) == CUBLAS_STATUS_INVALID_VALUE);
  const std::int64_t wide = 1;
  CHECK(cublasLtMatmulDescSetAttribute(&plain.product, CUBLASLT_MATMUL_DESC_TRANSA, &wide,
                                       sizeof wide) == CUBLAS_STATUS_INVALID_VALUE);
}

TEST_CASE("cuFFT: a plan that is no more, and what it refuses") {
  const Stream on;
  const Block block(1024);
  auto* const x = static_cast<char*>(block.data);
  const auto make = [&](cufftHandle plan, cudaDataType in, cudaDataType out) {
    long long n = 8;
    std::size_t work;
    return cufftXtMakePlanMany(plan, 1, &n, nullptr, 1, 1, in, nullptr, 1, 1, out, 2, &work,
                               CUDA_C_32F);
  };
  cufftHandle plan;
  CHECK(cufftCreate(&plan) == CUFFT_SUCCESS);
  CHECK(make(plan, CUDA_R_32F, CUDA_C_32F) == CUFFT_INVALID_VALUE);  // it would allocate
  CHECK(make(plan, CUDA_R_32F, CUDA_C_32F) == CUFFT_INVALID_PLAN);   // once for each
  CHECK(cufftCreate(&plan) == CUFFT_SUCCESS);
  CHECK(cufftSetAutoAllocation(plan, 0) == CUFFT_SUCCESS);
  CHECK(make(plan, CUDA_R_32F, CUDA_C_32F) == CUFFT_SUCCESS);
  CHECK(cufftSetWorkArea(plan, x + 512) == CUFFT_SUCCESS);
  CHECK(cufftSetStream(plan, on.stream) == CUFFT_SUCCESS);
  CHECK(cufftXtExec(plan, x, x + 256, CUFFT_INVERSE) == CUFFT_INVALID_VALUE);
  CHECK(cufftXtExec(plan, x + 4, x + 256, CUFFT_FORWARD) == CUFFT_INVALID_VALUE);
  CHECK(cudaSetDevice(1) == cudaSuccess);
  CHECK(cufftXtExec(plan, x, x + 256, CUFFT_FORWARD) == CUFFT_INVALID_DEVICE);
  CHECK(cudaSetDevice(0) == cudaSuccess);
  CHECK(cufftXtExec(plan, x, x + 256, CUFFT_FORWARD) == CUFFT_SUCCESS);
  CHECK(cudaStreamSynchronize(on.stream) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(on.stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  CHECK(cufftXtExec(plan, x, x + 256, CUFFT_FORWARD) == CUFFT_SUCCESS);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CHECK(cudaStreamEndCapture(on.stream, &graph) == cudaSuccess);
  CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cufftDestroy(plan) == CUFFT_SUCCESS);
  CHECK(cufftXtExec(plan, x, x + 256, CUFFT_FORWARD) == CUFFT_INVALID_PLAN);
  CHECK(cudaGraphLaunch(exec, on.stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(on.stream) == cudaErrorLaunchFailure);
  CHECK(simt::finish().starts_with("a transform by a plan that is no more"));
  CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
}
