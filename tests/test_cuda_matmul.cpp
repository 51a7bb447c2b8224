// The matrix product on a CUDA device against the definition, in fp64.
#include <doctest/doctest.h>

#include <cmath>
#include <tuple>

#include <triad/tests/kernel_checks.h>
#include <triad/triad.h>

using namespace triad;
using kernel_checks::kNan;
using kernel_checks::values;
using reference::Values;

namespace {

Tensor random(const Shape& shape, DType dtype) {
  static unsigned seed = 1;
  return kernel_checks::random_tensor(shape, dtype, seed++).to(kCuda);
}

// How a matrix lies in memory.
enum class Lies { rows, columns, rows_apart, columns_apart };
constexpr Lies kAll[] = {Lies::rows, Lies::columns, Lies::rows_apart, Lies::columns_apart};

Tensor random_matrix(Shape shape, Lies lies, DType dtype) {
  const int last = shape.rank() - 1;
  const bool by_columns = lies == Lies::columns || lies == Lies::columns_apart;
  if (by_columns) std::swap(shape[last - 1], shape[last]);
  Shape larger = shape;
  if (lies == Lies::rows_apart || lies == Lies::columns_apart) larger[last] += 3;
  const Tensor x = random(larger, dtype).slice(last, 0, shape[last]);
  return by_columns ? x.transpose(-2, -1) : x;
}

double bound(DType dtype) {  // of one rounding at the end, and some in the sum
  if (is_narrow(dtype)) return dtype == bf16 ? 0x1p-8 : 0x1p-11;
  return dtype == f32 ? 4 * 0x1p-24 : 6 * 0x1p-53;
}

// The largest error, as a part of the size of what was summed.
struct Worst {
  double value = 0;
  void add(double got, double sum, double size) {
    const double error = std::abs(got - sum);
    value = std::max(value, std::isnan(error) ? 1e9 : error / (size + 1e-30));
  }
};

// a and b with their batch axes expanded; the sums of a's rows where `sums` are defined, and for
// two matrices without a bias anyway.
void check(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& sums = {}) {
  const DType dtype = a.dtype();
  CAPTURE(name(dtype));
  CAPTURE(a.shape().str());
  CAPTURE(a.strides().str());
  CAPTURE(b.shape().str());
  CAPTURE(b.strides().str());
  CAPTURE(bias.defined());
  CAPTURE(sums.defined());
  const std::int64_t M = a.size(-2), K = a.size(-1), N = b.size(-1);
  Shape shape = a.shape();
  shape[a.dim() - 1] = N;
  const Tensor c = full(shape, kNan, {.dtype = dtype, .device = kCuda});
  on(kCuda, [&](auto device) { kernels::matmul(device, a, b, bias, c, sums); });
  const Values x = values(a), y = values(b), got = values(c);
  const Values row = bias.defined() ? values(bias) : Values(std::size_t(N), 0);
  Worst worst, worst_sum;
  for (std::int64_t i = 0; i < c.numel(); ++i) {
    const std::int64_t matrix = i / (M * N), at = i / N * K, column = i % N;
    double sum = row[column], size = std::abs(sum);
    for (std::int64_t k = 0; k < K; ++k) {
      const double term = x[at + k] * y[(matrix * K + k) * N + column];
      sum += term, size += std::abs(term);
    }
    worst.add(got[i], sum, size);
  }
  CHECK(worst.value <= bound(dtype));
  const Values got_sums = sums.defined() ? values(sums) : Values();
  for (std::size_t i = 0; i < got_sums.size(); ++i) {
    double sum = 0, size = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      const double term = x[std::int64_t(i) * K + k];
      sum += term, size += std::abs(term);
    }
    worst_sum.add(got_sums[i], sum, size);
  }
  CHECK(worst_sum.value <= bound(dtype));
  if (bias.defined() || sums.defined() || a.dim() > 2) return;
  for (int first : {0, 1})  // aligned for cuBLASLt, and not
    check(a, b, {}, full({M + first}, kNan, {.dtype = dtype, .device = kCuda}).slice(0, first));
}

void check_all(const Shape& a, Lies a_lies, const Shape& b, Lies b_lies, const Shape& batch,
               bool with_bias) {
  for (DType dtype : {f32, f64, bf16, f16}) {
    const auto with_batch = [&](const Tensor& x) {
      Shape shape = batch;
      shape.push_back(x.size(-2));
      shape.push_back(x.size(-1));
      return x.expand(shape);
    };
    const Tensor left = with_batch(random_matrix(a, a_lies, dtype));
    const Tensor right = with_batch(random_matrix(b, b_lies, dtype));
    check(left, right, with_bias ? random({right.size(-1)}, dtype) : Tensor());
  }
}

}  // namespace

TEST_CASE("matmul on CUDA of two matrices, however they lie") {
  for (const auto& [M, K, N] :
       {std::tuple(1, 1, 1), std::tuple(1, 7, 1), std::tuple(5, 1, 3), std::tuple(1, 13, 31),
        std::tuple(17, 3, 1), std::tuple(33, 35, 37), std::tuple(16, 32, 8)})
    for (Lies a : kAll)
      for (Lies b : kAll) check_all({M, K}, a, {K, N}, b, {}, (a == b) == (M > 1));
}

TEST_CASE("matmul on CUDA of long sums, as in the gradient of a weight") {
  for (const auto& [M, K, N] : {std::tuple(64, 1024, 48), std::tuple(40, 1031, 23)})
    for (Lies a : {Lies::columns, Lies::columns_apart})
      check_all({M, K}, a, {K, N}, Lies::rows, {}, false);
}

TEST_CASE("linear on CUDA: the gradient of the bias beside that of the weight") {
  for (DType dtype : {f32, f64, bf16, f16})
    for (bool by_columns : {false, true})
      for (bool create_graph : {false, true}) {
        CAPTURE(name(dtype));
        CAPTURE(by_columns);
        CAPTURE(create_graph);
        const Tensor x = random({3, 11, 7}, dtype);
        Tensor w = random({5, 7}, dtype).requires_grad_();
        Tensor bias = random({5}, dtype).requires_grad_();
        Tensor g = random({33, 5}, dtype);
        if (by_columns) g = random({5, 33}, dtype).transpose(0, 1);
        g.requires_grad_();
        const Tensor y = linear(x, w, bias).reshape({33, 5});
        const Tensors got = grad({y}, {w, bias}, {g}, {.create_graph = create_graph});
        const Values terms = values(g), rows = values(x), dw = values(got[0]), db = values(got[1]);
        Worst worst;
        for (int i = 0; i < 5; ++i)
          for (int j = 0; j <= 7; ++j) {
            double sum = 0, size = 0;
            for (int r = 0; r < 33; ++r) {
              const double term = terms[r * 5 + i] * (j < 7 ? rows[r * 7 + j] : 1);
              sum += term, size += std::abs(term);
            }
            worst.add(j < 7 ? dw[i * 7 + j] : db[i], sum, size);
          }
        CHECK(worst.value <= bound(dtype));
        CHECK(got[1].dtype() == dtype);
        CHECK(got[1].requires_grad() == create_graph);
      }
}

TEST_CASE("matmul on CUDA of batches, either side repeated along any axis") {
  for (Lies a : kAll)
    for (Lies b : kAll) {
      check_all({3, 5, 7}, a, {3, 7, 4}, b, {3}, false);
      check_all({3, 5, 7}, a, {7, 4}, b, {3}, true);
      check_all({5, 7}, a, {3, 7, 4}, b, {3}, false);
      check_all({3, 1, 7}, a, {7, 4}, b, {3}, false);
      check_all({2, 1, 5, 6}, a, {1, 3, 6, 9}, b, {2, 3}, true);
      check_all({2, 3, 5, 6}, a, {3, 6, 9}, b, {2, 3}, false);
      check_all({2, 3, 4, 5, 8}, a, {4, 8, 5}, b, {2, 3, 4}, true);
      check_all({2, 3, 1, 5, 4}, a, {2, 1, 3, 4, 2}, b, {2, 3, 3}, false);
      check_all({5, 6}, a, {6, 9}, b, {2, 3}, false);
    }
  check(random({70000, 2, 1}, f32), random({70000, 1, 1}, f32), random({1}, f32));
}

TEST_CASE("matmul on CUDA of millions of rows" * doctest::skip(is_simulated())) {
  const std::int64_t n = 5'000'000;
  for (DType dtype : {f32, bf16}) {
    const TensorOptions there{.dtype = dtype, .device = kCuda};
    const Tensor x = rand({n, 8}, there), w = full({8, 16}, 0.5, there);
    const Tensor want = sum(x.to(f32), {1}, true) * 0.5, got = matmul(x, w).to(f32);
    CHECK(max(abs(got - want)).item<double>() < (dtype == f32 ? 1e-5 : 2e-2));
  }
}

TEST_CASE("matmul on CUDA of head views of packed memory") {
  for (DType dtype : {f32, f64, bf16, f16}) {
    const Tensor packed = random({2, 9, 3, 4, 8}, dtype);  // [B,T,3,H,D]
    const Tensor q = packed.select(2, 1).permute({0, 2, 1, 3}), q_transposed = q.transpose(2, 3);
    check(q, random({4, 8, 8}, dtype).expand({2, 4, 8, 8}), {});
    check(q_transposed, q, {});
    check(q, q_transposed, {});
    check(q.slice(2, 1), q_transposed.slice(3, 3, 8), {});
    check(q.slice(3, 1, 6), q_transposed.slice(2, 2, 7), random({20}, dtype).slice(0, 3, 12));
  }
}

TEST_CASE("matmul on CUDA of expanded vectors, whose rows or columns overlap") {
  for (DType dtype : {f32, f64, bf16, f16}) {
    const Tensor rows = random({1, 20}, dtype).expand({10, 20});  // strides [0,1]
    const Tensor columns = rows.transpose(0, 1);                  // strides [1,0]
    const Tensor bias = random({6}, dtype);
    check(rows, random({20, 6}, dtype), bias);
    check(columns, random({10, 6}, dtype), bias);
    check(rows, random({20, 6}, dtype), {});
    check(columns, random({10, 6}, dtype), {});
    check(random({6, 10}, dtype), rows, {});
    check(random({6, 20}, dtype), columns, {});
    check(random({1, 1}, dtype).expand({30, 1}), random({1, 6}, dtype), bias);
    check(random({1, 1, 7}, dtype).expand({3, 1, 7}), random({7, 6}, dtype).expand({3, 7, 6}),
          bias);
    check(random({3, 1, 7}, dtype).expand({3, 2, 7}), random({3, 7, 1}, dtype).expand({3, 7, 6}),
          bias);
  }
}

TEST_CASE("matmul on CUDA over an empty inner axis is the bias, an empty result is nothing") {
  for (DType dtype : {f32, f64, bf16, f16}) {
    const TensorOptions there{.dtype = dtype, .device = kCuda};
    for (const Tensor& bias : {Tensor(), random({4}, dtype)}) {
      check(zeros({3, 0}, there), zeros({0, 4}, there), bias);
      check(zeros({2, 3, 0}, there), zeros({2, 0, 4}, there), bias);
      check(zeros({0, 3}, there), random({3, 4}, dtype), bias);
      check(zeros({0, 2, 3}, there), zeros({0, 3, 4}, there), bias);
    }
    check(random({2, 3}, dtype), zeros({3, 0}, there), {});
  }
}

TEST_CASE("matmul on CUDA passes NaN and infinity on") {
  for (DType dtype : {f32, f64, bf16, f16}) {
    const Tensor a = random({20, 30}, dtype), b = random({30, 40}, dtype);
    a.select(0, 3).select(0, 5).fill_(kNan);
    b.select(0, 7).select(0, 9).fill_(kernel_checks::kInf);
    const Tensor c = empty({20, 40}, dtype, kCuda);
    on(kCuda, [&](auto device) { kernels::matmul(device, a, b, {}, c); });
    const Values got = values(c);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      wrong += std::isnan(got[i]) != (i / 40 == 3);
      wrong += i / 40 != 3 && std::isinf(got[i]) != (i % 40 == 9);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("matmul on CUDA rounds f32 to TF32 while that is allowed, and nothing else") {
  const Tensor a = random({67, 129}, f32), b = random({129, 35}, f32);
  const Tensor exact = matmul(a.to(f64), b.to(f64));
  const auto error = [&](const Tensor& c) {
    return max(abs(c.to(f64) - exact)).item<double>() / max(abs(exact)).item<double>();
  };
  const Tensor before = matmul(a, b);
  CHECK(error(before) < 1e-6);
  allow_tf32();
  const Tensor rounded = matmul(a, b), wide = matmul(a.to(f64), b.to(f64));
  allow_tf32(false);
  CHECK(error(rounded) < 2e-3);
#ifdef TRIAD_CUDA_ON_CPU  // a GPU need not have such tensor cores
  CHECK(error(rounded) > 1e-6);
#endif
  CHECK(values(wide.to(Device::cpu())) == values(exact.to(Device::cpu())));
  CHECK(values(matmul(a, b).to(Device::cpu())) == values(before.to(Device::cpu())));
}

TEST_CASE("matmul on CUDA says what it does not take") {
  const Tensor whole = zeros({2, 2}, {.dtype = i64, .device = kCuda}), here = zeros({2, 2});
  on(kCuda, [&](auto device) {
    CHECK_THROWS_AS(kernels::matmul(device, whole, whole, {}, whole), DTypeError);
    const Tensor c = empty({2, 2}, f32, kCuda);
    CHECK_THROWS_AS(kernels::matmul(device, here, here, {}, c), DeviceError);
  });
}
