// backends/cuda/cufft.h on the CPU.
#include <triad/backends/cuda/cufft.h>

#include <simulated_device.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <memory>
#include <numbers>
#include <vector>

#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::cuda {
namespace {

using Index = std::int64_t;

// Rows of device memory as a tensor that the CPU's kernels take.
Tensor rows(const void* data, Index batch, Index n, DType dtype) {
  const std::size_t bytes = std::size_t(batch * n) * item_size(dtype);
  return {Storage::borrow(const_cast<void*>(data), bytes, std::make_shared<int>()),
          contiguous_layout({batch, n}), dtype};
}

// The sum that defines it, for the rows of a short transform.
template <class In, class Out>
void direct_transform(Index n, Index batch, double sign, const In* in, Out* out) {
  using Exact = std::complex<double>;
  constexpr bool halved = !is_complex_v<In>, doubled = !is_complex_v<Out>;
  const Index half = n / 2 + 1, in_row = doubled ? half : n, out_row = halved ? half : n;
  std::vector<Exact> roots;
  for (Index i = 0; i < n; ++i)
    roots.push_back(std::polar(1.0, sign * 2 * std::numbers::pi * double(i) / double(n)));
  for (Index row = 0; row < batch; ++row)
    for (Index k = 0; k < out_row; ++k) {
      Exact sum;
      for (Index t = 0; t < in_row; ++t) {
        const bool twice = doubled && t > 0 && 2 * t != n;
        sum += Exact(in[row * in_row + t]) * roots[t * k % n] * (twice ? 2.0 : 1.0);
      }
      out[row * out_row + k] = converted<Out>(sum);
    }
}

// cuFFT may do anything with a spectrum that no real row has, and with the input of this transform:
// here the results of the one are NaN, and all of the other.
template <class T> void check_and_spoil(Index n, Index batch, std::complex<T>* half, T* rows) {
  for (Index row = 0; row < batch; ++row, half += n / 2 + 1) {
    if (half[0].imag() != 0 || (n % 2 == 0 && half[n / 2].imag() != 0)) rows[row * n] = T(NAN);
    std::fill_n(half, n / 2 + 1, std::complex<T>(T(NAN), T(NAN)));
  }
}

template <class T> void run(Transform kind, Index n, Index batch, const void* in, void* out) {
  using C = std::complex<T>;
  const DType real = dtype_of<T>(), complex = complex_type(real);
  const Index half = n / 2 + 1;
  const bool direct = n < 64;
  if (kind == Transform::real_forward) {
    if (direct) direct_transform(n, batch, -1, static_cast<const T*>(in), static_cast<C*>(out));
    else kernels::rfft(Cpu(), rows(in, batch, n, real), 1, rows(out, batch, half, complex));
  } else if (kind == Transform::real_inverse) {
    if (direct) direct_transform(n, batch, 1, static_cast<const C*>(in), static_cast<T*>(out));
    else kernels::irfft(Cpu(), rows(in, batch, half, complex), 1, rows(out, batch, n, real));
    check_and_spoil(n, batch, static_cast<C*>(const_cast<void*>(in)), static_cast<T*>(out));
  } else {
    const bool inverse = kind == Transform::complex_inverse;
    if (direct)
      direct_transform(n, batch, inverse ? 1 : -1, static_cast<const C*>(in), static_cast<C*>(out));
    else kernels::fft(Cpu(), rows(in, batch, n, complex), inverse, 1, rows(out, batch, n, complex));
  }
}

}  // namespace

void fft(Cuda device, Transform transform, DType real, std::int64_t n, std::int64_t batch,
         const void* in, void* out) {
  enqueue(device, [=] {
    visit_float("fft", real, [&]<class T>(T) { run<T>(transform, n, batch, in, out); });
  });
}

}  // namespace triad::cuda
