// What is special about picking elements, and x[{...}]; all else is in op_cases.
#include <triad/tests/op_test.h>

using namespace op_test;

TEST_CASE("topk: NaN is the largest") {
  const Tensor odd = tensor({1, kNan, kInf, -kInf}, {4});
  CHECK(values(topk(odd, 4).second) == Values{1, 2, 0, 3});
  CHECK(values(topk(odd, 4, 0, false).second) == Values{3, 0, 2, 1});
  CHECK(topk(zeros({3}), 0).first.shape() == Shape{0});
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
