// Initialisers: bounds and moments at odd sizes, orthogonality, and what they refuse.
#include <triad/tests/module_checks.h>

using namespace triad;
namespace init = triad::nn::init;

namespace {

double mean_of(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v;
  return sum / double(x.size());
}

// E x^power
double moment(const std::vector<double>& x, int power) {
  std::vector<double> y;
  for (double v : x) y.push_back(std::pow(v, power));
  return mean_of(y);
}

// Of a uniform or a normal distribution: mean, deviation, the fourth moment, which tells them
// apart, and how far it reaches.
void check_moments(const Tensor& weight, double std, bool uniform) {
  const std::vector<double> x = values(weight);
  const double n = double(x.size());
  CHECK(std::abs(mean_of(x)) < 5 * std / std::sqrt(n));
  CHECK(std::sqrt(moment(x, 2)) == doctest::Approx(std).epsilon(5 / std::sqrt(n)));
  CHECK(moment(x, 4) / std::pow(std, 4) ==
        doctest::Approx(uniform ? 1.8 : 3).epsilon(20 / std::sqrt(n)));
  if (uniform) {
    CHECK(largest(weight) <= std::sqrt(3.0) * std * (1 + 1e-6));
    CHECK(largest(weight) > std::sqrt(3.0) * std * 0.999);
  } else {
    CHECK(largest(weight) > 3.5 * std);
  }
}

// |q q^T - 1| of the rows.
double distance_from_orthonormal(const Tensor& q) {
  return largest_difference(matmul(q, q.transpose(0, 1)), eye(q.size(0), {.dtype = f64}));
}

}  // namespace

TEST_CASE("xavier and kaiming have the right spread, and their fans the right axes") {
  manual_seed(1);
  for (DType dtype : {f32, f64}) {
    const Tensor w = nn::parameter(zeros({37, 211, 3}, {.dtype = dtype}));
    const double in = 211 * 3, out = 37 * 3;
    check_moments(init::xavier_uniform_(w), std::sqrt(2 / (in + out)), true);
    check_moments(init::xavier_normal_(w), std::sqrt(2 / (in + out)), false);
    check_moments(init::xavier_uniform_(w, 3), 3 * std::sqrt(2 / (in + out)), true);
    check_moments(init::xavier_normal_(w, 3), 3 * std::sqrt(2 / (in + out)), false);
    check_moments(init::kaiming_uniform_(w), std::sqrt(2 / in), true);
    check_moments(init::kaiming_normal_(w), std::sqrt(2 / in), false);
    check_moments(init::kaiming_uniform_(w, {.a = std::sqrt(5.0)}), std::sqrt(1 / (3 * in)), true);
    check_moments(init::kaiming_normal_(
                      w, {.mode = init::Mode::fan_out, .nonlinearity = init::Nonlinearity::linear}),
                  std::sqrt(1 / out), false);
    check_moments(init::kaiming_uniform_(
                      w, {.mode = init::Mode::fan_out, .nonlinearity = init::Nonlinearity::tanh}),
                  5 / std::sqrt(out) / 3, true);
  }
}

TEST_CASE("gains are PyTorch's") {
  using enum init::Nonlinearity;
  CHECK(init::calculate_gain(linear) == 1);
  CHECK(init::calculate_gain(sigmoid) == 1);
  CHECK(init::calculate_gain(init::Nonlinearity::tanh) == doctest::Approx(5.0 / 3));
  CHECK(init::calculate_gain(init::Nonlinearity::relu) == doctest::Approx(std::sqrt(2.0)));
  CHECK(init::calculate_gain(leaky_relu) == doctest::Approx(std::sqrt(2 / 1.0001)));
  CHECK(init::calculate_gain(leaky_relu, 2) == doctest::Approx(std::sqrt(0.4)));
  CHECK(init::calculate_gain(selu) == 0.75);
}

TEST_CASE("a leaf is written in place and stays one") {
  manual_seed(2);
  nn::Linear linear(7, 5);
  const Tensor before = linear.weight.detach().clone();
  const Tensor result = init::kaiming_normal_(linear.weight);
  CHECK(result.storage() == linear.weight.storage());
  CHECK(linear.weight.is_leaf());
  CHECK(linear.weight.requires_grad());
  CHECK(!same_bits(linear.weight, before));
  CHECK(grad_enabled());
  const Tensor half = init::xavier_uniform_(zeros({70, 50}, {.dtype = bf16}));
  CHECK(std::sqrt(moment(values(half), 2)) == doctest::Approx(std::sqrt(2.0 / 120)).epsilon(0.05));
  manual_seed(3);
  init::trunc_normal_(linear.weight);
  const Tensor again = linear.weight.detach().clone();
  manual_seed(3);
  CHECK(same_bits(init::trunc_normal_(linear.weight), again));
}

TEST_CASE("trunc_normal_ against the integrals of its density") {
  manual_seed(4);
  struct Case {
    double mean, std, a, b;
  };
  for (const auto [mean, std, a, b] : {Case{0, 1, -2, 2}, Case{1, 2, -2, 2}, Case{0, 0.02, -2, 2},
                                       Case{0, 1, 1.5, 4}, Case{-3, 1, 0, 9}}) {
    CAPTURE(mean);
    CAPTURE(a);
    const std::vector<double> x =
        values(init::trunc_normal_(zeros({211, 307}, {.dtype = f64}), mean, std, a, b));
    double mass = 0, first = 0, second = 0;  // by the midpoint rule
    const double low = std::max(a, mean - 10 * std), high = std::min(b, mean + 10 * std);
    for (int i = 0; i < 100000; ++i) {
      const double at = low + (high - low) * (i + 0.5) / 100000, z = (at - mean) / std;
      const double density = std::exp(-z * z / 2);
      mass += density, first += density * at, second += density * at * at;
    }
    const double expected = first / mass,
                 deviation = std::sqrt(second / mass - expected * expected);
    const double error = 5 * deviation / std::sqrt(double(x.size()));
    CHECK(std::abs(mean_of(x) - expected) < error);
    CHECK(std::sqrt(moment(x, 2) - mean_of(x) * mean_of(x)) ==
          doctest::Approx(deviation).epsilon(0.03));
    CHECK(*std::min_element(x.begin(), x.end()) >= a);
    CHECK(*std::max_element(x.begin(), x.end()) <= b);
  }
}

TEST_CASE("trunc_normal_ inverts the normal distribution to the last bits, and never fails") {
  // The same uniform numbers, so erf of the result must give them back.
  for (const double reach : {2.0, 8.0}) {
    manual_seed(5);
    const Tensor x = init::trunc_normal_(zeros({9973}, {.dtype = f64}), 0, 1, -reach, reach);
    manual_seed(5);
    const double edge = std::erf(reach / std::sqrt(2.0));
    const std::vector<double> u = values(rand({9973}, {.dtype = f64})), y = values(x);
    double worst = 0;
    for (std::size_t i = 0; i < u.size(); ++i)
      worst =
          std::max(worst, std::abs(std::erf(y[i] / std::sqrt(2.0)) - (-edge + u[i] * 2 * edge)));
    CHECK(worst < 1e-14);
  }
  const Tensor far = init::trunc_normal_(zeros({1000}), 0, 1, 20, 21);
  CHECK(min(far).item<double>() >= 20);
  CHECK(max(far).item<double>() <= 21);
  CHECK(all_finite(init::trunc_normal_(zeros({1000}), 0, 1, -1e300, 1e300)));
}

TEST_CASE("orthogonal_: orthonormal rows or columns, times the gain, of no special direction") {
  manual_seed(6);
  for (const Shape& shape :
       {Shape{37, 91}, Shape{91, 37}, Shape{130, 130}, Shape{1, 5}, Shape{5, 1}, Shape{6, 5, 3}}) {
    CAPTURE(shape.str());
    const Tensor w = init::orthogonal_(nn::parameter(zeros(shape, {.dtype = f64})), 2).detach();
    const Tensor m = w.reshape({shape[0], w.numel() / shape[0]}) / 2.0;
    CHECK(distance_from_orthonormal(m.size(0) <= m.size(1) ? m : m.transpose(0, 1)) < 1e-12);
  }
  // Square ones now and then have a row with little left beside the others: one pass would not do.
  for (int i = 0; i < 30; ++i)
    CHECK(distance_from_orthonormal(init::orthogonal_(zeros({90, 90}, {.dtype = f64}))) < 1e-13);
  // Entries of a random rotation have mean 0 and variance 1/n, the diagonal like the others.
  double diagonal = 0;
  for (int i = 0; i < 200; ++i)
    diagonal += sum(init::orthogonal_(zeros({5, 5}, {.dtype = f64})) * eye(5, {.dtype = f64}))
                    .item<double>();
  CHECK(std::abs(diagonal / 200) < 0.35);  // the trace has deviation 1
  const Tensor f = init::orthogonal_(zeros({30, 20}));
  CHECK(f.dtype() == f32);
  CHECK(distance_from_orthonormal(f.transpose(0, 1).to(f64)) < 1e-6);
}

TEST_CASE("what initialisers refuse") {
  const Tensor bias = zeros({3});
  const std::string rest = ": needs weight [out,in,...], got [3]";
  CHECK(message_of<ValueError>([&] { init::xavier_uniform_(bias); }) == "xavier_uniform_" + rest);
  CHECK(message_of<ValueError>([&] { init::xavier_normal_(bias); }) == "xavier_normal_" + rest);
  CHECK(message_of<ValueError>([&] { init::kaiming_uniform_(bias); }) == "kaiming_uniform_" + rest);
  CHECK(message_of<ValueError>([&] { init::kaiming_normal_(bias); }) == "kaiming_normal_" + rest);
  CHECK(message_of<ValueError>([&] { init::orthogonal_(bias); }) == "orthogonal_" + rest);
  CHECK(message_of<ValueError>([&] { init::trunc_normal_(bias, 0, 0); }) ==
        "trunc_normal_: needs std > 0 and a < b, got 0, -2, 2");
  CHECK(message_of<ValueError>([&] { init::trunc_normal_(bias, 0, 1, 2, 2); }) ==
        "trunc_normal_: needs std > 0 and a < b, got 1, 2, 2");
  CHECK(init::orthogonal_(zeros({0, 3})).numel() == 0);
  CHECK(init::xavier_normal_(zeros({3, 0})).numel() == 0);
  CHECK(init::kaiming_uniform_(zeros({0, 0})).numel() == 0);
}
