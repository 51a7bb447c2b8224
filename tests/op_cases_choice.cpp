// Cases of logic, choices, powers and bounds.
#include <triad/tests/op_cases.h>

#include <algorithm>
#include <cmath>

namespace op_cases {

using namespace triad;

namespace {

bool is_true(C x) { return x != 0.0; }

Case logical(const char* name, Tensor (*op)(const Tensor&, const Tensor&), C (*twin)(C, C)) {
  return {.name = name,
          .inputs = {{{.shape = {3, 5}}, {.shape = {3, 5}}},
                     {{.shape = {13, 1}}, {.shape = {17}}},
                     {{.shape = {}}, {.shape = {7}}},
                     {{.shape = {0, 3}}, {.shape = {3}}}},
          .call = [op](X x) { return Tensors{op(x[0], x[1])}; },
          .twin = [twin](A x) { return Arrays{zip(x[0], x[1], twin)}; },
          .types = kBool,
          .gradient = Gradient::none,
          .large = {{.shape = {311, 307}}, {.shape = {311, 307}}},
          .errors = {wrong<DTypeError>([] { logical_and(zeros({2}) > 0.0, zeros({2})); },
                                       "logical_and: the types differ")}};
}

void logic(Cases& cases) {
  cases.push_back(logical("logical_and", logical_and, [](C a, C b) { return a * b; }));
  cases.push_back(
      logical("logical_or", logical_or, [](C a, C b) { return C(is_true(a) || is_true(b)); }));
  cases.push_back(logical("logical_xor", logical_xor, [](C a, C b) { return C(a != b); }));
  cases.back().said = {"logical_xor", "ne"};
  cases.push_back({.name = "logical_not",
                   .inputs = {{{.shape = {3, 5}}}, {{.shape = {}}}, {{.shape = {2, 0}}}},
                   .call = [](X x) { return Tensors{logical_not(x[0])}; },
                   .twin = [](A x) { return Arrays{map(x[0], [](C v) { return 1.0 - v; })}; },
                   .types = kBool,
                   .gradient = Gradient::none,
                   .large = {{.shape = {311, 307}}}});
}

Array chosen(const Array& condition, const Array& a, const Array& b) {
  const Shape shape = broadcast(condition.shape, broadcast(a.shape, b.shape));
  const Array on = repeated(condition, shape), x = repeated(a, shape), y = repeated(b, shape);
  return build(shape, [&](const Shape& i) { return is_true(on[i]) ? x[i] : y[i]; });
}

void choices(Cases& cases) {
  cases.push_back({.name = "where",
                   .inputs = {{flags({3, 5}), {.shape = {3, 5}}, {.shape = {3, 5}}},
                              {flags({3, 1}), {.shape = {3, 5}}, {.shape = {5}}},
                              {flags({2, 3, 5}), {.shape = {3, 5}}, {.shape = {2, 1, 5}}},
                              {flags({0, 3}), {.shape = {3}}, {.shape = {}}}},
                   .call = [](X x) { return Tensors{where(x[0], x[1], x[2])}; },
                   .twin = [](A x) { return Arrays{chosen(x[0], x[1], x[2])}; },
                   .types = kAll,
                   .large = {flags({311, 307}), {.shape = {311, 307}}, {.shape = {307}}},
                   .errors = {wrong<DTypeError>([] { where(zeros({2}), zeros({2}), zeros({2})); },
                                                "where: needs bool, got f32; write x != 0"),
                              wrong<ShapeError>(
                                  [] {
                                    where(zeros({2}) > 0.0, zeros({2, 5}), zeros({3, 5}));
                                  },
                                  "where: [2,5] and [3,5]")}});
  cases.push_back({.name = "masked_fill",
                   .inputs = {{{.shape = {3, 5}}, flags({3, 5})},
                              {{.shape = {3, 5}}, flags({3, 1})},
                              {{.shape = {7}}, flags({3, 7})},
                              {{.shape = {0, 3}}, flags({3})}},
                   .call = [](X x) { return Tensors{masked_fill(x[0], x[1], 1)}; },
                   .twin =
                       [](A x) {
                         return Arrays{chosen(x[1], {{}, {1}}, x[0])};
                       },
                   .types = kAll,
                   .large = {{.shape = {311, 307}}, flags({311, 307})},
                   .errors = {wrong<DTypeError>([] { masked_fill(zeros({2}), zeros({2}), 0); },
                                                "masked_fill: needs bool, got f32"),
                              wrong<ShapeError>(
                                  [] {
                                    masked_fill(zeros({2, 3}), zeros({2}) > 0.0, 0);
                                  },
                                  "where: [2] and [2,3]")}});
}

Array mixed(const Array& a, const Array& b, const Array& weight) {
  const Array step = zip(zip(b, a, std::minus<C>()), weight, std::multiplies<C>());
  return zip(a, step, std::plus<C>());
}

void mixtures(Cases& cases) {
  cases.push_back({.name = "lerp",
                   .inputs = {{{.shape = {3, 5}}, {.shape = {3, 5}}, {.shape = {3, 5}}},
                              {{.shape = {2, 3, 5}}, {.shape = {5}}, {.shape = {3, 1}}},
                              {{.shape = {0, 3}}, {.shape = {3}}, {.shape = {1}}}},
                   .call = [](X x) { return Tensors{lerp(x[0], x[1], x[2])}; },
                   .twin = [](A x) { return Arrays{mixed(x[0], x[1], x[2])}; },
                   .types = kNumbers,
                   .bound = 4,
                   .said = {"sub", "mul", "add"}});
  cases.push_back({.name = "lerp",
                   .detail = "by a number",
                   .inputs = {{{.shape = {3, 5}}, {.shape = {5}}}, {{.shape = {0}}, {.shape = {}}}},
                   .call = [](X x) { return Tensors{lerp(x[0], x[1], 0.25)}; },
                   .twin =
                       [](A x) {
                         return Arrays{mixed(x[0], x[1], {{}, {0.25}})};
                       },
                   .types = kInexact,
                   .bound = 4,
                   .said = {"sub", "mul", "add"}});
}

Case power(const char* detail, Tensor (*op)(const Tensor&), C (*twin)(C)) {
  return {.name = "pow",
          .detail = detail,
          .inputs = {{{.shape = {3, 5}, .low = 0.3, .high = 3}}, {{.shape = {2, 0}}}},
          .call = [op](X x) { return Tensors{op(x[0])}; },
          .twin = [twin](A x) { return Arrays{map(x[0], twin)}; },
          .said = {"pow"},
          .large = {{.shape = {311, 307}, .low = 0.3, .high = 3}}};
}

void powers(Cases& cases) {
  cases.push_back(power(
      "x^3", [](const Tensor& x) { return pow(x, 3); }, [](C x) { return x * x * x; }));
  cases.push_back(power(
      "x^2.5", [](const Tensor& x) { return pow(x, 2.5); },
      [](C x) { return C(std::pow(x.real(), 2.5)); }));
  cases.push_back(power(
      "x^0.5", [](const Tensor& x) { return pow(x, 0.5); },
      [](C x) { return C(std::sqrt(x.real())); }));
  cases.push_back(power(
      "x^2", [](const Tensor& x) { return pow(x, 2); }, [](C x) { return x * x; }));
  cases.push_back(power(
      "1/x", [](const Tensor& x) { return pow(x, -1); }, [](C x) { return 1.0 / x; }));
  cases.push_back(power(
      "2^x", [](const Tensor& x) { return pow(2, x); },
      [](C x) { return C(std::exp2(x.real())); }));
  cases.push_back(power(
      "x^0", [](const Tensor& x) { return pow(x, 0); }, [](C) { return C(1); }));
  cases.back().gradient = Gradient::zero;
  const Input x{.shape = {3, 5}, .low = 0.3, .high = 3};
  cases.push_back({.name = "pow",
                   .detail = "of two tensors",
                   .inputs = {{x, {.shape = {3, 5}}},
                              {x, {.shape = {5}}},
                              {x, {.shape = {2, 3, 1}}},
                              {{.shape = {0, 3}}, {.shape = {3}}}},
                   .call = [](X t) { return Tensors{pow(t[0], t[1])}; },
                   .twin =
                       [](A t) {
                         return Arrays{zip(
                             t[0], t[1], [](C a, C b) { return C(std::pow(a.real(), b.real())); })};
                       },
                   .errors = {wrong<ShapeError>([] { pow(zeros({2}), zeros({3})); },
                                                "pow: [2] and [3] do not broadcast")}});
}

Case bounded(const char* detail, Tensor (*op)(const Tensor&), C (*twin)(C)) {
  return {.name = "clamp",
          .detail = detail,
          .inputs = {{{.shape = {3, 5}, .low = -4, .high = 4}},
                     {{.shape = {13, 17}, .low = -4, .high = 4, .whole = true}},
                     {{.shape = {}}},
                     {{.shape = {2, 0, 3}}}},
          .call = [op](X x) { return Tensors{op(x[0])}; },
          .twin = [twin](A x) { return Arrays{map(x[0], twin)}; },
          .types = kOrdered,
          .large = {{.shape = {311, 307}, .low = -4, .high = 4}}};
}

}  // namespace

Cases choice_cases() {
  Cases cases;
  logic(cases);
  choices(cases);
  powers(cases);
  cases.push_back(bounded(
      "both bounds", [](const Tensor& x) { return clamp(x, -1, 2); },
      [](C x) { return C(std::clamp(x.real(), -1.0, 2.0)); }));
  cases.push_back(bounded(
      "from below", [](const Tensor& x) { return clamp(x, -1); },
      [](C x) { return C(std::max(x.real(), -1.0)); }));
  cases.push_back(bounded(
      "from above", [](const Tensor& x) { return clamp(x, {}, 2); },
      [](C x) { return C(std::min(x.real(), 2.0)); }));
  cases.back().errors = {
      wrong<ValueError>([] { clamp(zeros({2}), {}, {}); }, "clamp: needs a bound")};
  mixtures(cases);
  return cases;
}

}  // namespace op_cases
