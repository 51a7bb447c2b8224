// The attention kernels against the definition: dense, in fp64, with gradients written out.
#include <doctest/doctest.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace triad;

namespace {

using Values = std::vector<double>;
constexpr double kInf = std::numeric_limits<double>::infinity();

enum class Mask { none, TS, BTS, BHTS, transposed };

struct Case {
  std::int64_t B, H, T, S, D;
  bool causal = false;
  Mask mask = Mask::none;
  bool token_mask = false;
  double dropout = 0;
  bool packed = true;           // [B,T,H,D] memory with room between the rows, else [B,H,T,D]
  std::int64_t empty_row = -1;  // a query that the mask allows nothing
};

// A random head tensor [B,H,T,D].
Tensor heads(std::mt19937& random, const Case& c, std::int64_t T, DType dtype) {
  const Tensor base =
      c.packed ? empty({c.B, T, 2, c.H, c.D}, dtype) : empty({c.B, c.H, T, c.D}, dtype);
  std::normal_distribution<double> normal;
  visit_float("heads", dtype, [&](auto zero) {
    for (std::int64_t i = 0; i < base.numel(); ++i) {
      base.first<decltype(zero)>()[i] = decltype(zero)(normal(random));
    }
  });
  if (!c.packed) return base;
  return base.with_layout(permuted(selected(base.layout(), 2, 1), {0, 2, 1, 3}));
}

Values values(const Tensor& x) {
  return visit_float("values", x.dtype(), [&](auto zero) {
    const auto list = x.to_vector<decltype(zero)>();
    return Values(list.begin(), list.end());
  });
}

Tensor random_bools(std::mt19937& random, const Shape& shape, double share) {
  const Tensor x = empty(shape, boolean);
  std::bernoulli_distribution coin(share);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.first<bool>()[i] = coin(random);
  return x;
}

kernels::AttentionArgs arguments(std::mt19937& random, const Case& c) {
  kernels::AttentionArgs args;
  args.scale = 1 / std::sqrt(double(c.D));
  args.causal = c.causal;
  args.dropout = c.dropout;
  args.random = {0x123456789abcdefu, 77};
  const Shape full{c.B, c.H, c.T, c.S};
  if (c.mask != Mask::none) {
    Shape shape = full;
    if (c.mask == Mask::TS || c.mask == Mask::BTS) shape[1] = 1;
    if (c.mask == Mask::TS) shape[0] = 1;
    if (c.mask == Mask::transposed) std::swap(shape[2], shape[3]);
    Tensor mask = random_bools(random, shape, 0.6);
    if (c.mask == Mask::transposed) mask = mask.with_layout(transposed(mask.layout(), 2, 3));
    if (c.empty_row >= 0) {
      for (std::int64_t b = 0; b < mask.size(0); ++b)
        for (std::int64_t h = 0; h < mask.size(1); ++h)
          for (std::int64_t s = 0; s < c.S; ++s) {
            const Shape& at = mask.strides();
            mask.first<bool>()[b * at[0] + h * at[1] + c.empty_row * at[2] + s * at[3]] = false;
          }
    }
    args.mask = mask.with_layout(expanded(mask.layout(), full));
  }
  if (c.token_mask) args.token_mask = random_bools(random, {c.B, c.S}, 0.7);
  return args;
}

struct Results {
  Values out, lse, dq, dk, dv;
};

// The definition.
Results naive(const Case& c, const kernels::AttentionArgs& args, const Values& q, const Values& k,
              const Values& v, const Values& dout) {
  const auto [B, H, T, S, D] = std::tuple(c.B, c.H, c.T, c.S, c.D);
  Results r{Values(q.size()), Values(B * H * T), Values(q.size()), Values(k.size()),
            Values(k.size())};
  const std::vector<bool> mask =
      args.mask.defined() ? args.mask.to_vector<bool>() : std::vector<bool>();
  for (std::int64_t bh = 0; bh < B * H; ++bh)
    for (std::int64_t t = 0; t < T; ++t) {
      const std::int64_t row = bh * T + t;
      const double *Q = &q[row * D], *K = &k[bh * S * D], *V = &v[bh * S * D], *G = &dout[row * D];
      Values a(S), keep(S, 1), da(S);
      double sum = 0, largest = -kInf, mean = 0;
      for (std::int64_t s = 0; s < S; ++s) {
        bool allowed = !c.causal || s <= t + S - T;
        if (!mask.empty()) allowed = allowed && mask[row * S + s];
        if (c.token_mask) allowed = allowed && args.token_mask.first<bool>()[bh / H * S + s];
        a[s] = allowed ? 0 : -kInf;
        for (std::int64_t d = 0; d < D && allowed; ++d) a[s] += args.scale * Q[d] * K[s * D + d];
        largest = std::max(largest, a[s]);
        if (c.dropout > 0) {
          const std::uint64_t i = row * S + s;
          const std::uint32_t bits =
              philox(args.random.seed, args.random.stream, i / 4).lane[i % 4];
          keep[s] = double(uniform_float(bits)) >= c.dropout ? 1 / (1 - c.dropout) : 0;
        }
      }
      for (double& x : a) sum += x = x == -kInf ? 0 : std::exp(x - largest);
      r.lse[row] = sum == 0 ? -kInf : largest + std::log(sum);
      for (std::int64_t s = 0; s < S; ++s) {
        a[s] = sum == 0 ? 0 : a[s] / sum;
        for (std::int64_t d = 0; d < D; ++d) {
          r.out[row * D + d] += keep[s] * a[s] * V[s * D + d];
          r.dv[(bh * S + s) * D + d] += keep[s] * a[s] * G[d];
          da[s] += keep[s] * G[d] * V[s * D + d];
        }
        mean += a[s] * da[s];
      }
      for (std::int64_t s = 0; s < S; ++s)
        for (std::int64_t d = 0; d < D; ++d) {
          const double ds = args.scale * a[s] * (da[s] - mean);
          r.dq[row * D + d] += ds * K[s * D + d];
          r.dk[(bh * S + s) * D + d] += ds * Q[d];
        }
    }
  return r;
}

void check_close(const char* what, const Values& got, const Values& expected, double bound) {
  CAPTURE(what);
  REQUIRE(got.size() == expected.size());
  double scale = 0.2, worst = 0;  // a gradient may be zero, the terms that cancel in it are not
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == expected[i]) continue;  // infinite ones too
    worst = std::max(worst, std::isnan(got[i]) ? kInf : std::abs(got[i] - expected[i]));
    scale = std::max(scale, std::abs(expected[i]));
  }
  CHECK(worst <= bound * scale);
}

struct Run {
  Tensor q, k, v, dout, out, lse, dq, dk, dv;
  kernels::AttentionArgs args;

  Run(std::mt19937& random, const Case& c, DType dtype)
      : q(heads(random, c, c.T, dtype)), k(heads(random, c, c.S, dtype)),
        v(heads(random, c, c.S, dtype)), dout(heads(random, c, c.T, dtype)),
        out(heads(random, c, c.T, dtype)), lse(empty({c.B, c.H, c.T}, dtype)),
        dq(heads(random, c, c.T, dtype)), dk(heads(random, c, c.S, dtype)),
        dv(heads(random, c, c.S, dtype)), args(arguments(random, c)) {}

  Results operator()(int threads) const {
    const int before = get_num_threads();
    set_num_threads(threads);
    kernels::attention(Cpu{}, q, k, v, args, out, lse);
    kernels::attention_backward(Cpu{}, dout, q, k, v, out, lse, args, dq, dk, dv);
    set_num_threads(before);
    return {values(out), values(lse), values(dq), values(dk), values(dv)};
  }
};

void check(const Case& c) {
  for (DType dtype : {f32, f64}) {
    CAPTURE(c.B);
    CAPTURE(c.H);
    CAPTURE(c.T);
    CAPTURE(c.S);
    CAPTURE(c.D);
    CAPTURE(c.causal);
    CAPTURE(int(c.mask));
    CAPTURE(c.token_mask);
    CAPTURE(c.dropout);
    CAPTURE(int(dtype));
    std::mt19937 random(unsigned(c.T * 1000 + c.S * 10 + c.D));
    const Run run(random, c, dtype);
    const Results got = run(1), again = run(2);
    const Results expected =
        naive(c, run.args, values(run.q), values(run.k), values(run.v), values(run.dout));
    const double bound = dtype == f32 ? 4e-6 : 1e-14;
    check_close("out", got.out, expected.out, bound);
    check_close("lse", got.lse, expected.lse, bound);
    check_close("dq", got.dq, expected.dq, 4 * bound);
    check_close("dk", got.dk, expected.dk, 4 * bound);
    check_close("dv", got.dv, expected.dv, 4 * bound);
    CHECK(got.out == again.out);
    CHECK(got.lse == again.lse);
    CHECK(got.dq == again.dq);
    CHECK(got.dk == again.dk);
    CHECK(got.dv == again.dv);
  }
}

}  // namespace

TEST_CASE("attention is its definition at every length and width") {
  for (std::int64_t T : {1, 2, 3, 63, 64, 65, 97, 128, 257}) {
    for (std::int64_t D : {1, 5, 8, 13, 64}) {
      check({.B = 1, .H = 2, .T = T, .S = T, .D = D, .causal = false});
      check({.B = 2, .H = 1, .T = T, .S = T, .D = D, .causal = true, .packed = D != 13});
    }
  }
}

TEST_CASE("attention when queries and keys differ in number") {
  for (bool causal : {false, true}) {
    check({.B = 2, .H = 2, .T = 1, .S = 131, .D = 8, .causal = causal});
    check({.B = 1, .H = 3, .T = 70, .S = 200, .D = 5, .causal = causal});
    // More queries than keys: under a causal mask the first ones see nothing.
    check({.B = 1, .H = 2, .T = 200, .S = 67, .D = 16, .causal = causal});
  }
}

TEST_CASE("attention under every kind of mask") {
  for (bool causal : {false, true}) {
    for (Mask mask : {Mask::none, Mask::TS, Mask::BTS, Mask::BHTS, Mask::transposed}) {
      for (bool token_mask : {false, true}) {
        check({.B = 2,
               .H = 3,
               .T = 67,
               .S = 67,
               .D = 8,
               .causal = causal,
               .mask = mask,
               .token_mask = token_mask});
        check({.B = 1,
               .H = 2,
               .T = 130,
               .S = 150,
               .D = 5,
               .causal = causal,
               .mask = mask,
               .token_mask = token_mask,
               .empty_row = 129});
      }
    }
  }
}

TEST_CASE("dropout of the weights is the one that philox draws") {
  for (std::int64_t S : {3, 64, 97, 130}) {
    check({.B = 2, .H = 2, .T = 67, .S = S, .D = 8, .dropout = 0.3});
    check({.B = 1,
           .H = 2,
           .T = 67,
           .S = S,
           .D = 8,
           .causal = true,
           .mask = Mask::TS,
           .dropout = 0.1});
  }
}

TEST_CASE("one head is split into ranges of keys, and dq is still right") {
  check({.B = 1, .H = 1, .T = 97, .S = 1200, .D = 5});
  check({.B = 1, .H = 1, .T = 601, .S = 601, .D = 3, .causal = true, .token_mask = true});
}

TEST_CASE("keys that nobody sees cost nothing and keep their gradient zero") {
  std::mt19937 random(1);
  const Case c{.B = 1, .H = 1, .T = 150, .S = 150, .D = 8, .token_mask = true};
  const Run run(random, c, f32);
  for (std::int64_t s = 0; s < 150; ++s) run.args.token_mask.first<bool>()[s] = s < 20;
  const Results r = run(2);
  for (std::size_t i = 20 * 8; i < r.dk.size(); ++i) {
    CHECK(r.dk[i] == 0);
    CHECK(r.dv[i] == 0);
  }
  for (std::int64_t s = 0; s < 150; ++s) run.args.token_mask.first<bool>()[s] = false;
  const Results none = run(2);
  for (const Values* x : {&none.out, &none.dq, &none.dk, &none.dv}) {
    for (double value : *x) CHECK(value == 0);
  }
}

TEST_CASE("a gradient that is not wanted is not computed, and the others do not change") {
  std::mt19937 random(2);
  const Run run(random, {.B = 1, .H = 1, .T = 600, .S = 600, .D = 8}, f32);
  const Results all = run(2);
  const Tensor none;
  for (int wanted = 0; wanted < 3; ++wanted) {
    const Tensor& target = wanted == 0 ? run.dq : wanted == 1 ? run.dk : run.dv;
    const Values& expected = wanted == 0 ? all.dq : wanted == 1 ? all.dk : all.dv;
    for (std::int64_t i = 0; i < 8; ++i) target.first<float>()[i] = 99;
    kernels::attention_backward(Cpu{}, run.dout, run.q, run.k, run.v, run.out, run.lse, run.args,
                                wanted == 0 ? run.dq : none, wanted == 1 ? run.dk : none,
                                wanted == 2 ? run.dv : none);
    CHECK(values(target) == expected);
  }
}

TEST_CASE("NaN in an input is NaN in what depends on it, and nowhere else") {
  const Case c{.B = 1, .H = 1, .T = 130, .S = 130, .D = 8, .causal = true};
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const std::int64_t at = 70;
  const auto rows_with_nan = [](const Values& x) {
    std::vector<bool> rows(x.size() / 8);
    for (std::size_t i = 0; i < x.size(); ++i) rows[i / 8] = rows[i / 8] || std::isnan(x[i]);
    return rows;
  };
  for (int which = 0; which < 4; ++which) {
    CAPTURE(which);
    std::mt19937 random(3);
    const Run run(random, c, f32);
    const Tensor& poisoned = which == 0   ? run.q
                             : which == 1 ? run.k
                             : which == 2 ? run.v
                                          : run.dout;
    poisoned.first<float>()[at * poisoned.strides()[2] + 3] = kNaN;
    const Results r = run(2);
    const std::vector<bool> out = rows_with_nan(r.out), dq = rows_with_nan(r.dq);
    for (std::int64_t t = 0; t < c.T; ++t) {
      CAPTURE(t);
      if (which == 0) CHECK(out[t] == (t == at));
      if (which == 1) CHECK(out[t] == (t >= at));
      if (which == 2 && t >= at) CHECK(out[t]);
      if (which == 3) CHECK(dq[t] == (t == at));
    }
    CHECK(rows_with_nan(r.dk)[0]);  // key 0 is seen by all queries
  }
}

TEST_CASE("large scores do not overflow") {
  for (DType dtype : {f32, f64}) {
    std::mt19937 random(4);
    const Case c{.B = 1, .H = 1, .T = 100, .S = 100, .D = 8};
    Run run(random, c, dtype);
    run.args.scale = 1e4;
    const Results got = run(2);
    const Results expected =
        naive(c, run.args, values(run.q), values(run.k), values(run.v), values(run.dout));
    // A score of 1e5 has an error of 1e-2 in f32, and so has the logarithm of a weight.
    check_close("out", got.out, expected.out, dtype == f32 ? 5e-2 : 1e-10);
    for (double x : got.dk) CHECK(std::isfinite(x));
  }
}

TEST_CASE("attention over nothing") {
  std::mt19937 random(5);
  for (const auto& [B, T, S] : {std::tuple(0, 3, 3), std::tuple(1, 0, 3), std::tuple(1, 3, 0)}) {
    const Case c{.B = B, .H = 2, .T = T, .S = S, .D = 4};
    const Results r = Run(random, c, f32)(2);
    for (double x : r.out) CHECK(x == 0);
    for (double x : r.lse) CHECK(x == -kInf);
    for (double x : r.dk) CHECK(x == 0);
  }
}
