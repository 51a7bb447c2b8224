// cublas.h by cuBLASLt. It counts matrices by columns: what it computes is the transposed product,
// c^T = b^T a^T, whose columns are our rows, and a bias for its rows is one for our columns.
#include <triad/backends/cuda/cublas.h>

#include <cublasLt.h>

#include <map>
#include <mutex>
#include <tuple>

#include <triad/backends/cuda/runtime.h>
#include <triad/core/format.h>

namespace triad::cuda {
namespace {

constexpr std::size_t kWorkspace = 32 << 20;  // what NVIDIA recommends for Hopper

void check(cublasStatus_t status, const Gemm& p) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw_error<Error>("cuBLASLt: {} in {} products of {}, M = {}, N = {}, K = {}",
                     cublasLtGetStatusName(status), p.batch, p.dtype, p.M, p.N, p.K);
}

template <class Object, class Attribute, class T>
void set(const Gemm& p, cublasStatus_t (*function)(Object*, Attribute, const void*, std::size_t),
         Object& object, Attribute attribute, const T& value) {
  check(function(&object, attribute, &value, sizeof value), p);
}

// All that the choice of an algorithm may depend on: also the device, whether there is a bias, and
// to how many bytes a, b and c are aligned.
using Problem = std::tuple<Gemm, int, bool, std::uint32_t>;

// A product as cuBLASLt wants to hear of it; nothing here owns memory.
struct Call {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t a, b, c;

  Call(const Gemm& p, const void* bias) {
    const bool is_double = p.dtype == f64;
    const cudaDataType type = is_double         ? CUDA_R_64F
                              : p.dtype == f32  ? CUDA_R_32F
                              : p.dtype == bf16 ? CUDA_R_16BF
                                                : CUDA_R_16F;
    const auto matrix = [&](cublasLtMatrixLayoutOpaque_t& layout, std::int64_t row_length,
                            std::int64_t rows, std::int64_t row, std::int64_t stride) {
      check(cublasLtMatrixLayoutInit(&layout, type, row_length, rows, row), p);
      set(p, cublasLtMatrixLayoutSetAttribute, layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
          std::int32_t(p.batch));
      set(p, cublasLtMatrixLayoutSetAttribute, layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
          stride);
    };
    matrix(a, p.transpose_a ? p.M : p.K, p.transpose_a ? p.K : p.M, p.a_row, p.a_stride);
    matrix(b, p.transpose_b ? p.K : p.N, p.transpose_b ? p.N : p.K, p.b_row, p.b_stride);
    matrix(c, p.N, p.M, p.N, p.c_stride);
    check(cublasLtMatmulDescInit(&operation, is_double ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                 is_double ? CUDA_R_64F : CUDA_R_32F),
          p);
    const auto describe = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
      set(p, cublasLtMatmulDescSetAttribute, operation, attribute, value);
    };
    describe(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    describe(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (!bias) return;
    describe(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
};

cublasLtMatmulAlgo_t choose(cublasLtHandle_t handle, Call& call, const Problem& problem) {
  const Gemm& p = std::get<Gemm>(problem);
  cublasLtMatmulPreferenceOpaque_t preference;
  check(cublasLtMatmulPreferenceInit(&preference), p);
  set(p, cublasLtMatmulPreferenceSetAttribute, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      kWorkspace);
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(p, cublasLtMatmulPreferenceSetAttribute, preference, attribute,
        std::get<std::uint32_t>(problem));
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle, &call.operation, &call.b, &call.a, &call.c, &call.c,
                                       &preference, 1, &found, &count),
        p);
  check(count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : found.state, p);
  return found.algo;
}

}  // namespace

void gemm(Cuda device, const Gemm& p, const void* a, const void* b, const void* bias, void* c) {
  constexpr std::size_t kMost = 1024;  // a text that grows token by token has new sizes every step
  static auto& states = *new std::map<int, std::pair<cublasLtHandle_t, void*>>;  // of devices
  static auto& choices = *new std::map<Problem, cublasLtMatmulAlgo_t>;
  static auto& mutex = *new std::mutex;
  const auto stream = static_cast<cudaStream_t>(cuda::stream(device));
  const std::lock_guard lock(mutex);
  auto& [handle, workspace] = states[device.index];
  if (!handle) check(cublasLtCreate(&handle), p);
  if (!workspace) workspace = allocate(device.index, kWorkspace);
  if (!workspace) throw Error("cuBLASLt: no memory for its workspace of 32 MiB");

  Call call(p, bias);
  std::uintptr_t bits = 256;
  for (const void* matrix : {a, b, static_cast<const void*>(c)})
    bits |= reinterpret_cast<std::uintptr_t>(matrix);
  const Problem problem(p, device.index, bias != nullptr, std::uint32_t(bits & -bits));
  auto choice = choices.find(problem);
  if (choice == choices.end()) {
    const cublasLtMatmulAlgo_t algorithm = choose(handle, call, problem);
    if (choices.size() == kMost) choices.clear();
    choice = choices.emplace(problem, algorithm).first;
  }
  const double doubles[] = {1, 0};
  const float floats[] = {1, 0};
  const auto scale = [&](int i) {  // of the type that it computes in
    return p.dtype == f64 ? static_cast<const void*>(&doubles[i]) : &floats[i];
  };
  check(cublasLtMatmul(handle, &call.operation, scale(0), b, &call.b, a, &call.a, scale(1), c,
                       &call.c, c, &call.c, &choice->second, workspace, kWorkspace, stream),
        p);
}

}  // namespace triad::cuda
