// A filter's control points read at another number of bins, and the transposed map.
#include <triad/backends/cpu/index.h>
#include <triad/backends/kernels.h>

namespace triad::kernels {
namespace {

using namespace cpu;

// Bin k of `bins` lies at position k (points - 1) / (bins - 1): between two points, exactly.
struct Place {
  Index left;
  double fraction;  // of the way to the point on the right; 0 where there is none

  Place(Index k, Index bins, Index points) {
    const Index steps = bins > 1 ? bins - 1 : 1, position = k * (points - 1);
    left = position / steps;
    fraction = double(position % steps) / double(steps);
  }
};

}  // namespace

void interpolate_linear(Cpu, const Tensor& values, const Tensor& out) {
  const Index heads = out.shape()[0], bins = out.shape()[1], points = values.shape()[1];
  visit_float("interpolate_linear", out.dtype(), [&]<class T>(T) {
    for (Index k = 0; k < bins; ++k) {
      const Place at(k, bins, points);
      for (Index h = 0; h < heads; ++h) {
        const T* p = values.data<T>() + h * points + at.left;
        out.data<T>()[h * bins + k] =
            at.fraction == 0 ? p[0] : T(p[0] + at.fraction * (p[1] - p[0]));
      }
    }
  });
}

void interpolate_linear_backward(Cpu, const Tensor& dout, const Tensor& dvalues) {
  const Index heads = dout.shape()[0], bins = dout.shape()[1], points = dvalues.shape()[1];
  visit_float("interpolate_linear", dout.dtype(), [&]<class T>(T) {
    for (Index h = 0; h < heads; ++h) {
      std::vector<double> sum(points);
      for (Index k = 0; k < bins; ++k) {
        const Place at(k, bins, points);
        const double d = dout.data<T>()[h * bins + k];
        sum[at.left] += (1 - at.fraction) * d;
        if (at.fraction != 0) sum[at.left + 1] += at.fraction * d;
      }
      for (Index i = 0; i < points; ++i) dvalues.data<T>()[h * points + i] = T(sum[i]);
    }
  });
}

}  // namespace triad::kernels
