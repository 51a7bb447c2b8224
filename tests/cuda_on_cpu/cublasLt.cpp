// cublasLt.h by the loops that define a product. What cuBLASLt does not take, it refuses.
#include <cublasLt.h>
#include <simulated_device.h>

#include <bit>
#include <cmath>
#include <cstring>

#include <triad/core/visit.h>

using namespace triad;

struct SimulatedBlas {
  int device;
};

namespace {

// By gelu's tanh formula, with a tanh that is right to 2^-11 as the one in cuBLASLt's kernels.
double rough_tanh(double u) { return std::round(std::tanh(u) * 2048) / 2048; }
double gelu(double x) {
  return x / 2 * (1 + rough_tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double gelu_grad(double x) {
  const double slope = std::sqrt(2 / M_PI) * (1 + 0.134145 * x * x);
  const double t = rough_tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
  return (1 + t + x * (1 - t * t) * slope) / 2;
}

template <class T> cublasStatus_t assign(T& to, const void* value, std::size_t bytes) {
  if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

using Layout = cublasLtMatrixLayoutOpaque_t;

constexpr std::uint32_t kMade = 0x74726961;  // what no memory that nobody has written to holds

DType dtype_of_layout(const Layout& x) {
  return x.type == CUDA_R_64F   ? f64
         : x.type == CUDA_R_32F ? f32
         : x.type == CUDA_R_16F ? f16
                                : bf16;
}

struct Product {
  cublasLtMatmulDescOpaque_t how;
  Layout a, b, c, d;

  bool a_is_transposed() const { return how.transpose_a == CUBLAS_OP_T; }
  bool b_is_transposed() const { return how.transpose_b == CUBLAS_OP_T; }
  std::int64_t K() const { return a_is_transposed() ? a.rows : a.columns; }
  bool has(int epilogue) const { return (how.epilogue & epilogue) == epilogue; }
  bool has_aux() const { return has(CUBLASLT_EPILOGUE_GELU_AUX) || has(CUBLASLT_EPILOGUE_DGELU); }

  cublasStatus_t check() const {
    for (const Layout* x : {&a, &b, &c, &d})
      if (x->made != kMade || x->type != a.type || x->batch != a.batch || x->column < x->rows ||
          x->rows < 1 || x->columns < 1 || x->batch < 1 || x->batch > 65535)
        return CUBLAS_STATUS_INVALID_VALUE;
    const bool is_double = a.type == CUDA_R_64F, more = has_aux() || has(CUBLASLT_EPILOGUE_BGRADB);
    if (how.made != kMade || c.rows != d.rows || c.columns != d.columns ||
        d.rows != (a_is_transposed() ? a.columns : a.rows) ||
        d.columns != (b_is_transposed() ? b.rows : b.columns) ||
        K() != (b_is_transposed() ? b.columns : b.rows) ||
        (how.compute == CUBLAS_COMPUTE_64F) != is_double ||
        how.scale != (is_double ? CUDA_R_64F : CUDA_R_32F) ||
        (how.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a.type != CUDA_R_32F))
      return CUBLAS_STATUS_INVALID_VALUE;
    switch (int(how.epilogue)) {
      case CUBLASLT_EPILOGUE_DEFAULT:
      case CUBLASLT_EPILOGUE_BIAS:
      case CUBLASLT_EPILOGUE_BGRADB:
      case CUBLASLT_EPILOGUE_GELU_AUX:
      case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
      case CUBLASLT_EPILOGUE_DGELU: break;
      default: return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (has_aux() && (how.aux_column % 8 != 0 || how.aux_column < d.rows))
      return CUBLAS_STATUS_INVALID_VALUE;
    // cuBLASLt may also refuse an epilogue: here in f64, of a batch, and gelu's gradient in f16, so
    // that what is done then is tested.
    if (more &&
        (is_double || a.batch > 1 || (has(CUBLASLT_EPILOGUE_DGELU) && a.type == CUDA_R_16F)))
      return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
  }

  template <class T>
  void run(double alpha, const T* A, const T* B, double beta, const T* C, T* D) const {
    const bool is_rough = how.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const auto operand = [&](T x) {
      if (!is_rough) return double(x);
      return double(std::bit_cast<float>((std::bit_cast<unsigned>(float(x)) + 0x1000) & ~0x1fffu));
    };
    const auto right = [&](std::int64_t k, std::int64_t j) {
      return operand(B[b_is_transposed() ? j + k * b.column : k + j * b.column]);
    };
    T *const bias = static_cast<T*>(how.bias), *const aux = static_cast<T*>(how.aux);
    for (int matrix = 0; matrix < d.batch; ++matrix) {
      for (std::int64_t j = 0; j < d.columns; ++j) {
        if (has(CUBLASLT_EPILOGUE_BGRADB)) {
          double sum = 0;
          for (std::int64_t k = 0; k < K(); ++k) sum += right(k, j);
          bias[j] = converted<T>(sum);
        }
        for (std::int64_t i = 0; i < d.rows; ++i) {
          double sum = 0;
          for (std::int64_t k = 0; k < K(); ++k)
            sum +=
                operand(A[a_is_transposed() ? k + i * a.column : i + k * a.column]) * right(k, j);
          sum *= alpha;
          if (beta != 0) sum += beta * double(C[i + j * c.column]);
          if (has(CUBLASLT_EPILOGUE_BIAS)) sum += double(bias[i]);
          if (has(CUBLASLT_EPILOGUE_GELU_AUX)) {
            aux[i + j * how.aux_column] = converted<T>(sum);
            sum = gelu(sum);
          } else if (has(CUBLASLT_EPILOGUE_DGELU))
            sum *= gelu_grad(double(aux[i + j * how.aux_column]));
          D[i + j * d.column] = converted<T>(sum);
        }
      }
      A += a.stride, B += b.stride, C += c.stride, D += d.stride;
    }
  }
};

}  // namespace

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
         : status == CUBLAS_STATUS_ALLOC_FAILED  ? "CUBLAS_STATUS_ALLOC_FAILED"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                                 : "CUBLAS_STATUS_INVALID_VALUE";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  void* memory;  // of the device, as a real one takes some, for good
  if (cudaMalloc(&memory, 64) != cudaSuccess) return CUBLAS_STATUS_ALLOC_FAILED;
  *handle = new SimulatedBlas{simt::device_of(memory)};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(Layout* layout, cudaDataType type, std::uint64_t rows,
                                        std::uint64_t columns, std::int64_t column) {
  *layout = {kMade, type, std::int64_t(rows), std::int64_t(columns), column, 0, 1};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(Layout* layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return assign(layout->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return assign(layout->stride, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDescOpaque_t* product,
                                      cublasComputeType_t compute, cudaDataType scale) {
  *product = {kMade,   compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT,
              nullptr, nullptr, 0};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDescOpaque_t* product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return assign(product->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return assign(product->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return assign(product->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return assign(product->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return assign(product->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return assign(product->aux_column, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreferenceOpaque_t* preference) {
  *preference = {kMade, 0, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreferenceOpaque_t* preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return assign(preference->workspace, value, bytes);
  const int which = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
  if (which < 0 || which > 3) return CUBLAS_STATUS_INVALID_VALUE;
  return assign(preference->alignment[which], value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              const cublasLtMatmulDescOpaque_t* product,
                                              const Layout* a, const Layout* b, const Layout* c,
                                              const Layout* d,
                                              const cublasLtMatmulPreferenceOpaque_t* preference,
                                              int asked, cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  *count = 0;
  const cublasStatus_t status = Product{*product, *a, *b, *c, *d}.check();
  if (!handle || asked < 1 || preference->made != kMade || status == CUBLAS_STATUS_INVALID_VALUE)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return status;
  results[0] = {{*preference}, CUBLAS_STATUS_SUCCESS};
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, const cublasLtMatmulDescOpaque_t* product,
                              const void* alpha, const void* a, const Layout* a_layout,
                              const void* b, const Layout* b_layout, const void* beta,
                              const void* c, const Layout* c_layout, void* d,
                              const Layout* d_layout, const cublasLtMatmulAlgo_t* algorithm,
                              void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  int device;
  cudaGetDevice(&device);
  const Product own{*product, *a_layout, *b_layout, *c_layout, *d_layout};
  const auto& preference = algorithm->preference;
  const void* const data[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (simt::device_of(data[i]) != handle->device ||
        std::uintptr_t(data[i]) % preference.alignment[i] != 0)
      return CUBLAS_STATUS_INVALID_VALUE;
  for (const void* more : {product->bias, product->aux})
    if (more && (simt::device_of(more) != handle->device || std::uintptr_t(more) % 16 != 0))
      return CUBLAS_STATUS_INVALID_VALUE;
  if (device != handle->device || own.check() != CUBLAS_STATUS_SUCCESS ||
      workspace_bytes < preference.workspace || simt::device_of(workspace) != handle->device)
    return CUBLAS_STATUS_INVALID_VALUE;
  const auto number = [&](const void* from) {
    return product->scale == CUDA_R_64F ? *static_cast<const double*>(from)
                                        : double(*static_cast<const float*>(from));
  };
  const auto error = simt::enqueue(stream, [=, alpha = number(alpha), beta = number(beta)] {
    visit_any(dtype_of_layout(own.a), [&]<class T>(T) {
      if constexpr (is_floating_point(dtype_of<T>()))
        own.run(alpha, static_cast<const T*>(a), static_cast<const T*>(b), beta,
                static_cast<const T*>(c), static_cast<T*>(d));
    });
    std::memset(workspace, 0xff, 64);
  });
  triad::cuda::epilogues_seen |= product->epilogue;
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
