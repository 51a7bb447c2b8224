// Cases of complex numbers and of Fourier and cosine transforms.
#include <triad/tests/op_cases.h>

#include <cmath>
#include <numbers>

namespace op_cases {

using namespace triad;

namespace {

constexpr double kPi = std::numbers::pi;

// ---------------------------------------------------------------------- complex numbers

const Types kComplex{c64, c128}, kPrecise{f32, f64};

void parts(Cases& cases) {
  auto part = [](const char* name, Tensor (*op)(const Tensor&), C (*twin)(C), Types types) {
    return Case{
        .name = name,
        .inputs = {{{.shape = {3, 5}}}, {{.shape = {13, 7}}}, {{.shape = {}}}, {{.shape = {0, 3}}}},
        .call = [op](X x) { return Tensors{op(x[0])}; },
        .twin = [twin](A x) { return Arrays{map(x[0], twin)}; },
        .types = types,
        .results = {Gives::real},
        .memory = Memory::view};
  };
  cases.push_back(part(
      "real", real, [](C z) { return C(z.real()); }, kAll));
  cases.push_back(part(
      "imag", imag, [](C z) { return C(z.imag()); }, kComplex));
  cases.push_back(part(
      "conj", conj, [](C z) { return std::conj(z); }, kAll));
  cases.back().results = {Gives::same};
  cases.back().memory = Memory::either;
  cases.push_back({.name = "view_as_real",
                   .inputs = {{{.shape = {3, 5}}}, {{.shape = {}}}, {{.shape = {0, 3}}}},
                   .call = [](X x) { return Tensors{view_as_real(x[0])}; },
                   .twin =
                       [](A x) {
                         Shape shape = x[0].shape;
                         shape.push_back(2);
                         return Arrays{build(shape, [&](const Shape& i) {
                           const C z = x[0][Shape(i.begin(), i.end() - 1)];
                           return C(i.back() == 0 ? z.real() : z.imag());
                         })};
                       },
                   .types = kComplex,
                   .results = {Gives::real},
                   .memory = Memory::view});
  cases.push_back({.name = "view_as_complex",
                   .inputs = {{{.shape = {3, 5, 2}}}, {{.shape = {2}}}, {{.shape = {0, 3, 2}}}},
                   .call = [](X x) { return Tensors{view_as_complex(x[0])}; },
                   .twin =
                       [](A x) {
                         return Arrays{build(without(x[0].shape, -1), [&](Shape i) {
                           i.push_back(0);
                           const double real = x[0][i].real();
                           i[i.rank() - 1] = 1;
                           return C(real, x[0][i].real());
                         })};
                       },
                   .types = kPrecise,
                   .results = {Gives::complex},
                   .memory = Memory::either,
                   .errors = {wrong<ShapeError>([] { view_as_complex(zeros({3})); },
                                                "view_as_complex: needs [...,2], got [3]")}});
}

void from_parts(Cases& cases) {
  Case c{.name = "complex",
         .inputs = {{{.shape = {3, 5}}, {.shape = {3, 5}}},
                    {{.shape = {2, 3, 1}}, {.shape = {4}}},
                    {{.shape = {0, 3}}, {.shape = {3}}}},
         .call = [](X x) { return Tensors{complex(x[0], x[1])}; },
         .twin =
             [](A x) {
               return Arrays{zip(x[0], x[1], [](C a, C b) { return C(a.real(), b.real()); })};
             },
         .types = kPrecise,
         .results = {Gives::complex},
         .said = {"complex", "view_as_complex"},
         .large = {{.shape = {311, 307}}, {.shape = {307}}},
         .errors = {wrong<ShapeError>(
             [] {
               complex(zeros({2, 3}), zeros({2}));
             },
             "complex: [2,3] and [2] do not broadcast")}};
  cases.push_back(c);
  c.name = "polar";
  c.call = [](X x) { return Tensors{polar(x[0], x[1])}; };
  c.twin = [](A x) {
    return Arrays{zip(x[0], x[1], [](C a, C b) { return a * std::exp(C(0, b.real())); })};
  };
  c.said = {"polar", "cos", "sin", "complex", "view_as_complex"};
  c.errors = {wrong<ShapeError>(
      [] {
        polar(zeros({2, 3}), zeros({2}));
      },
      "[2,3] and [2] do not broadcast")};
  cases.push_back(c);
}

// ---------------------------------------------------------------------- transforms

// scale * sum over t of x_t exp(sign 2 pi i k t / n), k < n, x cut or padded to n.
Numbers sums(Numbers x, std::int64_t n, double sign, double scale) {
  x.resize(std::size_t(n));
  Numbers y;
  for (std::int64_t k = 0; k < n; ++k) {
    C total = 0;
    for (std::int64_t t = 0; t < n; ++t)
      total += x[std::size_t(t)] * std::polar(1.0, sign * 2 * kPi * double(k * t % n) / double(n));
    y.push_back(total * scale);
  }
  return y;
}

double scale_of(Norm norm, bool inverse, std::int64_t n) {
  if (norm == Norm::ortho) return 1 / std::sqrt(double(n));
  return (norm == Norm::backward) == inverse ? 1 / double(n) : 1;
}

// All n frequencies, from 0..n/2: those above are the conjugates, and what is its own is real.
Numbers mirrored(Numbers half, std::int64_t n) {
  half.resize(std::size_t(n / 2 + 1));
  half[0] = half[0].real();
  if (n % 2 == 0) half.back() = half.back().real();
  for (std::int64_t k = n / 2 + 1; k < n; ++k) half.push_back(std::conj(half[std::size_t(n - k)]));
  return half;
}

using Lengths = std::optional<std::int64_t>;
using Transform = Tensor (*)(const Tensor&, Lengths, std::int64_t, Norm);

struct Use {
  const char* detail;
  Lengths n;
  std::int64_t axis;
  Norm norm;
};
const Use kUses[] = {{"", {}, -1, Norm::backward},
                     {"axis 0", {}, 0, Norm::ortho},
                     {"cut", 4, -1, Norm::forward},
                     {"padded", 11, 1, Norm::backward}};

std::vector<Inputs> lengths() {
  std::vector<Inputs> all;
  for (const Shape& shape : {Shape{3, 6}, {2, 5}, {2, 8}, {5, 13}, {2, 31}, {3, 97}, {6, 2}})
    all.push_back({{.shape = shape}});
  return all;
}

void transforms(Cases& cases) {
  struct {
    const char* name;
    Transform op;
    bool inverse, half_in, half_out;
  } const ops[] = {{"fft", fft, false, false, false},
                   {"ifft", ifft, true, false, false},
                   {"rfft", rfft, false, false, true},
                   {"irfft", irfft, true, true, false}};
  for (const auto& op : ops)
    for (const Use& use : kUses) {
      Case c{.name = op.name,
             .detail = use.detail,
             .inputs = lengths(),
             .call = [=](X x) { return Tensors{op.op(x[0], use.n, use.axis, use.norm)}; },
             .twin =
                 [=](A x) {
                   const std::int64_t size = x[0].size(use.axis);
                   const std::int64_t n = use.n.value_or(op.half_in ? 2 * (size - 1) : size);
                   const double scale = scale_of(use.norm, op.inverse, n);
                   return Arrays{along(x[0], use.axis, [&](Numbers v) {
                     if (op.half_in) v = mirrored(v, n);
                     v = sums(v, n, op.inverse ? 1 : -1, scale);
                     if (op.half_out) v.resize(std::size_t(n / 2 + 1));
                     return v;
                   })};
                 },
             .types = op.half_out ? kPrecise : kTransformed,
             .results = {op.half_in ? Gives::real : Gives::complex},
             .bound = 8,
             .large = {{.shape = {67, 360}}}};
      const Shape nothing = use.axis == 0 ? Shape{4, 0} : Shape{0, 4};
      c.inputs.push_back({{.shape = nothing}});
      cases.push_back(c);
    }
  auto of = [&](const char* name) -> Case& {
    for (Case& c : cases)
      if (c.name == std::string(name)) return c;
    return cases[0];
  };
  of("fft").errors = {wrong<ShapeError>(
                          [] {
                            fft(zeros({2, 0}));
                          },
                          "fft: needs a length of at"),
                      wrong<IndexError>([] { fft(zeros({2}), 2, 1); }, "fft: axis 1")};
  of("ifft").errors = {
      wrong<ShapeError>([] { ifft(zeros({2}), 0); }, "ifft: needs a length of at")};
  of("rfft").errors = {
      wrong<ShapeError>([] { rfft(zeros({2}), -1); }, "rfft: needs a length of at least 1, got -1"),
      wrong<DTypeError>([] { rfft(zeros({2}, {.dtype = c64})); }, "rfft: needs f32 or f64")};
  of("irfft").errors = {
      wrong<ShapeError>([] { irfft(zeros({1})); }, "irfft: needs a length of at least 1, got 0")};
}

void cosine_transforms(Cases& cases) {
  // Row k of the orthonormal matrix of the DCT-II at column t.
  auto entry = [](std::size_t k, std::size_t t, std::size_t n) {
    return std::sqrt((k == 0 ? 1 : 2) / double(n)) *
           std::cos(kPi * double(k) * (double(t) + 0.5) / double(n));
  };
  for (const bool inverse : {false, true})
    for (const std::int64_t axis : {-1, 0}) {
      cases.push_back(
          {.name = inverse ? "idct" : "dct",
           .detail = axis == 0 ? "axis 0" : "",
           .inputs = lengths(),
           .call = [=](X x) { return Tensors{inverse ? idct(x[0], axis) : dct(x[0], axis)}; },
           .twin =
               [=](A x) {
                 return Arrays{along(x[0], axis, [=](const Numbers& v) {
                   const std::size_t n = v.size();
                   Numbers y(n);
                   for (std::size_t i = 0; i < n; ++i)
                     for (std::size_t j = 0; j < n; ++j)
                       y[i] += v[j] * (inverse ? entry(j, i, n) : entry(i, j, n));
                   return y;
                 })};
               },
           .types = kPrecise,
           .bound = 8,
           .large = {{.shape = {67, 360}}}});
      cases.back().inputs.push_back({{.shape = {1, 1}}});
      cases.back().inputs.push_back({{.shape = axis == 0 ? Shape{4, 0} : Shape{0, 4}}});
      cases.back().errors = {
          inverse ? wrong<IndexError>([] { idct(zeros({2}), 1); }, "axis 1 is out of range")
                  : wrong<IndexError>([] { dct(zeros({2}), 1); }, "axis 1 is out of range"),
          inverse ? wrong<ShapeError>([] { idct(zeros({0})); }, "idct: needs a length")
                  : wrong<ShapeError>([] { dct(zeros({0})); }, "dct: needs a length")};
    }
}

}  // namespace

Cases fourier_cases() {
  Cases cases;
  parts(cases);
  from_parts(cases);
  transforms(cases);
  cosine_transforms(cases);
  return cases;
}

}  // namespace op_cases
