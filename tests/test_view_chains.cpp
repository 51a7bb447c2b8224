// Any chain of views is the same chain on copies, and so is its gradient: 2,000 random chains, and
// 100,000 by ./run test --long.
#include <triad/tests/op_test.h>

#include <cstdlib>
#include <random>

using namespace op_test;

namespace {

class Dice {
 public:
  explicit Dice(unsigned seed) : engine_(seed) {}
  std::int64_t roll(std::int64_t low, std::int64_t high) {  // both included
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
  }
  int axis(const Tensor& x) { return int(roll(-x.dim(), x.dim() - 1)); }

 private:
  std::mt19937 engine_;
};

// A view op with its arguments; made for one tensor, it fits any other of its sizes.
struct Step {
  std::string text;
  std::function<Tensor(const Tensor&)> apply;
};

Shape random_order(Dice& dice, int rank) {
  Shape order;
  for (int i = 0; i < rank; ++i) order.insert(int(dice.roll(0, i)), i);
  return order;
}

// Other sizes for the same elements: axes are merged with their neighbours and cut in two.
Shape random_sizes(Dice& dice, const Shape& from) {
  Shape to;
  for (std::int64_t size : from) {
    if (to.rank() > 0 && dice.roll(0, 2) == 0) {
      to[to.rank() - 1] *= size;
      continue;
    }
    const std::int64_t part = size % 2 == 0 && size > 0 && dice.roll(0, 1) ? 2 : 1;
    if (part == 2 && to.rank() < 5) to.push_back(2), to.push_back(size / 2);
    else to.push_back(size);
  }
  return to;
}

Step random_step(Dice& dice, const Tensor& x) {
  const std::int64_t kind = dice.roll(0, x.dim() == 0 ? 1 : 9);
  if (kind == 0 || x.dim() > 5) {
    const Shape order = random_order(dice, x.dim());
    return {"permute" + order.str(), [=](const Tensor& t) { return t.permute(order); }};
  }
  if (kind == 1) {
    const std::int64_t axis = dice.roll(-x.dim() - 1, x.dim());
    return {"unsqueeze", [=](const Tensor& t) { return t.unsqueeze(axis); }};
  }
  const int axis = dice.axis(x);
  const std::int64_t size = x.size(axis), start = dice.roll(-size - 1, size),
                     end = dice.roll(-size - 1, size + 2), step = dice.roll(1, 3);
  switch (kind) {
    case 2:
      return {"transpose", [=, b = dice.axis(x)](const Tensor& t) { return t.transpose(axis, b); }};
    case 3:
    case 4: return {"slice", [=](const Tensor& t) { return t.slice(axis, start, end, step); }};
    case 5:
      if (size == 0) break;
      return {"select",
              [=, i = dice.roll(-size, size - 1)](const Tensor& t) { return t.select(axis, i); }};
    case 6: return {"squeeze", [=](const Tensor& t) { return t.squeeze(axis); }};
    case 7: {
      const Shape to = random_sizes(dice, x.shape());
      return {"reshape" + to.str(), [=](const Tensor& t) { return t.reshape(to); }};
    }
    case 8: {
      Shape to = x.shape();
      for (std::int64_t& n : to)
        if (n == 1) n = dice.roll(1, 3);
      if (to.rank() < 5 && dice.roll(0, 3) == 0) to.insert(0, 2);
      if (to.numel() > 4000) break;
      return {"expand" + to.str(), [=](const Tensor& t) { return t.expand(to); }};
    }
    default:
      if (size == 0) break;
      return {"index", [=, i = dice.roll(0, size - 1)](const Tensor& t) {
                return t.transpose(0, axis)[{Slice(i, kEnd), None, Ellipsis}];
              }};
  }
  return {"nothing", [](const Tensor& t) { return t; }};
}

}  // namespace

TEST_CASE("chains of views") {
  const int count = std::getenv("TRIAD_LONG") ? 100'000 : 2'000;
  const OneThread guard;
  for (int number = 0; number < count; ++number) {
    Dice dice{unsigned(number)};
    Shape shape;
    for (std::int64_t rank = dice.roll(0, 4); shape.rank() < rank;)
      shape.push_back(dice.roll(0, 19) == 0 ? 0 : dice.roll(1, 6));
    Tensor x = noise(shape).requires_grad_(), twin = x.detach().clone().requires_grad_();
    Tensor view = x, copy = twin;
    std::string text = shape.str();
    for (std::int64_t steps = dice.roll(1, 8); steps > 0; --steps) {
      const Step step = random_step(dice, view);
      text += " " + step.text;
      view = step.apply(view);
      copy = step.apply(copy).clone();
    }
    CAPTURE(number);
    CAPTURE(text);
    REQUIRE(view.shape() == copy.shape());
    REQUIRE(values(view) == values(copy));
    const Tensor c = random_tensor(view.shape(), f64, unsigned(number));
    const Tensors a = grad({view}, {x}, {c}), b = grad({copy}, {twin}, {c});
    REQUIRE(a[0].shape() == shape);
    check_close(a[0], values(b[0]), 1e-14, "gradient");
  }
}
