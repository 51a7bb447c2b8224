// Fourier transforms of contiguous rows by cuFFT.
#pragma once

#include <cstdint>

#include <triad/core/device.h>
#include <triad/core/dtype.h>

namespace triad::cuda {

enum class Transform { complex_forward, real_forward, complex_inverse, real_inverse };

// `batch` transforms of n > 1 points of f32 or f64, unscaled. A real row of n has n / 2 + 1 complex
// frequencies on the other side. real_inverse overwrites what `in` points to, and wants zeros as
// the imaginary parts at DC and, for even n, at Nyquist; the others read it only.
void fft(Cuda device, Transform transform, DType real, std::int64_t n, std::int64_t batch,
         const void* in, void* out);

}  // namespace triad::cuda
