// Complex numbers: c64 and c128, as pairs of f32 or f64.
//
// The gradient of a real loss with respect to z = x + i y is dL/dx + i dL/dy, PyTorch's convention:
// the direction of steepest ascent. A rule therefore multiplies by conjugates.
#pragma once

#include <triad/core/tensor.h>

namespace triad {

// Views: c64 [...] <-> f32 [...,2], the real part first. The second copies where the pairs do not
// lie together.
Tensor view_as_real(const Tensor& z);
Tensor view_as_complex(const Tensor& pairs);

Tensor real(const Tensor& z);  // views; of real numbers themselves
Tensor imag(const Tensor& z);
Tensor conj(const Tensor& z);  // of real numbers themselves

Tensor complex(const Tensor& real, const Tensor& imag);  // broadcast
Tensor polar(const Tensor& abs, const Tensor& angle);    // abs (cos angle + i sin angle)

}  // namespace triad
