// Reductions: values against a plain loop in fp64, over every choice of axes; gradients by
// gradcheck.
#include <triad/tests/op_test.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

using namespace op_test;

namespace {

// For each element of the result, the elements that fall into it, in row-major order.
std::vector<Values> groups(const Tensor& x, const Axes& axes) {
  std::vector<Values> result;
  std::map<std::vector<std::int64_t>, std::size_t> place;
  const Values all = values(x);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    std::vector<std::int64_t> kept;
    std::int64_t rest = i;
    for (int axis = x.dim(); axis-- > 0; rest /= x.shape()[axis])
      if (std::none_of(axes.begin(), axes.end(),
                       [&](std::int64_t a) { return (a < 0 ? a + x.dim() : a) == axis; }))
        kept.insert(kept.begin(), rest % x.shape()[axis]);
    const auto [it, is_new] = place.try_emplace(kept, result.size());
    if (is_new) result.emplace_back();
    result[it->second].push_back(all[std::size_t(i)]);
  }
  return result;
}

double sum_of(const Values& v) {
  double total = 0;
  for (double x : v) total += x;
  return total;
}
double mean_of(const Values& v) { return sum_of(v) / double(v.size()); }
double variance_of(const Values& v, double correction) {
  double squares = 0;
  for (double x : v) squares += (x - mean_of(v)) * (x - mean_of(v));
  return squares / (double(v.size()) - correction);
}

template <class Twin> Values twin_of(const Tensor& x, const Axes& axes, Twin twin) {
  Values result;
  for (const Values& group : groups(x, axes)) result.push_back(twin(group));
  return result;
}

const Axes kAxes[] = {{0}, {1}, {2}, {-1}, {0, 1}, {2, 0}, {-2, -1}, {0, 1, 2}, {}};

}  // namespace

TEST_CASE("sum, mean and var over any axes") {
  for (DType dtype : {f32, f64})
    for (Lie lie : kLies)
      for (const Axes& axes : kAxes) {
        const Tensor x = laid(lie, noise({3, 5, 7}, dtype));
        check_close(sum(x, axes), twin_of(x, axes, sum_of), bound(dtype), "sum");
        check_close(mean(x, axes), twin_of(x, axes, mean_of), bound(dtype), "mean");
        if (axes.empty()) continue;
        for (double correction : {0., 1.})
          check_close(var(x, axes, false, correction),
                      twin_of(x, axes, [&](const Values& v) { return variance_of(v, correction); }),
                      bound(dtype), "var");
        Shape kept = x.shape();
        for (std::int64_t axis : axes) kept[int(axis < 0 ? axis + 3 : axis)] = 1;
        CHECK(sum(x, axes, true).shape() == kept);
        CHECK(mean(x, axes, true).shape() == kept);
        CHECK(var(x, axes, true).shape() == kept);
        CHECK(values(sum(x, axes, true)) == values(sum(x, axes)));
        CHECK(sum(x, axes).dim() == 3 - int(axes.size()));
      }
}

TEST_CASE("over all elements") {
  const Tensor x = noise({3, 5, 7});
  const Values v = values(x);
  CHECK(sum(x).shape() == Shape{});
  check_close(sum(x), {sum_of(v)}, 1e-14, "sum");
  check_close(mean(x), {mean_of(v)}, 1e-14, "mean");
  check_close(var(x), {variance_of(v, 1)}, 1e-14, "var");
  CHECK(max(x).item<double>() == *std::max_element(v.begin(), v.end()));
  CHECK(min(x).item<double>() == *std::min_element(v.begin(), v.end()));
  CHECK(sum(scalar(3)).item<float>() == 3);
  CHECK(std::isnan(var(scalar(3)).item<float>()));
}

TEST_CASE("first and second derivatives") {
  const std::map<std::string, TensorFunction> ops = {
      {"sum", [](const Tensors& x) { return sum(x[0]); }},
      {"sum over axes",
       [](const Tensors& x) {
         return sum(x[0], {0, -1});
       }},
      {"sum keepdim", [](const Tensors& x) { return sum(x[0], {1}, true) * x[0]; }},
      {"mean", [](const Tensors& x) { return mean(x[0]); }},
      {"mean over axes", [](const Tensors& x) { return mean(x[0], {-2}); }},
      {"var", [](const Tensors& x) { return var(x[0]); }},
      {"var over axes",
       [](const Tensors& x) {
         return var(x[0], {0, 2}, true, 0);
       }},
      {"max", [](const Tensors& x) { return max(x[0]); }},
      {"min", [](const Tensors& x) { return min(x[0]); }},
      {"max over axis 0", [](const Tensors& x) { return max(x[0], 0).first; }},
      {"max over axis 1", [](const Tensors& x) { return max(x[0], -2, true).first; }},
      {"max over axis 2", [](const Tensors& x) { return max(x[0], -1).first; }},
      {"norm", [](const Tensors& x) { return norm(x[0]); }},
  };
  for (const auto& [name, f] : ops) {
    check_gradient(name, f, {noise({3, 5, 2})});
    check_second_gradient(name, f, {noise({3, 2, 5})});
  }
}

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
  for (Lie lie : kLies)
    for (std::int64_t axis : {0, 1, 2}) {
      const Tensor t = laid(lie, noise({5, 3, 7}));
      CHECK(values(max(t, axis).first) == twin_of(t, {axis}, [](const Values& v) {
              return *std::max_element(v.begin(), v.end());
            }));
      CHECK(values(argmax(t, axis)) == twin_of(t, {axis}, [](const Values& v) {
              return double(std::max_element(v.begin(), v.end()) - v.begin());
            }));
    }
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
    check_close(norm(x.transpose(0, 1)), {std::sqrt(sum_of(values(square(x.to(f64)))))},
                bound(dtype), "norm");
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

TEST_CASE("min and argmin mirror max, of every type") {
  for (DType dtype : {f32, f64, bf16, i32, i64})
    for (Lie lie : kLies)
      for (std::int64_t axis : {0, 1}) {
        const Tensor x = laid(lie, noise({5, 7}, dtype));
        const auto [value, index] = min(x, axis);
        CHECK(value.dtype() == dtype);
        CHECK(values(value) == values(-max(-x, axis).first));
        CHECK(values(gather(x, axis, index.unsqueeze(axis)).squeeze(axis)) == values(value));
        CHECK(values(argmin(x, axis, true)) == values(index));
      }
  CHECK(min(tensor({-9223372036854775807.0 - 1, 4}, {2}, i64), 0).first.item<std::int64_t>() ==
        std::numeric_limits<std::int64_t>::min());
  check_gradient("min", [](const Tensors& x) { return min(x[0], 1).first; }, {noise({3, 5})});
}

TEST_CASE("any and all") {
  const Tensor x = tensor({0, 0, 0, 1, kNan, 2}, {2, 3});
  CHECK(values(any(x, {1})) == Values{0, 1});
  CHECK(values(all(x, {1})) == Values{0, 1});  // NaN is not zero
  CHECK(values(any(x, {0}, true)) == Values{1, 1, 1});
  CHECK(all(x, {0}, true).shape() == Shape{1, 3});
  CHECK(!all(x).item<bool>());
  CHECK(any(x > 1.0).item<bool>());
  CHECK(all(zeros({0})).item<bool>());
  CHECK(!any(zeros({0})).item<bool>());
}

TEST_CASE("logsumexp, cumsum, stddev, norm over axes") {
  for (DType dtype : {f32, f64})
    for (Lie lie : kLies) {
      const Tensor x = laid(lie, noise({3, 4, 5}, dtype));
      const Values v = values(x);
      Values lse(3), squares(15);
      for (std::size_t i = 0; i < 60; ++i) {
        lse[i / 20] += std::exp(v[i]);
        squares[i / 20 * 5 + i % 5] += v[i] * v[i];
      }
      for (double& s : lse) s = std::log(s);
      for (double& s : squares) s = std::sqrt(s);
      check_close(logsumexp(x, {1, 2}), lse, bound(dtype), "logsumexp");
      check_close(norm(x, {1}), squares, bound(dtype), "norm");
      CHECK(logsumexp(x, {1, 2}, true).shape() == Shape{3, 1, 1});
      Values running = v;
      for (std::size_t i = 0; i < 60; ++i)
        if (i % 20 >= 5) running[i] += running[i - 5];
      check_close(cumsum(x, 1), running, bound(dtype), "cumsum");
      check_close(stddev(x, {0}), values(sqrt(var(x, {0}))), 0, "stddev");
    }
  CHECK(values(cumsum(tensor({1, 2, 3}, {3}, i32), 0)) == Values{1, 3, 6});
  CHECK(cumsum(zeros({0, 3}), 0).shape() == Shape{0, 3});
  CHECK(values(logsumexp(tensor({-kInf, -kInf, 1000, 1001, kInf, 3}, {3, 2}), {1}))[0] == -kInf);
  CHECK(values(logsumexp(tensor({-kInf, -kInf, 1000, 1000, kInf, 3}, {3, 2}), {1}))[1] ==
        doctest::Approx(1000 + std::log(2)));
  CHECK(values(logsumexp(tensor({-kInf, -kInf, 1000, 1001, kInf, 3}, {3, 2}), {1}))[2] == kInf);
  const std::pair<const char*, TensorFunction> ops[] = {
      {"logsumexp",
       [](const Tensors& x) {
         return logsumexp(x[0], {0, 1});
       }},
      {"cumsum", [](const Tensors& x) { return cumsum(x[0], 0); }},
      {"cumsum last", [](const Tensors& x) { return cumsum(x[0], -1); }},
      {"norm", [](const Tensors& x) { return norm(x[0], {1}, true); }},
      {"stddev", [](const Tensors& x) { return stddev(x[0], {1}); }},
  };
  for (const auto& [name, f] : ops) {
    check_gradient(name, f, {noise({3, 4})});
    check_second_gradient(name, f, {noise({3, 4})});
  }
}

TEST_CASE("nothing to reduce") {
  const Tensor x = zeros({0, 3}, {.requires_grad = true});
  CHECK(values(sum(x, {0})) == Values{0, 0, 0});
  CHECK(sum(x, {1}).shape() == Shape{0});
  CHECK(sum(x).item<float>() == 0);
  CHECK(std::isnan(mean(x).item<float>()));
  CHECK(grad({sum(x)}, {x})[0].shape() == x.shape());
  CHECK(max(x, 1).first.shape() == Shape{0});
  check_error<ShapeError>([&] { max(x, 0); }, "max: axis 0 of [0,3] is empty");
  check_error<ShapeError>([&] { max(x); }, "max: axis 0 of [0] is empty");
}

TEST_CASE("errors") {
  const Tensor x = zeros({2, 3});
  check_error<IndexError>([&] { sum(x, {2}); }, "sum: axis 2 is out of range");
  check_error<IndexError>([&] { mean(x, {-3}); }, "mean: axis -3 is out of range");
  check_error<ValueError>([&] { sum(x, {0, -2}); }, "sum: axis 0 is named twice");
  check_error<ValueError>([&] { var(x, {1, 1}); }, "var: axis 1 is named twice");
  check_error<IndexError>([&] { max(x, 5); }, "max: axis 5 is out of range");
  CHECK(sum(x == 0.0).dtype() == i64);  // counted, as in PyTorch
  CHECK(sum(x == 0.0).item<int>() == 6);
  check_error<DTypeError>([&] { mean(x.to(i64)); }, "mean: needs f32 or f64, got i64");
  check_error<DTypeError>([&] { norm(x.to(i64)); }, "norm: needs f32 or f64");
}
