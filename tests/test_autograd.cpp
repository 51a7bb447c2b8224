// The tape: what backward() and grad() give, what they use up, and what they refuse.
#include <triad/tests/op_test.h>

#include <cmath>
#include <stdexcept>
#include <thread>

using namespace op_test;

namespace {

Tensor leaf(const Values& v) { return tensor(v, {std::int64_t(v.size())}, f64).requires_grad_(); }

// The example of autograd.h.
Tensor cube(const Tensor& x) {
  Tensor y = x.detach() * x.detach() * x.detach();
  return record("cube", y, {x}, [x](const Tensor& g) { return Tensors{g * 3.0 * x * x}; });
}

}  // namespace

TEST_CASE("leaves gather gradients over several passes") {
  const Tensor x = leaf({1, 2});
  CHECK(!x.grad().defined());
  sum(x * x).backward();
  CHECK(values(x.grad()) == Values{2, 4});
  sum(x * 3.0).backward();
  CHECK(values(x.grad()) == Values{5, 7});
  const Tensor copy = x;  // a copy of the handle is the same leaf
  CHECK(values(copy.grad()) == Values{5, 7});
  x.set_grad({});
  CHECK(!copy.grad().defined());
  x.set_grad(full({2}, 1, {.dtype = f64}));
  sum(x).backward();
  CHECK(values(x.grad()) == Values{2, 2});
  sum(x).backward(scalar(0.5, {.dtype = f64}));
  CHECK(values(x.grad()) == Values{2.5, 2.5});
  x.select(0, 0).backward();
  CHECK(values(x.grad()) == Values{3.5, 2.5});
}

TEST_CASE("a value used often gets the sum of all gradients") {
  const Tensor x = leaf({1.5});
  Tensor y = x;
  for (int i = 0; i < 40; ++i) y = y + y;  // 2^40 ways from y to x
  y.backward();
  CHECK(values(x.grad()) == Values{std::ldexp(1, 40)});
  check_gradient("fan-out",
                 [](const Tensors& t) {
                   Tensor total = t[0], power = t[0];
                   for (int i = 0; i < 5; ++i)
                     power = power * t[0], total = total + power * tanh(t[0]);
                   return total;
                 },
                 {noise({3})});
}

TEST_CASE("no two leaves share a gradient, nor does one share the caller's") {
  const auto touched = [](const Tensor& a, const Tensor& b) {
    const Values before = values(b.grad());
    a.grad().fill_(-7);
    return values(b.grad()) != before;
  };
  const Tensor given = full({3}, 2, {.dtype = f64});
  const std::pair<const char*, TensorFunction> ops[] = {
      {"add", [](const Tensors& x) { return x[0] + x[1]; }},
      {"add of views",
       [](const Tensors& x) {
         return x[0].reshape({3, 1}).reshape({3}) + x[1];
       }},
      {"stack",
       [](const Tensors& x) {
         return sum(stack({x[0], x[1]}), {0});
       }},
      {"halves of one buffer",
       [](const Tensors& x) {
         return sum(cat({x[0], x[1]}).reshape({2, 3}), {0});
       }},
      {"where", [](const Tensors& x) { return x[0] + where(x[0] == x[0], x[1], x[0]); }},
      {"a rule that gives both the same",
       [](const Tensors& x) {
         return record("both", x[0].detach() + x[1].detach(), x, [](const Tensor& g) {
           const Tensor twice = g * 2.0;
           return Tensors{twice, twice};
         });
       }},
  };
  for (const auto& [name, op] : ops) {
    const Tensor a = leaf({1, 2, 3}), b = leaf({4, 5, 6});
    op({a, b}).backward(given);
    CHECK_MESSAGE(!touched(a, b), name);
    CHECK_MESSAGE(!touched(b, a), name);
    CHECK_MESSAGE(values(given) == Values(3, 2), name);
  }
  const Tensor kept = full({3}, 5, {.dtype = f64}), a = leaf({1, 2, 3});
  record("constant", a.detach(), {a}, [kept](const Tensor&) {
    return Tensors{kept};
  }).backward(given);
  a.grad().fill_(0);
  CHECK(values(kept) == Values(3, 5));
  const Tensor g = grad({a * 1.0}, {a}, {given})[0];
  sum(a).backward();
  CHECK(a.grad().is_contiguous());  // sum's gradient is one number, repeated
}

TEST_CASE("history is used up unless it is kept") {
  const Tensor x = leaf({2});
  Tensor y = sum(exp(x) * x);
  y.backward();
  check_error<AutogradError>([&] { y.backward(); },
                             "backward: the history of sum was used by an earlier backward; pass "
                             "retain_graph there");
  y = sum(exp(x) * x);
  x.set_grad({});
  y.backward({.retain_graph = true});
  const double once = values(x.grad())[0];
  CHECK(once == doctest::Approx(3 * std::exp(2)));
  y.backward({.create_graph = true});
  y.backward();
  CHECK(values(x.grad().detach())[0] == doctest::Approx(3 * once));
  CHECK_THROWS_AS(y.backward(), AutogradError);
  x.set_grad({});  // it had a history that leads to x itself

  const Tensor shared = x * x, first = sum(shared), second = sum(shared * 2.0);
  first.backward();
  check_error<AutogradError>([&] { second.backward(); }, "the history of mul was used");
}

TEST_CASE("grad gives gradients of leaves and of results, and stores none") {
  const Tensor a = leaf({2}), b = leaf({3}), y = a * b, z = sum(y * y * a);
  const Tensors g = grad({z}, {a, y, b, y}, {}, {.retain_graph = true});
  CHECK(values(g[0]) == Values{36 + 2 * 6 * 2 * 3});
  CHECK(values(g[1]) == Values{2 * 6 * 2});
  CHECK(values(g[2]) == Values{2 * 6 * 2 * 2});
  CHECK(values(g[3]) == values(g[1]));
  CHECK(!a.grad().defined());
  CHECK(values(grad({z}, {z}, {}, {.retain_graph = true})[0]) == Values{1});
  CHECK(values(grad({a}, {a})[0]) == Values{1});

  // What lies behind the oldest input is left alone: y has its history still.
  grad({z}, {y});
  y.backward(full({1}, 1, {.dtype = f64}));
  CHECK(values(a.grad()) == Values{3});
}

TEST_CASE("grad of several outputs is the sum, each with its own gradient") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * x, z = y.select(0, 1) * 3.0;
  const Tensors g = grad({y, z}, {x}, {from_vector<double>({10, 100}, {2}), Tensor()});
  CHECK(values(g[0]) == Values{20, 400 + 12});
  CHECK(values(grad({x, x}, {x}, {ones({2}, {.dtype = f64}), x.detach()})[0]) == Values{2, 3});
  check_error<AutogradError>(
      [&] {
        grad({z, z}, {x}, {Tensor()});
      },
      "grad: 2 outputs, 1 gradients");
}

TEST_CASE("what cannot be differentiated is refused") {
  const Tensor x = leaf({1, 2}), other = leaf({3, 4}), plain = zeros({2});
  check_error<AutogradError>([&] { (x * 2.0).backward(); },
                             "backward: needs a gradient for an output that is no scalar, [2]");
  check_error<AutogradError>([&] { plain.backward(); }, "backward: the output has no history");
  check_error<AutogradError>([&] { sum(x.detach()).backward(); }, "the output has no history");
  check_error<AutogradError>([&] { (x * 2.0).backward(ones({2})); },
                             "backward: the output is f64[2], the gradient given f32[2]");
  check_error<AutogradError>([&] { (x * 2.0).backward(ones({1}, {.dtype = f64})); },
                             "given f64[1]");
  check_error<AutogradError>(
      [&] {
        grad({sum(x)}, {x, other});
      },
      "grad: no output depends on input 1");
  check_error<AutogradError>([&] { grad({sum(x)}, {plain}); },
                             "grad: input 0 does not require a gradient");
  check_error<AutogradError>([&] { grad({sum(plain)}, {x}); }, "grad: the output has no history");
  check_error<AutogradError>([&] { grad({Tensor()}, {x}); }, "grad: the output has no history");
  check_error<AutogradError>([&] { grad({sum(x)}, {Tensor()}); }, "grad: input 0");
}

TEST_CASE("requires_grad_, detach and set_grad") {
  Tensor x = zeros({2});
  CHECK(x.is_leaf());
  CHECK(!x.requires_grad());
  const Tensor before = x;
  x.requires_grad_();
  CHECK(x.is_leaf());
  CHECK(x.requires_grad());
  CHECK(!before.requires_grad());  // the history is the handle's
  const auto node = x.node();
  CHECK(x.requires_grad_().node() == node);
  Tensor y = x * 2.0;
  CHECK(!y.is_leaf());
  check_error<AutogradError>([&] { y.requires_grad_(); },
                             "requires_grad_: the tensor is a result of mul; use detach()");
  check_error<AutogradError>([&] { y.requires_grad_(false); }, "use detach()");
  check_error<DTypeError>([] { zeros({1}, {.dtype = i64}).requires_grad_(); },
                          "requires_grad_: needs a floating or complex type, got i64");
  CHECK(!y.detach().requires_grad());
  CHECK(y.detach().storage() == y.storage());
  CHECK(!x.requires_grad_(false).requires_grad());
  CHECK(!(x * 2.0).requires_grad());

  x.requires_grad_();
  CHECK(!y.grad().defined());
  check_error<AutogradError>([&] { y.set_grad(zeros({2})); }, "set_grad: the tensor is not a leaf");
  check_error<ShapeError>([&] { x.set_grad(zeros({3})); },
                          "set_grad: the tensor is f32[2], the gradient f32[3]");
  check_error<ShapeError>([&] { x.set_grad(zeros({2}, {.dtype = f64})); }, "the gradient f64[2]");
}

TEST_CASE("no_grad nests, ends with an exception, and is each thread's own") {
  const Tensor x = leaf({1});
  CHECK(grad_enabled());
  {
    NoGradGuard outer;
    CHECK(!grad_enabled());
    { NoGradGuard inner; }
    CHECK(!grad_enabled());
    CHECK(!(x * 2.0).requires_grad());
    CHECK(!x.slice(0, 0).requires_grad());
    CHECK(x.requires_grad());
    bool other = false;
    std::thread([&] { other = grad_enabled(); }).join();
    CHECK(other);
  }
  CHECK(grad_enabled());
  try {
    no_grad([&]() -> Tensor { throw std::runtime_error("away"); });
  } catch (const std::runtime_error&) {
  }
  CHECK(grad_enabled());
  CHECK(!no_grad([&] { return x * 2.0; }).requires_grad());
  CHECK((x * 2.0).requires_grad());
  const Tensor y = sum(x * x);
  no_grad([&] { y.backward(); });  // a history made before is there to be used
  CHECK(values(x.grad()) == Values{2});
}

TEST_CASE("higher derivatives") {
  const Tensor x = leaf({2});
  Tensor y = x * x * x * x;
  for (double want : {32., 48., 48., 24.}) {
    y = grad({y}, {x}, {}, {.create_graph = true})[0];
    CHECK(values(y)[0] == doctest::Approx(want));
  }
  sum(x * x * x).backward({.create_graph = true});
  const Tensor first = x.grad();
  CHECK(first.requires_grad());
  CHECK(values(grad({first}, {x})[0]) == Values{12});
  x.set_grad({});

  // With respect to the gradient that was given: the derivative of 2 x v by v.
  const Tensor v = leaf({5}), g = grad({x * x}, {x}, {v}, {.create_graph = true})[0];
  CHECK(values(grad({g}, {v})[0]) == Values{4});
  CHECK(!grad({x * x}, {x}, {v})[0].requires_grad());
}

TEST_CASE("functions of one's own") {
  const auto f = [](const Tensors& x) { return cube(x[0]); };
  check_gradient("cube", f, {noise({3, 5})});
  check_second_gradient("cube", f, {noise({3, 5})});
  CHECK(!no_grad([&] { return cube(leaf({1})); }).requires_grad());

  const Tensor x = leaf({1, 2}), y = leaf({3, 4});
  bool during = true, during_create = false;
  const auto op = [&](Tensors inputs, Rule rule) {
    return record("mine", x.detach(), inputs, rule);
  };
  op({x}, [&](const Tensor& g) {
    during = grad_enabled();
    return Tensors{g};
  }).backward(x.detach());
  op({x}, [&](const Tensor& g) {
    during_create = grad_enabled();
    return Tensors{g};
  }).backward(x.detach(), {.create_graph = true});
  CHECK(!during);
  CHECK(during_create);

  // No gradient, by an undefined tensor or by a short list.
  const Tensor only_y = op({x, y}, [](const Tensor& g) { return Tensors{Tensor(), g}; });
  CHECK(values(grad({only_y}, {y}, {ones({2}, {.dtype = f64})}, {.retain_graph = true})[0]) ==
        Values{1, 1});
  CHECK_THROWS_AS(grad({only_y}, {x}, {ones({2}, {.dtype = f64})}), AutogradError);
  const Tensor short_list = op({x, y}, [](const Tensor& g) { return Tensors{g}; });
  CHECK_THROWS_AS(grad({short_list}, {y}, {ones({2}, {.dtype = f64})}), AutogradError);

  for (const Tensor& wrong :
       {zeros({3}, {.dtype = f64}), zeros({2}), zeros({1, 2}, {.dtype = f64})}) {
    const Tensor bad = op({y, x}, [wrong](const Tensor& g) { return Tensors{g, wrong}; });
    check_error<AutogradError>([&] { bad.backward(x.detach()); },
                               "backward of mine: input 1 is f64[2], its gradient ");
  }
  const Tensor once = record_fused(
      "press", x.detach(), {x}, [](const Tensor& g) { return Tensors{g * 2.0}; }, "mul");
  const Tensor g = grad({once}, {x}, {y}, {.create_graph = true})[0];
  check_error<AutogradError>(
      [&] { grad({sum(g)}, {x}); },
      "press: the gradient of this fused op cannot be differentiated again; compose it of mul");
}

TEST_CASE("a rule that throws leaves everything in order") {
  const std::int64_t blocks = memory_stats().live_blocks;
  {
    const Tensor x = leaf({1});
    Tensor y = exp(x);
    y = record("fails", y.detach(), {y},
               [](const Tensor&) -> Tensors { throw std::runtime_error("no"); });
    y = sum(y * x);
    for (bool create : {false, true}) {
      CHECK_THROWS_WITH(y.backward({.retain_graph = true, .create_graph = create}), "no");
      CHECK(grad_enabled());
    }
    CHECK(!x.grad().defined());
    sum(x * 2.0).backward();
    CHECK(values(x.grad()) == Values{2});
  }
  CHECK(memory_stats().live_blocks == blocks);
}

TEST_CASE("hooks see a complete gradient and may replace it") {
  Tensor x = noise({3}).requires_grad_();
  Tensor y = x * 2.0;
  int calls = 0;
  y.register_hook([&](const Tensor& g) {
    ++calls;
    CHECK(values(g) == Values{4, 4, 4});  // from both uses
    return g * 10.0;
  });
  x.register_hook([&](const Tensor& g) {
    CHECK(values(g) == Values{80, 80, 80});
    return Tensor();  // leaves it alone
  });
  sum(y * 3.0 + y).backward();
  CHECK(calls == 1);
  CHECK(values(x.grad()) == Values{80, 80, 80});
  Tensor z = x * 1.0;
  z.register_hook([](const Tensor&) { return zeros({2}, {.dtype = f64}); });
  check_error<AutogradError>([&] { sum(z).backward(); }, "register_hook: the gradient is f64[3]");
  check_error<AutogradError>([] { zeros({2}).register_hook([](const Tensor& g) { return g; }); },
                             "register_hook: the tensor does not require a gradient");
}

TEST_CASE("grad with allow_unused") {
  Tensor x = noise({2}).requires_grad_(), unused = noise({2}).requires_grad_();
  const Tensors g = grad({sum(x)}, {x, unused}, {}, {.allow_unused = true});
  CHECK(values(g[0]) == Values{1, 1});
  CHECK(!g[1].defined());
}

TEST_CASE("DetectAnomaly names the op that made a NaN, forward and backward") {
  Tensor x = tensor({-1, 4}, {2}, f64).requires_grad_();
  CHECK_NOTHROW(sqrt(x));
  {
    const DetectAnomaly guard;
    const Tensor ends = from_vector<float>({HUGE_VALF, -HUGE_VALF});  // by views of the result, too
    check_error<ValueError>([&] { cumsum(ends, 0); }, "cumsum: the result is NaN");
    check_error<ValueError>([&] { softmax(full({2}, -HUGE_VAL), 0); },
                            "softmax: the result is NaN");
    check_error<ValueError>([&] { sqrt(x); }, "sqrt: the result is NaN");
    CHECK_NOTHROW(exp(x));
    Tensor zero = zeros({1}, {.dtype = f64, .requires_grad = true});
    Tensor y = sum(sqrt(zero) * 0.0);  // 0 in the forward pass, 0 / 0 in the backward one
    check_error<ValueError>([&] { y.backward(); },
                            "backward of sqrt: the gradient of input 0 is NaN");
  }
  CHECK_NOTHROW(sqrt(x));
}

TEST_CASE("vjp and jacobian") {
  const Tensor x = noise({3}), A = noise({2, 3});
  const auto f = [&](const Tensor& t) { return square(matmul(A, t)); };
  const auto [y, g] = vjp(f, x, ones({2}, {.dtype = f64}));
  const Tensor J = jacobian(f, x);  // 2 diag(A x) A
  CHECK(J.shape() == Shape{2, 3});
  check_close(J, values(2.0 * matmul(A, x).unsqueeze(1) * A), 1e-14, "jacobian");
  check_close(g, values(sum(J, {0})), 1e-14, "vjp");
  CHECK(values(y) == values(f(x)));
  CHECK(!y.requires_grad());
  CHECK(jacobian([](const Tensor& t) { return t.slice(0, 0, 0); }, x).shape() == Shape{0, 3});
}
