// Discrete Fourier and cosine transforms along one axis, of any length; conventions are torch.fft's
// and scipy.fft's.
#pragma once

#include <optional>

#include <triad/core/tensor.h>

namespace triad {

// Which direction is divided: the inverse by n; both by sqrt(n); the forward one by n.
enum class Norm { backward, ortho, forward };

// Complex to complex; `n` cuts the axis or pads it with zeros first.
Tensor fft(const Tensor& x, std::optional<std::int64_t> n = {}, std::int64_t axis = -1,
           Norm norm = Norm::backward);
Tensor ifft(const Tensor& x, std::optional<std::int64_t> n = {}, std::int64_t axis = -1,
            Norm norm = Norm::backward);
// Real to the frequencies 0..n/2, and back to n = 2 (size - 1) real numbers unless given. irfft
// does not read the imaginary parts at 0 and, for even n, n/2.
Tensor rfft(const Tensor& x, std::optional<std::int64_t> n = {}, std::int64_t axis = -1,
            Norm norm = Norm::backward);
Tensor irfft(const Tensor& x, std::optional<std::int64_t> n = {}, std::int64_t axis = -1,
             Norm norm = Norm::backward);

// Orthonormal DCT-II and its inverse, DCT-III. J. Makhoul, "A fast cosine transform in one and two
// dimensions", IEEE Trans. ASSP 28 (1980).
Tensor dct(const Tensor& x, std::int64_t axis = -1);
Tensor idct(const Tensor& x, std::int64_t axis = -1);

}  // namespace triad
