// Cases of elements picked by index.
#include <triad/tests/op_cases.h>

#include <algorithm>
#include <numeric>

namespace op_cases {

using namespace triad;

namespace {

std::int64_t whole(C x) { return std::int64_t(x.real()); }

// The elements of x where each place in the result comes from: `from` turns one into the other.
Array picked(const Array& x, const Shape& shape, const Function<Shape(Shape)>& from) {
  return build(shape, [&](const Shape& i) { return x[from(i)]; });
}

void rows(Cases& cases) {
  cases.push_back(
      {.name = "embedding",
       .inputs = {{index_below(5, {2, 3}), {.shape = {5, 3}}},
                  {index_below(11, {}), {.shape = {11, 7}}},
                  {index_below(5, {0, 2}), {.shape = {5, 3}}}},
       .call = [](X x) { return Tensors{embedding(x[0], x[1])}; },
       .twin =
           [](A x) {
             Shape shape = x[0].shape;
             shape.push_back(x[1].size(1));
             return Arrays{picked(x[1], shape, [&](Shape i) {
               const std::int64_t column = i.back();
               return Shape{whole(x[0][Shape(i.begin(), i.end() - 1)]), column};
             })};
           },
       .large = {index_below(101, {512}), {.shape = {101, 131}}},
       .errors = {wrong<IndexError>(
                      [] {
                        embedding(tensor({5}, {.dtype = i64}), zeros({5, 3}));
                      },
                      "embedding: needs indices in 0..4, got 5"),
                  wrong<IndexError>(
                      [] {
                        embedding(tensor({-1}, {.dtype = i64}), zeros({5, 3}));
                      },
                      "embedding: needs indices in 0..4, got -1"),
                  wrong<DTypeError>(
                      [] {
                        embedding(zeros({2}), zeros({5, 3}));
                      },
                      "embedding: needs i64 indices, got f32"),
                  wrong<ShapeError>([] { embedding(zeros({2}, {.dtype = i64}), zeros({5})); },
                                    "embedding: needs weight [V,C], got [5]")}});
  for (const std::int64_t axis : {0, -1})
    cases.push_back({.name = "index_select",
                     .detail = axis == 0 ? "axis 0" : "the last axis",
                     .inputs = {{{.shape = {3, 4, 3}}, index_below(3, {5})},
                                {{.shape = {11, 11}}, index_below(11, {17})},
                                {{.shape = {3, 0, 3}}, index_below(3, {2})},
                                {{.shape = {3, 3}}, index_below(3, {0})}},
                     .call = [=](X x) { return Tensors{index_select(x[0], axis, x[1])}; },
                     .twin =
                         [=](A x) {
                           return Arrays{
                               picked(x[0], with(x[0].shape, axis, x[1].size(0)), [&](Shape i) {
                                 std::int64_t& at = i[axis < 0 ? i.rank() - 1 : 0];
                                 at = whole(x[1][{at}]);
                                 return i;
                               })};
                         },
                     .types = kAll,
                     .said = {"index_select"},
                     .large = {{.shape = {101, 7, 101}}, index_below(101, {211})}});
  cases.back().errors = {
      wrong<IndexError>([] { index_select(zeros({3}), 0, tensor({3}, {.dtype = i64})); },
                        "index_select: needs indices in 0..2, got 3"),
      wrong<ShapeError>(
          [] {
            index_select(zeros({3}), 0, zeros({1, 1}, {.dtype = i64}));
          },
          "index_select: needs an index [n], got [1,1]"),
      wrong<DTypeError>([] { index_select(zeros({3}), 0, zeros({1})); },
                        "index_select: needs i64 indices, got f32"),
      wrong<IndexError>([] { index_select(zeros({3}), 1, zeros({1}, {.dtype = i64})); },
                        "index_select: axis 1")};
}

void orders(Cases& cases) {
  for (const std::int64_t axis : {0, -1}) {
    Case turned{.name = "flip",
                .detail = axis == 0 ? "axis 0" : "the last axis",
                .inputs = {{{.shape = {3, 4, 5}}},
                           {{.shape = {13, 17}}},
                           {{.shape = {2, 0, 3}}},
                           {{.shape = {0}}}},
                .call = [=](X x) { return Tensors{flip(x[0], axis)}; },
                .twin =
                    [=](A x) {
                      return Arrays{along(x[0], axis, [](Numbers v) {
                        std::reverse(v.begin(), v.end());
                        return v;
                      })};
                    },
                .types = kAll,
                .large = {{.shape = {67, 31, 53}}}};
    cases.push_back(turned);
    for (const std::int64_t shift : {2, -7, 0}) {
      turned.name = "roll";
      turned.call = [=](X x) { return Tensors{roll(x[0], shift, axis)}; };
      turned.twin = [=](A x) {
        return Arrays{along(x[0], axis, [=](const Numbers& v) {
          Numbers y(v.size());
          const std::int64_t n = std::int64_t(v.size());
          for (std::int64_t i = 0; i < n; ++i)
            y[std::size_t(((i + shift) % n + n) % n)] = v[std::size_t(i)];
          return y;
        })};
      };
      cases.push_back(turned);
    }
  }
  cases[0].errors = {wrong<IndexError>([] { flip(zeros({2}), 1); }, "axis 1 is out of range")};
  cases[1].errors = {wrong<IndexError>([] { roll(zeros({2}), 1, 1); }, "axis 1 is out of range")};
}

void places(Cases& cases) {
  for (const int axis : {0, 1}) {
    const Inputs small{{.shape = {4, 4}}, index_below(4, {2, 3})},
        prime{{.shape = {13, 13}}, index_below(13, {11, 7})},
        none{{.shape = {4, 4}}, index_below(4, {2, 0})};
    cases.push_back({.name = "gather",
                     .detail = axis == 0 ? "axis 0" : "axis 1",
                     .inputs = {small, prime, none},
                     .call = [=](X x) { return Tensors{gather(x[0], axis, x[1])}; },
                     .twin =
                         [=](A x) {
                           return Arrays{picked(x[0], x[1].shape, [&](Shape i) {
                             i[axis] = whole(x[1][i]);
                             return i;
                           })};
                         },
                     .types = kAll,
                     .large = {{.shape = {256, 256}}, index_below(256, {250, 255})}});
    auto with_source = [](Inputs inputs) {
      inputs.push_back({.shape = inputs[1].shape});
      return inputs;
    };
    cases.push_back({.name = "scatter_add",
                     .detail = axis == 0 ? "axis 0" : "axis 1",
                     .inputs = {with_source(small), with_source(prime), with_source(none)},
                     .call = [=](X x) { return Tensors{scatter_add(x[0], axis, x[1], x[2])}; },
                     .twin =
                         [=](A x) {
                           Array y = x[0];
                           std::size_t at = 0;
                           build(x[1].shape, [&](Shape i) {
                             i[axis] = whole(x[1][i]);
                             y.values[std::size_t(i[0] * y.shape[1] + i[1])] += x[2].values[at++];
                             return C(0);
                           });
                           return Arrays{y};
                         },
                     .types = kNumbers,
                     .bound = 4,
                     .large = with_source({{.shape = {256, 256}}, index_below(256, {250, 255})})});
  }
  const std::size_t last = cases.size() - 1;
  cases[last - 1].errors = {
      wrong<ShapeError>(
          [] {
            gather(zeros({2, 2}), 1, zeros({3, 2}, {.dtype = i64}));
          },
          "gather: needs an index of 2 axes, none but axis 1 longer than in [2,2]"),
      wrong<IndexError>([] { gather(zeros({1}), 0, tensor({1}, {.dtype = i64})); },
                        "gather: needs indices in 0..0, got 1"),
      wrong<DTypeError>([] { gather(zeros({2}), 0, zeros({2})); }, "gather: needs i64 indices")};
  cases[last].errors = {wrong<ShapeError>(
      [] {
        scatter_add(zeros({3, 2}), 1, zeros({3, 2}, {.dtype = i64}), zeros({3, 1}));
      },
      "scatter_add: needs a source of the index's sizes [3,2], got [3,1]")};
}

// The indices of the first k, in order; equal ones in the order of their places.
std::vector<std::size_t> order(const Numbers& v, bool largest) {
  std::vector<std::size_t> all(v.size());
  std::iota(all.begin(), all.end(), std::size_t(0));
  std::stable_sort(all.begin(), all.end(), [&](std::size_t i, std::size_t j) {
    return largest ? v[i].real() > v[j].real() : v[i].real() < v[j].real();
  });
  return all;
}

void sorted(Cases& cases) {
  for (const bool largest : {true, false})
    cases.push_back({.name = "topk",
                     .detail = largest ? "largest" : "smallest",
                     .inputs = {{{.shape = {3, 5, 2}}},
                                {{.shape = {7, 11, 13}, .whole = true}},
                                {{.shape = {0, 3, 2}}}},
                     .call =
                         [=](X x) {
                           auto [value, index] = topk(x[0], 3, 1, largest);
                           return Tensors{value, index};
                         },
                     .twin =
                         [=](A x) {
                           auto first = [&](bool index) {
                             return along(x[0], 1, [=](const Numbers& v) {
                               Numbers y;
                               const auto places = order(v, largest);
                               for (std::size_t k = 0; k < 3; ++k)
                                 y.push_back(index ? C(double(places[k])) : v[places[k]]);
                               return y;
                             });
                           };
                           return Arrays{first(false), first(true)};
                         },
                     .types = kOrdered,
                     .results = {Gives::same, Gives::i64},
                     .large = {{.shape = {64, 131, 11}}},
                     .errors = {wrong<ValueError>([] { topk(zeros({3}), 4); },
                                                  "topk: needs 0 <= k <= 3, got 4"),
                                wrong<DTypeError>([] { topk(zeros({3}, {.dtype = c64}), 1); },
                                                  "topk: complex numbers have no order")}});
}

}  // namespace

Cases indexing_cases() {
  Cases cases;
  orders(cases);
  rows(cases);
  places(cases);
  sorted(cases);
  return cases;
}

}  // namespace op_cases
