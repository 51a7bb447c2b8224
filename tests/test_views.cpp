// View ops, joins and copies with their gradients. Where a view's elements lie is settled in
// test_layout.cpp; here views must act like the same ops on copies, forward and backward.
#include <triad/tests/op_test.h>

#include <random>

using namespace op_test;

namespace {

std::mt19937 engine(21);
std::int64_t pick(std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(engine);
}

using Step = std::function<Tensor(const Tensor&)>;

// A random view op that fits x.
Step random_step(const Tensor& x) {
  const int rank = x.dim();
  const std::int64_t axis = rank ? pick(-rank, rank - 1) : 0;
  switch (pick(0, 7)) {
    case 0: {
      Shape order;
      for (int i = 0; i < rank; ++i) order.push_back(i);
      std::shuffle(order.begin(), order.end(), engine);
      return [order](const Tensor& t) { return t.permute(order); };
    }
    case 1: return [](const Tensor& t) { return t.reshape({-1}); };
    case 2: {
      if (rank == 0) break;
      const std::int64_t size = x.size(axis), start = pick(-size, size - 1), by = pick(1, 3);
      return [=](const Tensor& t) { return t.slice(axis, start, kEnd, by); };
    }
    case 3: {
      if (rank < 2) break;
      const std::int64_t index = pick(-x.size(axis), x.size(axis) - 1);
      return [=](const Tensor& t) { return t.select(axis, index); };
    }
    case 4: {
      if (rank > 3 || x.numel() > 200) break;
      Shape to(x.shape());
      for (std::int64_t& size : to)
        if (size == 1) size = pick(1, 3);
      to.insert(0, 2);
      return [to](const Tensor& t) { return t.expand(to); };
    }
    case 5: return [=](const Tensor& t) { return t.unsqueeze(rank < 5 ? axis : 0); };
    case 6: {
      if (rank == 0) break;
      return [=](const Tensor& t) { return t.squeeze(axis); };
    }
    default: {
      if (rank < 2) break;
      Shape to = x.shape();
      to[0] *= to[1];
      to.erase(1);
      return [to](const Tensor& t) { return t.reshape(to); };
    }
  }
  return [](const Tensor& t) { return t * 1.5; };
}

}  // namespace

TEST_CASE("1000 random chains of views are the same chains on copies") {
  for (int chain = 0; chain < 1000; ++chain) {
    Shape shape;
    for (std::int64_t rank = pick(1, 4); rank > 0; --rank) shape.push_back(pick(1, 5));
    const Tensor x = noise(shape).requires_grad_();
    Tensor view = x, copy = x.clone();
    for (int i = 0; i < 6 && view.dim() < 6; ++i) {
      const Step step = random_step(view);
      view = step(view), copy = step(copy).clone();
    }
    REQUIRE(view.shape() == copy.shape());
    REQUIRE(values(view) == values(copy));
    const Tensor c = noise(view.shape());
    const Tensor by_views = grad({view}, {x}, {c})[0], by_copies = grad({copy}, {x}, {c})[0];
    REQUIRE(by_views.shape() == shape);
    check_close(by_views, values(by_copies), 1e-14, "chain " + std::to_string(chain));
  }
}

TEST_CASE("gradients of views, joins and copies") {
  const Tensor x = noise({3, 4, 5});
  const std::vector<std::pair<const char*, Step>> ops = {
      {"reshape",
       [](const Tensor& t) {
         return t.reshape({4, -1});
       }},
      {"flatten", [](const Tensor& t) { return t.flatten(1, -1); }},
      {"permute",
       [](const Tensor& t) {
         return t.permute({2, -3, 1});
       }},
      {"transpose", [](const Tensor& t) { return t.transpose(-1, 0); }},
      {"unsqueeze", [](const Tensor& t) { return t.unsqueeze(-2); }},
      {"squeeze", [](const Tensor& t) { return t.slice(1, 2, 3).squeeze(1); }},
      {"expand",
       [](const Tensor& t) {
         return t.slice(1, 1, 2).expand({2, -1, 7, -1});
       }},
      {"slice", [](const Tensor& t) { return t.slice(-1, -4, kEnd, 2); }},
      {"select", [](const Tensor& t) { return t.select(1, -2); }},
      {"split", [](const Tensor& t) { return t.split(2, 2)[1]; }},
      {"contiguous", [](const Tensor& t) { return t.transpose(0, 1).contiguous(); }},
      {"clone", [](const Tensor& t) { return t.clone(); }},
      {"cat",
       [](const Tensor& t) {
         return cat({t, t * 2.0, t.slice(1, 1)}, -2);
       }},
      {"stack",
       [](const Tensor& t) {
         return stack({t, square(t)}, -1);
       }},
      {"window",
       [](const Tensor& t) {
         return window("corner", t, [](const Layout& l) {
           return permuted(sliced(selected(l, 0, 1), 1, 0, kEnd, 2), {1, 0});
         });
       }},
      {"view of a zero-size part",
       [](const Tensor& t) {
         return cat({t, t.slice(0, 3)}).reshape({-1});
       }},
  };
  for (const auto& [name, op] : ops) {
    const auto f = [&op = op](const Tensors& inputs) { return op(inputs[0]); };
    check_gradient(name, f, {x});
    check_second_gradient(name, f, {x});
  }
}

TEST_CASE("views share storage, reshape copies only where it must") {
  const Tensor x = noise({4, 6});
  for (const Tensor& view :
       {x.reshape({2, 12}), x.view({-1}), x.flatten(), x.permute({1, 0}), x.slice(0, 1, kEnd, 2),
        x.select(1, 3), x.expand({2, 4, 6}), x.unsqueeze(0), x.squeeze(0), x.split(4)[0],
        x.contiguous(), x.slice(0, 0, kEnd, 2).reshape({2, 3, 2})})
    CHECK(view.storage() == x.storage());
  CHECK(x.transpose(0, 1).reshape({24}).storage() != x.storage());
  check_error<ShapeError>([&] { x.transpose(0, 1).view({24}); },
                          "view: [6,4] with strides [1,6] is no view of sizes [24]; use reshape");
  check_error<ShapeError>([&] { x.reshape({5, 5}); }, "reshape: [4,6] does not fit into [5,5]");
}

TEST_CASE("flatten") {
  const Tensor x = noise({2, 3, 5});
  CHECK(x.flatten().shape() == Shape{30});
  CHECK(x.flatten(1).shape() == Shape{2, 15});
  CHECK(x.flatten(0, -2).shape() == Shape{6, 5});
  CHECK(x.flatten(1, 1).shape() == x.shape());
  CHECK(scalar(2).flatten().shape() == Shape{1});
  check_error<ValueError>([&] { x.flatten(2, 1); }, "flatten: axis 2 comes after axis 1");
  check_error<IndexError>([&] { x.flatten(0, 3); }, "flatten: axis 3 is out of range");
}

TEST_CASE("split") {
  const Tensor x = arange(7);
  const Tensors even = x.split(3);
  REQUIRE(even.size() == 3);
  CHECK(values(even[2]) == Values{6});
  const Tensors named = x.split({2, 0, 5});
  REQUIRE(named.size() == 3);
  CHECK(named[1].numel() == 0);
  CHECK(values(named[2]) == Values{2, 3, 4, 5, 6});
  CHECK(zeros({0, 2}).split(3).size() == 1);
  check_error<ValueError>([&] { x.split(0); }, "split: needs a size of at least 1");
  check_error<ValueError>([&] { x.split({8, -1}); }, "split: sizes must not be negative");
  check_error<ShapeError>([&] { x.split({kEnd, kEnd, 9}); }, "split: the sizes add up to");
  check_error<ShapeError>(
      [&] {
        x.split({3, 3});
      },
      "split: the sizes add up to 6, axis 0 of [7] has 7");
  check_error<ShapeError>([&] { x.split({3, 5}); }, "add up to 8");
}

TEST_CASE("cat and stack") {
  const Tensor a = from_vector<double>({1, 2, 3, 4}, {2, 2}), b = a.transpose(0, 1);
  CHECK(values(cat({a, b})) == Values{1, 2, 3, 4, 1, 3, 2, 4});
  CHECK(values(cat({a, b}, -1)) == Values{1, 2, 1, 3, 3, 4, 2, 4});
  CHECK(values(stack({a, b}, 1)) == Values{1, 2, 1, 3, 3, 4, 2, 4});
  CHECK(stack({a, b}, -1).shape() == Shape{2, 2, 2});
  CHECK(values(stack({a, b}, -1)) == Values{1, 1, 2, 3, 3, 2, 4, 4});
  CHECK(values(stack({scalar(1), scalar(2)})) == Values{1, 2});
  CHECK(cat({zeros({0, 2}, {.dtype = f64}), a}).shape() == Shape{2, 2});
  const Tensor ids = arange(3, {.dtype = i64});
  CHECK(cat({ids, ids}).dtype() == i64);
  check_error<ValueError>([] { cat({}); }, "cat: needs at least one tensor");
  check_error<ValueError>([] { stack({}); }, "stack: needs at least one tensor");
  check_error<ShapeError>(
      [&] {
        stack({a, noise({2})});
      },
      "stack: the sizes differ, [2,2] and [2]");
  check_error<IndexError>([&] { stack({a}, 3); }, "stack: axis 3 is out of range");
  check_error<ShapeError>(
      [&] {
        cat({a, noise({2, 3})});
      },
      "cat: [2,2] and [2,3] differ in more than axis 0");
  check_error<ShapeError>([&] { cat({a, noise({2})}); }, "cat: [2,2] and [2] differ");
  check_error<DTypeError>([&] { cat({a, a.to(f32)}); }, "cat: the types differ, f64 and f32");
  check_error<IndexError>([&] { cat({a}, 2); }, "cat: axis 2");
  check_error<IndexError>([] { cat({scalar(1)}); }, "cat: axis 0");
}

TEST_CASE("cat into a buffer copies only what does not lie there already") {
  const Tensor x = noise({2, 3}).requires_grad_(), y = noise({2, 2});
  const auto joined = [&](const Tensors& inputs) {
    const Tensor buffer = full({2, 5}, kNan, {.dtype = f64});
    Tensor place = buffer.slice(1, 0, 3);
    no_grad([&] { place.copy_(inputs[0] * 2.0); });  // an op that writes where it is told to
    place = record("double", place, {inputs[0]}, [](const Tensor& g) { return Tensors{g * 2.0}; });
    Tensor whole = cat({place, inputs[1]}, 1, buffer);
    CHECK(whole.storage() == buffer.storage());
    return whole;
  };
  CHECK(values(joined({x, y})) == values(cat({x * 2.0, y}, 1)));
  check_gradient("cat with a buffer", joined, {x.detach(), y});
  check_error<ShapeError>(
      [&] {
        cat({y, y}, 1, zeros({2, 3}, {.dtype = f64}));
      },
      "cat: the buffer is f64[2,3], the result f64[2,4]");
  check_error<ShapeError>([&] { cat({y, y}, 1, zeros({2, 4})); }, "cat: the buffer is f32[2,4]");
  const Tensor leaf = zeros({2, 4}, {.dtype = f64, .requires_grad = true});
  check_error<AutogradError>([&] { cat({y, y}, 1, leaf); }, "cat: the tensor has a history (leaf)");
}

TEST_CASE("casts pass gradients between floating types and no others") {
  const Tensor x = noise({5}, f32).requires_grad_();
  const Tensor g = grad({sum(square(x.to(f64)))}, {x})[0];
  CHECK(g.dtype() == f32);
  check_close(g, values(x * 2.0), 1e-7, "cast");
  CHECK(!x.to(i64).requires_grad());
  CHECK(!x.to(boolean).requires_grad());
  CHECK(x.to(f32).node() == x.node());
}

TEST_CASE("views of nothing") {
  const Tensor x = zeros({2, 0, 3}).requires_grad_();
  CHECK(x.reshape({-1, 3}).shape() == Shape{0, 3});
  CHECK(x.transpose(0, 2).reshape({0, 7}).shape() == Shape{0, 7});
  CHECK(x.slice(1, 0).permute({2, 1, 0}).contiguous().shape() == Shape{3, 0, 2});
  CHECK(cat({x, x}, 1).shape() == Shape{2, 0, 3});
  CHECK(grad({sum(x.select(0, 1))}, {x})[0].shape() == x.shape());
  check_error<IndexError>([&] { x.select(1, 0); }, "select: index 0 is out of range for axis 1");
}

TEST_CASE("an expanded tensor is not written to, and overlapping views copy as if apart") {
  const Tensor one = ones({1});
  check_error<ValueError>([&] { one.expand({3}).copy_(arange(3)); },
                          "copy_: the tensor is expanded");
  check_error<ValueError>([&] { one.expand({3}).fill_(2); }, "fill_: the tensor is expanded");
  check_error<ShapeError>([&] { one.copy_(arange(3)); }, "copy_: [3] does not broadcast to [1]");
  const Tensor x = arange(100);
  x.slice(0, 1).copy_(x.slice(0, 0, 99));
  CHECK(x.select(0, 99).item<float>() == 98);
  CHECK(x.select(0, 1).item<float>() == 0);
}

TEST_CASE("chunk, repeat and pad") {
  const Tensor x = noise({5, 3});
  const Tensors parts = chunk(x, 3);
  REQUIRE(parts.size() == 3);
  CHECK(parts[2].shape() == Shape{1, 3});
  CHECK(chunk(x, 2, 1)[1].shape() == Shape{5, 1});
  check_error<ValueError>([&] { chunk(x, 0); }, "chunk: needs at least 1 chunk");

  const Tensor twice = repeat(x, {2, 1, 2});
  CHECK(twice.shape() == Shape{2, 5, 6});
  for (std::int64_t i : {0, 1})
    for (std::int64_t j : {0, 3}) CHECK(values(twice.select(0, i).slice(1, j, j + 3)) == values(x));
  CHECK(repeat(x, {0, 2}).shape() == Shape{0, 6});
  CHECK(same_bits(repeat(x, {1, 1}), x));
  check_error<ShapeError>([&] { repeat(x, {2}); }, "repeat: needs a count for each axis of [5,3]");

  const Tensor wide = pad(x, {1, 2, 0, 1}, 7);
  CHECK(wide.shape() == Shape{6, 6});
  CHECK(values(wide.slice(0, 0, 5).slice(1, 1, 4)) == values(x));
  CHECK(values(wide.select(0, 5)) == Values(6, 7.0));
  CHECK(values(wide.select(1, 0)) == Values(6, 7.0));
  CHECK(pad(x.to(boolean), {1, 0}).dtype() == boolean);
  check_error<ShapeError>([&] { pad(x, {1}); }, "pad: needs two widths an axis");
  check_error<ValueError>([&] { pad(x, {-1, 0}); }, "pad: widths must not be negative");
  const std::pair<const char*, TensorFunction> ops[] = {
      {"chunk", [](const Tensors& t) { return chunk(t[0], 2)[1]; }},
      {"repeat",
       [](const Tensors& t) {
         return repeat(t[0], {2, 3});
       }},
      {"pad", [](const Tensors& t) {
         return pad(t[0], {1, 0, 2, 0});
       }}};
  for (const auto& [name, f] : ops) {
    check_gradient(name, f, {noise({3, 2})});
    check_second_gradient(name, f, {noise({3, 2})});
  }
}
