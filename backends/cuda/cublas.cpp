// cublas.h by cuBLASLt. It counts matrices by columns: what it computes is the transposed product,
// c^T = b^T a^T, whose columns are our rows, and a bias for its rows is one for our columns.
// Its B is our a: BGRADB, the gradient of a bias, is the sums of our a's rows.
#include <triad/backends/cuda/cublas.h>

#include <cublasLt.h>

#include <map>
#include <mutex>
#include <optional>
#include <tuple>

#include <triad/backends/cuda/runtime.h>
#include <triad/core/format.h>

namespace triad::cuda {
namespace {

constexpr std::size_t kWorkspace = 32 << 20;  // what NVIDIA recommends for Hopper

// All that the choice of an algorithm may depend on: also the device, whether there is a bias, and
// whether sums, and to how many bytes a, b and c are aligned.
using Problem = std::tuple<Gemm, int, bool, bool, std::uint32_t>;

// A product as cuBLASLt wants to hear of it; nothing here owns memory.
struct Call {
  const Gemm& p;
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t a, b, c;

  void check(cublasStatus_t status) const {
    if (status != CUBLAS_STATUS_SUCCESS)
      throw_error<Error>("cuBLASLt: {} in {} products of {}, M = {}, N = {}, K = {}",
                         cublasLtGetStatusName(status), p.batch, p.dtype, p.M, p.N, p.K);
  }
  // By one of cuBLASLt's functions.
  void set(auto function, auto& object, auto attribute, auto value) const {
    check(function(&object, attribute, &value, sizeof value));
  }

  Call(const Gemm& p, const void* bias, const void* sums) : p(p) {
    const bool is_double = p.dtype == f64;
    const cudaDataType type = is_double         ? CUDA_R_64F
                              : p.dtype == f32  ? CUDA_R_32F
                              : p.dtype == bf16 ? CUDA_R_16BF
                                                : CUDA_R_16F;
    const auto matrix = [&](auto& layout, bool transposed, std::int64_t rows, std::int64_t columns,
                            std::int64_t row, std::int64_t stride) {
      constexpr auto attribute = cublasLtMatrixLayoutSetAttribute;
      if (transposed) std::swap(rows, columns);
      check(cublasLtMatrixLayoutInit(&layout, type, columns, rows, row));
      set(attribute, layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, std::int32_t(p.batch));
      set(attribute, layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
    };
    matrix(a, p.transpose_a, p.M, p.K, p.a_row, p.a_stride);
    matrix(b, p.transpose_b, p.K, p.N, p.b_row, p.b_stride);
    matrix(c, false, p.M, p.N, p.N, p.c_stride);
    check(cublasLtMatmulDescInit(&operation,
                                 is_double ? CUBLAS_COMPUTE_64F
                                 : p.tf32  ? CUBLAS_COMPUTE_32F_FAST_TF32
                                           : CUBLAS_COMPUTE_32F,
                                 is_double ? CUDA_R_64F : CUDA_R_32F));
    const auto describe = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
      set(cublasLtMatmulDescSetAttribute, operation, attribute, value);
    };
    describe(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    describe(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (!bias && !sums) return;
    describe(CUBLASLT_MATMUL_DESC_EPILOGUE,
             sums ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_BIAS);
    describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, sums ? sums : bias);
  }

  // The algorithm for matrices that are aligned to so many bytes. There may be none with sums.
  std::optional<cublasLtMatmulAlgo_t> choose(cublasLtHandle_t handle, std::uint32_t alignment,
                                             bool with_sums) {
    constexpr auto attribute = cublasLtMatmulPreferenceSetAttribute;
    cublasLtMatmulPreferenceOpaque_t preference;
    check(cublasLtMatmulPreferenceInit(&preference));
    set(attribute, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
    for (const auto of :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      set(attribute, preference, of, alignment);
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, &operation, &b, &a, &c, &c,
                                                           &preference, 1, &found, &count);
    if (status == CUBLAS_STATUS_SUCCESS)
      status = count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : found.state;
    if (with_sums && status != CUBLAS_STATUS_SUCCESS) return {};
    check(status);
    return found.algo;
  }
};

}  // namespace

bool gemm(Cuda device, const Gemm& p, const void* a, const void* b, const void* bias, void* c,
          void* sums) {
  constexpr std::size_t kMost = 1024;  // a text that grows token by token has new sizes every step
  static auto& states = *new std::map<int, std::pair<cublasLtHandle_t, void*>>;  // of devices
  static auto& choices = *new std::map<Problem, std::optional<cublasLtMatmulAlgo_t>>;
  static auto& mutex = *new std::mutex;
  const auto stream = static_cast<cudaStream_t>(cuda::stream(device));
  const std::lock_guard lock(mutex);
  auto& [handle, workspace] = states[device.index];
  Call call(p, bias, sums);
  if (!handle) call.check(cublasLtCreate(&handle));
  if (!workspace) workspace = allocate(device.index, kWorkspace);
  if (!workspace) empty_cache(), workspace = allocate(device.index, kWorkspace);
  if (!workspace)
    throw_error<OutOfMemory>(
        "{}: out of memory on cuda:{}: asked for cuBLASLt's workspace of 32 MiB",
        Range::op_or("matmul"), device.index);
  if (p.batch > INT32_MAX)
    throw_error<DeviceError>("matmul: too many products for a CUDA device: {}", p.batch);

  std::uintptr_t bits = 256;
  for (const void* matrix : {a, b, static_cast<const void*>(c)})
    bits |= reinterpret_cast<std::uintptr_t>(matrix);
  const auto alignment = std::uint32_t(bits & -bits);
  const Problem problem(p, device.index, bias != nullptr, sums != nullptr, alignment);
  auto choice = choices.find(problem);
  if (choice == choices.end()) {
    const auto algorithm = call.choose(handle, alignment, sums != nullptr);
    if (choices.size() == kMost) choices.clear();
    choice = choices.emplace(problem, algorithm).first;
  }
  if (!choice->second) return false;
  const double doubles[] = {1, 0};
  const float floats[] = {1, 0};
  const auto scale = [&](int i) {  // of the type that it computes in
    return p.dtype == f64 ? static_cast<const void*>(&doubles[i]) : &floats[i];
  };
  call.check(cublasLtMatmul(handle, &call.operation, scale(0), b, &call.b, a, &call.a, scale(1), c,
                            &call.c, c, &call.c, &*choice->second, workspace, kWorkspace, stream));
  return true;
}

}  // namespace triad::cuda
