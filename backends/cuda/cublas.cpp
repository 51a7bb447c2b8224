// cublas.h by cuBLASLt. It counts matrices by columns: what it computes is the transposed product,
// c^T = b^T a^T, whose columns are our rows, and a bias for its rows is one for our columns.
// Its B is our a: BGRADB, the gradient of a bias, is the sums of our a's rows. Its gelu is by tanh.
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
// to how many bytes all is aligned.
using Problem = std::tuple<Gemm, int, bool, std::uint32_t>;

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

  Call(const Gemm& p, const void* bias, const void* extra) : p(p) {
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
    if (!bias && !extra) return;
    constexpr int kinds[] = {0, CUBLASLT_EPILOGUE_BGRADB, CUBLASLT_EPILOGUE_GELU_AUX,
                             CUBLASLT_EPILOGUE_DGELU};
    describe(CUBLASLT_MATMUL_DESC_EPILOGUE,
             cublasLtEpilogue_t(kinds[int(p.epilogue)] | (bias ? CUBLASLT_EPILOGUE_BIAS : 0)));
    describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.epilogue == Epilogue::sums ? extra : bias);
    if (p.epilogue < Epilogue::gelu) return;
    describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, extra);
    describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.N);
  }

  // The algorithm for matrices aligned to so many bytes. There may be none with an epilogue.
  std::optional<cublasLtMatmulAlgo_t> choose(cublasLtHandle_t handle, std::uint32_t alignment) {
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
    const bool refused = status != CUBLAS_STATUS_SUCCESS && status != CUBLAS_STATUS_ALLOC_FAILED;
    if (p.epilogue != Epilogue::none && refused) return {};
    check(status);
    return found.algo;
  }
};

}  // namespace

bool gemm(Cuda device, const Gemm& p, const void* a, const void* b, const void* bias, void* c,
          void* extra) {
  constexpr std::size_t kMost = 1024;  // a text that grows token by token has new sizes every step
  static auto& states = *new std::map<int, std::pair<cublasLtHandle_t, void*>>;  // of devices
  static auto& choices = *new std::map<Problem, std::optional<cublasLtMatmulAlgo_t>>;
  static auto& mutex = *new std::mutex;
  const cudaStream_t stream = cuda::stream(device);
  const std::lock_guard lock(mutex);
  auto& [handle, workspace] = states[device.index];
  Call call(p, bias, extra);
  if (!handle)
    call.check(with_memory(device, "cuBLASLt",
                           {CUBLAS_STATUS_ALLOC_FAILED, CUBLAS_STATUS_NOT_INITIALIZED},
                           [&] { return cublasLtCreate(&handle); }));
  if (!workspace)
    workspace = with_memory(device, "cuBLASLt's workspace of 32 MiB", {(void*)nullptr},
                            [&] { return allocate(device.index, kWorkspace); });

  std::uintptr_t bits = 256;
  for (const void* data : std::initializer_list<const void*>{a, b, bias, c, extra})
    bits |= reinterpret_cast<std::uintptr_t>(data);
  const auto alignment = std::uint32_t(bits & -bits);
  const Problem problem(p, device.index, bias != nullptr, alignment);
  auto choice = choices.find(problem);
  if (choice == choices.end()) {
    if (choices.size() == kMost) choices.clear();
    choice = choices.emplace(problem, call.choose(handle, alignment)).first;
  }
  if (!choice->second) return false;
  const double doubles[] = {1, 0};
  const float floats[] = {1, 0};
  const void *one = &floats[0], *zero = &floats[1];
  if (p.dtype == f64) one = &doubles[0], zero = &doubles[1];
  call.check(cublasLtMatmul(handle, &call.operation, one, b, &call.b, a, &call.a, zero, c, &call.c,
                            c, &call.c, &*choice->second, workspace, kWorkspace, stream));
  return true;
}

}  // namespace triad::cuda
