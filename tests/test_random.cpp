// Random numbers as ops draw them: reproducible, the same at any thread count, and distributed as
// they should be. The generator itself is tested in test_kernels_random.cpp.
#include <triad/tests/op_test.h>

#include <algorithm>
#include <cmath>
#include <map>

using namespace op_test;

namespace {

// Mean, variance, skewness and kurtosis.
struct Moments {
  double mean = 0, variance = 0, third = 0, fourth = 0;
};
Moments moments(const Values& v) {
  Moments m;
  const double n = double(v.size());
  for (double x : v) m.mean += x / n;
  for (double x : v) m.variance += std::pow(x - m.mean, 2) / n;
  for (double x : v) {
    m.third += std::pow((x - m.mean) / std::sqrt(m.variance), 3) / n;
    m.fourth += std::pow((x - m.mean) / std::sqrt(m.variance), 4) / n;
  }
  return m;
}

double correlation(const Values& a, const Values& b) {
  const Moments x = moments(a), y = moments(b);
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - x.mean) * (b[i] - y.mean);
  return sum / double(a.size()) / std::sqrt(x.variance * y.variance);
}

}  // namespace

TEST_CASE("a seed fixes everything that follows") {
  const auto draw = [] {
    return Tensors{rand({5}), randn({7}, {.dtype = f64}), randint(0, 100, {9}),
                   dropout(ones({33}), 0.5)};
  };
  manual_seed(42);
  const Tensors first = draw(), second = draw();
  manual_seed(42);
  const Tensors again = draw();
  manual_seed(43);
  const Tensors other = draw();
  for (std::size_t i = 0; i < first.size(); ++i) {
    CHECK(same_bits(first[i], again[i]));
    CHECK(!same_bits(first[i], second[i]));
    CHECK(!same_bits(first[i], other[i]));
  }
}

TEST_CASE("the state can be saved and continued from") {
  manual_seed(7);
  rand({3});
  const RandomStream state = random_state();
  const Tensor next = randn({50}), after = randn({50});
  manual_seed(0);
  set_random_state(state);
  CHECK(same_bits(randn({50}), next));
  CHECK(same_bits(randn({50}), after));
  CHECK(state.seed == 7);
  const RandomStream taken = next_stream();
  CHECK(random_state().stream == taken.stream + 1);
}

TEST_CASE("an element depends on its place alone") {
  for (DType dtype : {f32, f64})
    for (Tensor (*draw)(const Shape&, TensorOptions) : {rand, randn}) {
      manual_seed(5);
      const Tensor longer = draw({1000}, {.dtype = dtype});
      manual_seed(5);
      const Tensor shorter = draw({7, 53}, {.dtype = dtype});
      CHECK(same_bits(longer.slice(0, 0, 371), shorter.reshape({371})));
    }
}

TEST_CASE("the same bits at any number of threads") {
  for (std::int64_t n : {1, 7, 1000, 100003}) {
    const auto seeded = [&](auto draw) {
      check_threads("n " + std::to_string(n), [&] {
        manual_seed(9);
        return draw();
      });
    };
    seeded([&] { return rand({n}); });
    seeded([&] { return rand({n}, {.dtype = f64}); });
    seeded([&] { return randn({n}); });
    seeded([&] { return randn({n}, {.dtype = f64}); });
    seeded([&] { return randint(-5, 1000, {n}); });
    seeded([&] { return dropout(ones({n}), 0.3); });
  }
}

TEST_CASE("distributions") {
  constexpr std::int64_t n = 200'000;
  constexpr double close = 5 / 447.0;  // five standard errors, 5 / sqrt(n)
  manual_seed(1);
  for (DType dtype : {f32, f64}) {
    const Values uniform = values(rand({n}, {.dtype = dtype}));
    const Moments u = moments(uniform);
    CHECK(std::abs(u.mean - 0.5) < close / std::sqrt(12));
    CHECK(std::abs(u.variance - 1 / 12.0) < close / 12);
    CHECK(*std::min_element(uniform.begin(), uniform.end()) >= 0);
    CHECK(*std::max_element(uniform.begin(), uniform.end()) < 1);

    const Values normal = values(randn({n}, {.dtype = dtype}));
    const Moments m = moments(normal);
    CHECK(std::abs(m.mean) < close);
    CHECK(std::abs(m.variance - 1) < close * std::sqrt(2));
    CHECK(std::abs(m.third) < close * std::sqrt(6));
    CHECK(std::abs(m.fourth - 3) < close * std::sqrt(24));
    CHECK(*std::max_element(normal.begin(), normal.end()) < 6.5);
    CHECK(*std::max_element(normal.begin(), normal.end()) > 4);

    // Neighbours, the two halves of a Box-Muller pair, and one stream with the next.
    for (std::ptrdiff_t lag : {1, 2, 4, 8}) {
      const Values early(normal.begin(), normal.end() - lag),
          late(normal.begin() + lag, normal.end());
      CHECK(std::abs(correlation(early, late)) < close);
    }
    CHECK(std::abs(correlation(normal, values(randn({n}, {.dtype = dtype})))) < close);
  }
  const Values kept = values(dropout(ones({n}), 0.25));
  CHECK(std::abs(moments(kept).mean - 1) < close);
  const auto zeros_in = std::count(kept.begin(), kept.end(), 0.0);
  CHECK(std::abs(double(zeros_in) / n - 0.25) < close * std::sqrt(0.25 * 0.75));
}

TEST_CASE("randint: every value of the range and no other") {
  manual_seed(2);
  const Tensor x = randint(-2, 3, {5000});
  CHECK(x.dtype() == i64);
  std::map<double, int> count;
  for (double v : values(x)) ++count[v];
  REQUIRE(count.size() == 5);
  CHECK(count.begin()->first == -2);
  CHECK(count.rbegin()->first == 2);
  for (const auto& [value, times] : count) CHECK(std::abs(times - 1000) < 150);
  CHECK(values(randint(7, 8, {3})) == Values{7, 7, 7});
  CHECK(randint(0, 5, {0}).numel() == 0);
  for (std::int64_t v : randint(INT64_MIN, INT64_MAX, {100}).to_vector<std::int64_t>())
    CHECK(v < INT64_MAX);
  check_error<ValueError>([] { randint(3, 3, {1}); }, "randint: needs low < high, got 3 and 3");
  check_error<ValueError>([] { randint(4, 3, {1}); }, "got 4 and 3");
}

TEST_CASE("dropout's mask is the same backward") {
  manual_seed(4);
  for (double p : {0.1, 0.5, 0.9}) {
    const Tensor x = noise({31, 17}).requires_grad_();
    const Tensor y = dropout(x.transpose(0, 1), p), c = noise({17, 31});
    randn({100});  // what is drawn in between does not matter
    const Tensor g = grad({y}, {x}, {c})[0];
    const Values out = values(y), in = values(x.transpose(0, 1)), given = values(c);
    const Values back = values(g.transpose(0, 1));
    for (std::size_t i = 0; i < out.size(); ++i) {
      CHECK((back[i] == 0) == (out[i] == 0));
      if (out[i] != 0) CHECK(back[i] == doctest::Approx(given[i] / (1 - p)).epsilon(1e-12));
      if (out[i] != 0) CHECK(out[i] == doctest::Approx(in[i] / (1 - p)).epsilon(1e-12));
    }
  }
}

TEST_CASE("errors") {
  check_error<DTypeError>([] { rand({2}, {.dtype = i64}); }, "rand: needs f32 or f64, got i64");
  check_error<DTypeError>([] { randn({2}, {.dtype = boolean}); },
                          "randn: needs f32 or f64, got bool");
  check_error<ShapeError>([] { randn({-1}); }, "sizes must not be negative");
  CHECK(randn({2}, {.requires_grad = true}).requires_grad());
  CHECK(randn({}).dim() == 0);
  CHECK(randn({0, 3}).shape() == Shape{0, 3});
}

TEST_CASE("randperm, bernoulli and multinomial draw what they say") {
  manual_seed(5);
  for (std::int64_t n : {0, 1, 2, 100}) {
    Values order = values(randperm(n));
    std::sort(order.begin(), order.end());
    for (std::size_t i = 0; i < order.size(); ++i) CHECK(order[i] == double(i));
    CHECK(std::int64_t(order.size()) == n);
  }
  std::map<double, int> first;
  for (int i = 0; i < 3000; ++i) ++first[values(randperm(3))[0]];
  for (const auto& [value, count] : first) CHECK(std::abs(count - 1000) < 130);

  const Tensor p = tensor({0, 0.25, 1}, {3});
  CHECK(values(mean(bernoulli(p.expand({20000, 3})), {0}))[0] == 0);
  CHECK(values(mean(bernoulli(p.expand({20000, 3})), {0}))[1] ==
        doctest::Approx(0.25).epsilon(0.06));
  CHECK(values(mean(bernoulli(p.expand({20000, 3})), {0}))[2] == 1);
  check_error<ValueError>([] { bernoulli(tensor({1.5}, {1})); }, "bernoulli: needs probabilities");

  const Tensor weights = tensor({1, 0, 3}, {3});
  std::map<double, int> drawn;
  for (double i : values(multinomial(weights, 8000, true))) ++drawn[i];
  CHECK(drawn[1] == 0);
  CHECK(drawn[2] == doctest::Approx(6000).epsilon(0.04));
  for (int i = 0; i < 50; ++i) {
    const Values two = values(multinomial(weights, 2));
    CHECK((two == Values{0, 2} || two == Values{2, 0}));
  }
  CHECK(multinomial(weights.expand({4, 3}), 5, true).shape() == Shape{4, 5});
  check_error<ValueError>([&] { multinomial(weights, 3); }, "enough of them above 0");
  check_error<ValueError>([&] { multinomial(weights, 4); }, "needs p [...,C] and 1 to C draws");
  check_error<ValueError>([] { multinomial(tensor({-1, 2}, {2}), 1); }, "needs weights >= 0");
}
