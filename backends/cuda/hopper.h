// What Hopper GPUs (sm_90a) have beside the instructions of mma.h (PTX ISA 8.0): barriers in shared
// memory that count bytes, copies of boxes of a tensor that one thread starts ("TMA"), and products
// that a group of four warps starts, that read shared memory, and run while the warps go on
// ("wgmma"). What they mean in plain C++ is in tests/cuda_on_cpu/simulated_hopper.h.
#pragma once

#include <triad/backends/cuda/mma.h>

#ifdef __CUDACC__
#include <cuda.h>
#include <dlfcn.h>

namespace triad::cuda {

__device__ inline unsigned shared_address(const void* x) {
  return unsigned(__cvta_generic_to_shared(x));
}

// ---------------------------------------------------------------------- barriers and copies

// An mbarrier. It counts threads that arrive and bytes that copies still owe: arrive_and_expect
// adds them, the hardware takes them off. When all threads have arrived and no bytes are owed, its
// phase ends and the next begins.
struct Barrier {
  std::uint64_t state;

  __device__ void begin(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)),
                 "r"(arrivals));
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory");
  }
  __device__ void arrive_and_expect(int bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)),
        "r"(bytes)
        : "memory");
  }
  // Until the phase of this parity has ended. The first one's is 0, then 1, 0, ..; to wait for 1 at
  // a new barrier is over at once, so that who fills slots finds all of them empty at first.
  __device__ void wait(int parity) {
    asm volatile(
        "{\n.reg .pred ended;\nagain:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n@!ended bra again;\n}" ::"r"(
            shared_address(this)),
        "r"(parity)
        : "memory");
  }
};

// After begin(), before anything else: the block's threads and copies know them.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
}

// Boxes of rows of 64 elements of a tensor [b,h,row,d]: copied so that chunk c of 16 bytes of row r
// comes to chunk c ^ r % 8, as `place` in attention_mma.cuh has it; zeros where there is nothing.
using BoxMap = CUtensorMap;

// Of these sizes [b,h,rows,d] and strides in bytes, multiples of 16 and not 0; `rows` to a box.
inline BoxMap map_boxes(const void* data, DType dtype, const std::int64_t (&sizes)[4],
                        const std::int64_t (&strides)[3], int rows) {
  static const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(
      dlsym(dlopen("libcuda.so.1", RTLD_NOW), "cuTensorMapEncodeTiled"));
  if (!encode) throw DeviceError("attention: the driver has no cuTensorMapEncodeTiled");
  const cuuint64_t d_first[] = {cuuint64_t(sizes[3]), cuuint64_t(sizes[2]), cuuint64_t(sizes[1]),
                                cuuint64_t(sizes[0])};
  const cuuint64_t steps[] = {cuuint64_t(strides[2]), cuuint64_t(strides[1]),
                              cuuint64_t(strides[0])};
  const cuuint32_t box[] = {64, cuuint32_t(rows), 1, 1}, every[] = {1, 1, 1, 1};
  BoxMap map;
  if (encode(&map,
             dtype == f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
             const_cast<void*>(data), d_first, steps, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    throw DeviceError("attention: the driver takes no tensor of these sizes and strides");
  return map;
}

__device__ inline void copy_box(void* shared, const BoxMap& map, Barrier& arrives, int d, int row,
                                int h, int b) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(&arrives)), "r"(d), "r"(row), "r"(h), "r"(b)
      : "memory");
}

// ---------------------------------------------------------------------- products

// All threads of a group have so many registers from here on: the one gives what the others take.
template <int count> __device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count> __device__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

// Before products: registers have what they are to have. After: they are a group of products.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// All but the newest so many groups are done; those that changed d among them.
template <int groups_left, int N> __device__ void wait_products(float (&d)[N][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups_left) : "memory");
  repeat<N * 4>([&](int i) { asm volatile("" : "+f"(d[i / 4][i % 4])::"memory"); });
}

// The 64 bits by which a product finds a matrix in shared memory, made of boxes [rows, 64] (PTX
// ISA, "matrix descriptor"): over 16, the address in bits 0 to 13, from one box to the next in 16
// to 29, from eight rows to the next in 32 to 45; in 62 and 63, that rows turn their chunks as
// boxes do. To go n bytes further, add n / 16.
__device__ inline std::uint64_t operand(const void* first, int apart = 16) {
  constexpr std::uint64_t eight_rows = 8 * 128, turned_by_row = 1;
  return (shared_address(first) & 0x3ffff) >> 4 | std::uint64_t(apart / 16) << 16 |
         eight_rows / 16 << 32 | turned_by_row << 62;
}

// Assembly must name each accumulator, 32 or 64 of them; these macros write the list. What comes of
// them is "wgmma... {d0, d1, ...}, a, b, adds, 1, 1, ..": 1, 1 are the signs of a and b, `turned`
// says which operands lie with their columns along memory.
#define TRIAD_4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define TRIAD_32(i)                                                                           \
  TRIAD_4(i), TRIAD_4(i + 1), TRIAD_4(i + 2), TRIAD_4(i + 3), TRIAD_4(i + 4), TRIAD_4(i + 5), \
      TRIAD_4(i + 6), TRIAD_4(i + 7)
#define TRIAD_64 TRIAD_32(0), TRIAD_32(8)
#define TRIAD_NAMES_32                                                                         \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24," \
  "%25,%26,%27,%28,%29,%30,%31"
#define TRIAD_NAMES_64                                                                        \
  TRIAD_NAMES_32                                                                              \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53," \
  "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
// left_and_right: names of these operands; add: of that which says whether d is added to.
#define TRIAD_WGMMA(size, type, names, left_and_right, add, turned)                            \
  "{\n.reg .pred adds;\nsetp.ne.b32 adds, " add ", 0;\nwgmma.mma_async.sync.aligned.m64n" size \
  "k16.f32." type "." type " {" names "}, " left_and_right ", adds, 1, 1, " turned ";\n}"
#define TRIAD_OF_BOTH(size, names, registers, left_and_right, add, turned, ...) \
  if constexpr (std::is_same_v<E, float16>)                                     \
    asm volatile(TRIAD_WGMMA(size, "f16", names, left_and_right, add, turned)   \
                 : registers                                                    \
                 : __VA_ARGS__);                                                \
  else                                                                          \
    asm volatile(TRIAD_WGMMA(size, "bf16", names, left_and_right, add, turned)  \
                 : registers                                                    \
                 : __VA_ARGS__)

// d [64, 8 N] = or += a [64,16] b [8 N, 16]^T. Of d, a warp has 16 rows, as those of mma.h.
template <class E, int N>
__device__ void multiply_later(float (&d)[N][4], std::uint64_t a, std::uint64_t b, bool adds) {
#define TRIAD_GIVEN "l"(a), "l"(b), "r"(int(adds))
  static_assert(N == 8 || N == 16);
  if constexpr (N == 8)
    TRIAD_OF_BOTH("64", TRIAD_NAMES_32, TRIAD_32(0), "%32, %33", "%34", "0, 0", TRIAD_GIVEN);
  else TRIAD_OF_BOTH("128", TRIAD_NAMES_64, TRIAD_64, "%64, %65", "%66", "0, 0", TRIAD_GIVEN);
#undef TRIAD_GIVEN
}
// d [64, 8 N] += a [64,16] b [16, 8 N], a in registers as mma.h's multiply_add has it.
template <class E, int N>
__device__ void multiply_later(float (&d)[N][4], const unsigned (&a)[4], std::uint64_t b) {
#define TRIAD_GIVEN "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1)
  static_assert(N == 8 || N == 16);
  if constexpr (N == 8)
    TRIAD_OF_BOTH("64", TRIAD_NAMES_32, TRIAD_32(0), "{%32,%33,%34,%35}, %36", "%37", "1",
                  TRIAD_GIVEN);
  else
    TRIAD_OF_BOTH("128", TRIAD_NAMES_64, TRIAD_64, "{%64,%65,%66,%67}, %68", "%69", "1",
                  TRIAD_GIVEN);
#undef TRIAD_GIVEN
}

}  // namespace triad::cuda
#else
#include <simulated_hopper.h>
#endif
