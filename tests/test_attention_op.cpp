// scaled_dot_product_attention: values against the dense definition, gradients by gradcheck, and
// everything that may restrict what a query attends to.
#include <triad/tests/op_test.h>

#include <cmath>

using namespace op_test;

namespace {

Tensor attention(const Tensors& x, const AttentionOptions& options = {}) {
  return scaled_dot_product_attention(x[0], x[1], x[2], options);
}

// The definition, one query after the other. `random`: the stream that dropout draws from.
Values dense(const Tensors& x, const AttentionOptions& options, RandomStream random = {}) {
  const std::int64_t B = x[0].size(0), H = x[0].size(1), T = x[0].size(2), D = x[0].size(3);
  const std::int64_t S = x[1].size(2);
  Values mask(std::size_t(B * H * T * S), 1), token(std::size_t(B * S), 1);
  if (const Tensor& m = options.attn_mask; m.defined())
    mask = values((m.dim() == 3 ? m.unsqueeze(1) : m).expand({B, H, T, S}));
  if (options.token_mask.defined()) token = values(options.token_mask);
  const Values q = values(x[0]), k = values(x[1]), v = values(x[2]);
  const double scale = options.scale.value_or(1 / std::sqrt(double(D)));
  Values out;
  for (std::int64_t row = 0; row < B * H * T; ++row) {
    const std::int64_t t = row % T, bh = row / T;
    Values weights(std::size_t(S), 0), y(std::size_t(D), 0);
    double total = 0;
    for (std::int64_t s = 0; s < S; ++s) {
      const bool allowed = mask[std::size_t(row * S + s)] && token[std::size_t(bh / H * S + s)] &&
                           (!options.is_causal || s <= t + S - T);
      double score = 0;
      for (std::int64_t d = 0; d < D; ++d)
        score += q[std::size_t(row * D + d)] * k[std::size_t((bh * S + s) * D + d)];
      total += weights[std::size_t(s)] = allowed ? std::exp(scale * score) : 0;
    }
    for (std::int64_t s = 0; s < S; ++s) {
      double a = total > 0 ? weights[std::size_t(s)] / total : 0;
      if (options.dropout_p > 0) {
        const float u = reference::uniform_f32(random, std::uint64_t(row * S + s));
        a = u < float(options.dropout_p) ? 0 : a / (1 - options.dropout_p);
      }
      for (std::int64_t d = 0; d < D; ++d)
        y[std::size_t(d)] += a * v[std::size_t((bh * S + s) * D + d)];
    }
    out.insert(out.end(), y.begin(), y.end());
  }
  return out;
}

// Bools of which two in three are true, row 0 of the last two axes all false.
Tensor some(const Shape& shape, bool empty_row = true) {
  Values v = values(between(0, 1, shape));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = v[i] < 0.67 && !(empty_row && i < std::size_t(shape.back()));
  return tensor(v, shape, boolean);
}

struct Case {
  const char* name;
  std::int64_t B, H, T, S, D;
  AttentionOptions options;
};

std::vector<Case> cases(std::int64_t T, std::int64_t S, std::int64_t D) {
  constexpr std::int64_t B = 2, H = 3;
  return {
      {"plain", B, H, T, S, D, {}},
      {"causal", B, H, T, S, D, {.is_causal = true}},
      {"scale", B, H, T, S, D, {.scale = 0.3}},
      {"mask [T,S]", B, H, T, S, D, {.attn_mask = some({T, S})}},
      {"mask [B,T,S]", B, H, T, S, D, {.attn_mask = some({B, T, S})}},
      {"mask [B,1,T,S]", B, H, T, S, D, {.attn_mask = some({B, 1, T, S})}},
      {"mask [B,H,T,S]", B, H, T, S, D, {.attn_mask = some({B, H, T, S})}},
      {"mask as a view", B, H, T, S, D, {.attn_mask = some({S, T}).transpose(0, 1)}},
      {"token_mask", B, H, T, S, D, {.token_mask = some({B, S})}},
      {"all of them",
       B,
       H,
       T,
       S,
       D,
       {.attn_mask = some({B, T, S}),
        .is_causal = true,
        .scale = 0.5,
        .token_mask = some({B, S}, false)}},
  };
}

Tensors inputs(const Case& c, DType dtype = f64) {
  return {noise({c.B, c.H, c.T, c.D}, dtype), noise({c.B, c.H, c.S, c.D}, dtype),
          noise({c.B, c.H, c.S, c.D}, dtype)};
}

}  // namespace

TEST_CASE("values: every restriction, any sizes, however heads lie") {
  const std::int64_t sizes[][3] = {{1, 1, 1}, {7, 7, 5}, {5, 11, 4}, {11, 5, 3}, {97, 97, 16}};
  for (const auto& [T, S, D] : sizes)
    for (const Case& c : cases(T, S, D))
      for (DType dtype : {f32, f64}) {
        const Tensors x = inputs(c, dtype);
        const Values want = dense(x, c.options);
        for (Lie lie : kLies) {
          const Tensor y =
              attention({laid(lie, x[0]), laid(lie, x[1]), laid(lie, x[2])}, c.options);
          CHECK(y.shape() == x[0].shape());
          CHECK(y.transpose(1, 2).is_contiguous());
          check_close(y, want, dtype == f32 ? 4e-6 : 1e-13, c.name);
        }
      }
}

TEST_CASE("gradients") {
  for (const auto& [T, S] : {std::pair<std::int64_t, std::int64_t>{5, 5}, {3, 7}, {7, 3}})
    for (const Case& c : cases(T, S, 2))
      check_gradient(
          c.name, [&](const Tensors& x) { return attention(x, c.options); }, inputs(c));
  // Along one buffer, as a projection leaves its heads.
  check_gradient("packed",
                 [](const Tensors& x) {
                   const Tensor qkv = x[0].reshape({2, 5, 3, 2, 3}).permute({2, 0, 3, 1, 4});
                   return attention({qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2)},
                                    {.is_causal = true});
                 },
                 {noise({2, 5, 18})});
  check_gradient("all the same",
                 [](const Tensors& x) {
                   return attention({x[0], x[0], x[0]});
                 },
                 {noise({1, 2, 5, 3})});
  check_gradient("one key for all",
                 [](const Tensors& x) {
                   return attention({x[0], x[1].expand({2, 2, 5, 3}), x[1].expand({2, 2, 5, 3})});
                 },
                 {noise({2, 2, 4, 3}), noise({5, 3})});
}

TEST_CASE("a query with nothing to attend to gives zeros and no gradient") {
  for (const AttentionOptions& options :
       {AttentionOptions{.attn_mask = zeros({5, 5}, {.dtype = boolean})},
        AttentionOptions{.token_mask = zeros({2, 5}, {.dtype = boolean})}}) {
    Tensors x = inputs({"", 2, 3, 5, 5, 4, {}}, f32);
    for (Tensor& t : x) t.requires_grad_();
    const Tensor y = attention(x, options);
    CHECK(values(y) == Values(120));
    for (const Tensor& g : grad({y}, x, {noise(y.shape(), f32)})) CHECK(values(g) == Values(120));
  }
  Tensors x = inputs({"", 1, 1, 4, 2, 3, {}}, f32);  // T > S: the first two queries see no key
  const Values y = values(attention(x, {.is_causal = true}));
  CHECK(Values(y.begin(), y.begin() + 6) == Values(6));
  CHECK(y[6] != 0);
}

TEST_CASE("dropout: the weights that the generator says, the same ones backward") {
  for (DType dtype : {f32, f64}) {
    const Tensors x = inputs({"", 2, 3, 37, 41, 5, {}}, dtype);
    manual_seed(11);
    const RandomStream random = random_state();
    const AttentionOptions options{.dropout_p = 0.3, .is_causal = true};
    const Tensor y = attention(x, options);
    check_close(y, dense(x, options, random), dtype == f32 ? 4e-6 : 1e-13, "dropout");
    CHECK(random_state().stream == random.stream + 1);
    CHECK(values(attention(x, options)) != values(y));
  }
  for (bool causal : {false, true})
    check_gradient(
        "dropout",
        [&](const Tensors& x) {
          manual_seed(12);
          return attention(x, {.dropout_p = 0.4, .is_causal = causal});
        },
        inputs({"", 1, 2, 5, 6, 3, {}}));
  const RandomStream before = random_state();
  attention(inputs({"", 1, 1, 2, 2, 2, {}}));
  CHECK(random_state().stream == before.stream);  // without dropout nothing is drawn
}

TEST_CASE("out: written in place, with history and without") {
  const Tensors x = inputs({"", 2, 3, 5, 5, 4, {}});
  const Tensor all = full({2, 5, 7, 4}, -1, {.dtype = f64}), heads = all.slice(2, 1, 4);
  const Tensor y = attention(x, {.out = heads.transpose(1, 2)});
  CHECK(y.storage() == all.storage());
  CHECK(values(y) == values(attention(x)));
  CHECK(values(heads.transpose(1, 2)) == values(y));
  CHECK(values(all.slice(2, 0, 1)) == Values(40, -1));
  CHECK(values(all.slice(2, 4)) == Values(120, -1));
  check_gradient(
      "out",
      [](const Tensors& t) {
        const Tensor buffer = empty({2, 5, 7, 4}, f64);
        return attention(t, {.out = buffer.slice(2, 2, 5).transpose(1, 2)}) * 2.0;
      },
      x);
}

TEST_CASE("empty sequences") {
  const Tensor none = zeros({2, 3, 0, 4}), some_heads = zeros({2, 3, 5, 4});
  CHECK(attention({none, some_heads, some_heads}).shape() == Shape{2, 3, 0, 4});
  CHECK(values(attention({some_heads, none, none})) == Values(120));
  CHECK(attention({none, none, none}, {.is_causal = true}).numel() == 0);
}

TEST_CASE("large scores neither overflow nor lose the sum of the weights") {
  Tensors x = inputs({"", 1, 2, 9, 9, 8, {}}, f32);
  x[0] = x[0] * 100.0, x[1] = x[1] * 100.0, x[2] = ones(x[2].shape());
  check_close(attention(x, {.is_causal = true}), Values(144, 1), 1e-6, "weights sum to 1");
}

TEST_CASE("the same bits at any number of threads, forward and backward") {
  Tensors x = inputs({"", 2, 3, 130, 130, 16, {}}, f32);
  for (Tensor& t : x) t.requires_grad_();
  const Tensor c = noise(x[0].shape(), f32);
  for (int which = 0; which < 4; ++which)
    check_threads("attention", [&] {
      manual_seed(1);
      const Tensor y = attention(x, {.dropout_p = 0.1, .is_causal = true});
      return which == 3 ? y.detach().contiguous()
                        : grad({y}, {x[std::size_t(which)]}, {c})[0].contiguous();
    });
}

TEST_CASE("errors") {
  const std::string op = "scaled_dot_product_attention: ";
  const Tensor q = zeros({2, 3, 5, 4}), k = zeros({2, 3, 7, 4});
  const auto with = [&](const AttentionOptions& options) { attention({q, k, k}, options); };
  check_error<ShapeError>(
      [&] {
        attention({q, k, q});
      },
      op + "needs q [B,H,T,D] and k, v [B,H,S,D], got [2,3,5,4], [2,3,7,4], ");
  check_error<ShapeError>([&] { attention({q.select(0, 0), k, k}); }, op + "needs q");
  check_error<ShapeError>([&] { attention({q, k.slice(3, 1), k.slice(3, 1)}); }, op + "needs q");
  check_error<ShapeError>([&] { attention({q.slice(3, 4), k.slice(3, 4), k.slice(3, 4)}); }, op);
  check_error<DTypeError>([&] { attention({q, k, k.to(f64)}); }, op + "the types differ");
  check_error<DTypeError>([&] { attention({q.to(i64), k, k}); }, op + "needs f32 or f64");
  for (const Shape& shape : {Shape{7}, Shape{5, 5}, Shape{3, 5, 7}, Shape{2, 2, 5, 7}, Shape{5, 1}})
    check_error<ShapeError>([&] { with({.attn_mask = zeros(shape, {.dtype = boolean})}); },
                            op +
                                "needs a mask [T,S], [B,T,S], [B,1,T,S] or [B,H,T,S] with B 2, "
                                "H 3, T 5, S 7, got " +
                                shape.str());
  check_error<DTypeError>(
      [&] {
        with({.attn_mask = zeros({5, 7})});
      },
      op + "needs bool, got f32; write x != 0");
  check_error<ShapeError>(
      [&] {
        with({.token_mask = zeros({2, 5}, {.dtype = boolean})});
      },
      op + "needs a token_mask [2,7], got [2,5]");
  check_error<DTypeError>([&] { with({.token_mask = zeros({2, 7})}); }, op + "needs bool");
  for (double p : {-0.1, 1., kNan})
    check_error<ValueError>([&] { with({.dropout_p = p}); }, op + "needs 0 <= dropout_p < 1");
  for (const Tensor& out : {zeros({2, 3, 5, 5}), zeros({2, 3, 4, 5}).transpose(2, 3),
                            zeros({2, 3, 5, 4}, {.requires_grad = true})})
    check_error<ShapeError>([&] { with({.out = out}); },
                            op + "out must be [2,3,5,4] with stride 1");
  check_error<DTypeError>([&] { with({.out = zeros({2, 3, 5, 4}, {.dtype = f64})}); }, op);
  check_error<ValueError>([&] { attention({q, Tensor(), k}); }, op + "got an undefined tensor");
}

TEST_CASE("no second derivative, and the message says whose") {
  Tensors x = inputs({"", 1, 1, 3, 3, 2, {}});
  for (Tensor& t : x) t.requires_grad_();
  const Tensor g = grad({sum(attention(x))}, {x[2]}, {}, {.create_graph = true})[0];
  check_error<AutogradError>([&] { grad({sum(square(g))}, {x[2]}); },
                             "scaled_dot_product_attention: the gradient of this fused op cannot");
}
