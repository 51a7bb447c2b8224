// cufftXt.h, of contiguous rows, in double.
#include <cufftXt.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <numbers>
#include <vector>

#include <triad/core/visit.h>

using namespace triad;

namespace {

using Index = std::int64_t;
using Exact = std::complex<double>;

// y[k] = sum over t of x[t step] root(k t), for the n-th roots of 1, of which `roots` has those of
// N = n step, the whole transform: by Cooley and Tukey from those of every p-th point.
void transform(Index n, Index step, const Exact* x, const std::vector<Exact>& roots, Exact* y) {
  if (n == 1) {
    *y = *x;
    return;
  }
  Index p = 2;
  while (n % p != 0) ++p;
  const Index m = n / p;
  for (Index r = 0; r < p; ++r) transform(m, step * p, x + r * step, roots, y + r * m);
  std::vector<Exact> parts(std::size_t(p), Exact{});
  for (Index k = 0; k < m; ++k) {
    for (Index r = 0; r < p; ++r) parts[std::size_t(r)] = y[r * m + k];
    for (Index q = k; q < n; q += m) {
      y[q] = 0;
      for (Index r = 0; r < p; ++r)
        y[q] += parts[std::size_t(r)] * roots[std::size_t(q * r % n * step)];
    }
  }
}

// The rows of a batch. A real row has the first half of a spectrum on the other side.
template <class In, class Out>
void transform_rows(Index n, Index batch, bool inverse, const In* in, Out* out) {
  std::vector<Exact> roots, row(std::size_t(n), Exact{}), result(row);
  for (Index i = 0; i < n; ++i)
    roots.push_back(std::polar(1.0, (inverse ? 2 : -2) * std::numbers::pi * double(i) / double(n)));
  const Index half = n / 2 + 1;
  for (Index b = 0; b < batch; ++b) {
    for (Index t = 0; t < n; ++t)
      if constexpr (is_complex_v<Out>) row[std::size_t(t)] = Exact(*in++);
      else row[std::size_t(t)] = t < half ? Exact(*in++) : std::conj(row[std::size_t(n - t)]);
    transform(n, 1, row.data(), roots, result.data());
    for (Index k = 0; k < (is_complex_v<In> ? n : half); ++k)
      *out++ = converted<Out>(result[std::size_t(k)]);
  }
}

// cuFFT may do anything with a spectrum that no real row has, and with the input of this transform:
// here the first result of a row of the one is NaN, and all of the other.
template <class T> void check_and_spoil(Index n, Index batch, std::complex<T>* half, T* rows) {
  for (Index row = 0; row < batch; ++row, half += n / 2 + 1) {
    if (half[0].imag() != 0 || (n % 2 == 0 && half[n / 2].imag() != 0)) rows[row * n] = T(NAN);
    std::fill_n(half, n / 2 + 1, std::complex<T>(T(NAN), T(NAN)));
  }
}

struct Plan {
  int device = 0;
  cudaStream_t stream = nullptr;
  void* memory = nullptr;  // of the device, as a real one takes some
  void* work = nullptr;
  std::size_t work_bytes = 0;
  cudaDataType in = {}, out = {};
  Index n = 0, batch = 0;
  bool automatic = true, is_planned = false, is_alive = true;

  DType real() const { return in == CUDA_R_64F || in == CUDA_C_64F ? f64 : f32; }
};

std::mutex mutex;  // of all plans
std::map<cufftHandle, std::shared_ptr<Plan>>& plans() {
  static auto& all = *new std::map<cufftHandle, std::shared_ptr<Plan>>;
  return all;
}
std::shared_ptr<Plan> plan_of(cufftHandle handle) {
  const std::lock_guard lock(mutex);
  const auto found = plans().find(handle);
  return found == plans().end() ? nullptr : found->second;
}

template <class T> void run(const Plan& plan, bool inverse, void* in, void* out) {
  using C = std::complex<T>;
  std::memset(plan.work, 0xff, plan.work_bytes);
  const auto rows = [&](auto* from, auto* to) {
    transform_rows(plan.n, plan.batch, inverse, from, to);
  };
  if (plan.in == plan.out) rows(static_cast<const C*>(in), static_cast<C*>(out));
  else if (inverse) {
    rows(static_cast<const C*>(in), static_cast<T*>(out));
    check_and_spoil(plan.n, plan.batch, static_cast<C*>(in), static_cast<T*>(out));
  } else rows(static_cast<const T*>(in), static_cast<C*>(out));
}

}  // namespace

cufftResult cufftCreate(cufftHandle* plan) {
  static cufftHandle last = 0;
  const std::lock_guard lock(mutex);
  plans()[*plan = ++last] = std::make_shared<Plan>();
  return CUFFT_SUCCESS;
}

cufftResult cufftDestroy(cufftHandle plan) {
  const auto own = plan_of(plan);
  if (!own) return CUFFT_INVALID_PLAN;
  cudaFree(own->memory);  // once all that uses it is done
  own->is_alive = false;
  const std::lock_guard lock(mutex);
  plans().erase(plan);
  return CUFFT_SUCCESS;
}

cufftResult cufftSetAutoAllocation(cufftHandle plan, int automatic) {
  const auto own = plan_of(plan);
  if (!own) return CUFFT_INVALID_PLAN;
  own->automatic = automatic != 0;
  return CUFFT_SUCCESS;
}

cufftResult cufftXtMakePlanMany(cufftHandle plan, int rank, long long* size, long long* in_embed,
                                long long, long long, cudaDataType in, long long* out_embed,
                                long long, long long, cudaDataType out, long long batch,
                                std::size_t* work_bytes, cudaDataType execution) {
  const auto own = plan_of(plan);
  if (!own || std::exchange(own->is_planned, true)) return CUFFT_INVALID_PLAN;  // once for each
  own->in = in, own->out = out, own->n = *size, own->batch = batch;
  const bool is_double = own->real() == f64;
  const cudaDataType part = is_double ? CUDA_R_64F : CUDA_R_32F;
  const cudaDataType whole = is_double ? CUDA_C_64F : CUDA_C_32F;
  const auto fits = [&](cudaDataType type) { return type == part || type == whole; };
  if (rank != 1 || in_embed || out_embed || *size < 2 || batch < 1 || own->automatic ||
      execution != whole || !fits(in) || !fits(out) || (in == part && out == part))
    return CUFFT_INVALID_VALUE;                     // or nothing that this one can do
  if (cudaMalloc(&own->memory, 64) != cudaSuccess)  // the real one says either of these
    return *size % 2 == 0 ? CUFFT_ALLOC_FAILED : CUFFT_INTERNAL_ERROR;
  own->device = simt::device_of(own->memory);
  own->work_bytes = *work_bytes = std::size_t(*size);
  return CUFFT_SUCCESS;
}

cufftResult cufftSetWorkArea(cufftHandle plan, void* work) {
  const auto own = plan_of(plan);
  if (!own) return CUFFT_INVALID_PLAN;
  own->work = work;
  return CUFFT_SUCCESS;
}

cufftResult cufftSetStream(cufftHandle plan, cudaStream_t stream) {
  const auto own = plan_of(plan);
  if (!own) return CUFFT_INVALID_PLAN;
  own->stream = stream;
  return CUFFT_SUCCESS;
}

cufftResult cufftXtExec(cufftHandle plan, void* in, void* out, int direction) {
  const auto own = plan_of(plan);
  if (!own || !own->memory) return CUFFT_INVALID_PLAN;
  if (int current; cudaGetDevice(&current), current != own->device) return CUFFT_INVALID_DEVICE;
  for (const void* data : {in, out, own->work})
    if (simt::device_of(data) != own->device) return CUFFT_INVALID_VALUE;
  const bool is_real = own->in == CUDA_R_32F || own->in == CUDA_R_64F;
  const int wanted = is_real ? CUFFT_FORWARD : own->in != own->out ? CUFFT_INVERSE : direction;
  if (std::uintptr_t(in) % (2 * item_size(own->real())) != 0 || direction != wanted)
    return CUFFT_INVALID_VALUE;
  const auto error = simt::enqueue(own->stream, [own, now = *own, in, out, direction] {
    if (!own->is_alive) throw std::logic_error("a transform by a plan that is no more");
    visit_float("fft", own->real(),
                [&]<class T>(T) { run<T>(now, direction == CUFFT_INVERSE, in, out); });
  });
  return error == cudaSuccess ? CUFFT_SUCCESS : CUFFT_INVALID_VALUE;
}
