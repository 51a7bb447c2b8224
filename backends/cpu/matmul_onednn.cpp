// The fp32 product by oneDNN's matmul primitive: measured at 480 GFLOP/s on 2 AVX-512 cores where
// its sgemm reaches 310 to 490.
//
// Making a primitive takes 200 us the first time and 4 us when oneDNN finds it in its own cache, as
// long as a small product. So primitives are kept here, with the memory objects they run on; every
// thread has its own, because those objects hold the pointers of the running call.
#include <triad/backends/cpu/matmul.h>
#include <triad/core/device.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <string_view>

namespace triad::cpu {
namespace {

using Dims = dnnl::memory::dims;

// All that a primitive depends on; the entries it does not use are zero.
using Key = std::array<Index, 3 * kMaxRank + 11>;

Key key_of(const MatrixProduct& p, bool bias) {
  Key key{p.M,        p.N,          p.K,  p.a_row,           p.a_column,    p.b_row,
          p.b_column, p.accumulate, bias, get_num_threads(), p.batch.rank()};
  Index* next = &key[11];
  for (const Shape* shape : {&p.batch, &p.a_batch, &p.b_batch})
    next = std::copy(shape->begin(), shape->end(), next);
  return key;
}

const dnnl::engine& engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

class Primitive {
 public:
  Primitive(const MatrixProduct& p, bool bias) {
    const auto left = matrix(p.batch, p.a_batch, p.M, p.K, p.a_row, p.a_column);
    const auto right = matrix(p.batch, p.b_batch, p.K, p.N, p.b_row, p.b_column);
    Shape c = p.batch;
    c.push_back(p.M), c.push_back(p.N);
    const auto out = matrix(p.batch, contiguous_layout(c).strides, p.M, p.N, p.N, 1);
    dnnl::primitive_attr attributes;
    if (p.accumulate) {
      dnnl::post_ops add;
      add.append_sum();
      attributes.set_post_ops(add);
    }
    dnnl::memory::desc row;  // empty: no bias
    if (bias) row = matrix(p.batch, Shape::filled(p.batch.rank(), 0), 1, p.N, p.N, 1);
#if DNNL_VERSION_MAJOR >= 3  // Ubuntu 24.04; Debian 12 has oneDNN 2
    const dnnl::matmul::primitive_desc description(engine(), left, right, row, out, attributes);
#else
    const dnnl::matmul::primitive_desc description({left, right, row, out}, attributes, engine());
#endif
    if (std::string_view(description.impl_info_str()).starts_with("ref")) return;
    run_ = dnnl::matmul(description);
    a_ = {left, engine(), DNNL_MEMORY_NONE};
    b_ = {right, engine(), DNNL_MEMORY_NONE};
    if (bias) bias_ = {row, engine(), DNNL_MEMORY_NONE};
    c_ = {out, engine(), DNNL_MEMORY_NONE};
  }
  Primitive() = default;

  bool exists() const { return bool(run_); }

  void operator()(const float* a, const float* b, const float* bias, float* c,
                  dnnl::stream& stream) {
    a_.set_data_handle(const_cast<float*>(a));
    b_.set_data_handle(const_cast<float*>(b));
    c_.set_data_handle(c);
    if (bias) bias_.set_data_handle(const_cast<float*>(bias));
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, a_.get()},
                                         {DNNL_ARG_WEIGHTS, b_.get()},
                                         {DNNL_ARG_DST, c_.get()},
                                         {DNNL_ARG_BIAS, bias ? bias_.get() : nullptr}};
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(run_.get(), stream.get(), bias ? 4 : 3, arguments), "matmul");
  }

 private:
  // An axis that repeats has size 1: oneDNN broadcasts it.
  static dnnl::memory::desc matrix(const Shape& batch, const Shape& steps, Index rows,
                                   Index columns, Index row, Index column) {
    Dims sizes, strides;
    for (int i = 0; i < batch.rank(); ++i) {
      sizes.push_back(steps[i] == 0 ? 1 : batch[i]);
      strides.push_back(steps[i] == 0 ? rows * columns : steps[i]);
    }
    sizes.insert(sizes.end(), {rows, columns});
    strides.insert(strides.end(), {row, column});
    return {sizes, dnnl::memory::data_type::f32, strides};
  }

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
    return primitives.emplace(key, Primitive(p, bias)).first->second;
  } catch (const dnnl::error&) {
    return primitives.emplace(key, Primitive()).first->second;
  }
}

// Rows (or columns) that overlap, as in an expanded vector, are nothing oneDNN accepts.
bool overlap(Index rows, Index columns, Index row, Index column) {
  return column == 1 ? row < columns : column < rows;
}

}  // namespace

bool matmul_onednn(const MatrixProduct& p, const float* a, const float* b, const float* bias,
                   float* c) {
  if (p.K == 0 || overlap(p.M, p.K, p.a_row, p.a_column) || overlap(p.K, p.N, p.b_row, p.b_column))
    return false;
  Primitive& multiply = primitive(p, bias != nullptr);
  if (!multiply.exists()) return false;
  thread_local dnnl::stream stream(engine());
  multiply(a, b, bias, c, stream);
  return true;
}

}  // namespace triad::cpu
