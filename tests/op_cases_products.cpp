// Cases of matrix products.
#include <triad/tests/op_cases.h>
#include <triad/tests/reference.h>

namespace op_cases {

using namespace triad;

namespace {

// With the vectors of torch.matmul as rows and columns.
Array matmul_twin(const Array& a, const Array& b) {
  Array x = a, y = b;
  if (a.shape.rank() == 1) x.shape.insert(0, 1);
  if (b.shape.rank() == 1) y.shape.push_back(1);
  Array c = product(x, y);
  if (b.shape.rank() == 1) c.shape = without(c.shape, -1);
  if (a.shape.rank() == 1) c.shape = without(c.shape, b.shape.rank() == 1 ? -1 : -2);
  return c;
}

void matrices(Cases& cases) {
  Case c{.name = "matmul",
         .call = [](X x) { return Tensors{matmul(x[0], x[1])}; },
         .twin = [](A x) { return Arrays{matmul_twin(x[0], x[1])}; },
         .types = kInexact,
         .bound = 4,
         .large = {{.shape = {2, 131, 67}}, {.shape = {67, 137}}}};
  const std::pair<Shape, Shape> sizes[] = {
      {{3, 5}, {5, 2}},       {{2, 1, 3, 2}, {2, 2, 4}}, {{5}, {5}},       {{3, 5}, {5}},
      {{5}, {2, 5, 3}},       {{2, 3, 4}, {4, 2}},       {{1, 1}, {1, 7}}, {{31, 37}, {37, 29}},
      {{7, 13, 11}, {11, 1}}, {{0, 5}, {5, 3}},          {{3, 0}, {0, 4}}, {{2, 3, 4}, {2, 4, 0}},
      {{0, 3, 4}, {4, 5}}};
  for (const auto& [a, b] : sizes) c.inputs.push_back({{.shape = a}, {.shape = b}});
  c.errors = {wrong<ShapeError>(
                  [] {
                    matmul(zeros({2, 3}), zeros({2, 3}));
                  },
                  "matmul: needs [...,M,K] and [...,K,N], got [2,3] and [2,3]"),
              wrong<ShapeError>(
                  [] {
                    matmul(scalar(1), zeros({2, 3}));
                  },
                  "matmul: needs at least one axis each, got [] and [2,3]"),
              wrong<ShapeError>(
                  [] {
                    matmul(zeros({2, 3, 4}), zeros({5, 4, 3}));
                  },
                  "matmul: [2] and [5] do not broadcast")};
  cases.push_back(c);
}

Array linear_twin(A x) {
  Array rows = x[0];
  if (rows.shape.rank() == 1) rows.shape.insert(0, 1);
  Array y = product(rows, transposed(x[1], 0, 1));
  if (x.size() > 2) y = zip(y, x[2], std::plus<C>());
  y.shape = with(x[0].shape, -1, x[1].size(0));
  return y;
}

void layers(Cases& cases) {
  Case c{.name = "linear",
         .detail = "with bias",
         .call = [](X x) { return Tensors{linear(x[0], x[1], x[2])}; },
         .twin = [](A x) { return Arrays{linear_twin(x)}; },
         .bound = 4,
         .large = {{.shape = {3, 131, 67}}, {.shape = {137, 67}}, {.shape = {137}}}};
  const std::pair<Shape, Shape> sizes[] = {{{2, 3, 5}, {4, 5}},  {{5}, {2, 5}},    {{3, 1}, {1, 1}},
                                           {{31, 37}, {29, 37}}, {{0, 5}, {4, 5}}, {{3, 0}, {4, 0}},
                                           {{3, 5}, {0, 5}}};
  for (const auto& [x, w] : sizes)
    c.inputs.push_back({{.shape = x}, {.shape = w}, {.shape = {w[0]}, .optional = true}});
  c.errors = {wrong<ShapeError>(
                  [] {
                    linear(zeros({2, 3}), zeros({3, 2}));
                  },
                  "linear: needs x [...,K], weight [N,K], bias [N], got [2,3]"),
              wrong<ShapeError>(
                  [] {
                    linear(zeros({2, 3}), zeros({4, 3}), zeros({3}));
                  },
                  "linear: needs x [...,K], weight [N,K], bias [N], got [2,3]")};
  cases.push_back(c);
  c.detail = "without";
  c.call = [](X x) { return Tensors{linear(x[0], x[1])}; };
  for (Inputs& inputs : c.inputs) inputs.pop_back();
  c.large.pop_back();
  c.errors = {};
  cases.push_back(c);

  // Of sizes with which it is no op of its own on any GPU (test_cuda_mlp.cpp has those).
  Case two{.name = "mlp",
           .inputs = {{{.shape = {2, 3, 5}},
                       {.shape = {4, 5}},
                       {.shape = {4}, .optional = true},
                       {.shape = {3, 4}},
                       {.shape = {3}, .optional = true}}},
           .call = [](X x) { return Tensors{mlp(x[0], x[1], x[2], x[3], x[4])}; },
           .twin =
               [](A x) {
                 const Array h = linear_twin({x[0], x[1], x[2]});
                 const auto f = [](C v) { return C(reference::gelu_tanh(v.real())); };
                 return Arrays{linear_twin({map(h, f), x[3], x[4]})};
               },
           .bound = 16};
  two.said = {"mlp", "linear"};
  cases.push_back(two);
}

// The sum of the products over all values of all letters: the definition.
Array einsum_twin(const std::string& equation, A x) {
  const std::size_t arrow = equation.find("->");
  std::vector<std::string> names(1);
  for (char c : equation.substr(0, arrow))
    if (c == ',') names.emplace_back();
    else names.back() += c;
  const std::string out = equation.substr(arrow + 2);
  std::string letters = out;
  for (const std::string& name : names)
    for (char c : name)
      if (letters.find(c) == std::string::npos) letters += c;
  Shape sizes = Shape::filled(int(letters.size()), 0);
  for (std::size_t k = 0; k < names.size(); ++k)
    for (std::size_t i = 0; i < names[k].size(); ++i)
      sizes[int(letters.find(names[k][i]))] = x[k].shape[int(i)];
  auto at = [&](const std::string& name, const Shape& values) {
    Shape index;
    for (char c : name) index.push_back(values[int(letters.find(c))]);
    return index;
  };
  const Array products = build(sizes, [&](const Shape& values) {
    C y = 1;
    for (std::size_t k = 0; k < names.size(); ++k) y *= x[k][at(names[k], values)];
    return y;
  });
  Axes summed;
  for (std::size_t i = out.size(); i < letters.size(); ++i) summed.push_back(std::int64_t(i));
  return reduced(products, summed, false, [](const Numbers& v) {
    C total = 0;
    for (C value : v) total += value;
    return total;
  });
}

void sums_of_products(Cases& cases) {
  struct {
    const char* equation;
    std::vector<Shape> small, zero;
  } const uses[] = {
      {"bij,bjk->bik", {{2, 3, 5}, {2, 5, 2}}, {{2, 3, 0}, {2, 0, 2}}},
      {"ij->ji", {{3, 5}}, {{3, 0}}},
      {"ii->i", {{5, 5}}, {{0, 0}}},
      {"iij->j", {{3, 3, 2}}, {{3, 3, 0}}},
      {"ij->", {{3, 5}}, {{0, 5}}},
      {"ij,ij->", {{3, 5}, {3, 5}}, {{0, 5}, {0, 5}}},
      {"i,j->ji", {{3}, {5}}, {{3}, {0}}},
      {"aBc,cd,Bd->a", {{2, 3, 4}, {4, 2}, {3, 2}}, {{2, 3, 0}, {0, 2}, {3, 2}}},
      {"bhtd,bhsd->bhts", {{1, 2, 3, 2}, {1, 2, 4, 2}}, {{0, 2, 3, 2}, {0, 2, 4, 2}}}};
  for (const auto& use : uses) {
    Case c{.name = "einsum",
           .detail = use.equation,
           .call = [e = use.equation](X x) { return Tensors{einsum(e, x)}; },
           .twin = [e = use.equation](A x) { return Arrays{einsum_twin(e, x)}; },
           .types = kInexact,
           .bound = 4,
           .said = {"einsum", "matmul"}};
    if (std::string(use.equation) == "ij->ji" || std::string(use.equation) == "ii->i")
      c.memory = Memory::either;  // nothing is computed: a view will do
    for (const auto& sizes : {use.small, use.zero}) {
      c.inputs.emplace_back();
      for (const Shape& shape : sizes) c.inputs.back().push_back({.shape = shape});
    }
    if (std::string(use.equation) == "ii->i" || std::string(use.equation) == "ij->ji")
      c.inputs.push_back({{.shape = {13, 13}}});
    cases.push_back(c);
  }
  cases.back().errors = {wrong<ValueError>(
                             [] {
                               einsum("ij", {zeros({2, 3})});
                             },
                             "einsum: 'ij' has no '->'"),
                         wrong<ValueError>(
                             [] {
                               einsum("i1->i", {zeros({2, 3})});
                             },
                             "has more than letters"),
                         wrong<ValueError>(
                             [] {
                               einsum("ij,jk->ik", {zeros({2, 3})});
                             },
                             "names 2 operands, 1 came"),
                         wrong<ValueError>(
                             [] {
                               einsum("ijk->i", {zeros({2, 3})});
                             },
                             "names 3 axes for [2,3]"),
                         wrong<ValueError>(
                             [] {
                               einsum("ij->k", {zeros({2, 3})});
                             },
                             "has k in its result"),
                         wrong<ValueError>(
                             [] {
                               einsum("ij->ii", {zeros({2, 3})});
                             },
                             "has i in its result"),
                         wrong<ShapeError>(
                             [] {
                               einsum("ij,jk->ik", {zeros({2, 3}), zeros({4, 2})});
                             },
                             "einsum: axis j is 3 long and 4")};
}

}  // namespace

Cases product_cases() {
  Cases cases;
  matrices(cases);
  layers(cases);
  sums_of_products(cases);
  return cases;
}

}  // namespace op_cases
