// The matrix product: the batch in its simplest shape, then oneDNN or our own blocked product.
#include <triad/backends/cpu/gemm_tile.h>
#include <triad/backends/cpu/strided.h>
#include <triad/backends/matmul_shape.h>

#include <array>
#include <dnnl.hpp>
#include <map>
#include <string_view>

namespace triad::kernels {
namespace {

using namespace cpu;

// ---- f32 by oneDNN's matmul: 480 GFLOP/s on 2 AVX-512 cores where its sgemm reaches 310 to 490;
// and bf16 and f16, which it has only where the CPU has AVX-512 and its extensions for them.
//
// Making a primitive takes 200 us the first time and 4 us when oneDNN finds it in its own cache, as
// long as a small product. So primitives are kept here, with the memory objects they run on; every
// thread has its own, because those objects hold the pointers of the running call.

// All that a primitive depends on; the entries it does not use are zero.
using Key = std::array<Index, 3 * kMaxRank + 11>;

Key key_of(const MatrixProduct& p, bool bias) {
  Key key{Index(p.dtype), p.M,     p.N,        p.K,  p.a_row,
          p.a_column,     p.b_row, p.b_column, bias, get_num_threads(),
          p.batch.rank()};
  Index* next = &key[11];
  for (const Shape* shape : {&p.batch, &p.a_batch, &p.b_batch})
    next = std::copy(shape->begin(), shape->end(), next);
  return key;
}

const dnnl::engine& engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// An axis that repeats has size 1: oneDNN broadcasts it.
dnnl::memory::desc matrix(DType dtype, const Shape& batch, const Shape& steps, Index rows,
                          Index columns, Index row, Index column) {
  using Type = dnnl::memory::data_type;
  dnnl::memory::dims sizes, strides;
  for (int i = 0; i < batch.rank(); ++i) {
    sizes.push_back(steps[i] == 0 ? 1 : batch[i]);
    strides.push_back(steps[i] == 0 ? rows * columns : steps[i]);
  }
  sizes.insert(sizes.end(), {rows, columns});
  strides.insert(strides.end(), {row, column});
  const Type type = dtype == bf16 ? Type::bf16 : dtype == f16 ? Type::f16 : Type::f32;
  return {sizes, type, strides};
}

class Primitive {
 public:
  // Stays empty where oneDNN has no fast way.
  Primitive(const MatrixProduct& p, bool bias) {
    if (p.K == 0 || p.a_overlaps() || p.b_overlaps()) return;  // nothing that oneDNN accepts
    const auto left = matrix(p.dtype, p.batch, p.a_batch, p.M, p.K, p.a_row, p.a_column);
    const auto right = matrix(p.dtype, p.batch, p.b_batch, p.K, p.N, p.b_row, p.b_column);
    Shape c = p.batch;
    c.push_back(p.M), c.push_back(p.N);
    const auto out = matrix(p.dtype, p.batch, contiguous_layout(c).strides, p.M, p.N, p.N, 1);
    dnnl::memory::desc row;  // empty: no bias
    if (bias) row = matrix(p.dtype, p.batch, Shape::filled(p.batch.rank(), 0), 1, p.N, p.N, 1);
#if DNNL_VERSION_MAJOR >= 3  // Ubuntu 24.04; Debian 12 has oneDNN 2
    const dnnl::matmul::primitive_desc description(engine(), left, right, row, out);
#else
    const dnnl::matmul::primitive_desc description({left, right, row, out}, engine());
#endif
    if (std::string_view(description.impl_info_str()).starts_with("ref")) return;
    run_ = dnnl::matmul(description);
    a_ = {left, engine(), DNNL_MEMORY_NONE};
    b_ = {right, engine(), DNNL_MEMORY_NONE};
    if (bias) bias_ = {row, engine(), DNNL_MEMORY_NONE};
    c_ = {out, engine(), DNNL_MEMORY_NONE};
  }
  Primitive() = default;

  // False, with nothing done, where there is none: then the other product is taken.
  bool operator()(const void* a, const void* b, const void* bias, void* c) {
    if (!run_) return false;
    thread_local dnnl::stream stream(engine());
    a_.set_data_handle(const_cast<void*>(a));
    b_.set_data_handle(const_cast<void*>(b));
    c_.set_data_handle(c);
    if (bias) bias_.set_data_handle(const_cast<void*>(bias));
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, a_.get()},
                                         {DNNL_ARG_WEIGHTS, b_.get()},
                                         {DNNL_ARG_DST, c_.get()},
                                         {DNNL_ARG_BIAS, bias ? bias_.get() : nullptr}};
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(run_.get(), stream.get(), bias ? 4 : 3, arguments), "matmul");
    return true;
  }

 private:
  dnnl::matmul run_;
  dnnl::memory a_, b_, bias_, c_;
};

// The primitive of this product, made on the first call; one that does not exist is remembered too.
Primitive& primitive(const MatrixProduct& p, bool bias) {
  constexpr std::size_t kMost = 1024;  // a text that grows token by token has new sizes every step
  thread_local std::map<Key, Primitive> primitives;
  const Key key = key_of(p, bias);
  if (auto found = primitives.find(key); found != primitives.end()) return found->second;
  if (primitives.size() == kMost) primitives.clear();
  try {
    return primitives.try_emplace(key, p, bias).first->second;
  } catch (const dnnl::error&) {
    return primitives[key];
  }
}

// ---- By gemm_tile: fp64, which oneDNN does not have, and what it has no fast way to read.
//
// A task is a block of c. It takes K in chunks, in order, so the number of threads never changes a
// sum. The chunk of b, and of an a stored by columns, is first copied to rows that follow each
// other: in place, every row of a large matrix takes a page of memory and the same few cache sets.

// A chunk of b, kDepth x kColumns doubles, fills a quarter of a 1 MiB second cache level.
constexpr Index kRows = 96, kColumns = 128, kDepth = 256;

// to[k][i] = from(k, i), k < depth, i < width; one of the strides is 1.
template <class T>
void copy_panel(Index depth, Index width, const T* from, Index depth_stride, Index width_stride,
                T* to) {
  if (width_stride != 1) return transpose_tile(T(1), width, depth, from, width_stride, to, width);
  for (Index k = 0; k < depth; ++k) std::copy_n(from + k * depth_stride, width, to + k * width);
}

template <class T>
void multiply_block(const MatrixProduct& p, const T* a, const T* b, const T* bias, T* c, Index rows,
                    Index columns) {
  for (Index i = 0; i < rows; ++i)
    if (bias) std::copy_n(bias, columns, c + i * p.N);
    else std::fill_n(c + i * p.N, columns, T(0));
  T *a_panel = scratch<T>((kRows + kColumns) * kDepth), *b_panel = a_panel + kRows * kDepth;
  for (Index k = 0; k < p.K; k += kDepth) {
    const Index depth = std::min(kDepth, p.K - k);
    copy_panel(depth, columns, b + k * p.b_row, p.b_row, p.b_column, b_panel);
    Strided<T> left{a + k * p.a_column, p.a_row, p.a_column};
    if (p.a_column != 1) {
      copy_panel(depth, rows, left.data, p.a_column, p.a_row, a_panel);
      left = {a_panel, 1, rows};
    }
    gemm_tile<T>(rows, columns, depth, left, b_panel, columns, c, p.N, true);
  }
}

template <class T>
void multiply_in_blocks(const MatrixProduct& p, const T* a, const T* b, const T* bias, T* c) {
  const Index row_blocks = ceil_div(p.M, kRows), column_blocks = ceil_div(p.N, kColumns);
  const Index blocks = row_blocks * column_blocks, tasks = p.batch.numel() * blocks;
  // One thread is faster than waking others for less than some 10 us of work.
  const bool small = double(p.batch.numel()) * double(p.M) * double(p.N) * double(p.K) < 1e5;
  const Index threads = small ? 1 : std::min<Index>(tasks, get_num_threads());
#pragma omp parallel for schedule(dynamic) num_threads(int(threads))
  for (Index task = 0; task < tasks; ++task) {
    const Index index = task / blocks;
    const T* a_matrix = a + place_of(index, p.batch, p.a_batch, p.batch.rank());
    const T* b_matrix = b + place_of(index, p.batch, p.b_batch, p.batch.rank());
    T* c_matrix = c + index * p.M * p.N;
    const Index i = task % blocks / column_blocks * kRows;
    const Index j = task % blocks % column_blocks * kColumns;
    multiply_block(p, a_matrix + i * p.a_row, b_matrix + j * p.b_column, bias ? bias + j : nullptr,
                   c_matrix + i * p.N + j, std::min(kRows, p.M - i), std::min(kColumns, p.N - j));
  }
}

// x in f32; what stride 0 repeats is copied once.
Tensor widened(const Tensor& x) {
  Layout once = x.layout();
  for (int i = 0; i < x.dim(); ++i)
    if (once.strides[i] == 0) once.shape[i] = std::min<Index>(once.shape[i], 1);
  const Tensor y = empty(once.shape, f32);
  copy(Cpu{}, x.with_layout(once), y);
  return y.with_layout(expanded(y.layout(), x.shape()));
}

}  // namespace

void matmul(Cpu, const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& c,
            const Tensor& /*sums*/) {
  if (c.numel() == 0) return;
  const MatrixProduct p = simplest(a, b);
  visit_any(c.dtype(), [&]<class T>(T) {
    const T *left = a.first<T>(), *right = b.first<T>();
    const T* row = bias.defined() ? bias.first<T>() : nullptr;
    T* out = c.first<T>();
    if constexpr (is_narrow(dtype_of<T>()) || std::is_same_v<T, float>)
      if (primitive(p, row != nullptr)(left, right, row, out)) return;
    if constexpr (std::is_floating_point_v<T>) multiply_in_blocks(p, left, right, row, out);
    else if constexpr (is_narrow(dtype_of<T>())) {
      const Tensor y = empty(c.shape(), f32);
      matmul(Cpu{}, widened(a), widened(b), bias.defined() ? widened(bias) : bias, y);
      copy(Cpu{}, y, c);
    } else throw DTypeError("matmul: needs f32, f64, bf16 or f16");
  });
}

}  // namespace triad::kernels
