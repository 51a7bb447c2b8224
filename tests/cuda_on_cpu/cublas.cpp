// backends/cuda/cublas.h on the CPU.
#include <triad/backends/cuda/cublas.h>

#include <simulated_device.h>

#include <bit>
#include <cmath>

#include <triad/core/visit.h>

namespace triad::cuda {
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

template <class T>
void multiply(const Gemm& p, const T* a, const T* b, const T* bias, T* c, T* extra) {
  const auto operand = [&](T x) {
    if (!p.tf32) return double(x);
    return double(std::bit_cast<float>((std::bit_cast<unsigned>(float(x)) + 0x1000) & ~0x1fffu));
  };
  const auto left = [&](std::int64_t i, std::int64_t k) {
    return operand(a[p.transpose_a ? k * p.a_row + i : i * p.a_row + k]);
  };
  for (std::int64_t i = 0; p.epilogue == Epilogue::sums && i < p.M; ++i) {
    double sum = 0;
    for (std::int64_t k = 0; k < p.K; ++k) sum += left(i, k);
    extra[i] = converted<T>(sum);
  }
  for (std::int64_t matrix = 0; matrix < p.batch; ++matrix) {
    for (std::int64_t i = 0; i < p.M; ++i) {
      for (std::int64_t j = 0; j < p.N; ++j) {
        double sum = bias ? double(bias[j]) : 0;
        for (std::int64_t k = 0; k < p.K; ++k)
          sum += left(i, k) * operand(b[p.transpose_b ? j * p.b_row + k : k * p.b_row + j]);
        if (p.epilogue == Epilogue::gelu) {
          extra[i * p.N + j] = converted<T>(sum);
          sum = gelu(sum);
        } else if (p.epilogue == Epilogue::gelu_grad) sum *= gelu_grad(double(extra[i * p.N + j]));
        c[i * p.N + j] = converted<T>(sum);
      }
    }
    a += p.a_stride, b += p.b_stride, c += p.c_stride;
  }
}

}  // namespace

bool gemm(Cuda device, const Gemm& p, const void* a, const void* b, const void* bias, void* c,
          void* extra) {
  const auto aligned = [](const void* data) {
    return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  };
  const bool overlaps =
      p.a_row < (p.transpose_a ? p.M : p.K) || p.b_row < (p.transpose_b ? p.K : p.N);
  if (overlaps || p.M < 1 || p.N < 1 || p.K < 1 || p.batch > 65535 || !aligned(bias) ||
      !aligned(extra) || (extra != nullptr) != (p.epilogue != Epilogue::none) ||
      (extra && p.batch > 1) ||
      (bias && (p.epilogue == Epilogue::sums || p.epilogue == Epilogue::gelu_grad)) ||
      (p.epilogue >= Epilogue::gelu && p.N % 8 != 0))
    throw Error("gemm: nothing that cuBLASLt takes");
  // cuBLASLt may refuse an epilogue. Here it is these, so that what is done then is tested, too.
  if (extra && p.dtype == f64) return false;
  if (p.epilogue == Epilogue::gelu_grad && p.dtype == f16) return false;
  enqueue(device, [=] {
    visit_any(p.dtype, [&]<class T>(T) {
      if constexpr (is_floating_point(dtype_of<T>()))
        multiply(p, static_cast<const T*>(a), static_cast<const T*>(b), static_cast<const T*>(bias),
                 static_cast<T*>(c), static_cast<T*>(extra));
    });
  });
  return true;
}

}  // namespace triad::cuda
