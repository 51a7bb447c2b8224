// Mixed precision: what runs in bf16 or f16 under Autocast, and that training learns as in f32.
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

using namespace triad;
using enum nn::HeadType;

namespace {

double last_loss(DType type) {  // f32: without Autocast; f16: with a GradScaler
  manual_seed(1);
  nn::TransformerLM model({.vocab_size = 17,
                           .d_model = 32,
                           .layers = 2,
                           .head_types = {standard, spectral, holonomy, spectral},
                           .max_seq_len = 16});
  model.to(test_device());
  nn::AdamW optimizer(nn::decay_groups(model, 0.01), {.lr = 3e-3});
  nn::GradScaler scaler({.init_scale = 4096});  // at 65536 the first steps are skipped
  double last = 0;
  for (int step = 0; step < (is_simulated() ? 6 : 60); ++step) {
    std::vector<std::int64_t> text;  // 5 times the token before it, plus 3
    for (std::int64_t token : randint(0, 17, {4}).to_vector<std::int64_t>())
      for (int t = 0; t <= 16; ++t, token = (5 * token + 3) % 17) text.push_back(token);
    const Tensor ids = from_vector(text, {4, 17}).to(test_device());
    optimizer.zero_grad();
    Tensor loss;
    {
      const Autocast guard(type);
      loss = cross_entropy(model(ids.slice(1, 0, 16)), ids.slice(1, 1));
    }
    if (type == f16) {
      scaler.scale(loss).backward();
      CHECK(scaler.step(optimizer));
      scaler.update();
    } else {
      loss.backward();
      optimizer.step();
    }
    last = loss.item<double>();
    CHECK(loss.dtype() == f32);
  }
  for (const auto& [name, p] : model.named_parameters()) {
    CHECK_MESSAGE(p.dtype() == f32, name);
    CHECK_MESSAGE((!p.grad().defined() || p.grad().dtype() == f32), name);
  }
  return last;
}

}  // namespace

TEST_CASE("what is narrowed, what is widened, and what is left alone") {
  const auto made = [](const Shape& shape, DType dtype) {
    return randn(shape).to(dtype).to(test_device());
  };
  const Tensor a = made({4, 4}, f32), b = made({4, 4}, f32);
  const Tensor q = made({1, 2, 4, 8}, f32);
  CHECK(!autocast_enabled());
  for (DType type : {bf16, f16}) {
    const Tensor h = made({4, 4}, type), other = made({4, 4}, type == f16 ? bf16 : f16);
    const Autocast guard(type);
    CHECK(autocast_enabled());
    CHECK(autocast_dtype() == type);
    CHECK(matmul(a, b).dtype() == type);
    CHECK(matmul(h, b).dtype() == type);
    CHECK(matmul(other, other).dtype() == type);
    CHECK(linear(a, b, a.select(0, 0)).dtype() == type);
    CHECK(linear(other, h).dtype() == type);
    CHECK(scaled_dot_product_attention(q, q, q).dtype() == type);
    CHECK(scaled_dot_product_attention(q.to(type), q.to(type), q).dtype() == type);
    CHECK(matmul(a.to(f64), b.to(f64)).dtype() == f64);
    CHECK((h + a).dtype() == f32);
    CHECK((a * h).dtype() == f32);
    CHECK((h - other).dtype() == f32);
    CHECK((h + h).dtype() == type);
    CHECK(where(a > 0.0, a, h).dtype() == f32);
    CHECK(where(a > 0.0, other, h).dtype() == f32);
    CHECK(cat({h, a, h}).dtype() == f32);
    CHECK(cat({h, other}).dtype() == f32);
    CHECK(gelu(h).dtype() == type);
    CHECK(softmax(h, -1).dtype() == f32);
    CHECK(layer_norm(h, a.select(0, 0), b.select(0, 0)).dtype() == f32);
    CHECK(layer_norm(a, h.select(0, 0)).dtype() == f32);
    CHECK(rms_norm(a, h.select(0, 0)).dtype() == f32);
    CHECK(layer_norm(a, b.select(0, 0), {}, 1e-5, true).dtype() == type);
    CHECK(layer_norm(a.to(f64), {}, {}, 1e-5, true).dtype() == f64);
    CHECK(sum(h).dtype() == f32);
    CHECK(sum(a.to(i32)).dtype() == i64);
    CHECK_THROWS_AS(h + a.to(f64), DTypeError);
    {
      const Autocast off(f32);
      CHECK(!autocast_enabled());
      CHECK(matmul(a, b).dtype() == f32);
      CHECK_THROWS_AS(h + a, DTypeError);
    }
    // The gradients are of the leaves' type, wherever backward() is called.
    Tensor x = a.detach().clone().requires_grad_(), w = b.detach().clone().requires_grad_();
    Tensor bias = zeros({4}, {.device = test_device(), .requires_grad = true});
    sum(square(linear(x, w, bias))).backward();
    CHECK(x.grad().dtype() == f32);
    CHECK(w.grad().dtype() == f32);
    CHECK(bias.grad().dtype() == f32);
    const Tensor want = matmul(2.0 * linear(a, b), b);
    CHECK(largest_difference(x.grad(), want) < (type == f16 ? 0.01 : 0.05) * largest(want));
    const Tensor sums = sum(2.0 * linear(a, b), {0});
    CHECK(largest_difference(bias.grad(), sums) < (type == f16 ? 0.01 : 0.05) * largest(sums));
  }
  CHECK(!autocast_enabled());
  const Tensor h = a.to(bf16);
  CHECK(matmul(a, b).dtype() == f32);
  CHECK(softmax(h, -1).dtype() == bf16);
  CHECK_THROWS_AS(h + a, DTypeError);
  {
    const Autocast by_default;
    CHECK(autocast_dtype() == bf16);
  }
  CHECK(message_of<DTypeError>([] { Autocast guard(f64); }) ==
        "Autocast: needs bf16, f16 or f32, got f64");
  CHECK(!autocast_enabled());
}

// On a CUDA device some of this is done in fewer passes than on the CPU.
TEST_CASE("gradients through sums of two types, narrow norms and tied tables") {
  const auto gradients = [](Device device, DType type) {
    manual_seed(3);
    const auto leaf = [&](const Shape& shape) { return randn(shape).to(device).requires_grad_(); };
    const Tensor table = leaf({7, 8}), weight = leaf({8, 8}), gain = leaf({8}), offset = leaf({8}),
                 qkv = leaf({24, 8}), late = leaf({8});
    const Tensor ids = randint(0, 5, {2, 6}).to(device);
    const Autocast guard(type);
    Tensor x = embedding(ids, table);
    for (bool narrow : {true, false, true}) {
      const Tensor y = linear(layer_norm(x, gain, offset, 1e-5, narrow), qkv);
      CHECK(y.dtype() == type);
      const Tensor parts = y.reshape({2, 6, 3, 2, 4});
      const auto part = [&](int i) { return parts.select(2, i).transpose(1, 2); };
      const Tensor heads = scaled_dot_product_attention(
          part(0), part(1), part(2), {.is_causal = true, .qkv = narrow ? parts : Tensor()});
      x = x + linear(heads.transpose(1, 2).reshape(x.shape()), weight);
      x = x + late.to(type);
      CHECK(x.dtype() == f32);
    }
    const Tensor loss = cross_entropy(matmul(x, table.transpose(0, 1)), ids);
    loss.backward();
    Tensors found;
    for (const Tensor& p : {table, weight, gain, offset, qkv, late}) found.push_back(p.grad());
    return found;
  };
  for (DType type : {f32, bf16, f16}) {
    const Tensors here = gradients(test_device(), type), want = gradients(Device::cpu(), f32);
    for (std::size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      CHECK(here[i].dtype() == f32);
      CHECK(largest_difference(here[i].to(Device::cpu()), want[i]) < (type == f32   ? 1e-5
                                                                      : type == f16 ? 0.01
                                                                                    : 0.08) *
                                                                         largest(want[i]));
    }
  }
}

TEST_CASE("a model trained in mixed precision learns what it learns in f32") {
  const double f32_loss = last_loss(f32), bf16_loss = last_loss(bf16), f16_loss = last_loss(f16);
  MESSAGE("losses ", f32_loss, " in f32, ", bf16_loss, " in bf16, ", f16_loss, " in f16");
  CHECK(bf16_loss == doctest::Approx(f32_loss).epsilon(0.05));
  CHECK(f16_loss == doctest::Approx(f32_loss).epsilon(0.02));
}
