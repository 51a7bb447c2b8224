// Random numbers: the published vectors of Philox, every kernel against the definition of its
// elements, and the statistics of what comes out.
#include <triad/backends/cpu/philox.h>

#include <triad/tests/kernel_checks.h>

using namespace kernel_checks;
using triad::Cpu;
using triad::DType;
using triad::RandomStream;

namespace {

const RandomStream kStream{0x123456789abcdef0, 0xfedcba9876543210};
constexpr std::int64_t kSizes[] = {0, 1, 2, 3, 5, 31, 64, 1023, 1025, 20001};

}  // namespace

TEST_CASE("Philox4x32-10 gives the known answers of Random123") {
  auto check = [](std::uint64_t seed, std::uint64_t stream, std::uint64_t counter,
                  std::vector<std::uint32_t> want) {
    const triad::Philox4 got = triad::philox(seed, stream, counter);
    CHECK(std::vector<std::uint32_t>(got.lane, got.lane + 4) == want);
    std::uint32_t many[4];
    triad::cpu::uniform_bits({seed, stream}, 4 * (counter & (~0ull >> 2)), 4, many);
    if (counter >> 62 == 0) CHECK(std::vector<std::uint32_t>(many, many + 4) == want);
  };
  check(0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check(~0ull, ~0ull, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88,
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("many words at once are the words one by one, from any element on") {
  for (std::uint64_t first : {0ull, 1ull, 2ull, 3ull, 61ull, (1ull << 34) - 5, (1ull << 62) + 1})
    for (std::int64_t n : {0, 1, 2, 3, 4, 7, 32, 63, 64, 65, 127, 128, 131, 300}) {
      std::vector<std::uint32_t> got(std::size_t(n) + 1, 77), want = got;
      triad::cpu::uniform_bits(kStream, first, n, got.data());
      for (std::size_t i = 0; i < std::size_t(n); ++i)
        want[i] =
            triad::philox(kStream.seed, kStream.stream, (first + i) / 4).lane[(first + i) % 4];
      CHECK(got == want);
    }
}

TEST_CASE("uniform, normal and random_integers are functions of the element") {
  for (std::int64_t n : kSizes) {
    const Tensor f = triad::empty({n}), d = triad::empty({n}, triad::f64),
                 k = triad::empty({n}, triad::i64);
    reference::Values uf, ud, nf, nd, integers;
    for (std::uint64_t i = 0; i < std::uint64_t(n); ++i) {
      uf.push_back(reference::uniform_f32(kStream, i));
      ud.push_back(reference::uniform_f64(kStream, i));
      nf.push_back(reference::normal_f32(kStream, i));
      nd.push_back(reference::normal_f64(kStream, i));
      integers.push_back(double(reference::random_integer(kStream, -3, 1000, i)));
    }
    triad::kernels::uniform(Cpu{}, kStream, f);
    triad::kernels::uniform(Cpu{}, kStream, d);
    check_close(f, uf, 0, "uniform f32");
    check_close(d, ud, 0, "uniform f64");
    triad::kernels::normal(Cpu{}, kStream, f);
    triad::kernels::normal(Cpu{}, kStream, d);
    check_close(f, nf, 1.2e-7, "normal f32", 1e-6);
    check_close(d, nd, 1e-15, "normal f64", 1);
    triad::kernels::random_integers(Cpu{}, kStream, -3, 1000, k);
    check_close(k, integers, 0, "random_integers");
  }
}

TEST_CASE("random_integers over ranges that overflow") {
  constexpr std::int64_t low = std::numeric_limits<std::int64_t>::min(),
                         high = std::numeric_limits<std::int64_t>::max();
  const Tensor k = triad::empty({1000}, triad::i64);
  triad::kernels::random_integers(Cpu{}, kStream, low, high, k);
  int negative = 0;
  for (std::int64_t v : k.to_vector<std::int64_t>()) negative += v < 0;
  CHECK(negative > 400);
  CHECK(negative < 600);
  triad::kernels::random_integers(Cpu{}, kStream, 5, 6, k);
  check_close(k, reference::Values(1000, 5), 0, "one value");
}

TEST_CASE("dropout drops where the uniform is below p, whatever the type") {
  for (DType dtype : {triad::f32, triad::f64})
    for (double p : {0.0, 0.1, 0.5, 0.9, 1.0 / 3})
      for (std::int64_t n : kSizes) {
        const Tensor x = random_tensor({n}, dtype, 1), y = triad::empty({n}, dtype);
        triad::kernels::dropout(Cpu{}, kStream, p, x, y);
        reference::Values want = values(x);
        for (std::size_t i = 0; i < want.size(); ++i)
          want[i] *= reference::uniform_f32(kStream, i) < p ? 0 : 1 / (1 - p);
        check_close(y, want, dtype == triad::f32 ? 1.5e-7 : 3e-16, "dropout", 0);
      }
  // The threshold is where the comparison of the numbers turns.
  for (double p : {0.0, 0x1p-24, 0x1.8p-24, 0.1, 0.5, 1 - 0x1p-24, 1.0}) {
    const std::uint32_t threshold = triad::dropout_threshold(p);
    if (threshold > 0) CHECK((threshold - 1) * 0x1p-24 < p);
    CHECK(threshold * 0x1p-24 >= p);
  }
}

TEST_CASE("statistics of a million numbers") {
  const std::int64_t n = 1'000'000;
  auto moments = [&](const Tensor& x) {
    double mean = 0, variance = 0, third = 0, fourth = 0, neighbours = 0, before = 0;
    for (double v : values(x)) mean += v / double(n);
    for (double v : values(x)) {
      const double d = v - mean;
      variance += d * d / double(n);
      third += d * d * d / double(n);
      fourth += d * d * d * d / double(n);
      neighbours += d * before / double(n);
      before = d;
    }
    return std::vector<double>{mean, variance, third, fourth, neighbours};
  };
  auto check = [&](const Tensor& x, std::vector<double> want, const char* what) {
    const auto got = moments(x);  // standard errors of the normal's moments: 1 to 10, over 1000
    for (std::size_t i = 0; i < want.size(); ++i)
      CHECK_MESSAGE(std::abs(got[i] - want[i]) < (i == 3 ? 0.05 : 0.012), what, " moment ", i, ": ",
                    got[i]);
  };
  for (DType dtype : {triad::f32, triad::f64}) {
    const Tensor x = triad::empty({n}, dtype);
    triad::kernels::normal(Cpu{}, {42, 7}, x);
    check(x, {0, 1, 0, 3, 0}, "normal");
    int beyond = 0;  // 3 sigma: 2700 are expected
    for (double v : values(x)) beyond += std::abs(v) > 3;
    CHECK(std::abs(beyond - 2700) < 260);
    triad::kernels::uniform(Cpu{}, {42, 8}, x);
    check(x, {0.5, 1 / 12.0, 0, 1 / 80.0, 0}, "uniform");
    std::vector<int> bins(65);  // the last one for what is not in [0, 1)
    for (double v : values(x)) ++bins[v >= 0 && v < 1 ? std::size_t(v * 64) : 64];
    CHECK(bins[64] == 0);
    bins.pop_back();
    double chi2 = 0;  // 63 degrees of freedom: 63 +- 11
    for (int count : bins) chi2 += (count - n / 64.0) * (count - n / 64.0) / (n / 64.0);
    CHECK(chi2 > 20);
    CHECK(chi2 < 120);
  }
}

TEST_CASE("the same bits at any number of threads") {
  const std::int64_t n = 100'003;
  for (DType dtype : {triad::f32, triad::f64}) {
    const Tensor x = random_tensor({n}, dtype, 1);
    auto made = [&](auto kernel) {
      return [&x, kernel] {
        Tensor y = triad::empty(x.shape(), x.dtype());
        kernel(y);
        return y;
      };
    };
    check_threads("uniform",
                  made([](const Tensor& y) { triad::kernels::uniform(Cpu{}, kStream, y); }));
    check_threads("normal",
                  made([](const Tensor& y) { triad::kernels::normal(Cpu{}, kStream, y); }));
    check_threads("dropout", made([&](const Tensor& y) {
                    triad::kernels::dropout(Cpu{}, kStream, 0.3, x, y);
                  }));
  }
}
