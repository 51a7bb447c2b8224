// What is special about reductions; all else that they do is in op_cases.
#include <triad/tests/op_test.h>

#include <cmath>
#include <limits>

using namespace op_test;

TEST_CASE("max and argmax: the first of equals, NaN before all") {
  for (DType dtype : {f32, f64, i64}) {
    const Tensor x = tensor({3, 9, 9, 1, 0, 0, -5, -4, -4}, {3, 3}, dtype);
    const auto [best, where] = max(x, 1);
    CHECK(values(best) == Values{9, 1, -4});
    CHECK(values(where) == Values{1, 0, 1});
    CHECK(where.dtype() == i64);
    CHECK(best.dtype() == dtype);
    CHECK(values(argmax(x, 0)) == Values{0, 0, 0});
    CHECK(argmax(x, -1, true).shape() == Shape{3, 1});
  }
  const Tensor x = from_vector<float>({1, float(kNan), 3, float(kNan)}, {4});
  CHECK(std::isnan(max(x).item<float>()));
  CHECK(argmax(x, 0).item<int>() == 1);
  const Tensor tie = from_vector<double>({2, 2, 1}, {3}).requires_grad_();
  CHECK(values(grad({max(tie)}, {tie})[0]) == Values{1, 0, 0});
  CHECK(max(scalar(4)).item<float>() == 4);
}

TEST_CASE("integers sum exactly") {
  const std::int64_t big = (std::int64_t(1) << 53) + 1;
  CHECK(sum(from_vector<std::int64_t>({big, 2, 3}, {3})).item<std::int64_t>() == big + 5);
  CHECK(values(sum(arange(6, {.dtype = i64}).reshape({2, 3}), {0})) == Values{3, 5, 7});
}

TEST_CASE("a long sum in f32 keeps its digits") {
  const std::int64_t n = 1 << 22;
  const Tensor x = full({n}, 0.1);
  const double want = double(0.1f) * double(n);
  CHECK(std::abs(sum(x).item<double>() - want) < 1e-6 * want);
  CHECK(std::abs(sum(x.reshape({n / 4, 4}), {0}).select(0, 2).item<double>() * 4 - want) <
        1e-6 * want);
}

TEST_CASE("the norm neither overflows nor divides by zero") {
  for (DType dtype : {f32, f64}) {
    const Tensor x = noise({7, 11}, dtype);
    CHECK(norm(x).dtype() == dtype);
  }
  check_close(norm(full({4}, 1e30)), {2e30}, 1e-6, "norm of large numbers", 0);
  check_close(norm(full({4}, 1e-30)), {2e-30}, 1e-6, "norm of small numbers", 0);
  const Tensor zero = zeros({3}, {.dtype = f64, .requires_grad = true});
  CHECK(values(grad({norm(zero)}, {zero})[0]) == Values{0, 0, 0});
  CHECK(norm(zeros({0})).item<float>() == 0);
}

TEST_CASE("the smallest of integers") {
  const std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  CHECK(min(from_vector<std::int64_t>({lowest, 0, 5})).item<std::int64_t>() == lowest);
}

TEST_CASE("all_finite") {
  for (DType dtype : {f32, f64}) {
    CHECK(all_finite(noise({50}, dtype)));
    CHECK(all_finite(full({50}, 3e38, {.dtype = dtype})));
    CHECK(all_finite(zeros({0}, {.dtype = dtype})));
    for (double bad : {kNan, kInf, -kInf}) {
      Values v(50, 1.0);
      v[37] = bad;
      CHECK(!all_finite(tensor(v, {50}, dtype)));
    }
  }
}

TEST_CASE("NaN is not zero") {
  const Tensor x = tensor({0, 0, 0, 1, kNan, 2}, {2, 3});
  CHECK(values(any(x, {1})) == Values{0, 1});
  CHECK(values(all(x, {1})) == Values{0, 1});
}

TEST_CASE("logsumexp does not overflow") {
  const Values y = values(logsumexp(tensor({-kInf, -kInf, 1000, 1000, kInf, 3}, {3, 2}), {1}));
  CHECK(y[0] == -kInf);
  CHECK(y[1] == doctest::Approx(1000 + std::log(2)));
  CHECK(y[2] == kInf);
}

TEST_CASE("what is true is counted") {
  CHECK(sum(zeros({2, 3}) == 0.0).dtype() == i64);
  CHECK(sum(zeros({2, 3}) == 0.0).item<int>() == 6);
}

TEST_CASE("the gradient of the deviation of equal numbers is zero") {
  const Tensor x = full({2, 3}, 4.5).requires_grad_();
  sum(stddev(x, {1})).backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>(6, 0));
}
