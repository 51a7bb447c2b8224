// Matrix products against the three loops that define them.
#include <triad/tests/op_test.h>

#include <cmath>

using namespace op_test;

namespace {

// c[...,M,N] = a[...,M,K] b[...,K,N] with broadcast leading axes, in fp64.
Values product(const Tensor& a, const Tensor& b) {
  const std::int64_t M = a.size(-2), K = a.size(-1), N = b.size(-1);
  const auto batch = [](const Shape& s) { return Shape(s.begin(), s.end() - 2); };
  Shape left = broadcast_shapes("twin", batch(a.shape()), batch(b.shape())), right = left;
  const std::int64_t count = left.numel();
  left.push_back(M), left.push_back(K), right.push_back(K), right.push_back(N);
  const Values x = values(a.expand(left)), y = values(b.expand(right));
  Values c;
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t m = 0; m < M; ++m)
      for (std::int64_t n = 0; n < N; ++n) {
        double dot = 0;
        for (std::int64_t k = 0; k < K; ++k)
          dot += x[std::size_t((i * M + m) * K + k)] * y[std::size_t((i * K + k) * N + n)];
        c.push_back(dot);
      }
  return c;
}

const std::pair<Shape, Shape> kShapes[] = {
    {{3, 5}, {5, 7}},
    {{1, 1}, {1, 1}},
    {{13, 17}, {17, 31}},
    {{1, 5}, {5, 1}},
    {{5, 1}, {1, 5}},
    {{2, 3, 5}, {2, 5, 7}},
    {{2, 3, 5}, {5, 7}},
    {{3, 5}, {4, 5, 2}},
    {{2, 1, 3, 5}, {4, 5, 2}},
    {{1, 3, 5}, {6, 5, 7}},
    {{2, 2, 2, 3}, {2, 1, 3, 2}},
    {{1, 70}, {70, 33}},
};
const std::pair<Shape, Shape> kEmpty[] = {
    {{0, 5}, {5, 7}}, {{3, 0}, {0, 7}}, {{3, 5}, {5, 0}}, {{0, 3, 5}, {5, 7}}, {{0, 0}, {0, 0}},
};

double room(const Tensor& a) { return std::sqrt(double(a.size(-1))); }

}  // namespace

TEST_CASE("matmul: values, however both sides lie") {
  for (DType dtype : {f32, f64})
    for (const auto& [left, right] : kShapes)
      for (Lie lie_a : kLies)
        for (Lie lie_b : kLies) {
          const Tensor a = laid(lie_a, noise(left, dtype)), b = laid(lie_b, noise(right, dtype));
          const Tensor c = matmul(a, b);
          CHECK(c.is_contiguous());
          check_close(c, product(a, b), bound(dtype), left.str() + right.str(), room(a));
        }
}

TEST_CASE("matmul: transposed, permuted and repeated sides") {
  for (DType dtype : {f32, f64}) {
    const Tensor x = noise({6, 5, 4, 3}, dtype);
    const auto check = [&](const Tensor& a, const Tensor& b, const char* what) {
      check_close(matmul(a, b), product(a, b), bound(dtype), what, room(a));
    };
    check(x, x.transpose(-1, -2), "transposed");
    check(x.permute({0, 2, 1, 3}), x.permute({0, 2, 3, 1}), "heads");
    check(x.select(3, 1), noise({4, 2}, dtype).transpose(0, 1).clone().transpose(0, 1),
          "nothing with stride 1");
    check(noise({1, 5}, dtype).expand({4, 5}), noise({5, 1}, dtype).expand({5, 6}),
          "repeated rows");
    check(noise({4, 1}, dtype).expand({4, 5}), noise({1, 6}, dtype).expand({5, 6}),
          "repeated columns");
    check(noise({}, dtype).expand({4, 5}), noise({1}, dtype).expand({5, 6}), "one number");
    check(x.slice(2, 1, 2), x.slice(2, 0, 1).transpose(2, 3), "axes of size 1");
    check(x.select(0, 0).expand({7, 5, 4, 3}), noise({7, 1, 3, 2}, dtype), "repeated matrices");
  }
}

TEST_CASE("matmul with vectors") {
  for (DType dtype : {f32, f64}) {
    const Tensor a = noise({2, 3, 5}, dtype), v = noise({5}, dtype), w = noise({3}, dtype);
    CHECK(matmul(v, v).shape() == Shape{});
    CHECK(matmul(a, v).shape() == Shape{2, 3});
    CHECK(matmul(w, a).shape() == Shape{2, 5});
    check_close(matmul(v, v), product(v.unsqueeze(0), v.unsqueeze(1)), bound(dtype), "dot", 3);
    check_close(matmul(a, v), product(a, v.unsqueeze(1)), bound(dtype), "matrix vector", 3);
    check_close(matmul(w, a), product(w.unsqueeze(0), a), bound(dtype), "vector matrix", 3);
    check_close(matmul(a, a.select(0, 0).select(0, 1)),
                product(a, a.slice(0, 0, 1).slice(1, 1, 2).transpose(1, 2)), bound(dtype), "view",
                3);
  }
}

TEST_CASE("matmul: first and second derivatives") {
  const auto f = [](const Tensors& x) { return matmul(x[0], x[1]); };
  const std::pair<Shape, Shape> shapes[] = {
      {{3, 5}, {5, 2}}, {{2, 3, 2}, {2, 3}}, {{3, 2}, {4, 2, 1}}, {{2, 1, 1, 3}, {3, 3, 2}},
      {{5}, {5}},       {{2, 3, 5}, {5}},    {{3}, {2, 3, 2}},
  };
  for (const auto& [left, right] : shapes) {
    check_gradient("matmul", f, {noise(left), noise(right)});
    check_second_gradient("matmul", f, {noise(left), noise(right)});
  }
  check_gradient("with itself", [](const Tensors& x) { return matmul(x[0], x[0].transpose(0, 1)); },
                 {noise({3, 5})});
  check_gradient("repeated",
                 [](const Tensors& x) {
                   return matmul(x[0].expand({3, 5}), x[1].expand({5, 2}));
                 },
                 {noise({1, 5}), noise({5, 1})});
}

TEST_CASE("linear: values and derivatives") {
  for (DType dtype : {f32, f64})
    for (const Shape& shape : {Shape{5}, Shape{3, 5}, Shape{2, 3, 5}, Shape{2, 1, 4, 5}})
      for (Lie lie : kLies) {
        const Tensor x = laid(lie, noise(shape, dtype)), w = laid(lie, noise({7, 5}, dtype));
        const Tensor b = laid(lie, noise({7}, dtype));
        const Tensor y = linear(x, w, b), plain = linear(x, w);
        Shape want = shape;
        want[shape.rank() - 1] = 7;
        CHECK(y.shape() == want);
        const Values product_only = product(x.reshape({-1, 5}), w.transpose(0, 1));
        check_close(plain, product_only, bound(dtype), "linear", room(x));
        Values with_bias = product_only;
        for (std::size_t i = 0; i < with_bias.size(); ++i) with_bias[i] += values(b)[i % 7];
        check_close(y, with_bias, bound(dtype), "linear with bias", room(x));
      }
  const auto f = [](const Tensors& x) { return linear(x[0], x[1], x[2]); };
  for (const Shape& shape : {Shape{5}, Shape{3, 5}, Shape{2, 2, 5}}) {
    check_gradient("linear", f, {noise(shape), noise({3, 5}), noise({3})});
    check_second_gradient("linear", f, {noise(shape), noise({3, 5}), noise({3})});
  }
  check_gradient("without bias", [](const Tensors& x) { return linear(x[0], x[1]); },
                 {noise({3, 5}), noise({2, 5})});
}

TEST_CASE("products of nothing are zeros") {
  for (DType dtype : {f32, f64})
    for (const auto& [left, right] : kEmpty) {
      const Tensor a = noise(left, dtype).requires_grad_(),
                   b = noise(right, dtype).requires_grad_();
      const Tensor c = matmul(a, b);
      CHECK(values(c) == Values(std::size_t(c.numel())));
      for (const Tensor& g : grad({sum(c)}, {a, b}))
        CHECK(values(g) == Values(std::size_t(g.numel())));
    }
  const Tensor bias = from_vector<float>({1, 2});
  CHECK(values(linear(zeros({3, 0}), zeros({2, 0}), bias)) == Values{1, 2, 1, 2, 1, 2});
  CHECK(linear(zeros({0, 4}), zeros({2, 4}), bias).shape() == Shape{0, 2});
  CHECK(linear(zeros({2, 0, 4}), zeros({3, 4})).shape() == Shape{2, 0, 3});
}

TEST_CASE("f64 products are the same bits at any number of threads") {
  const Tensor a = noise({3, 65, 127}), b = noise({127, 67});
  check_threads("matmul", [&] { return matmul(a, b); });
  check_threads("matmul, transposed", [&] { return matmul(b.transpose(0, 1), a.transpose(1, 2)); });
}

TEST_CASE("errors") {
  const Tensor a = zeros({2, 3}), b = zeros({4, 5});
  check_error<ShapeError>([&] { matmul(a, b); },
                          "matmul: needs [...,M,K] and [...,K,N], got [2,3] and [4,5]");
  check_error<ShapeError>([&] { matmul(a, zeros({})); }, "matmul: needs at least one axis each");
  check_error<ShapeError>(
      [&] {
        matmul(zeros({2, 3, 5}), zeros({3, 5, 2}));
      },
      "matmul: [2] and [3] do not broadcast");
  check_error<ShapeError>([&] { matmul(zeros({3}), zeros({4})); }, "matmul: needs ");
  check_error<DTypeError>([&] { matmul(a, a.to(f64)); },
                          "matmul: the types differ, f32 and f64; write .to(f32) or .to(f64)");
  check_error<DTypeError>([&] { matmul(a.to(i64), a.to(i64)); }, "matmul: needs f32 or f64");
  check_error<ShapeError>([&] { linear(a, b); },
                          "linear: needs x [...,K], weight [N,K], bias [N], got [2,3], [4,5], ");
  check_error<ShapeError>([&] { linear(a, zeros({4, 3}), zeros({3})); }, "[2,3], [4,3], [3]");
  check_error<ShapeError>([&] { linear(zeros({}), zeros({4, 3})); }, "linear: needs x [...,K]");
  check_error<ShapeError>([&] { linear(a, zeros({3})); }, "linear: needs ");
  check_error<DTypeError>([&] { linear(a, zeros({4, 3}, {.dtype = f64})); }, "linear: the types");
}

// ---------------------------------------------------------------------- einsum

namespace {

// The definition: a sum over every letter, whatever the order of operands.
Values direct_einsum(const std::vector<std::string>& names, const std::string& out,
                     const Tensors& operands) {
  std::string letters = out;
  std::vector<std::int64_t> sizes;
  for (const std::string& axes : names)
    for (char c : axes)
      if (letters.find(c) == std::string::npos) letters += c;
  for (char c : letters)
    for (std::size_t i = 0; i < names.size(); ++i)
      if (names[i].find(c) != std::string::npos) {
        sizes.push_back(operands[i].size(std::int64_t(names[i].find(c))));
        break;
      }
  std::int64_t total = 1, kept = 1;
  for (std::size_t k = 0; k < letters.size(); ++k)
    total *= sizes[k], kept *= k < out.size() ? sizes[k] : 1;
  std::vector<Values> data;
  for (const Tensor& x : operands) data.push_back(values(x));
  Values result(static_cast<std::size_t>(kept), 0.0);
  std::vector<std::int64_t> at(letters.size());
  for (std::int64_t i = 0; i < total; ++i) {
    std::int64_t rest = i, place = 0;
    for (std::size_t k = letters.size(); k-- > 0; rest /= sizes[k]) at[k] = rest % sizes[k];
    for (std::size_t k = 0; k < out.size(); ++k) place = place * sizes[k] + at[k];
    double term = 1;
    for (std::size_t n = 0; n < names.size(); ++n) {
      std::int64_t offset = 0;
      for (std::size_t k = 0; k < names[n].size(); ++k)
        offset = offset * operands[n].size(std::int64_t(k)) + at[letters.find(names[n][k])];
      term *= data[n][std::size_t(offset)];
    }
    result[std::size_t(place)] += term;
  }
  return result;
}

}  // namespace

TEST_CASE("einsum") {
  struct Case {
    const char* equation;
    std::vector<std::string> names;
    const char* out;
    std::vector<Shape> shapes;
  };
  const Case cases[] = {
      {"ij,jk->ik", {"ij", "jk"}, "ik", {{3, 4}, {4, 5}}},
      {"bij, bjk -> bik", {"bij", "bjk"}, "bik", {{2, 3, 4}, {2, 4, 5}}},
      {"bhtd,bhsd->bhts", {"bhtd", "bhsd"}, "bhts", {{2, 2, 3, 4}, {2, 2, 5, 4}}},
      {"ij->ji", {"ij"}, "ji", {{3, 4}}},
      {"ij->", {"ij"}, "", {{3, 4}}},
      {"ii->i", {"ii"}, "i", {{4, 4}}},
      {"ii->", {"ii"}, "", {{4, 4}}},
      {"i,j->ij", {"i", "j"}, "ij", {{3}, {4}}},
      {"i,i->", {"i", "i"}, "", {{5}, {5}}},
      {"ij,ij->ji", {"ij", "ij"}, "ji", {{3, 4}, {3, 4}}},
      {"ijk,k->j", {"ijk", "k"}, "j", {{2, 3, 4}, {4}}},
      {"ij,k->k", {"ij", "k"}, "k", {{2, 3}, {4}}},
      {"ab,bc,cd->ad", {"ab", "bc", "cd"}, "ad", {{2, 3}, {3, 4}, {4, 5}}},
      {"abc,cd,bde->ea", {"abc", "cd", "bde"}, "ea", {{2, 3, 2}, {2, 3}, {3, 3, 4}}},
      {"iij,jk->ki", {"iij", "jk"}, "ki", {{3, 3, 2}, {2, 4}}},
      {"aB,Bc->ac", {"aB", "Bc"}, "ac", {{2, 3}, {3, 2}}},
  };
  for (const Case& c : cases) {
    Tensors operands;
    for (const Shape& shape : c.shapes) operands.push_back(noise(shape));
    const Tensor y = einsum(c.equation, operands);
    check_close(y, direct_einsum(c.names, c.out, operands), 1e-13, c.equation);
    const auto f = [&](const Tensors& x) { return einsum(c.equation, x); };
    check_gradient(c.equation, f, operands);
    check_second_gradient(c.equation, f, operands);
  }
  const Tensor a = noise({3, 4}), b = noise({4, 5});
  const auto error = [&](const char* equation) {
    return std::string("einsum: '") + equation + "' ";
  };
  for (const char* equation :
       {"ij,jk", "i.,jk->ik", "ij->ij", "ij,jkl->ik", "ij,jk->ii", "ij,jk->iz"})
    check_error<ValueError>([&] { einsum(equation, {a, b}); }, error(equation));
  check_error<ShapeError>([&] { einsum("ij,kj->ik", {a, b}); }, "einsum: axis j is 4 long and 5");
  check_error<ValueError>([&] { einsum("->", {}); }, "names 1 operands, 0 came");
}
