// Elements picked by index, against loops; and x[{...}].
#include <triad/tests/op_test.h>

#include <algorithm>
#include <numeric>

using namespace op_test;

namespace {

Tensor indices(const Values& values, const Shape& shape) { return tensor(values, shape, i64); }

}  // namespace

TEST_CASE("index_select, flip and roll") {
  for (DType dtype : {f32, f64, bf16, c64, i32, i64, boolean})
    for (Lie lie : kLies) {
      const Tensor x = laid(lie, noise({3, 4, 5}, dtype));
      for (std::int64_t axis : {0, 1, -1}) {
        const Tensor y = index_select(x, axis, indices({2, 0, 2, 1}, {4}));
        const std::int64_t from[] = {2, 0, 2, 1};
        for (std::int64_t i = 0; i < 4; ++i)
          CHECK(values(y.select(axis, i)) == values(x.select(axis, from[i])));
        const std::int64_t n = x.size(axis);
        for (std::int64_t i = 0; i < n; ++i) {
          CHECK(values(flip(x, axis).select(axis, i)) == values(x.select(axis, n - 1 - i)));
          for (std::int64_t shift : {0, 1, -1, 7, -12})
            CHECK(values(roll(x, shift, axis).select(axis, ((i + shift) % n + n) % n)) ==
                  values(x.select(axis, i)));
        }
      }
    }
  CHECK(flip(zeros({2, 0}), 1).shape() == Shape{2, 0});
  CHECK(roll(zeros({2, 0}), 3, 1).shape() == Shape{2, 0});
  CHECK(index_select(zeros({3, 2}), 0, zeros({0}, {.dtype = i64})).shape() == Shape{0, 2});
  for (std::int64_t axis : {0, 1}) {
    const auto f = [=](const Tensors& x) {
      return index_select(x[0], axis, indices({1, 0, 1}, {3})) *
             index_select(x[0], axis, indices({0, 1, 1}, {3}));
    };
    check_gradient("index_select", f, {noise({2, 3})});
    check_second_gradient("index_select", f, {noise({2, 3})});
  }
  check_error<IndexError>([] { index_select(zeros({3}), 0, indices({3}, {1})); },
                          "index_select: needs indices in 0..2, got 3");
  check_error<IndexError>([] { index_select(zeros({3}), 0, indices({-1}, {1})); }, "got -1");
  check_error<ShapeError>(
      [] {
        index_select(zeros({3}), 0, indices({1}, {1, 1}));
      },
      "needs an index [n]");
  check_error<DTypeError>([] { index_select(zeros({3}), 0, zeros({1})); }, "needs i64 indices");
}

TEST_CASE("gather and scatter_add") {
  for (DType dtype : {f32, f64, bf16, c128, i32, i64})
    for (Lie lie : kLies)
      for (int axis = 0; axis < 2; ++axis) {
        const Tensor x = laid(lie, noise({4, 5}, dtype));
        const Tensor index = indices({0, 3, 1, 2, 2, 0}, {2, 3});
        const Tensor y = gather(x, axis, index), added = scatter_add(x, axis, index, y);
        const std::vector<std::int64_t> at = index.to_vector<std::int64_t>();
        CHECK(y.shape() == index.shape());
        CHECK(y.dtype() == dtype);
        Values want = values(x.to(c128));
        const Values plain = want, got = values(y.to(c128));
        for (std::int64_t i = 0; i < 2; ++i)
          for (std::int64_t j = 0; j < 3; ++j) {
            const std::int64_t k = at[std::size_t(i * 3 + j)];
            const std::size_t place = std::size_t(axis == 0 ? k * 5 + j : i * 5 + k);
            CHECK(got[std::size_t(i * 3 + j)] == plain[place]);
            want[place] += plain[place];
          }
        check_close(added, want, dtype == bf16 ? 8e-3 : 2e-7, "scatter_add");
      }
  const Tensor index = indices({0, 0, 1, 0, 1, 1}, {3, 2});
  for (std::int64_t axis : {0, 1}) {
    const auto f = [=](const Tensors& x) { return gather(x[0], axis, index) * x[1]; };
    check_gradient("gather", f, {noise({3, 2}), noise({3, 2})});
    check_second_gradient("gather", f, {noise({3, 2}), noise({3, 2})});
    const auto g = [=](const Tensors& x) { return square(scatter_add(x[0], axis, index, x[1])); };
    check_gradient("scatter_add", g, {noise({3, 2}), noise({3, 2})});
    check_second_gradient("scatter_add", g, {noise({3, 2}), noise({3, 2})});
  }
  CHECK(gather(zeros({2, 3}), 1, zeros({2, 0}, {.dtype = i64})).shape() == Shape{2, 0});
  check_error<ShapeError>(
      [&] {
        gather(zeros({2, 2}), 1, index);
      },
      "gather: needs an index of 2 axes, none but axis 1 longer than in [2,2]");
  check_error<IndexError>([&] { gather(zeros({3, 1}), 1, index); }, "needs indices in 0..0, got 1");
  check_error<ShapeError>(
      [&] {
        scatter_add(zeros({3, 2}), 1, index, zeros({3, 1}));
      },
      "scatter_add: needs a source of the index's sizes [3,2]");
}

TEST_CASE("topk is a stable sort, cut off") {
  for (DType dtype : {f32, f64, bf16, i32, i64})
    for (Lie lie : kLies)
      for (bool largest : {true, false}) {
        const Tensor x = laid(lie, noise({3, 11}, dtype));
        const auto [top, index] = topk(x, 4, -1, largest);
        CHECK(top.dtype() == dtype);
        const Values v = values(x), got = values(index);
        for (std::size_t r = 0; r < 3; ++r) {
          std::vector<std::size_t> order(11);
          std::iota(order.begin(), order.end(), std::size_t(0));
          std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) {
            return largest ? v[r * 11 + i] > v[r * 11 + j] : v[r * 11 + i] < v[r * 11 + j];
          });
          for (std::size_t k = 0; k < 4; ++k) CHECK(got[r * 4 + k] == double(order[k]));
        }
        CHECK(values(top) == values(gather(x, 1, index)));
      }
  const Tensor odd = tensor({1, kNan, kInf, -kInf}, {4});
  CHECK(values(topk(odd, 4).second) == Values{1, 2, 0, 3});
  CHECK(values(topk(odd, 4, 0, false).second) == Values{3, 0, 2, 1});
  check_gradient("topk", [](const Tensors& x) { return topk(x[0], 2, 0).first; }, {noise({5, 3})});
  CHECK(topk(zeros({3}), 0).first.shape() == Shape{0});
  check_error<ValueError>([] { topk(zeros({3}), 4); }, "topk: needs 0 <= k <= 3, got 4");
}

TEST_CASE("x[{...}] is NumPy's indexing by views") {
  const Tensor x = noise({4, 5, 6});
  CHECK(same_bits(x[{1}].contiguous(), x.select(0, 1).contiguous()));
  CHECK(same_bits(x[{Slice(0, 2), -1}].contiguous(), x.slice(0, 0, 2).select(1, -1).contiguous()));
  CHECK(x[{Slice(1, kEnd, 2), None, Ellipsis, -1}].shape() == Shape{2, 1, 5});
  CHECK(x[{Ellipsis, 2}].shape() == Shape{4, 5});
  CHECK(x[{None, Ellipsis, None}].shape() == Shape{1, 4, 5, 6, 1});
  CHECK(x[{}].shape() == x.shape());
  CHECK(x[{1, 2, 3}].item<double>() == x.select(0, 1).select(0, 2).select(0, 3).item<double>());
  CHECK(x[{0}].storage() == x.storage());
  check_gradient("index",
                 [](const Tensors& t) {
                   return t[0][{Slice(0, 2), None, 1}];
                 },
                 {noise({3, 2})});
  check_error<IndexError>([&] { x[{0, 0, 0, 0}]; }, "index: 4 entries for the 3 axes of [4,5,6]");
  check_error<IndexError>([&] { x[{Ellipsis, Ellipsis}]; }, "index: Ellipsis may stand once");
  check_error<IndexError>([&] { x[{7}]; }, "index 7 is out of range");
}
