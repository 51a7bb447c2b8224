// Cases of ops on two tensors, or a tensor and a number: arithmetic and comparisons.
#include <triad/tests/op_cases.h>

#include <algorithm>
#include <cmath>

namespace op_cases {

using namespace triad;

namespace {

const std::pair<Shape, Shape> kBroadcasts[] = {
    {{3, 5}, {3, 5}}, {{3, 5}, {5}}, {{5}, {3, 5}},       {{3, 1}, {1, 5}},    {{}, {3, 5}},
    {{3, 5}, {}},     {{}, {}},      {{2, 3, 5}, {3, 1}}, {{2, 1, 4}, {7, 1}}, {{13, 1}, {1, 17}},
    {{0, 3}, {1, 3}}, {{1}, {0}},    {{2, 0, 3}, {3}},
};

// The right one lies in 0.5 <= b < 3, so that it divides.
std::vector<Inputs> pairs(bool whole = false) {
  std::vector<Inputs> all;
  for (const auto& [left, right] : kBroadcasts)
    all.push_back({{.shape = left, .whole = whole},
                   {.shape = right, .low = whole ? -2 : 0.5, .high = 3, .whole = whole}});
  return all;
}

std::vector<Inputs> singles(double low, bool whole = false) {
  std::vector<Inputs> all;
  for (const Shape& shape : {Shape{3, 5}, {}, {13, 17}, {0}, {2, 0, 3}})
    all.push_back({{.shape = shape, .low = low, .high = 3, .whole = whole}});
  return all;
}

const Inputs kLarge{{.shape = {311, 307}}, {.shape = {311, 307}, .low = 0.5, .high = 3}};

using Binary = Tensor (*)(const Tensor&, const Tensor&);
using WithNumber = Tensor (*)(const Tensor&, double);
using NumberFirst = Tensor (*)(double, const Tensor&);
using BinaryTwin = C (*)(C, C);

Case binary(const char* name, const char* said, Binary op, BinaryTwin twin) {
  return {.name = name,
          .inputs = pairs(),
          .call = [op](X x) { return Tensors{op(x[0], x[1])}; },
          .twin = [twin](A x) { return Arrays{zip(x[0], x[1], twin)}; },
          .types = kNumbers,
          .said = {said},
          .large = kLarge};
}

Case with_number(const char* name, const char* said, WithNumber op, BinaryTwin twin) {
  return {.name = name,
          .detail = "with a number",
          .inputs = singles(-2),
          .call = [op](X x) { return Tensors{op(x[0], 2)}; },
          .twin = [twin](A x) { return Arrays{map(x[0], [=](C v) { return twin(v, 2); })}; },
          .types = kNumbers,
          .said = {said},
          .large = {kLarge[0]}};
}

Case number_first(const char* name, const char* said, NumberFirst op, BinaryTwin twin) {
  return {.name = name,
          .detail = "number first",
          .inputs = singles(0.5),
          .call = [op](X x) { return Tensors{op(2, x[0])}; },
          .twin = [twin](A x) { return Arrays{map(x[0], [=](C v) { return twin(2, v); })}; },
          .types = kNumbers,
          .said = {said},
          .large = {kLarge[1]}};
}

void arithmetic(Cases& cases) {
  const BinaryTwin add = [](C a, C b) { return a + b; }, sub = [](C a, C b) { return a - b; },
                   mul = [](C a, C b) { return a * b; }, div = [](C a, C b) { return a / b; };
  auto push = [&](Case c) -> Case& { return cases.emplace_back(std::move(c)); };
  Case& plus = push(binary("operator+", "add", operator+, add));
  plus.errors = {wrong<ShapeError>(
      [] {
        zeros({2, 3}) + zeros({2});
      },
      "add: [2,3] and [2] do not broadcast")};
  push(with_number("operator+", "add", operator+, add)).errors = {
      wrong<DTypeError>([] { zeros({2}, {.dtype = i64}) + 0.5; },
                        "add: 0.5 is no whole number and the tensor is i64; write x.to(f32)"),
      wrong<DTypeError>([] { zeros({2}, {.dtype = i32}) + 0.5; },
                        "add: 0.5 is no whole number and the tensor is i32; write x.to(f32)")};
  push(number_first("operator+", "add", operator+, add));
  push(binary("operator-", "sub", operator-, sub)).errors = {wrong<ShapeError>(
      [] {
        zeros({4}) - zeros({2, 3});
      },
      "sub: [4] and [2,3] do not broadcast")};
  push(with_number("operator-", "sub", operator-, sub));
  push(number_first("operator-", "sub", operator-, sub));
  push(binary("operator*", "mul", operator*, mul)).errors = {wrong<ShapeError>(
      [] {
        zeros({4}) * zeros({2, 3});
      },
      "mul: [4] and [2,3] do not broadcast")};
  Case& times = push(with_number("operator*", "mul", operator*, mul));
  times.errors = {wrong<DTypeError>([] { zeros({2}, {.dtype = i64}) * 0.5; },
                                    "mul: 0.5 is no whole number and the tensor is i64")};
  push(number_first("operator*", "mul", operator*, mul));
  for (Case& c : Cases{binary("operator/", "div", operator/, div),
                       with_number("operator/", "div", operator/, div),
                       number_first("operator/", "div", operator/, div)}) {
    c.types = kInexact;
    c.bound = 4;  // of complex quotients
    push(c);
  }
  Case& by = cases[cases.size() - 3];
  by.errors = {wrong<ShapeError>(
      [] {
        zeros({2, 3}) / zeros({3, 2});
      },
      "div: [2,3] and [3,2] do not broadcast")};
}

void extrema(Cases& cases) {
  Case larger = binary("maximum", "maximum", maximum,
                       [](C a, C b) { return C(std::max(a.real(), b.real())); });
  // Where one side is of few elements it may have no gradient at all.
  larger.inputs = {{{.shape = {3, 5}}, {.shape = {3, 5}}},
                   {{.shape = {2, 3, 5}}, {.shape = {3, 5}}},
                   {{.shape = {5}}, {.shape = {7, 5}}},
                   {{.shape = {13, 1}, .whole = true}, {.shape = {1, 17}, .whole = true}},
                   {{.shape = {0, 3}}, {.shape = {3}}}};
  larger.types = kOrdered;
  Case smaller = larger;
  smaller.name = "minimum";
  smaller.said = {"minimum"};
  smaller.call = [](X x) { return Tensors{minimum(x[0], x[1])}; };
  smaller.twin = [](A x) {
    return Arrays{zip(x[0], x[1], [](C a, C b) { return C(std::min(a.real(), b.real())); })};
  };
  larger.errors = {
      wrong<ShapeError>(
          [] {
            maximum(zeros({2, 3}), zeros({2}));
          },
          "maximum: [2,3] and [2]"),
      wrong<DTypeError>([] { maximum(zeros({2}, {.dtype = c64}), zeros({2}, {.dtype = c64})); },
                        "maximum: complex numbers have no order")};
  smaller.errors = {wrong<ShapeError>(
      [] {
        minimum(zeros({2, 3}), zeros({2}));
      },
      "minimum: [2,3] and [2]")};
  cases.push_back(larger);
  cases.push_back(smaller);
}

void comparison(Cases& cases, const char* name, const char* said, Binary op, WithNumber number,
                BinaryTwin twin) {
  const bool ordered = std::string(said) != "eq" && std::string(said) != "ne";
  Case both = binary(name, said, op, twin), one = with_number(name, said, number, twin);
  both.inputs = pairs(true);
  one.inputs = singles(-2, true);
  both.types = one.types = ordered ? kOrdered : kNumbers;
  both.types.push_back(boolean);
  both.results = one.results = {Gives::boolean};
  both.gradient = one.gradient = Gradient::none;
  if (both.said[0] == std::string("lt")) {
    both.errors = {wrong<ShapeError>(
        [] {
          zeros({2, 3}) < zeros({4});
        },
        "lt: [2,3] and [4] do not broadcast")};
  }
  cases.push_back(both);
  cases.push_back(one);
}

}  // namespace

Cases arithmetic_cases() {
  Cases cases;
  arithmetic(cases);
  extrema(cases);
  comparison(cases, "operator==", "eq", operator==, operator==, [](C a, C b) { return C(a == b); });
  comparison(cases, "operator!=", "ne", operator!=, operator!=, [](C a, C b) { return C(a != b); });
  comparison(cases, "operator<", "lt", operator<, operator<,
             [](C a, C b) { return C(a.real() < b.real()); });
  comparison(cases, "operator<=", "le", operator<=, operator<=,
             [](C a, C b) { return C(a.real() <= b.real()); });
  comparison(cases, "operator>", "gt", operator>, operator>,
             [](C a, C b) { return C(a.real() > b.real()); });
  comparison(cases, "operator>=", "ge", operator>=, operator>=,
             [](C a, C b) { return C(a.real() >= b.real()); });
  return cases;
}

}  // namespace op_cases
