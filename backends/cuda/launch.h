// The CUDA language, for two compilers. With nvcc this is CUDA; in a build with -DTRIAD_CUDA=cpu a
// plain C++ compiler makes the same kernels run on the CPU (tests/cuda_on_cpu: simt.h has what CUDA
// adds to C++, instructions.h what follows here and in mma.h).
#pragma once

#include <climits>

#include <triad/backends/cuda/complex.h>
#include <triad/backends/cuda/runtime.h>
#include <triad/core/tensor.h>

#ifdef __CUDACC__
namespace triad::cuda {

template <class T, int N> using Shared = T[N];  // __shared__ Shared<float, 32> part;

template <class T> __device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char raw[];
  return reinterpret_cast<T*>(raw);
}

// 16 bytes by cp.async: they are there for this thread after wait_copies, for others after the
// barrier that follows it. Where there is nothing at `source`, zeros.
__device__ inline void copy_later(void* shared, const void* source, bool there) {
  const unsigned to = unsigned(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(source),
               "r"(there ? 16 : 0));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
// All but the newest so many groups have arrived.
template <int groups_left> __device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups_left) : "memory");
}

// In one access, to global memory; of an assignment the compiler makes several.
template <class V> __device__ void store_16_bytes(void* to, const V& value) {
  const auto word = std::bit_cast<uint4>(value);
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "r"(word.x), "r"(word.y), "r"(word.z), "r"(word.w)
               : "memory");
}

__device__ inline void check_aligned(const void*, std::size_t) {}

}  // namespace triad::cuda

#else
#include <instructions.h>
#endif

namespace triad::cuda {

// One launch: blocks, threads of a block, bytes of dynamic shared memory.
struct Grid {
  Cuda device;
  dim3 blocks, threads;
  std::size_t shared_bytes = 0;
};

// So many blocks, along x.
inline dim3 blocks_of(std::int64_t count) {
  if (count > INT_MAX)
    throw DeviceError("too large for a CUDA device: " + std::to_string(count) + " blocks");
  return dim3(unsigned(count));
}

// The first element of a tensor of T, which must be on the device; null of an undefined one.
template <class T> typename OnDevice<T>::type* data_of(Cuda device, const Tensor& x) {
  if (!x.defined()) return nullptr;
  if (x.device() != Device::cuda(device.index) || x.dtype() != dtype_of<T>())
    throw DeviceError("a kernel for " + std::string(name(dtype_of<T>())) + " on " +
                      name(Device::cuda(device.index)) + " was given " + name(x.dtype()) + " on " +
                      name(x.device()));
  return reinterpret_cast<typename OnDevice<T>::type*>(x.first_byte());
}

// What launch(grid, kernel, args...) gives a kernel for a parameter P: of a tensor, data_of.
template <class P, class A> P argument([[maybe_unused]] Cuda device, const A& given) {
  if constexpr (std::is_same_v<A, Tensor>)
    return data_of<std::remove_const_t<std::remove_pointer_t<P>>>(device, given);
  else return static_cast<P>(given);
}

template <class... P, class... A>
void launch(const Grid& grid, void (*kernel)(P...), const A&... args) {
  if (grid.blocks.x == 0) return;
  const cudaLaunchConfig_t config{grid.blocks, grid.threads, grid.shared_bytes,
                                  stream(grid.device)};
  check(with_memory(grid.device, "a kernel", {cudaErrorMemoryAllocation}, [&] {  // loads it
    constexpr auto bytes = cudaFuncAttributeMaxDynamicSharedMemorySize;
    if (grid.shared_bytes > 48 << 10)  // the most: another thread may launch it meanwhile
      if (const auto error = cudaFuncSetAttribute(kernel, bytes, int(shared_memory(grid.device))))
        return error;
    return cudaLaunchKernelEx(&config, kernel, argument<P>(grid.device, args)...);
  }));
}

}  // namespace triad::cuda
