// cuFFT on the CPU, as far as backends/cuda/cufft.cpp calls it.
#pragma once

#include <cuda_runtime.h>

enum cufftResult {
  CUFFT_SUCCESS = 0,
  CUFFT_INVALID_PLAN = 1,
  CUFFT_ALLOC_FAILED = 2,
  CUFFT_INVALID_VALUE = 4,
  CUFFT_INTERNAL_ERROR = 5,
  CUFFT_INVALID_DEVICE = 11,
};
inline constexpr int CUFFT_FORWARD = -1, CUFFT_INVERSE = 1;
using cufftHandle = int;

cufftResult cufftCreate(cufftHandle* plan);
cufftResult cufftDestroy(cufftHandle plan);
cufftResult cufftSetAutoAllocation(cufftHandle plan, int automatic);
cufftResult cufftXtMakePlanMany(cufftHandle plan, int rank, long long* size, long long* in_embed,
                                long long in_stride, long long in_distance, cudaDataType in,
                                long long* out_embed, long long out_stride, long long out_distance,
                                cudaDataType out, long long batch, std::size_t* work_bytes,
                                cudaDataType execution);
cufftResult cufftSetWorkArea(cufftHandle plan, void* work);
cufftResult cufftSetStream(cufftHandle plan, cudaStream_t stream);
cufftResult cufftXtExec(cufftHandle plan, void* in, void* out, int direction);
