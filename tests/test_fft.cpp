// The CPU's Fourier transforms against the sum that defines them, in long double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>
#include <random>
#include <vector>

#include <triad/backends/cpu/fft_bluestein.h>
#include <triad/backends/cpu/spectra.h>

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

template <class T>
void check_size(std::int64_t n) {
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

TEST_CASE("real transforms: many sequences, torch.fft's conventions") {
  std::mt19937 random(2);
  std::normal_distribution<double> normal;
  for (std::int64_t n : {1, 2, 3, 7, 8, 14, 97}) {
    const std::int64_t bins = n / 2 + 1, count = 2 * std::int64_t(Vec<double>::lanes) + 3;
    Reals x(count * n);
    for (double& value : x) value = normal(random);
    Spectra spectra = rfft(count, n, x);
    const auto root = roots(n);
    for (std::int64_t c = 0; c < count; ++c) {
      for (std::int64_t k = 0; k < bins; ++k) {
        Exact sum;
        for (std::int64_t t = 0; t < n; ++t) sum += Exact(x[c * n + t]) * root[k * t % n];
        CHECK(std::abs(Exact(spectra[c * bins + k]) - sum) < 1e-13);
      }
      spectra[c * bins] += std::complex<double>(0, 5);  // takes no part
      if (n % 2 == 0) spectra[c * bins + n / 2] += std::complex<double>(0, -5);
    }
    const Reals back = irfft(count, n, spectra);
    for (std::int64_t i = 0; i < count * n; ++i) CHECK(std::abs(back[i] - x[i]) < 1e-14);
  }
}
