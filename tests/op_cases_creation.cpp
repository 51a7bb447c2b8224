// Cases of ops that make tensors. Those that draw random numbers are in test_random.
#include <triad/tests/op_cases.h>

#include <cmath>

namespace op_cases {

using namespace triad;

namespace {

// `make` is given a tensor of the type to be made.
Case made(const char* name, const char* detail, Tensor (*make)(const Tensor&), Array twin) {
  return {.name = name,
          .detail = detail,
          .inputs = {{like()}},
          .call = [make](X x) { return Tensors{make(x[0])}; },
          .twin = [twin](A) { return Arrays{twin}; },
          .types = kAll,
          .gradient = Gradient::none};
}

Array filled(const Shape& shape, C value) {
  return build(shape, [=](const Shape&) { return value; });
}

// For bool every number but zero is 1, for whole ones fractions are cut off.
void made_by_sizes(Cases& cases) {
  auto push = [&](Case c) { cases.push_back(std::move(c)); };
  push(made(
      "zeros", "",
      [](const Tensor& x) {
        return zeros({3, 5}, {.dtype = x.dtype()});
      },
      filled({3, 5}, 0)));
  push(made(
      "ones", "",
      [](const Tensor& x) {
        return ones({3, 5}, {.dtype = x.dtype()});
      },
      filled({3, 5}, 1)));
  push(made(
      "ones", "none",
      [](const Tensor& x) {
        return ones({3, 0}, {.dtype = x.dtype()});
      },
      filled({3, 0}, 1)));
  push(made(
      "full", "",
      [](const Tensor& x) {
        return full({2, 7}, 1, {.dtype = x.dtype()});
      },
      filled({2, 7}, 1)));
  push(made(
      "scalar", "", [](const Tensor& x) { return scalar(1, {.dtype = x.dtype()}); },
      filled({}, 1)));
  push(made(
      "empty", "written to",
      [](const Tensor& x) {
        const Tensor y = empty({2, 3}, x.dtype());
        y.fill_(1);
        return y;
      },
      filled({2, 3}, 1)));
  const auto counted = [](std::int64_t n) {
    return build({n}, [](const Shape& i) { return C(double(i[0])); });
  };
  for (Case c : {made(
                     "arange", "", [](const Tensor& x) { return arange(17, {.dtype = x.dtype()}); },
                     counted(17)),
                 made("arange", "from a start",
                      [](const Tensor& x) { return arange(3, 12, 2, {.dtype = x.dtype()}); },
                      {{5}, {3, 5, 7, 9, 11}}),
                 made("arange", "down",
                      [](const Tensor& x) { return arange(5, 2, -1, {.dtype = x.dtype()}); },
                      {{3}, {5, 4, 3}}),
                 made(
                     "arange", "none",
                     [](const Tensor& x) { return arange(0, {.dtype = x.dtype()}); }, counted(0)),
                 made(
                     "linspace", "",
                     [](const Tensor& x) { return linspace(-2, 3, 11, {.dtype = x.dtype()}); },
                     build({11}, [](const Shape& i) { return C(-2 + double(i[0]) / 2); }))}) {
    c.types.pop_back();  // bool: see below
    if (c.name == std::string("linspace")) c.types = kInexact;
    cases.push_back(c);
  }
  cases[cases.size() - 5].errors = {
      wrong<ValueError>([] { arange(1, 0); }, "arange: no steps of 1 lead from 1 to 0"),
      wrong<ValueError>([] { arange(0, 1, 0); }, "arange: no steps of 0 lead from 0 to 1")};
  cases.back().errors = {
      wrong<ValueError>([] { linspace(0, 1, -1); }, "linspace: needs steps >= 0, got -1")};
  push(made(
      "linspace", "one step",
      [](const Tensor& x) { return linspace(1, 3, 1, {.dtype = x.dtype()}); }, filled({1}, 1)));
  push(made(
      "eye", "", [](const Tensor& x) { return eye(5, {.dtype = x.dtype()}); },
      build({5, 5}, [](const Shape& i) { return C(i[0] == i[1]); })));
  push(made(
      "tril_mask", "", [](const Tensor&) { return tril_mask(5, 7, 1); },
      build({5, 7}, [](const Shape& i) { return C(i[1] <= i[0] + 1); })));
  cases.back().results = {Gives::boolean};
}

// f(T{}) with the C++ type T of a dtype.
template <class F> Tensor with_type(DType dtype, F f) {
  switch (dtype) {
    case f32: return f(float{});
    case f64: return f(double{});
    case bf16: return f(bfloat16{});
    case f16: return f(float16{});
    case c64: return f(std::complex<float>{});
    case c128: return f(std::complex<double>{});
    case i32: return f(std::int32_t{});
    case i64: return f(std::int64_t{});
    case boolean: return f(bool{});
  }
  return {};
}

void made_of_values(Cases& cases) {
  const Array ones_and_zeros{{2, 3}, {1, 0, 1, 0, 0, 1}};
  cases.push_back(made(
      "tensor", "",
      [](const Tensor& x) {
        return tensor({{1, 0, 1}, {0, 0, 1}}, {.dtype = x.dtype()});
      },
      ones_and_zeros));
  cases.back().errors = {wrong<ShapeError>(
      [] {
        tensor({{1, 2}, {3}});
      },
      "tensor: the lists at depth 1 are uneven")};
  cases.push_back(made(
      "from_vector", "",
      [](const Tensor& x) {
        return with_type(x.dtype(), [](auto zero) {
          using T = decltype(zero);
          std::vector<T> values;
          for (float value : {1, 0, 1, 0, 0, 1}) values.push_back(T(value));
          return from_vector(values, {2, 3});
        });
      },
      ones_and_zeros));
  cases.back().errors = {wrong<ShapeError>(
      [] {
        from_vector(std::vector<float>{1, 2}, {3});
      },
      "from_vector: 2 values do not fill [3]")};
  cases.push_back(made(
      "from_blob", "",
      [](const Tensor& x) {
        return with_type(x.dtype(), [](auto zero) {
          using T = decltype(zero);
          static T memory[6] = {T(1.f), T{}, T(1.f), T{}, T{}, T(1.f)};
          return from_blob(memory, {2, 3});
        });
      },
      ones_and_zeros));
}

void made_like(Cases& cases) {
  struct {
    const char* name;
    Tensor (*make)(const Tensor&);
    double value;
    const char* said;
  } const ops[] = {{"empty_like",
                    [](const Tensor& x) {
                      const Tensor y = empty_like(x);
                      y.fill_(1);
                      return y;
                    },
                    1, "empty_like"},
                   {"full_like", [](const Tensor& x) { return full_like(x, 1); }, 1, "full_like"},
                   {"zeros_like", zeros_like, 0, "full_like"},
                   {"ones_like", ones_like, 1, "full_like"}};
  for (const auto& op : ops)
    cases.push_back(
        {.name = op.name,
         .inputs = {{{.shape = {3, 5}}}, {{.shape = {}}}, {{.shape = {0, 3}}}},
         .call = [make = op.make](X x) { return Tensors{make(x[0])}; },
         .twin = [value = op.value](A x) { return Arrays{map(x[0], [=](C) { return C(value); })}; },
         .types = kAll,
         .gradient = Gradient::none,
         .said = {op.said}});
}

void triangles(Cases& cases) {
  for (const bool lower : {true, false})
    for (const std::int64_t offset : {0, 1, -2}) {
      cases.push_back(
          {.name = lower ? "tril" : "triu",
           .detail = offset == 0   ? ""
                     : offset == 1 ? "a diagonal further right"
                                   : "two diagonals further left",
           .inputs = {{{.shape = {2, 4, 5}}}, {{.shape = {11, 7}}}, {{.shape = {0, 3}}}},
           .call = [=](X x) { return Tensors{lower ? tril(x[0], offset) : triu(x[0], offset)}; },
           .twin =
               [=](A x) {
                 return Arrays{build(x[0].shape, [&](const Shape& i) {
                   const std::int64_t right = i.back() - i[i.rank() - 2] - offset;
                   return (lower ? right <= 0 : right >= 0) ? x[0][i] : C(0);
                 })};
               },
           .types = kAll,
           .large = {{.shape = {4, 131, 137}}}});
      cases.back().errors = {
          lower ? wrong<IndexError>([] { tril(zeros({3})); }, "axis -2 is out of range")
                : wrong<IndexError>([] { triu(zeros({3})); }, "axis -2 is out of range")};
    }
}

}  // namespace

Cases creation_cases() {
  Cases cases;
  made_by_sizes(cases);
  made_of_values(cases);
  made_like(cases);
  triangles(cases);
  return cases;
}

}  // namespace op_cases
