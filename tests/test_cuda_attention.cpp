// The attention kernels of a CUDA device against the definition: dense, in fp64, with gradients
// written out.
#include <doctest/doctest.h>

#ifdef TRIAD_CUDA

#include <triad/backends/kernels.h>
#include <triad/tests/kernel_checks.h>
#include <triad/tests/test_device.h>
#include <triad/triad.h>

using namespace triad;
using kernel_checks::expand, kernel_checks::moved, kernel_checks::kInf, kernel_checks::kNan;
using kernel_checks::values;
using reference::Values;

namespace {

struct Case {
  std::int64_t B, H, T, S, D;
  bool causal = false, mask = false, token_mask = false;
  double dropout = 0;
  bool packed = false;      // [B,T,H,D] memory with room between the rows, else [B,H,T,D]
  bool loose = false;       // axes of one have any stride
  std::int64_t offset = 0;  // of the first element
  double scale = 0;         // 0: 1 / sqrt(D)
  double growth = 1;        // keys from the 128th on are so many times as long
};

// Standard normals, such as the dtype can hold.
Values normals(std::int64_t count, DType dtype, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  Values x(std::size_t(count), 0.0);
  visit_any(dtype, [&]<class T>(T) {
    for (double& value : x) value = converted<double>(converted<T>(normal(engine)));
  });
  return x;
}

// About half of them are true.
Tensor coins(const Shape& shape, unsigned seed) {
  const Tensor x = empty(shape, boolean);
  const Values from = normals(x.numel(), f64, seed);
  for (std::size_t i = 0; i < from.size(); ++i) x.first<bool>()[i] = from[i] > 0;
  return x;
}

// Memory for a head tensor and one element more, full of NaN.
Tensor memory(const Case& c, std::int64_t T, DType dtype) {
  const Tensor x = empty({c.offset + (c.packed ? 2 : 1) * c.B * T * c.H * c.D + 1}, dtype);
  visit_any(dtype, [&]<class E>(E) { std::fill_n(x.first<E>(), x.numel(), converted<E>(kNan)); });
  return x;
}

// The head tensor [B,H,T,D] in such memory, on any device.
Tensor view(const Case& c, std::int64_t T, const Tensor& memory) {
  const std::int64_t H = c.packed ? 2 * c.H : c.H;
  const Shape shape{c.B, c.H, T, c.D};
  Shape strides =
      c.packed ? Shape{T * H * c.D, c.D, H * c.D, 1} : Shape{c.H * T * c.D, T * c.D, c.D, 1};
  for (int i = 0; c.loose && i < 3; ++i)
    if (shape[i] == 1) strides[i] = i;
  return memory.with_layout({shape, strides, c.offset});
}

void write(const Values& from, const Tensor& to) {
  visit_any(to.dtype(), [&]<class T>(T) {
    std::size_t i = 0;
    for (std::int64_t row = 0; row < to.numel() / to.shape()[3]; ++row) {
      const Shape &n = to.shape(), &step = to.strides();
      T* first = to.first<T>() + row / n[2] / n[1] * step[0] + row / n[2] % n[1] * step[1] +
                 row % n[2] * step[2];
      for (std::int64_t d = 0; d < n[3]; ++d) first[d] = converted<T>(from[i++]);
    }
  });
}

struct Results {
  Values out, lse, dq, dk, dv;
};
constexpr Values Results::*kParts[] = {&Results::out, &Results::lse, &Results::dq, &Results::dk,
                                       &Results::dv};
constexpr const char* kNames[] = {"out", "lse", "dq", "dk", "dv"};

// One set of inputs, whose numbers the dtype can hold exactly.
struct Inputs {
  Case c;
  DType dtype;
  Values q, k, v, dout;
  kernels::AttentionArgs args;  // with masks on the CPU

  Inputs(const Case& c, DType dtype) : c(c), dtype(dtype) {
    unsigned seed = unsigned(c.T * 1000 + c.S * 10 + c.D);
    const auto random = [&](std::int64_t T) { return normals(c.B * c.H * T * c.D, dtype, seed++); };
    q = random(c.T), k = random(c.S), v = random(c.S), dout = random(c.T);
    for (std::size_t i = 0; i < k.size(); ++i)
      if (std::int64_t(i) / c.D % c.S >= 128) k[i] *= c.growth;
    args.scale = c.scale != 0 ? c.scale : 1 / std::sqrt(double(c.D));
    args.causal = c.causal;
    args.dropout = c.dropout;
    args.random = {0x123456789abcdefu, 77};
    // Of every third query, and the first eleven keys, nothing is allowed.
    if (c.mask) {
      args.mask = coins({c.B, c.packed ? c.H : 1, c.T, c.S}, seed++);
      for (std::int64_t i = 0; i < args.mask.numel(); ++i)
        args.mask.first<bool>()[i] &= i / c.S % c.T % 3 != 2 && i % c.S >= 11;
      args.mask = expand(args.mask, {c.B, c.H, c.T, c.S});
    }
    if (c.token_mask) args.token_mask = coins({c.B, c.S}, seed++);
  }

  // The definition; with `rounds`, as by products whose operands are rounded to the dtype.
  Results naive(bool rounds) const {
    const auto [B, H, T, S, D] = std::tuple(c.B, c.H, c.T, c.S, c.D);
    const auto narrow = [&](float x) { return dtype == f16 ? float(float16(x)) : bfloat16(x); };
    const auto round = [&](double x) { return rounds ? double(narrow(float(x))) : x; };
    Results r{Values(q.size()), Values(std::size_t(B * H * T)), Values(q.size()), Values(k.size()),
              Values(k.size())};
    const auto mask = c.mask ? args.mask.to_vector<bool>() : std::vector<bool>();
    for (std::int64_t row = 0; row < B * H * T; ++row) {
      const std::int64_t t = row % T, keys = row / T * S * D;
      const double *Q = q.data() + row * D, *K = k.data() + keys, *V = v.data() + keys;
      const double* G = dout.data() + row * D;
      Values a(S), keep(S, 1), da(S);
      double sum = 0, top = -kInf, mean = 0;
      for (std::int64_t s = 0; s < S; ++s) {
        bool allowed = !c.causal || s <= t + S - T;
        if (c.mask) allowed = allowed && mask[row * S + s];
        if (c.token_mask) allowed = allowed && args.token_mask.first<bool>()[row / T / H * S + s];
        for (std::int64_t d = 0; d < D; ++d) a[s] += args.scale * Q[d] * K[s * D + d];
        top = std::max(top, a[s] = allowed ? a[s] : -kInf);
        if (c.dropout > 0)
          keep[s] = double(reference::uniform_f32(args.random, row * S + s)) < c.dropout
                        ? 0
                        : 1 / (1 - c.dropout);
      }
      for (double& x : a) sum += x = x == -kInf ? 0 : std::exp(x - top);
      r.lse[row] = top + std::log(sum);
      for (std::int64_t s = 0; s < S; ++s) {
        a[s] = sum == 0 ? 0 : a[s] / sum;
        for (std::int64_t d = 0; d < D; ++d) {
          r.out[row * D + d] += round(keep[s] * a[s]) * V[s * D + d];
          r.dv[keys + s * D + d] += round(keep[s] * a[s]) * G[d];
          da[s] += keep[s] * G[d] * V[s * D + d];
        }
      }
      for (std::int64_t d = 0; d < D; ++d) mean += G[d] * round(r.out[row * D + d]);
      for (std::int64_t i = 0; i < S * D; ++i) {
        const double ds = round(a[i / D] * (da[i / D] - mean));
        r.dq[row * D + i % D] += args.scale * ds * K[i];
        r.dk[keys + i] += args.scale * ds * Q[i % D];
      }
    }
    for (Values* x : {&r.out, &r.dq, &r.dk, &r.dv})
      for (double& value : *x) value = round(value);
    return r;
  }

  // By the device's kernels; of the gradients those whose bit is set.
  Results on_device(DType dtype, int wanted = 7) const {
    const auto put = [&](const Values& from, std::int64_t T) {
      const Tensor x = view(c, T, memory(c, T, dtype));
      write(from, x);
      return moved(x, Device::cuda());
    };
    const auto room = [&](std::int64_t T, bool wanted = true) {
      return wanted ? moved(view(c, T, memory(c, T, dtype)), Device::cuda()) : Tensor();
    };
    const auto get = [](const Tensor& x) {
      return x.defined() ? values(moved(x, Device::cpu())) : Values();
    };
    kernels::AttentionArgs args = this->args;
    if (c.mask) args.mask = moved(args.mask, Device::cuda());
    if (c.token_mask) args.token_mask = moved(args.token_mask, Device::cuda());
    const Tensor q = put(this->q, c.T), k = put(this->k, c.S), v = put(this->v, c.S);
    const Tensor dout = put(this->dout, c.T), out = room(c.T), dq = room(c.T, wanted & 1);
    const Tensor dk = room(c.S, wanted & 2), dv = room(c.S, wanted & 4);
    const Tensor lse = moved(memory(c, c.T, wide_type(dtype)), Device::cuda())
                           .with_layout(contiguous_layout({c.B, c.H, c.T}));
    kernels::attention(Cuda{0}, q, k, v, args, out, lse);
    kernels::attention_backward(Cuda{0}, dout, q, k, v, out, lse, args, dq, dk, dv);
    return {get(out), get(lse), get(dq), get(dk), get(dv)};
  }
};

double largest(const Values& x, std::size_t first, std::size_t count) {
  double size = 0;
  for (std::size_t i = first; i < first + count; ++i)
    if (std::isfinite(x[i])) size = std::max(size, std::abs(x[i]));
  return size;
}

// The largest difference in a row.
double error(const Values& got, const Values& want, std::size_t first, std::size_t count) {
  double worst = 0;
  for (std::size_t i = first; i < first + count; ++i)
    if (got[i] != want[i])  // infinite ones may be the same
      worst = std::max(worst, std::isnan(got[i]) ? kInf : std::abs(got[i] - want[i]));
  return worst;
}

// Row by row, so that one query or key too many is seen. `naive`: twice its error is allowed.
void check_rows(const Values& got, const Values& want, const Values* naive, std::size_t width,
                double bound) {
  REQUIRE(got.size() == want.size());
  // A gradient may be zero, the terms that cancel in it are not.
  const double least = naive ? largest(want, 0, want.size()) / 8 : 0.2;
  double excess = 0;
  for (std::size_t first = 0; first < want.size(); first += width) {
    const double allowed = bound * std::max({least, largest(want, first, width), 1e-3}) +
                           (naive ? 2 * error(*naive, want, first, width) : 0);
    excess = std::max(excess, error(got, want, first, width) / allowed);
  }
  CHECK(excess <= 1);
}

void check_once(const Case& c, DType dtype) {
  CAPTURE(c.B);
  CAPTURE(c.H);
  CAPTURE(c.T);
  CAPTURE(c.S);
  CAPTURE(c.D);
  CAPTURE(c.causal);
  CAPTURE(c.mask);
  CAPTURE(c.token_mask);
  CAPTURE(c.dropout);
  CAPTURE(std::string(name(dtype)));
  const Inputs inputs(c, dtype);
  const Results expected = inputs.naive(false), rounded = inputs.naive(true);
  const Results first = inputs.on_device(dtype);
  for (std::size_t i = 0; i < std::size(kParts); ++i) {
    CAPTURE(std::string(kNames[i]));
    const Values &have = first.*kParts[i], &want = expected.*kParts[i];
    const double unit = dtype == f16 ? 0x1p-10 : 0x1p-7, bound = dtype == f64 ? 1e-14 : 4e-6;
    if (i == 1) check_rows(have, want, nullptr, 1, bound);  // lse
    else if (is_narrow(dtype))  // dq and dk take a sum of products with the rounded out
      check_rows(have, want, &(rounded.*kParts[i]), c.D, i == 0 || i == 4 ? unit : 2 * unit);
    else check_rows(have, want, nullptr, c.D, bound * (i == 0 ? 1 : 4));
  }
  for_schedules([&] {
    const Results again = inputs.on_device(dtype);
    for (std::size_t i = 0; i < std::size(kParts); ++i) {
      CAPTURE(std::string(kNames[i]));
      CHECK(again.*kParts[i] == first.*kParts[i]);
    }
  });
}

void check(const Case& c, DType dtype) {
  const bool has_two = is_narrow(dtype) && c.D % 64 == 0;  // kernels
  has_two ? for_capabilities([&] { check_once(c, dtype); }) : check_once(c, dtype);
}

}  // namespace

TEST_CASE("CUDA: attention is its definition at every length and width") {
  for (DType dtype : {f32, f64, bf16, f16}) {
    check({.B = 1, .H = 2, .T = 1, .S = 1, .D = 8}, dtype);
    check({.B = 2, .H = 1, .T = 1, .S = 67, .D = 13, .causal = true}, dtype);
    check({.B = 1, .H = 1, .T = 37, .S = 37, .D = 1, .packed = true}, dtype);
    check({.B = 1, .H = 2, .T = 67, .S = 67, .D = 8, .causal = true, .packed = true}, dtype);
    check({.B = 1, .H = 1, .T = 67, .S = 131, .D = 40, .causal = true}, dtype);
    check({.B = 1, .H = 1, .T = 71, .S = 29, .D = 5, .causal = true}, dtype);
    check({.B = 1, .H = 1, .T = 5, .S = 7, .D = 256}, dtype);
    check({.B = 1, .H = 1, .T = 3, .S = 5, .D = 300}, dtype);
  }
}

TEST_CASE("CUDA: attention on tensor cores, every head size") {
  for (DType dtype : {f32, bf16, f16}) {
    for (std::int64_t D : {32, 64, 96, 128}) {
      check({.B = 1, .H = 1, .T = 131, .S = 37, .D = D, .packed = true}, dtype);
      check({.B = 1, .H = 2, .T = 37, .S = 67, .D = D, .causal = true, .packed = true}, dtype);
      check({.B = 1, .H = 1, .T = 69, .S = 67, .D = D, .causal = true}, dtype);
    }
    for (std::int64_t D : {16, 48, 80, 120})  // as if columns of zeros followed
      check({.B = 2, .H = 2, .T = 67, .S = 69, .D = D, .causal = true, .packed = true}, dtype);
    check({.B = 1, .H = 1, .T = 148, .S = 149, .D = 64, .causal = true}, dtype);
    check({.B = 2, .H = 1, .T = 1, .S = 97, .D = 64, .causal = true}, dtype);
  }
  check({.B = 1, .H = 1, .T = 67, .S = 67, .D = 100}, f32);
}

TEST_CASE("CUDA: attention of more tiles than are on their way at once, and more than blocks") {
  // Of Hopper, which the simulated device is unless a test says otherwise.
  check_once({.B = 1, .H = 2, .T = 260, .S = 520, .D = 64, .causal = true, .packed = true}, bf16);
  check_once({.B = 1, .H = 2, .T = 200, .S = 330, .D = 128}, bf16);
  check_once({.B = 1, .H = 1, .T = 131, .S = 330, .D = 128, .causal = true}, f16);
  check_once({.B = 1, .H = 1, .T = 64, .S = 256, .D = 64}, bf16);  // whole tiles alone
  // A block's tile of queries that see nothing comes before one of queries that do.
  check_once({.B = 1, .H = 2, .T = 300, .S = 40, .D = 128, .causal = true}, bf16);
}

TEST_CASE("CUDA: attention under masks and dropout") {
  for (DType dtype : {f32, f64, bf16})
    for (std::int64_t D : {24, 64}) {
      if (dtype == f64 && D == 64) continue;
      check({.B = 2, .H = 2, .T = 35, .S = 67, .D = D, .mask = true, .packed = true}, dtype);
      check({.B = 2, .H = 1, .T = 67, .S = 67, .D = D, .causal = true, .token_mask = true}, dtype);
      check({.B = 1, .H = 1, .T = 37, .S = 41, .D = D, .mask = true, .token_mask = true}, dtype);
      check({.B = 1, .H = 2, .T = 37, .S = 67, .D = D, .causal = true, .dropout = 0.3}, dtype);
    }
  for (std::int64_t D : {32, 64, 96, 128})
    for (DType dtype : {f32, bf16, f16})
      check({.B = 1, .H = 1, .T = 67, .S = 67, .D = D, .mask = true, .dropout = 0.2}, dtype);
}

TEST_CASE("CUDA: attention of what tensor cores cannot read or order") {
  for (DType dtype : {f32, bf16}) {
    check({.B = 1, .H = 1, .T = 37, .S = 37, .D = 64, .offset = 1}, dtype);
    check({.B = 1, .H = 1, .T = 37, .S = 37, .D = 32, .scale = -0.5}, dtype);
  }
}

TEST_CASE("CUDA: attention along axes of one, whatever their strides") {
  for (DType dtype : {f32, bf16}) {
    check({.B = 1, .H = 1, .T = 37, .S = 69, .D = 64, .loose = true}, dtype);
    check({.B = 2, .H = 2, .T = 1, .S = 1, .D = 64, .packed = true, .loose = true}, dtype);
  }
}

TEST_CASE("CUDA: attention over nothing") {
  for (DType dtype : {f32, bf16})
    for (const auto& [B, T, S] : {std::tuple(0, 3, 3), std::tuple(1, 0, 3), std::tuple(1, 3, 0)})
      for (std::int64_t D : {32, 64}) check({.B = B, .H = 2, .T = T, .S = S, .D = D}, dtype);
}

TEST_CASE("CUDA: a gradient that is not wanted is not computed, and the others do not change") {
  for (const auto& [dtype, D] : {std::pair(f32, 32), {bf16, 32}, {bf16, 64}}) {
    const Inputs inputs({.B = 1, .H = 1, .T = 37, .S = 67, .D = D}, dtype);
    const Results all = inputs.on_device(dtype);
    for (int wanted = 0; wanted < 7; ++wanted) {
      const Results some = inputs.on_device(dtype, wanted);
      CHECK(some.dq == (wanted & 1 ? all.dq : Values()));
      CHECK(some.dk == (wanted & 2 ? all.dk : Values()));
      CHECK(some.dv == (wanted & 4 ? all.dv : Values()));
    }
  }
}

TEST_CASE("CUDA: attention with large scores does not overflow") {
  for (DType dtype : {f32, f64, bf16, f16}) {
    for (std::int64_t D : {32, 64}) {
      // What was summed before the larger scores came is scaled down.
      const Inputs growing({.B = 1, .H = 1, .T = 37, .S = 160, .D = D, .growth = 4}, dtype);
      check_rows(growing.on_device(dtype).out, growing.naive(false).out, nullptr, std::size_t(D),
                 is_narrow(dtype) ? 0x1p-6
                 : dtype == f32   ? 1e-5
                                  : 1e-13);
      const Inputs inputs({.B = 1, .H = 1, .T = 37, .S = 150, .D = D, .scale = 1e4}, dtype);
      const Results got = inputs.on_device(dtype), want = inputs.naive(false);
      // A score of 1e5 has an error of 1e-2 in f32, and so has the logarithm of a weight.
      check_rows(got.out, want.out, nullptr, std::size_t(D), dtype == f64 ? 1e-10 : 5e-2);
      for (const Values* x : {&got.dq, &got.dk, &got.dv})
        for (double value : *x) CHECK(std::isfinite(value));
    }
  }
}

TEST_CASE("CUDA: NaN in an input is NaN in what depends on it") {
  for (const auto& [dtype, D] : {std::pair(f32, 32u), {bf16, 32u}, {bf16, 64u}})
    for (int which = 0; which < 3; ++which) {
      Inputs inputs({.B = 1, .H = 1, .T = 37, .S = 37, .D = D, .causal = true}, dtype);
      (which == 0 ? inputs.q : which == 1 ? inputs.k : inputs.v)[20 * D + 3] = kNan;
      const Results got = inputs.on_device(dtype);
      for (std::size_t t = 0; t < 37; ++t) {
        const bool is_nan = std::isnan(got.out[t * D + 3]);
        if (which == 0) CHECK(is_nan == (t == 20));
        if (which == 1) CHECK(is_nan == (t >= 20));
        if (which == 2 && t >= 20) CHECK(is_nan);
      }
    }
}

TEST_CASE("CUDA: dropout of a weight whose number is the threshold itself keeps it") {
  for (DType dtype : {f32, f64, bf16}) {
    manual_seed(4);
    const RandomStream random = random_state();
    const std::uint32_t number = philox(random.seed, random.stream, 0).lane[0] >> 8;
    const Tensor one = ones({1, 1, 1, 8}, {.dtype = dtype, .device = kCuda});
    const Tensor out = scaled_dot_product_attention(one, one, one, {.dropout_p = number * 0x1p-24});
    CHECK(sum(out).item<double>() > 8);
  }
}

#endif
