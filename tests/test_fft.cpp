// The CPU's Fourier transforms against the sum that defines them, in long double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>
#include <random>
#include <vector>

#include <triad/backends/cpu/fft.h>
#include <triad/tests/op_test.h>

using namespace triad::cpu;
using Exact = std::complex<long double>;

namespace {

// exp(-2 pi i k / n) for k = 0..n-1.
std::vector<Exact> roots(std::int64_t n) {
  std::vector<Exact> result(n);
  for (std::int64_t k = 0; k < n; ++k) {
    const long double angle = 2 * std::numbers::pi_v<long double> * k / n;
    result[k] = {std::cos(angle), -std::sin(angle)};
  }
  return result;
}

// The transform of one lane of n rows, at frequency k.
template <class T>
Exact direct(const std::vector<T>& rows, int lane, std::int64_t k, const std::vector<Exact>& root) {
  const std::int64_t n = std::int64_t(root.size());
  Exact sum;
  for (std::int64_t t = 0, turn = 0; t < n; ++t, turn = (turn + k) % n) {
    const T* row = &rows[t * Row<T>::size];
    sum += Exact(row[lane], row[lane + int(Vec<T>::lanes)]) * root[turn];
  }
  return sum;
}

// The largest error, relative to the largest value.
struct Worst {
  long double error = 0, value = 0;
  void see(Exact got, Exact wanted) {
    error = std::max(error, std::abs(got - wanted));
    value = std::max(value, std::abs(wanted));
  }
  double relative() const { return double(error / value); }
};

template <class T> void check_size(std::int64_t n) {
  CAPTURE(n);
  constexpr std::int64_t row = Row<T>::size, lanes = Vec<T>::lanes;
  const auto plan = cached_plan<AnyFft<T>>(n);
  std::mt19937 random{unsigned(n)};
  std::normal_distribution<T> normal;
  std::vector<T> in(n * row), x(plan->rows() * row);
  for (T& value : in) value = normal(random);
  std::copy(in.begin(), in.end(), x.begin());
  plan->forward(x.data());

  Worst forward;
  const auto root = roots(n);
  const int step = n < 64 ? 1 : int(lanes) - 1;  // every lane where that is cheap
  const std::int64_t every = n < 2000 ? 1 : n / 40;
  for (int lane = 0; lane < lanes; lane += step) {
    for (std::int64_t k = 0; k < n; k += every) {
      const T* got = &x[plan->row_of(k) * row];
      forward.see(Exact(got[lane], got[lane + lanes]), direct(in, lane, k, root));
    }
  }
  const double bound = sizeof(T) == 4 ? 1e-6 : 2e-15;
  CHECK(forward.relative() < bound);

  plan->inverse(x.data());
  Worst both;
  for (std::int64_t i = 0; i < n * row; ++i) both.see(Exact(x[i] / T(n)), Exact(in[i]));
  CHECK(both.relative() < bound);
}

}  // namespace

TEST_CASE("unit roots are exact where they can be and good everywhere") {
  for (std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 12, 24, 1000, 1009}) {
    const auto root = roots(n);
    for (std::int64_t k = 0; k < 3 * n; ++k) {
      CHECK(std::abs(Exact(unit_root(k, n)) - root[k % n]) < 2e-16);
    }
  }
  CHECK(unit_root(1, 4) == std::complex<double>(0, -1));
  CHECK(unit_root(6, 12) == std::complex<double>(-1, 0));
  CHECK(unit_root(15, 20) == std::complex<double>(0, 1));
}

TEST_CASE("good sizes have the factors 2, 3 and 5") {
  CHECK(good_fft_size(1) == 1);
  CHECK(good_fft_size(7) == 8);
  CHECK(good_fft_size(13) == 15);
  CHECK(good_fft_size(1999) == 2000);
  CHECK(good_fft_size(2049) == 2160);
}

TEST_CASE("transforms of any size are the sums that define them") {
  std::vector<std::int64_t> sizes{97,   101,  127,  128,  210,   225,   360,
                                  1000, 1009, 1024, 4096, 65536, 99991, 100000};
  for (std::int64_t n = 1; n <= 40; ++n) sizes.push_back(n);
  for (std::int64_t n : sizes) {
    check_size<float>(n);
    check_size<double>(n);
  }
}

TEST_CASE("a filter multiplies the spectrum: a shift in time is a phase in frequency") {
  for (std::int64_t n : {1, 2, 5, 8, 48, 128, 1000}) {
    const auto plan = cached_plan<Fft<double>>(n);
    constexpr std::int64_t row = Row<double>::size;
    std::mt19937 random(1);
    std::normal_distribution<double> normal;
    std::vector<double> in(n * row), x(n * row), out(n * row);
    for (double& value : in) value = normal(random);
    plan->filter({in.data(), row, n, nullptr}, x.data(),
                 [&](std::int64_t p, Row<double>& z) {
                   const auto turn = unit_root(3 * plan->frequency(p), n) / double(n);
                   z = times(z, Vec<double>(turn.real()), Vec<double>(turn.imag()));
                 },
                 {out.data(), row, n, nullptr});
    for (std::int64_t i = 0; i < n * row; ++i) {
      CHECK(std::abs(out[(i + 3 * row) % (n * row)] - in[i]) < 1e-14);
    }
  }
}

namespace {

using triad::Tensor, triad::Tensors;

template <class T> std::vector<std::complex<double>> numbers(const Tensor& z) {
  const auto values = z.to_vector<std::complex<T>>();
  return {values.begin(), values.end()};
}

// The transforms of rows [R,n] of complex numbers, by their sum.
std::vector<Exact> direct(const std::vector<std::complex<double>>& x, std::int64_t n, int sign) {
  const auto root = roots(n);
  std::vector<Exact> y(x.size());
  for (std::size_t r = 0; r < x.size(); r += std::size_t(n))
    for (std::int64_t k = 0; k < n; ++k)
      for (std::int64_t t = 0; t < n; ++t) {
        const Exact turn = root[std::size_t(k * t % n)];
        y[r + std::size_t(k)] += Exact(x[r + std::size_t(t)]) * (sign < 0 ? turn : std::conj(turn));
      }
  return y;
}

template <class T> void check_transforms(std::int64_t n) {
  CAPTURE(n);
  constexpr triad::DType real = triad::dtype_of<T>();
  const double bound = sizeof(T) == 4 ? 1e-6 : 2e-15;
  const std::int64_t count = 2 * std::int64_t(Vec<T>::lanes) + 3;
  const Tensor x =
      triad::complex(op_test::noise({count, n}, real), op_test::noise({count, n}, real));
  for (bool inverse : {false, true}) {
    const Tensor y = inverse ? ifft(x, {}, -1, triad::Norm::forward) : fft(x);
    const auto got = numbers<T>(y);
    const auto wanted = direct(numbers<T>(x), n, inverse ? 1 : -1);
    Worst worst;
    for (std::size_t i = 0; i < got.size(); ++i) worst.see(Exact(got[i]), wanted[i]);
    CHECK(worst.relative() < bound);
  }
  // Real ones are complex ones without imaginary parts; the half spectrum is the first half.
  const Tensor r = triad::real(x).contiguous(), half = rfft(r);
  CHECK(half.shape() == triad::Shape{count, n / 2 + 1});
  const auto wanted = numbers<T>(fft(r).slice(1, 0, n / 2 + 1)), got = numbers<T>(half);
  Worst worst, back;
  for (std::size_t i = 0; i < got.size(); ++i) worst.see(Exact(got[i]), Exact(wanted[i]));
  CHECK(worst.relative() < bound);
  // What irfft must not read: imaginary parts at 0 and n/2.
  Tensor parts = view_as_real(half.clone());
  parts.slice(1, 0, 1).select(-1, 1).fill_(5);
  if (n % 2 == 0) parts.slice(1, n / 2).select(-1, 1).fill_(-7);
  const auto again = op_test::values(irfft(half, n)), original = op_test::values(r);
  for (std::size_t i = 0; i < again.size(); ++i) back.see(Exact(again[i]), Exact(original[i]));
  CHECK(back.relative() < bound);
}

}  // namespace

TEST_CASE("fft, ifft, rfft, irfft of rows") {
  for (std::int64_t n : {1, 2, 3, 4, 7, 8, 14, 31, 60, 97}) {
    check_transforms<float>(n);
    check_transforms<double>(n);
  }
}

TEST_CASE("any axis, any length, the three norms, views") {
  const Tensor x = op_test::noise({3, 8, 5});
  const auto same = [](const Tensor& a, const Tensor& b) {
    REQUIRE(a.shape() == b.shape());
    CHECK(max(abs(a - b)).item<double>() < 1e-14 * max(abs(b)).item<double>());
  };
  same(fft(x, {}, 1), fft(x.transpose(1, 2)).transpose(1, 2));
  same(rfft(x, {}, 0), rfft(x.permute({1, 2, 0})).permute({2, 0, 1}));
  same(fft(x, 11, 1), fft(pad(x, {0, 0, 0, 3}), {}, 1));
  same(fft(x, 6, 1), fft(x.slice(1, 0, 6), {}, 1));
  same(irfft(rfft(x, {}, 1), 8, 1), x);
  same(irfft(rfft(x, {}, 1), {}, 1), x);
  same(real(ifft(fft(x))), x);
  for (triad::Norm norm : {triad::Norm::backward, triad::Norm::ortho, triad::Norm::forward}) {
    same(real(ifft(fft(x, {}, 1, norm), {}, 1, norm)), x);
    same(irfft(rfft(x, {}, 2, norm), 5, 2, norm), x);
  }
  same(fft(x, {}, 1, triad::Norm::ortho), fft(x, {}, 1) * (1 / std::sqrt(8.0)));
  same(rfft(x, {}, 1, triad::Norm::forward), rfft(x, {}, 1) * 0.125);
  same(idct(dct(x, 1), 1), x);
  op_test::check_error<triad::ShapeError>([&] { fft(x, 0); }, "fft: needs a length of at least 1");
  op_test::check_error<triad::DTypeError>([&] { rfft(fft(x)); }, "rfft: needs f32 or f64");
  op_test::check_error<triad::DTypeError>([&] { fft(x.to(triad::bf16)); }, "fft: needs f32 or f64");
  op_test::check_error<triad::IndexError>([&] { fft(x, {}, 3); }, "axis 3 is out of range");
}

TEST_CASE("gradients of transforms, once and twice") {
  using op_test::check_gradient, op_test::check_second_gradient, op_test::noise;
  for (std::int64_t n : {1, 2, 5, 6, 7}) {
    const auto parts = [](const Tensor& z) { return view_as_real(z); };
    const auto whole = [](const Tensors& x) { return triad::complex(x[0], x[1]); };
    const Tensors z{noise({2, n}), noise({2, n})};
    const std::string at = " of " + std::to_string(n);
    const std::pair<std::string, op_test::TensorFunction> cases[] = {
        {"fft", [=](const Tensors& x) { return parts(fft(whole(x))); }},
        {"ifft", [=](const Tensors& x) { return parts(ifft(whole(x), {}, 0)); }},
        {"rfft", [=](const Tensors& x) { return parts(rfft(x[0] * x[1])); }},
        {"irfft",
         [=](const Tensors& x) { return irfft(whole(x), 2 * n - 1) * x[0].slice(1, 0, 1); }},
        {"irfft even", [=](const Tensors& x) { return irfft(whole(x), 2 * n); }},
        {"dct", [=](const Tensors& x) { return dct(x[0]) * idct(x[1]); }}};
    for (const auto& [name, f] : cases) {
      if (n == 1 && name.starts_with("irfft")) continue;  // imaginary parts take no part
      check_gradient(name + at, f, z);
      if (n < 6) check_second_gradient(name + at, f, z);
    }
  }
}
