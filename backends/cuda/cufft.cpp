// cufft.h by cuFFT: plans are kept, the 64 last used, their work areas are triad's memory.
#include <triad/backends/cuda/cufft.h>

#include <cufftXt.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <tuple>

#include <triad/backends/cuda/runtime.h>
#include <triad/core/format.h>

namespace triad::cuda {
namespace {

struct Plan {
  Cuda device;
  Transform transform;
  DType real;
  std::int64_t n, batch;
  std::shared_ptr<const cufftHandle> handle = nullptr;  // a graph that uses it keeps it
  std::size_t work_bytes = 0;

  auto key() const { return std::tuple(device.index, transform, real, n, batch); }
  void check(cufftResult status) const {
    if (status != CUFFT_SUCCESS)
      throw_error<Error>("{}: cuFFT: status {} in {} transforms of {} points of {}",
                         Range::op_or("fft"), int(status), batch, n, real);
  }

  void make() {
    const cudaDataType part = real == f32 ? CUDA_R_32F : CUDA_R_64F;
    const cudaDataType whole = real == f32 ? CUDA_C_32F : CUDA_C_64F;
    const cudaDataType in = transform == Transform::real_forward ? part : whole;
    const cudaDataType out = transform == Transform::real_inverse ? part : whole;
    long long size = n;
    check(with_memory(device, "a plan of cuFFT", {CUFFT_ALLOC_FAILED, CUFFT_INTERNAL_ERROR}, [&] {
      cufftHandle made = 0;
      if (const auto status = cufftCreate(&made); status != CUFFT_SUCCESS) return status;
      handle = {new cufftHandle(made), [](const cufftHandle* h) {
                  cufftDestroy(*h);
                  delete h;
                }};
      check(cufftSetAutoAllocation(made, 0));
      return cufftXtMakePlanMany(made, 1, &size, nullptr, 1, 1, in, nullptr, 1, 1, out, batch,
                                 &work_bytes, whole);
    }));
  }

  void run(const void* in, void* out) const {
    // The next op may have the area at once: it runs on the same stream.
    const auto work = Storage::allocate(work_bytes, Device::cuda(device.index));
    keep_for_graph(handle);
    check(cufftSetWorkArea(*handle, work->data()));
    check(cufftSetStream(*handle, stream(device)));
    const int direction = transform < Transform::complex_inverse ? CUFFT_FORWARD : CUFFT_INVERSE;
    check(cufftXtExec(*handle, const_cast<void*>(in), out, direction));
  }
};

}  // namespace

void fft(Cuda device, Transform transform, DType real, std::int64_t n, std::int64_t batch,
         const void* in, void* out) {
  if (batch == 0) return;
  constexpr std::size_t kMost = 64;           // plans, which hold memory of the device
  static auto& plans = *new std::list<Plan>;  // the last used one first
  static auto& mutex = *new std::mutex;
  stream(device);                     // makes it the current device
  const std::lock_guard lock(mutex);  // a plan runs one transform at a time
  Plan plan{device, transform, real, n, batch};
  const auto found = std::ranges::find(plans, plan.key(), &Plan::key);
  if (found != plans.end()) plans.splice(plans.begin(), plans, found);
  else {
    plan.make();
    plans.push_front(plan);
    if (plans.size() > kMost) synchronize(plans.back().device), plans.pop_back();  // it may run
  }
  plans.front().run(in, out);
}

}  // namespace triad::cuda
