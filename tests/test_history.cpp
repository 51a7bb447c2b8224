// What history costs and what it holds: gradients of slices gathered in place, memory that comes
// back when handles go.
#include <triad/tests/op_test.h>

#include <map>

using namespace op_test;

namespace {

const std::map<std::string, TensorFunction> kWindows = {
    {"overlapping slices",
     [](const Tensors& x) {
       return x[0].slice(0, 0, 5) * x[0].slice(0, 2, 7) + square(x[0].slice(0, 1, 6));
     }},
    {"slices of slices",
     [](const Tensors& x) {
       const Tensor inner = x[0].slice(0, 1).slice(0, 0, kEnd, 2);
       return inner.slice(0, 1) * inner.select(0, 0) + inner.slice(0, 0, 2).slice(0, 1);
     }},
    {"slices and the whole",
     [](const Tensors& x) {
       return sum(square(x[0]), {0}) + x[0].select(0, 3) * exp(x[0]).select(0, 2) +
              x[0].select(0, -1);
     }},
    {"the whole, then slices",
     [](const Tensors& x) {
       const Tensor y = tanh(x[0]);
       return y.select(0, 0) * y.select(0, 1) + mean(y * y, {0}) + y.select(0, 0);
     }},
    {"slices of an expanded view",
     [](const Tensors& x) {
       const Tensor wide = x[0].unsqueeze(0).expand({2, 7, 3});
       return wide.select(0, 1) * wide.select(0, 0) + wide.select(0, 1);
     }},
    {"slices of a permuted view, the gradient of the whole a view too",
     [](const Tensors& x) {
       const Tensor turned = x[0].transpose(0, 1);
       return sum(turned * 2.0, {1}) +
              turned.slice(1, 0, kEnd, 3).select(1, 1) * turned.select(1, 0);
     }},
    {"steps that interleave",
     [](const Tensors& x) {
       return x[0].slice(0, 0, 6, 2) * x[0].slice(0, 1, 7, 2) +
              x[0].slice(0, 1, kEnd, 3).select(0, 0);
     }},
    {"an empty slice beside others",
     [](const Tensors& x) {
       return cat({x[0].slice(0, 7), square(x[0].slice(0, 3, 5)), x[0]});
     }},
};

}  // namespace

TEST_CASE("gradients of slices, in every mixture, first and second") {
  for (const auto& [name, f] : kWindows) {
    check_gradient(name, f, {noise({7, 3})});
    check_second_gradient(name, f, {noise({7, 3})});
  }
}

TEST_CASE("a slice's gradient leaves the gradient that came first as it was") {
  const Tensor x = noise({4}).requires_grad_(), given = ones({4}, {.dtype = f64});
  // The whole's gradient is the caller's own tensor when the slice's is added to it.
  grad({x, x.slice(0, 1, 3)}, {x}, {given, given.slice(0, 0, 2)});
  CHECK(values(given) == Values{1, 1, 1, 1});
  CHECK(values(grad({x, x.slice(0, 1, 3)}, {x}, {given, given.slice(0, 0, 2)})[0]) ==
        Values{1, 2, 2, 1});
  const Tensor a = noise({4}).requires_grad_(), b = noise({4}).requires_grad_();
  Tensor y = a + b;
  (sum(y) + sum(y.slice(0, 2)) + sum(a.slice(0, 1, 2))).backward();
  CHECK(values(a.grad()) == Values{1, 2, 2, 2});
  CHECK(values(b.grad()) == Values{1, 1, 2, 2});
}

TEST_CASE("a hundred slices need no hundred gradients of the whole") {
  const Tensor x = zeros({100, 10000}, {.requires_grad = true});
  Tensor total = scalar(0);
  for (int i = 0; i < 100; ++i) total = total + sum(x.select(0, i));
  const std::int64_t before = memory_stats().live_bytes;
  total.backward();
  CHECK(memory_stats().peak_bytes - before < 3 * 4'000'000);
  CHECK(values(x.grad().select(1, 17)) == Values(100, 1));
}

TEST_CASE("history goes with the last handle, used or not") {
  const Tensor x = noise({2, 4, 3, 2}).requires_grad_(), rows = noise({4, 6}).requires_grad_();
  const Tensor w = noise({6, 6}).requires_grad_(), b = noise({6}).requires_grad_();
  const Tensor gain = noise({3, 3}).requires_grad_(), ids = arange(4, {.dtype = i64});
  const std::map<std::string, std::function<Tensor()>> ops = {
      {"add", [&] { return x + x; }},
      {"mul", [&] { return x * x; }},
      {"div", [&] { return 1.0 / (x * x + 1.0); }},
      {"maximum", [&] { return maximum(x, x * 2.0); }},
      {"exp", [&] { return exp(x); }},
      {"sqrt", [&] { return sqrt(exp(x)); }},
      {"tanh", [&] { return tanh(x); }},
      {"gelu", [&] { return gelu(x); }},
      {"where", [&] { return where(x > 0.0, x, -x); }},
      {"views",
       [&] {
         return x.permute({3, 1, 0, 2}).reshape({6, 8}).slice(0, 1).select(1, 2);
       }},
      {"expand",
       [&] {
         return b.expand({3, 6}).unsqueeze(0);
       }},
      {"cat",
       [&] {
         return cat({rows, rows.slice(0, 1)});
       }},
      {"stack",
       [&] {
         return stack({rows, rows});
       }},
      {"to", [&] { return x.to(f32).clone(); }},
      {"sum",
       [&] {
         return sum(x, {0, 2});
       }},
      {"var", [&] { return var(x, {1}); }},
      {"max", [&] { return max(x, 1).first; }},
      {"norm", [&] { return norm(x); }},
      {"matmul", [&] { return matmul(rows, w); }},
      {"linear", [&] { return linear(rows, w, b); }},
      {"softmax", [&] { return softmax(x, 1); }},
      {"log_softmax", [&] { return log_softmax(x, -1); }},
      {"layer_norm", [&] { return layer_norm(rows, b, b); }},
      {"embedding", [&] { return embedding(ids, w); }},
      {"dropout", [&] { return dropout(x, 0.5); }},
      {"cross_entropy", [&] { return cross_entropy(rows, ids); }},
      {"mse_loss", [&] { return mse_loss(rows, rows * 2.0); }},
      {"attention",
       [&] {
         const Tensor q = x.transpose(1, 2);
         return scaled_dot_product_attention(q, q, q, {.dropout_p = 0.1, .is_causal = true});
       }},
      {"at_bins", [&] { return at_bins(gain, 5); }},
      {"spectral_filter", [&] { return spectral_filter(x, gain, gain); }},
      {"causal_taps", [&] { return causal_taps(gain, gain); }},
      {"causal_convolution", [&] { return causal_convolution(x, gain); }},
      {"dct", [&] { return idct(dct(x)); }},
  };
  const std::int64_t blocks = memory_stats().live_blocks;
  for (const auto& [name, op] : ops) {
    { const Tensor y = op(); }
    CHECK_MESSAGE(memory_stats().live_blocks == blocks, name, ": dropped");
    {
      const Tensor y = op(), g = noise(y.shape(), y.dtype());
      const Tensors used = {x, rows, w, b, gain};
      y.backward(g, {.retain_graph = true});
      for (const Tensor& t : used) t.set_grad({});
      y.backward(g);
      for (const Tensor& t : used) t.set_grad({});
    }
    CHECK_MESSAGE(memory_stats().live_blocks == blocks, name, ": after backward");
    {
      const Tensor y = op();
      y.backward(noise(y.shape(), y.dtype()), {.create_graph = true});
      for (const Tensor& t : {x, rows, w, b, gain}) t.set_grad({});
    }
    CHECK_MESSAGE(memory_stats().live_blocks == blocks, name, ": after backward with create_graph");
  }
}

TEST_CASE("backward lets go of what it has used") {
  const Tensor x = zeros({1000}, {.requires_grad = true});
  Tensor y = exp(x);
  const std::weak_ptr<Node> first = y.node();
  for (int i = 1; i < 10; ++i) y = exp(y);
  const Tensor loss = sum(y);
  y = Tensor();
  const std::int64_t before = memory_stats().live_bytes;
  loss.backward();
  CHECK(memory_stats().live_bytes <= before - 9 * 4000);  // ten results gone, one gradient more
  CHECK(first.expired());
}

TEST_CASE("backward refuses values that were overwritten after the op ran, and only those") {
  const auto overwritten = [](const char* op, const Tensor& y) {
    check_error<AutogradError>([&] { sum(y).backward(); }, std::string("backward of ") + op +
                                                               ": what it needs was overwritten");
  };
  Tensor w = randn({3}, {.requires_grad = true}), x = randn({3});
  Tensor y = x * w;
  x.fill_(2);
  overwritten("mul", y);

  y = x.slice(0, 0, 2) * w.slice(0, 0, 2);  // through another view of the same memory
  x.select(0, 1).fill_(1);
  overwritten("mul", y);

  y = square(w);
  no_grad([&] { w.copy_(x); });
  overwritten("square", y);

  y = exp(w);
  y.detach().fill_(0);
  overwritten("exp", y);

  y = square(w);
  sum(w).backward();
  nn::SGD optimizer({{"w", w}}, {.lr = 0.1});
  optimizer.step();
  overwritten("square", y);

  // What only the rule reads: conditions, indices and masks.
  Tensor flags = x > 0.0, ids = tensor({2, 0}, {.dtype = i64}), m = w.reshape({3, 1});
  y = where(flags, w, x);
  flags.fill_(0);
  overwritten("where", y);
  y = gather(w, 0, ids);
  ids.fill_(1);
  overwritten("gather", y);
  y = scatter_add(w, 0, ids, x.slice(0, 0, 2) * w.slice(0, 0, 2).detach());
  ids.fill_(0);
  overwritten("scatter_add", y);
  y = embedding(ids, m);
  ids.fill_(1);
  overwritten("embedding", y);
  auto [top, place] = max(w, 0);
  place.fill_(1);
  overwritten("max", top);
  const Tensor q = m.reshape({1, 1, 3, 1}), mask = ones({3, 3}, {.dtype = boolean});
  y = scaled_dot_product_attention(q, q, q, {.attn_mask = mask});
  mask.fill_(0);
  overwritten("scaled_dot_product_attention", y);
  Tensor target = zeros({1}, {.dtype = i64});
  y = cross_entropy(w.reshape({1, 3}), target);
  target.fill_(1);
  overwritten("cross_entropy", y);

  // Sizes alone are enough for these.
  y = cat({x.slice(0, 1) + w.slice(0, 1).to(f64).to(f32), -w.reshape({3, 1}).squeeze(1)});
  x.fill_(3);
  optimizer.step();
  w.set_grad({});
  sum(y).backward();
  CHECK(w.grad().to_vector<float>() == std::vector<float>{-1, 0, 0});

  y = x * w;  // and after the write all is well
  w.set_grad({});
  sum(y).backward();
  CHECK(w.grad().to_vector<float>() == std::vector<float>{3, 3, 3});
}
