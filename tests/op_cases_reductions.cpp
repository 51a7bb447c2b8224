// Cases of reductions.
#include <triad/tests/op_cases.h>

#include <algorithm>
#include <cmath>

namespace op_cases {

using namespace triad;

namespace {

using Twin = C (*)(const Numbers&);
using All = Tensor (*)(const Tensor&);
using Over = Tensor (*)(const Tensor&, const Axes&, bool);

C sum_of(const Numbers& v) {
  C total = 0;
  for (C x : v) total += x;
  return total;
}

C mean_of(const Numbers& v) { return sum_of(v) / double(v.size()); }

double squares_around(const Numbers& v, C centre) {
  double total = 0;
  for (C x : v) total += std::norm(x - centre);
  return total;
}

C variance_of(const Numbers& v, double correction) {
  return squares_around(v, mean_of(v)) / std::max(double(v.size()) - correction, 0.0);
}

struct Axed {
  const char* detail;
  Axes axes;
  bool keepdim;
};
const Axed kAxed[] = {{"axis 1", {1}, false},         {"axes 2 and 0, kept", {2, 0}, true},
                      {"the last axis", {-1}, false}, {"axes 0 and 1", {0, 1}, false},
                      {"no axis", {}, false},         {"all axes, kept", {0, 1, 2}, true}};

// Over all elements, where `all` is given, and over some axes.
Cases reductions(const char* name, All all, Over over, Twin twin, Types types = kFloats) {
  Case base{.name = name, .types = types, .large = {{.shape = {64, 31, 57}}}};
  for (const Shape& shape : {Shape{3, 5, 2}, {7, 11, 13}, {1, 1, 1}, {0, 3, 2}, {2, 0, 3}})
    base.inputs.push_back({{.shape = shape}});
  Cases cases;
  if (all) {
    cases.push_back(base);
    cases.back().call = [all](X x) { return Tensors{all(x[0])}; };
    cases.back().twin = [twin](A x) { return Arrays{{{}, {twin(x[0].values)}}}; };
    cases.back().inputs.push_back({{.shape = {}}});
  }
  for (const Axed& a : kAxed) {
    cases.push_back(base);
    cases.back().detail = a.detail;
    cases.back().call = [over, a](X x) { return Tensors{over(x[0], a.axes, a.keepdim)}; };
    cases.back().twin = [twin, a](A x) { return Arrays{reduced(x[0], a.axes, a.keepdim, twin)}; };
  }
  return cases;
}

// A variance of one number, of which nothing can be differentiated.
void drop_no_axis(Cases& cases) {
  std::erase_if(cases, [](const Case& c) { return c.detail == std::string("no axis"); });
}

void append(Cases& cases, Cases more) {
  for (Case& c : more) cases.push_back(std::move(c));
}

void sums(Cases& cases) {
  Cases own = reductions(
      "sum", [](const Tensor& x) { return sum(x); },
      [](const Tensor& x, const Axes& axes, bool keepdim) { return sum(x, axes, keepdim); }, sum_of,
      kAll);
  for (Case& c : own) c.results = {Gives::counted};
  own[0].errors = {wrong<IndexError>(
                       [] {
                         sum(zeros({2, 3}), {2});
                       },
                       "sum: axis 2 is out of range"),
                   wrong<ValueError>(
                       [] {
                         sum(zeros({2, 3}), {0, -2});
                       },
                       "sum: axis 0 is named twice")};
  append(cases, own);

  own = reductions(
      "mean", [](const Tensor& x) { return mean(x); },
      [](const Tensor& x, const Axes& axes, bool keepdim) { return mean(x, axes, keepdim); },
      mean_of, kInexact);
  own[0].errors = {wrong<IndexError>(
      [] {
        mean(zeros({2, 3}), {-3});
      },
      "mean: axis -3 is out of range")};
  append(cases, own);

  own = reductions(
      "var", [](const Tensor& x) { return var(x); },
      [](const Tensor& x, const Axes& axes, bool keepdim) { return var(x, axes, keepdim); },
      [](const Numbers& v) { return variance_of(v, 1); });
  append(own,
         reductions(
             "var", nullptr,
             [](const Tensor& x, const Axes& a, bool keepdim) { return var(x, a, keepdim, 0); },
             [](const Numbers& v) { return variance_of(v, 0); }));
  own[0].errors = {wrong<ValueError>(
      [] {
        var(zeros({2, 3}), {1, 1});
      },
      "var: axis 1 is named twice")};
  for (Case& c : own) c.bound = 4;
  drop_no_axis(own);
  append(cases, own);

  own = reductions(
      "stddev", [](const Tensor& x) { return stddev(x); },
      [](const Tensor& x, const Axes& axes, bool keepdim) { return stddev(x, axes, keepdim); },
      [](const Numbers& v) { return std::sqrt(variance_of(v, 1)); });
  for (Case& c : own) c.bound = 4, c.said = {"stddev", "var"};
  drop_no_axis(own);
  append(cases, own);
}

// The place of the first best element, where `better` compares.
std::size_t best(const Numbers& v, bool largest) {
  std::size_t at = 0;
  for (std::size_t i = 1; i < v.size(); ++i)
    if (largest ? v[i].real() > v[at].real() : v[i].real() < v[at].real()) at = i;
  return at;
}

template <bool largest>
void extremum(Cases& cases, const char* name, const char* index_name, All all,
              std::pair<Tensor, Tensor> (*op)(const Tensor&, std::int64_t, bool),
              Tensor (*index_op)(const Tensor&, std::int64_t, bool)) {
  const Twin value = [](const Numbers&v) { return v[best(v, largest)]; },
             place = [](const Numbers&v) { return C(double(best(v, largest))); };
  Case base{.name = name,
            .inputs = {{{.shape = {3, 5, 2}}},
                       {{.shape = {7, 11, 13}, .whole = true}},
                       {{.shape = {1, 1, 1}}},
                       {{.shape = {0, 3, 2}}}},
            .types = kOrdered,
            .said = {name, "max"},
            .large = {{.shape = {64, 31, 57}}}};
  Case whole = base;
  whole.inputs.pop_back();
  whole.call = [all](X x) { return Tensors{all(x[0])}; };
  whole.twin = [value](A x) { return Arrays{{{}, {value(x[0].values)}}}; };
  whole.inputs.push_back({{.shape = {}}});
  if (largest) {
    whole.errors = {wrong<ShapeError>([] { max(zeros({0})); }, "max: axis 0 of [0] is empty"),
                    wrong<ShapeError>(
                        [] {
                          max(zeros({0, 3}), 0);
                        },
                        "max: axis 0 of [0,3] is empty"),
                    wrong<IndexError>(
                        [] {
                          max(zeros({2, 3}), 5);
                        },
                        "max: axis 5 is out of range"),
                    wrong<DTypeError>([] { max(zeros({2}, {.dtype = c64})); },
                                      "max: complex numbers have no order")};
  }
  cases.push_back(whole);
  for (std::int64_t axis : {1, -1}) {
    const bool keepdim = axis == 1;
    Case both = base, index = base;
    both.detail = index.detail = keepdim ? "axis 1, kept" : "the last axis";
    both.call = [=](X x) {
      auto [y, at] = op(x[0], axis, keepdim);
      return Tensors{y, at};
    };
    both.twin = [=](A x) {
      return Arrays{reduced(x[0], {axis}, keepdim, value), reduced(x[0], {axis}, keepdim, place)};
    };
    both.results = {Gives::same, Gives::i64};
    index.name = index_name;
    index.said = {index_name, name, "max"};
    index.call = [=](X x) { return Tensors{index_op(x[0], axis, keepdim)}; };
    index.twin = [=](A x) { return Arrays{reduced(x[0], {axis}, keepdim, place)}; };
    index.results = {Gives::i64};
    index.gradient = Gradient::none;
    cases.push_back(both);
    cases.push_back(index);
  }
}

void tests(Cases& cases) {
  Cases own = reductions(
      "any", [](const Tensor& x) { return any(x); },
      [](const Tensor& x, const Axes& axes, bool keepdim) { return any(x, axes, keepdim); },
      [](const Numbers& v) {
        return C(std::any_of(v.begin(), v.end(), [](C x) { return x != 0.0; }));
      });
  append(own,
         reductions(
             "all", [](const Tensor& x) { return all(x); },
             [](const Tensor& x, const Axes& axes, bool keepdim) { return all(x, axes, keepdim); },
             [](const Numbers& v) {
               return C(std::all_of(v.begin(), v.end(), [](C x) { return x != 0.0; }));
             }));
  for (Case& c : own) {
    c.types = kAll;
    c.results = {Gives::boolean};
    c.gradient = Gradient::none;
    c.said = {c.name, "to", "sum"};
    for (Inputs& inputs : c.inputs) inputs[0].low = 0, inputs[0].whole = true;
  }
  append(cases, own);
}

C running(const Numbers& v, std::size_t end) {
  C total = 0;
  for (std::size_t i = 0; i <= end; ++i) total += v[i];
  return total;
}

void rest(Cases& cases) {
  Cases own = reductions(
      "norm", [](const Tensor& x) { return norm(x); },
      [](const Tensor& x, const Axes& axes, bool keepdim) { return norm(x, axes, keepdim); },
      [](const Numbers& v) { return C(std::sqrt(squares_around(v, 0))); });
  for (Case& c : own) c.types = kInexact, c.results = {Gives::real};
  append(cases, own);
  for (std::int64_t axis : {0, 1, -1}) {
    cases.push_back({.name = "cumsum",
                     .detail = axis == 0   ? "axis 0"
                               : axis == 1 ? "axis 1"
                                           : "the last axis",
                     .inputs = {{{.shape = {3, 5, 2}}},
                                {{.shape = {7, 11, 13}}},
                                {{.shape = {0, 3, 2}}},
                                {{.shape = {2, 0, 3}}}},
                     .call = [=](X x) { return Tensors{cumsum(x[0], axis)}; },
                     .twin =
                         [=](A x) {
                           return Arrays{along(x[0], axis, [](const Numbers& v) {
                             Numbers y;
                             for (std::size_t i = 0; i < v.size(); ++i) y.push_back(running(v, i));
                             return y;
                           })};
                         },
                     .types = kNumbers,
                     .results = {Gives::counted},
                     .large = {{.shape = {64, 31, 57}}}});
    if (axis != 0) continue;
    cases.back().errors = {
        wrong<IndexError>([] { cumsum(zeros({2}), 1); }, "cumsum: axis 1 is out of range")};
  }
  own = reductions("logsumexp", nullptr, logsumexp, [](const Numbers& v) {
    double total = 0;
    for (C x : v) total += std::exp(x.real());
    return C(std::log(total));
  });
  for (Case& c : own) c.bound = 4;  // several roundings to bf16 and f16
  append(cases, own);
}

}  // namespace

Cases reduction_cases() {
  Cases cases;
  sums(cases);
  extremum<true>(cases, "max", "argmax", max, max, argmax);
  extremum<false>(cases, "min", "argmin", min, min, argmin);
  tests(cases);
  rest(cases);
  return cases;
}

}  // namespace op_cases
