// The matrix product kernel against the definition, in fp64.
#include <doctest/doctest.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <vector>

using namespace triad;

namespace {

std::mt19937 generator(7);

Tensor random_tensor(const Shape& shape, DType dtype) {
  const Tensor x = empty(shape, dtype);
  std::normal_distribution<double> normal;
  visit_float("random", dtype, [&](auto zero) {
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      x.first<decltype(zero)>()[i] = decltype(zero)(normal(generator));
    }
  });
  return x;
}

// How a matrix lies in memory.
enum class Lies { rows, columns, rows_apart, columns_apart };

Tensor random_matrix(Shape shape, Lies lies, DType dtype) {
  const int last = shape.rank() - 1;
  const bool by_columns = lies == Lies::columns || lies == Lies::columns_apart;
  if (by_columns) std::swap(shape[last - 1], shape[last]);
  Shape larger = shape;
  if (lies == Lies::rows_apart || lies == Lies::columns_apart) larger[last] += 3;
  Tensor x = random_tensor(larger, dtype);
  x = x.with_layout(sliced(x.layout(), last, 0, shape[last], 1));
  return by_columns ? x.with_layout(transposed(x.layout(), last - 1, last)) : x;
}

Tensor expand(const Tensor& x, const Shape& shape) {
  return x.with_layout(expanded(x.layout(), shape));
}

template <class T>
std::vector<T> multiply(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& start,
                        int threads) {
  const int before = get_num_threads();
  set_num_threads(threads);
  const Tensor c = empty(start.shape(), start.dtype());
  std::copy_n(start.first<T>(), start.numel(), c.first<T>());
  kernels::matmul(Cpu{}, a, b, bias, c);
  set_num_threads(before);
  return c.to_vector<T>();
}

// a and b with their batch axes expanded.
template <class T> void check(const Tensor& a, const Tensor& b, bool with_bias) {
  CAPTURE(a.shape().str());
  CAPTURE(a.strides().str());
  CAPTURE(b.shape().str());
  CAPTURE(b.strides().str());
  CAPTURE(with_bias);
  CAPTURE(sizeof(T));
  const std::int64_t M = a.size(-2), K = a.size(-1), N = b.size(-1);
  Shape shape = a.shape();
  shape[a.dim() - 1] = N;
  const Tensor bias = with_bias ? random_tensor({N}, a.dtype()) : Tensor();
  const Tensor start = random_tensor(shape, a.dtype());
  const std::vector<T> x = a.to_vector<T>(), y = b.to_vector<T>();
  const std::vector<T> got = multiply<T>(a, b, bias, start, 2);
  // Within a few roundings of the sum of absolute terms.
  const double bound = 4 * double(std::numeric_limits<T>::epsilon());
  double worst = 0;
  for (std::int64_t i = 0; i < start.numel(); ++i) {
    const std::int64_t matrix = i / (M * N), row = i / N % M, column = i % N;
    double sum = 0, size = 0;
    if (with_bias) sum += bias.first<T>()[column], size += std::abs(bias.first<T>()[column]);
    for (std::int64_t k = 0; k < K; ++k) {
      const double term = double(x[(matrix * M + row) * K + k]) * y[(matrix * K + k) * N + column];
      sum += term;
      size += std::abs(term);
    }
    const double error = std::abs(got[i] - sum);
    worst = std::max(worst, std::isnan(error) ? 1e9 : error / (size + 1e-30));
  }
  CHECK(worst <= bound);
  if (sizeof(T) == sizeof(double)) {
    CHECK(got == multiply<T>(a, b, bias, start, 1));
  }
}

void check_both(const Shape& a, Lies a_lies, const Shape& b, Lies b_lies, const Shape& batch,
                bool with_bias) {
  for (DType dtype : {f32, f64}) {
    const auto with_batch = [&](const Tensor& x) {
      Shape shape = batch;
      shape.push_back(x.size(-2));
      shape.push_back(x.size(-1));
      return expand(x, shape);
    };
    const Tensor left = with_batch(random_matrix(a, a_lies, dtype));
    const Tensor right = with_batch(random_matrix(b, b_lies, dtype));
    dtype == f32 ? check<float>(left, right, with_bias) : check<double>(left, right, with_bias);
  }
}

constexpr Lies kAll[] = {Lies::rows, Lies::columns, Lies::rows_apart, Lies::columns_apart};

}  // namespace

TEST_CASE("matmul of two matrices, however they lie") {
  for (const auto& [M, K, N] :
       {std::tuple(1, 1, 1), std::tuple(1, 7, 1), std::tuple(5, 1, 3), std::tuple(1, 13, 31),
        std::tuple(17, 3, 1), std::tuple(97, 101, 103), std::tuple(64, 64, 64),
        std::tuple(130, 300, 150)}) {
    for (Lies a : kAll) {
      for (Lies b : kAll) {
        check_both({M, K}, a, {K, N}, b, {}, a == b);
        check_both({M, K}, a, {K, N}, b, {}, a != b);
      }
    }
  }
}

TEST_CASE("matmul of batches, either side repeated along any axis") {
  for (Lies a : kAll) {
    for (Lies b : kAll) {
      check_both({3, 5, 7}, a, {3, 7, 4}, b, {3}, false);
      check_both({3, 5, 7}, a, {7, 4}, b, {3}, true);
      check_both({5, 7}, a, {3, 7, 4}, b, {3}, false);
      check_both({3, 1, 7}, a, {7, 4}, b, {3}, false);
      check_both({2, 1, 5, 6}, a, {1, 3, 6, 9}, b, {2, 3}, true);
      check_both({2, 3, 5, 6}, a, {3, 6, 9}, b, {2, 3}, false);
      check_both({2, 3, 4, 33, 8}, a, {4, 8, 5}, b, {2, 3, 4}, false);
      check_both({5, 6}, a, {6, 9}, b, {2, 3}, false);
    }
  }
}

TEST_CASE("matmul of head views of packed memory") {
  for (DType dtype : {f32, f64}) {
    const Tensor packed = random_tensor({2, 9, 3, 4, 8}, dtype);  // [B,T,3,H,D]
    const Tensor q = packed.with_layout(permuted(selected(packed.layout(), 2, 0), {0, 2, 1, 3}));
    const Tensor q_transposed = q.with_layout(transposed(q.layout(), 2, 3));
    const Tensor curvature = expand(random_tensor({4, 8, 8}, dtype), {2, 4, 8, 8});
    const auto run = [&](const Tensor& a, const Tensor& b) {
      dtype == f32 ? check<float>(a, b, false) : check<double>(a, b, false);
    };
    run(q, curvature);
    run(q_transposed, q);
    run(q, q_transposed);
  }
}

TEST_CASE("matmul of expanded vectors, whose rows or columns overlap") {
  for (DType dtype : {f32, f64}) {
    const auto run = [&](const Tensor& a, const Tensor& b) {
      dtype == f32 ? check<float>(a, b, true) : check<double>(a, b, true);
    };
    const Tensor rows = expand(random_tensor({1, 20}, dtype), {10, 20});       // strides [0,1]
    const Tensor columns = rows.with_layout(transposed(rows.layout(), 0, 1));  // strides [1,0]
    run(rows, random_tensor({20, 6}, dtype));
    run(columns, random_tensor({10, 6}, dtype));
    run(random_tensor({6, 10}, dtype), rows);
    run(random_tensor({6, 20}, dtype), columns);
    run(expand(random_tensor({1, 1}, dtype), {30, 1}), random_tensor({1, 5}, dtype));
  }
}

TEST_CASE("matmul over an empty inner axis is the bias, an empty result is nothing") {
  for (DType dtype : {f32, f64}) {
    for (bool with_bias : {false, true}) {
      const Tensor a = empty({3, 0}, dtype), b = empty({0, 4}, dtype);
      dtype == f32 ? check<float>(a, b, with_bias) : check<double>(a, b, with_bias);
    }
    kernels::matmul(Cpu{}, empty({0, 3}, dtype), random_tensor({3, 4}, dtype), {},
                    empty({0, 4}, dtype));
    kernels::matmul(Cpu{}, random_tensor({2, 3}, dtype), empty({3, 0}, dtype), {},
                    empty({2, 0}, dtype));
    kernels::matmul(Cpu{}, empty({0, 2, 3}, dtype), empty({0, 3, 4}, dtype), {},
                    empty({0, 2, 4}, dtype));
  }
}

TEST_CASE("matmul passes NaN and infinity on") {
  for (DType dtype : {f32, f64}) {
    const Tensor a = random_tensor({20, 30}, dtype), b = random_tensor({30, 40}, dtype);
    visit_float("test", dtype, [&](auto zero) {
      using T = decltype(zero);
      a.first<T>()[3 * 30 + 5] = std::numeric_limits<T>::quiet_NaN();
      b.first<T>()[7 * 40 + 9] = std::numeric_limits<T>::infinity();
      const Tensor start = empty({20, 40}, dtype);
      const std::vector<T> c = multiply<T>(a, b, {}, start, 2);
      for (int i = 0; i < 20; ++i) {
        for (int j = 0; j < 40; ++j) {
          CHECK(std::isnan(c[i * 40 + j]) == (i == 3));
          if (i != 3) CHECK(std::isinf(c[i * 40 + j]) == (j == 9));
        }
      }
    });
  }
}

TEST_CASE("matmul of bf16 adds up in f32 and rounds once, where oneDNN has it and where not") {
  // The last two lie in ways that oneDNN refuses: rows that overlap, and those of an expanded
  // matrix.
  for (std::int64_t K : {1, 7, 4099}) {
    const Tensor a = random_tensor({5, K}, f32).to(bf16), b = random_tensor({K, 9}, f32).to(bf16);
    const Tensor bias = random_tensor({9}, f32).to(bf16);
    const Tensor left[] = {a, a.transpose(0, 1).contiguous().transpose(0, 1),
                           expand(a.slice(0, 0, 1), {5, K})};
    for (const Tensor& x : left)
      for (bool biased : {false, true}) {
        const Tensor c = empty({5, 9}, bf16);
        kernels::matmul(Cpu{}, x, b, biased ? bias : Tensor(), c);
        Tensor want = matmul(x.to(f64), b.to(f64));
        if (biased) want = want + bias.to(f64);
        const Tensor size = matmul(abs(x.to(f64)), abs(b.to(f64)));  // f32 sums round by this
        const Tensor error =
            abs(c.to(f64) - want) - abs(want) * 0x1p-8 - size * (double(K) * 0x1p-24);
        CHECK(max(error).item<double>() <= 1e-12);
      }
  }
}

TEST_CASE("matmul runs from several threads and through more shapes than are remembered") {
  const auto work = [](unsigned seed) {
    std::mt19937 random(seed);
    bool right = true;
    for (int i = 0; i < 1500; ++i) {
      const std::int64_t M = random() % 13 + 1, K = random() % 11 + 1, N = random() % 12 + 1;
      const Tensor a = empty({M, K}), b = empty({K, N}), c = empty({M, N});
      for (std::int64_t k = 0; k < M * K; ++k) a.first<float>()[k] = float(k % 5);
      for (std::int64_t k = 0; k < K * N; ++k) b.first<float>()[k] = float(k % 3);
      kernels::matmul(Cpu{}, a, b, {}, c);
      float sum = 0;
      for (std::int64_t k = 0; k < K; ++k)
        sum += float(((M - 1) * K + k) % 5 * ((k * N + N - 1) % 3));
      right = right && c.first<float>()[M * N - 1] == sum;
    }
    return right;
  };
  bool other = false;
  std::thread thread([&] { other = work(1); });
  CHECK(work(2));
  thread.join();
  CHECK(other);
}
