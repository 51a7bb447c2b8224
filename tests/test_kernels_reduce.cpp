// Sums over every choice of axes, the maximum, and how exact they are.
#include <triad/tests/kernel_checks.h>

using namespace kernel_checks;
using triad::Cpu;
using triad::DType;

namespace {

Shape without(const Shape& shape, int axes) {
  Shape y = shape;
  for (int i = 0; i < shape.rank(); ++i)
    if (axes >> i & 1) y[i] = 1;
  return y;
}

Tensor kernel_sum(const Tensor& x, const Shape& shape) {
  Tensor y = triad::empty(shape, x.dtype());
  triad::kernels::sum(Cpu{}, x, y);
  return y;
}

// Adds each element of x to the place of y that it falls on, in long double.
reference::Values define_sum(const Tensor& x, const Shape& shape) {
  const auto from = values(x);
  std::vector<long double> y(std::size_t(shape.numel()));
  for (std::size_t index = 0; index < from.size(); ++index) {
    std::size_t at = 0, step = 1, rest = index;
    for (int i = x.dim(); i-- > 0; rest /= std::size_t(x.shape()[i])) {
      if (shape[i] != 1) at += rest % std::size_t(x.shape()[i]) * step;
      step *= std::size_t(shape[i]);
    }
    y[at] += from[index];
  }
  return {y.begin(), y.end()};
}

}  // namespace

TEST_CASE("sum over any axes of any layout") {
  for (Shape shape : {Shape{}, Shape{5003}, Shape{300, 7}, Shape{7, 300}, Shape{3, 130, 11},
                      Shape{2, 3, 5, 7}, Shape{1, 4, 1, 9}})
    for (DType dtype : {triad::f32, triad::f64, triad::i64})
      for (Lie lie : kLies)
        for (int axes = 0; axes < 1 << shape.rank(); ++axes) {
          const Tensor x = laid(lie, random_tensor(shape, dtype, 1));
          const Shape y = without(shape, axes);
          const double scale = std::sqrt(double(shape.numel()) / double(y.numel()));
          check_close(kernel_sum(x, y), define_sum(x, y), dtype == triad::f32 ? 2e-7 : 1e-15, "sum",
                      scale);
        }
}

TEST_CASE("sum of an expanded tensor, of a few rows, of many rows of one column") {
  const Shape shape{5, 260, 33};
  for (Shape small :
       {Shape{1, 260, 33}, Shape{5, 1, 33}, Shape{5, 260, 1}, Shape{1, 1, 33}, Shape{1, 1, 1}})
    for (int axes = 0; axes < 8; ++axes) {
      const Tensor x = expand(random_tensor(small, triad::f64, 1), shape);
      const Shape y = without(shape, axes);
      check_close(kernel_sum(x, y), define_sum(x, y), 1e-14, "expanded", 300);
    }
  for (Shape tall : {Shape{3, 3000}, Shape{130000, 1}, Shape{70001, 2}})
    for (int axes : {1, 2, 3}) {
      const Tensor x = random_tensor(tall, triad::f32, 1);
      check_close(kernel_sum(x, without(tall, axes)), define_sum(x, without(tall, axes)), 2e-7,
                  "tall", 300);
    }
}

TEST_CASE("sums keep their digits") {
  const std::int64_t n = 10'000'000;
  Tensor x = triad::empty({n});
  for (std::int64_t i = 0; i < n; ++i) x.first<float>()[i] = 0.1f;
  check_close(kernel_sum(x, {1}), {double(0.1f) * double(n)}, 1e-7, "1e7 f32 numbers", 0);
  const Tensor matrix = x.with_layout(triad::contiguous_layout({n / 8, 8}));
  check_close(kernel_sum(matrix, {1, 8}), reference::Values(8, double(0.1f) * double(n) / 8), 1e-7,
              "1e6 rows", 0);

  Tensor d = triad::empty({1'000'000}, triad::f64);
  for (std::int64_t i = 0; i < d.numel(); ++i) d.first<double>()[i] = 0.1;
  check_close(kernel_sum(d, {1}), {1e5}, 1e-14, "1e6 f64 numbers", 0);
  check_close(kernel_sum(d.with_layout(triad::contiguous_layout({200'000, 5})), {1, 5}),
              reference::Values(5, 2e4), 1e-13, "rows of f64", 0);
}

TEST_CASE("sum of nothing is zero, of NaN NaN, of integers exact") {
  check_close(kernel_sum(triad::empty({0, 3}), {1, 3}), {0, 0, 0}, 0, "no rows");
  check_close(kernel_sum(triad::empty({3, 0}), {3, 1}), {0, 0, 0}, 0, "no columns");
  check_close(kernel_sum(triad::empty({0}, triad::i64), {1}), {0}, 0, "no integers");
  check_close(kernel_sum(tensor({1, kNan, 2, kInf, 3, -kInf}, {3, 2}), {3, 1}), {kNan, kInf, -kInf},
              0, "NaN");
  const Tensor big = tensor({9007199254740992.0, 1, 1}, {3}, triad::i64);
  CHECK(kernel_sum(big, {1}).first<std::int64_t>()[0] == 9007199254740994);
}

TEST_CASE("sum of squares, in double") {
  for (DType dtype : {triad::f32, triad::f64}) {
    std::vector<Tensor> all;
    double sum = 0;
    const Tensor y = triad::empty({}, triad::f64);
    for (Shape shape : {Shape{}, Shape{1, 1}, Shape{5, 1001}, Shape{0, 3}}) {
      all.push_back(random_tensor(shape, dtype, 1));
      triad::kernels::sum_of_squares(Cpu{}, {all.back()}, y);
      double want = 0;
      for (double v : values(all.back())) want += v * v;
      check_close(y, {want}, 1e-14, "sum of squares", 0);
      sum += want;
    }
    triad::kernels::sum_of_squares(Cpu{}, all, y);
    check_close(y, {sum}, 1e-14, "of several", 0);
  }
  const Tensor y = triad::empty({}, triad::f64);  // what overflows f32 does not overflow here
  triad::kernels::sum_of_squares(Cpu{}, {tensor({3e30, 4e30}, {2})}, y);
  check_close(y, {double(3e30f) * double(3e30f) + double(4e30f) * double(4e30f)}, 1e-15, "large",
              0);
}

TEST_CASE("the first of the largest, or smallest, over the last axis, NaN before all") {
  std::vector<std::pair<Lie, bool>> ways;
  for (Lie lie : kLies) ways.emplace_back(lie, true), ways.emplace_back(lie, false);
  for (DType dtype : {triad::f32, triad::f64, triad::i64})
    for (auto [lie, largest] : ways)
      for (Shape shape :
           {Shape{1}, Shape{3, 5, 7}, Shape{4, 3001}, Shape{2, 140001}, Shape{5, 1}, Shape{0, 4}}) {
        Tensor x = random_tensor(shape, dtype, 1);
        if (x.numel() > 40 && dtype != triad::i64)
          triad::visit_float("test", dtype, [&](auto zero) {
            using T = decltype(zero);
            x.first<T>()[9] = x.first<T>()[12] = T(kNan);
            for (int i = 0; i < 7; ++i) x.first<T>()[14 + i] = T(largest ? -kInf : kInf);
          });
        const auto from = values(x);
        const std::size_t C = std::size_t(shape.back());
        reference::Values best, where;
        for (std::size_t r = 0; r < from.size(); r += C) {
          std::size_t top = 0;
          for (std::size_t j = 1; j < C; ++j) {
            const double v = from[r + j], t = from[r + top];
            if (!std::isnan(t) && (std::isnan(v) || (largest ? v > t : v < t))) top = j;
          }
          best.push_back(from[r + top]);
          where.push_back(double(top));
        }
        const Shape rows(shape.begin(), shape.end() - 1);
        const Tensor y = triad::empty(rows, dtype), index = triad::empty(rows, triad::i64);
        triad::kernels::max_last(Cpu{}, laid(lie, x), largest, y, index);
        check_close(y, best, 0, "max");
        check_close(index, where, 0, "argmax");
      }
}

TEST_CASE("the same bits at any number of threads") {
  const Shape shape{37, 201, 67};
  for (DType dtype : {triad::f32, triad::f64}) {
    const Tensor x = random_tensor(shape, dtype, 1);
    for (int axes = 0; axes < 8; ++axes)
      check_threads("sum", [&] { return kernel_sum(x, without(shape, axes)); });
    check_threads("sum_of_squares", [&] {
      const Tensor y = triad::empty({}, triad::f64);
      triad::kernels::sum_of_squares(Cpu{}, {x}, y);
      return y;
    });
  }
}
