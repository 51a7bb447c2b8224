// Types beside f32 and f64: casts between all of them, bf16 and i32, which ops compute in a wider
// type, and complex numbers against std::complex.
#include <triad/tests/op_test.h>

#include <cmath>
#include <complex>

using namespace op_test;

namespace {

using C = std::complex<double>;
constexpr DType kAll[] = {f32, f64, bf16, f16, c64, c128, i32, i64, boolean};

std::vector<C> numbers(const Tensor& z) { return z.to(c128).to_vector<C>(); }

Tensor complex_noise(const Shape& shape, DType dtype = c128) {
  return complex(noise(shape, real_type(dtype)), noise(shape, real_type(dtype)));
}

// Every element of got is wanted(i), relative to the largest.
void check_complex(const Tensor& got, const std::function<C(std::size_t)>& wanted, double bound,
                   const std::string& what) {
  const std::vector<C> have = numbers(got);
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < have.size(); ++i) {
    worst = std::max(worst, std::abs(have[i] - wanted(i)));
    largest = std::max(largest, std::abs(wanted(i)));
  }
  CHECK_MESSAGE(worst <= bound * largest, what, ": ", worst, " of ", largest);
}

}  // namespace

TEST_CASE("bf16 is a float rounded to 8 bits, to nearest even") {
  for (std::uint32_t high = 0; high < 0x10000; high += 7)
    for (std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float x = std::bit_cast<float>(high << 16 | low);
      const bfloat16 b(x);
      if (std::isnan(x)) {
        CHECK(std::isnan(float(b)));
        continue;
      }
      const float down = std::bit_cast<float>(high << 16);
      const float up = std::bit_cast<float>((high + 1) << 16);  // away from zero
      const bool to_up = low > 0x8000 || (low == 0x8000 && high % 2 == 1);
      CHECK(std::bit_cast<std::uint32_t>(float(b)) ==
            std::bit_cast<std::uint32_t>(to_up ? up : down));
    }
}

TEST_CASE("f16: all of its numbers, and what is rounded to them, ties to even") {
  // What the bits mean: sign, exponent, and a fraction of 10 bits.
  const auto meaning = [](std::uint32_t bits) {
    const int exponent = int(bits >> 10 & 31), fraction = int(bits & 1023);
    double size =
        std::ldexp(exponent == 0 ? fraction : 1024 + fraction, std::max(exponent, 1) - 25);
    if (exponent == 31) size = fraction == 0 ? kInf : kNan;
    return bits >> 15 ? -size : size;
  };
  const auto of_bits = [](std::uint32_t bits) {
    return std::bit_cast<float16>(std::uint16_t(bits));
  };
  std::uint32_t wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double x = meaning(bits);
    const float16 half = of_bits(bits), again{float(half)};
    if (std::isnan(x)) {
      wrong += !std::isnan(float(half)) || !std::isnan(float(again));
      continue;
    }
    wrong +=
        float(half) != x || std::signbit(float(half)) != bool(bits >> 15) || again.bits != bits;
    // Between this one and the next, away from zero; above the last of them lies 2^16.
    if (std::isinf(x)) continue;
    const std::uint32_t next = bits + 1;
    const double above = (next & 0x7fff) == 0x7c00 ? std::copysign(65536.0, x) : meaning(next);
    const float middle = float((x + above) / 2), out = std::copysign(float(kInf), middle);
    wrong += float16(middle).bits != (bits % 2 == 0 ? bits : next);
    wrong += float16(std::nextafter(middle, out)).bits != next;
    wrong += float16(std::nextafter(middle, 0.0f)).bits != bits;
  }
  CHECK(wrong == 0);
  CHECK(float16(65519.99f).bits == 0x7bff);
  CHECK(float16(65520.0f).bits == 0x7c00);
  CHECK(float16(-3.4e38f).bits == 0xfc00);
  CHECK(float16(0x1p-25f).bits == 0);
  CHECK(float16(0x1.8p-25f).bits == 1);
  CHECK(float16(-0x1p-149f).bits == 0x8000);
  // PyTorch: torch.tensor([0.1, 1/3, 1e-7, 2049., 2051., 1e5]).half().view(torch.int16)
  const float examples[] = {0.1f, 1 / 3.0f, 1e-7f, 2049, 2051, 1e5f};
  const std::uint16_t torch[] = {0x2e66, 0x3555, 0x0002, 0x6800, 0x6802, 0x7c00};
  for (int i = 0; i < 6; ++i) CHECK(float16(examples[i]).bits == torch[i]);
  // Tensors are converted by the same function, a register at a time.
  std::vector<float16> all;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) all.push_back(of_bits(bits));
  const std::vector<float> wide = from_vector(all).to(f32).to_vector<float>();
  const std::vector<float16> back = from_vector(wide).to(f16).to_vector<float16>();
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits)
    wrong += std::isnan(meaning(bits)) ? !std::isnan(float(back[bits])) : back[bits].bits != bits;
  CHECK(wrong == 0);
  CHECK(from_vector(std::vector{of_bits(0x3555)}).str() == "f16[1] [0.3333]");
}

TEST_CASE("casts between all types") {
  const Values numbers{0, 1, -2, 3, 100, -7};
  for (DType from : kAll)
    for (DType to : kAll)
      for (Lie lie : kLies) {
        const Tensor x = laid(lie, tensor(numbers, {2, 3}, from));
        const Tensor y = x.to(to);
        CHECK(y.dtype() == to);
        Values want = values(x);
        if (to == boolean)
          for (double& v : want) v = v != 0;
        CHECK_MESSAGE(values(y) == want, name(from), " to ", name(to));
      }
  // From complex numbers the real part; to them no imaginary one.
  const Tensor z = from_vector<std::complex<float>>({{1, 2}, {0, 3}}, {2});
  CHECK(values(z.to(f64)) == Values{1, 0});
  CHECK(values(z.to(boolean)) == Values{1, 1});  // 3i is not zero
  CHECK(values(imag(tensor({4}, {1}, f32).to(c128))) == Values{0});
  // Fractions are cut off towards zero.
  CHECK(values(tensor({1.7, -1.7}, {2}, f64).to(i32)) == Values{1, -1});
}

TEST_CASE("gradients pass through casts") {
  for (DType dtype : {f32, bf16, f16, c64, c128}) {
    Tensor x = tensor({1, 2}, {2}, f64).requires_grad_();
    Tensor y = x.to(dtype);
    sum(real(y.to(complex_type(dtype)) * 3.0)).backward();
    CHECK(x.grad().dtype() == f64);
    CHECK(values(x.grad()) == Values{3, 3});
  }
  CHECK(!tensor({1}, {1}, f64).requires_grad_().to(i32).requires_grad());
}

TEST_CASE("bf16 and f16 ops are those of f32, rounded once") {
  const Tensor ids = tensor({1, 0, 4, 4, 2}, {5}, i64);
  const std::pair<const char*, TensorFunction> ops[] = {
      {"add", [](const Tensors& x) { return x[0] + x[1]; }},
      {"div", [](const Tensors& x) { return x[0] / x[1]; }},
      {"mul number", [](const Tensors& x) { return x[0] * 1.7; }},
      {"exp", [](const Tensors& x) { return exp(x[0]); }},
      {"sum", [](const Tensors& x) { return sum(x[0], {1}); }},
      {"mean", [](const Tensors& x) { return sum(x[0]); }},
      {"max", [](const Tensors& x) { return max(x[0], 1).first; }},
      {"matmul", [](const Tensors& x) { return matmul(x[0], x[1].transpose(0, 1)); }},
      {"linear", [](const Tensors& x) { return linear(x[0], x[1]); }},
      {"softmax", [](const Tensors& x) { return softmax(x[0], 0); }},
      {"layer_norm", [](const Tensors& x) { return layer_norm(x[0]); }},
      {"cumsum", [](const Tensors& x) { return cumsum(x[0], 1); }},
      {"norm", [](const Tensors& x) { return norm(x[0]); }},
      {"embedding", [&](const Tensors& x) { return embedding(ids, x[0]); }},
      {"attention",
       [](const Tensors& x) {
         const Tensor q = x[0].reshape({1, 1, 5, 7}), k = x[1].reshape({1, 1, 5, 7});
         return scaled_dot_product_attention(q, k, q);
       }},
      {"cross_entropy", [&](const Tensors& x) { return cross_entropy(x[0], ids); }},
  };
  for (DType dtype : {bf16, f16})
    for (const auto& [name, op] : ops) {
      const Tensor a = noise({5, 7}, dtype), b = noise({5, 7}, dtype);
      Tensors narrow{a.clone().requires_grad_(), b.clone().requires_grad_()};
      const Tensor y = op(narrow);
      CHECK_MESSAGE(y.dtype() == dtype, name);
      const Tensor want = op({a.to(f32), b.to(f32)}).to(dtype);
      CHECK_MESSAGE(values(y) == values(want), name);
      sum(y).backward();
      CHECK_MESSAGE(narrow[0].grad().dtype() == dtype, name);
    }
  const Tensor x = noise({3}, bf16);
  check_error<DTypeError>([&] { x + x.to(f32); }, "the types differ, bf16 and f32");
  check_error<DTypeError>([&] { x + x.to(f16); }, "the types differ, bf16 and f16");
  check_error<DTypeError>([] { randn({2}, {.dtype = i32}); }, "randn: needs f32 or f64, got i32");
}

TEST_CASE("f16 ends at 65504, and sums on the way do not") {
  const Tensor x = full({1000}, 300, {.dtype = f16});
  CHECK(values(square(x.slice(0, 0, 1))) == Values{kInf});
  CHECK(sum(x).item<double>() == kInf);
  CHECK(mean(x).item<double>() == 300);
  CHECK(norm(x).item<double>() == doctest::Approx(300 * std::sqrt(1000.0)).epsilon(1e-3));
  CHECK(values(layer_norm(x)) == Values(1000));
  CHECK(values(softmax(x, 0).slice(0, 0, 1))[0] == doctest::Approx(1e-3).epsilon(1e-3));
  // The square of 300 is infinite, the derivative of gelu there is 1.
  Tensor leaf = tensor({300, -300, 2}, {3}, f16).requires_grad_();
  sum(gelu(leaf, Gelu::tanh)).backward();
  CHECK(values(leaf.grad())[0] == 1);
  CHECK(values(leaf.grad())[1] == 0);
  CHECK(values(leaf.grad())[2] == doctest::Approx(1.0861).epsilon(3e-3));
  for (const Gelu approximate : {Gelu::none, Gelu::tanh}) {  // and its own derivative 0
    const Tensor far = tensor({22.5, -100, 300, -6e4}, {4}, f16).requires_grad_();
    const Tensor slope = grad({sum(gelu(far, approximate))}, {far}, {}, {.create_graph = true})[0];
    CHECK(values(grad({sum(slope)}, {far})[0]) == Values(4));
  }
}

TEST_CASE("a linear layer trains in bf16") {
  manual_seed(3);
  nn::Linear layer(8, 1);
  layer.to(bf16);
  nn::SGD optimizer(layer.named_parameters(), {.lr = 0.1});
  const Tensor x = randn({64, 8}).to(bf16);
  const Tensor target = sum(x, {1}, true) * 0.5;
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    const Tensor loss = mse_loss(layer(x), target);
    (step == 0 ? first : last) = loss.item<double>();
    loss.backward();
    optimizer.step();
  }
  CHECK(last < 0.02 * first);
}

TEST_CASE("a hybrid language model trains, decodes and is saved in bf16") {
  manual_seed(4);
  nn::TransformerLM model({.vocab_size = 16,
                           .d_model = 32,
                           .layers = 1,
                           .head_types = nn::heads("standard*2, spectral, holonomy"),
                           .max_seq_len = 16});
  model.to(bf16);
  nn::AdamW optimizer(nn::decay_groups(model, 0.1), {.lr = 3e-3});
  const Tensor ids = arange(64, {.dtype = i64}).reshape({4, 16}) * 5.0;
  const Tensor tokens = ids - floor(ids.to(f64) / 16.0).to(i64) * 16.0;  // a pattern to learn
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    const Tensor loss = cross_entropy(model(tokens.slice(1, 0, 15)), tokens.slice(1, 1));
    (step == 0 ? first : last) = loss.item<double>();
    loss.backward();
    nn::clip_grad_norm(model.parameters(), 1);
    optimizer.step();
  }
  CHECK(last < 0.3 * first);
  for (const auto& [name, p] : model.named_parameters()) CHECK(p.dtype() == bf16);

  model.eval();
  const Tensor whole = no_grad([&] { return model(tokens); });
  nn::DecodeCache cache;
  Tensor step;
  for (std::int64_t t = 0; t < 16; ++t) step = model.step(tokens.slice(1, t, t + 1), cache);
  const double largest = max(abs(whole)).item<double>();
  CHECK(max(abs(whole.slice(1, 15) - step)).item<double>() < 0.1 * largest);  // a few bits of 8
}

TEST_CASE("i32 computes in i64, comes back as i32, and names tokens") {
  const Tensor a = tensor({3, -4, 5}, {3}, i32), b = tensor({2, 2, -7}, {3}, i32);
  CHECK((a + b).dtype() == i32);
  CHECK(values(a * b) == Values{6, -8, -35});
  CHECK(values(maximum(a, b)) == Values{3, 2, 5});
  CHECK(values(abs(a) - 1.0) == Values{2, 3, 4});
  CHECK(sum(a).dtype() == i64);
  CHECK(max(a, 0).first.dtype() == i32);
  CHECK(min(a, 0).first.item<int>() == -4);
  CHECK((a < b).dtype() == boolean);
  check_error<DTypeError>([&] { a + 0.5; }, "0.5 is no whole number and the tensor is i32");
  const Tensor weight = noise({6, 2});
  const Tensor ids = tensor({5, 0}, {2}, i32);
  CHECK(values(embedding(ids, weight)) == values(embedding(ids.to(i64), weight)));
  CHECK(cross_entropy(weight.slice(0, 0, 2), tensor({1, 0}, {2}, i32)).item<double>() ==
        cross_entropy(weight.slice(0, 0, 2), tensor({1, 0}, {2}, i64)).item<double>());
}

// ---------------------------------------------------------------------- complex numbers

TEST_CASE("real and imag are views") {
  const Tensor z = complex_noise({4});
  CHECK(real(z).storage() == z.storage());
  imag(z).fill_(2);
  for (C value : numbers(z)) CHECK(value.imag() == 2);
  CHECK(view_as_complex(view_as_real(z)).storage() == z.storage());
  check_error<DTypeError>([] { imag(zeros({2})); }, "imag: needs complex numbers, got f32");
  check_error<DTypeError>([&] { z < z; }, "lt: complex numbers have no order");
  check_error<DTypeError>([&] { max(z, 0); }, "max: complex numbers have no order");
  check_error<DTypeError>([&] { log(z); },
                          "log: needs f32 or f64, got c128; write real(x) or abs(x)");
  check_error<ShapeError>([] { view_as_complex(zeros({3})); }, "needs [...,2]");
}

TEST_CASE("complex gradients point where the loss rises: of |z|^2 it is 2 z") {
  Tensor z = complex_noise({6}).requires_grad_();
  sum(square(abs(z))).backward();
  const std::vector<C> x = numbers(z.detach());
  check_complex(
      z.grad(), [&](std::size_t i) { return 2.0 * x[i]; }, 1e-14, "gradient");
  z.set_grad({});
  sum(real(z * conj(z))).backward();
  check_complex(
      z.grad(), [&](std::size_t i) { return 2.0 * x[i]; }, 1e-14, "gradient");
  // At zero the gradient of abs is zero.
  Tensor zero = zeros({2}, {.dtype = c128, .requires_grad = true});
  sum(abs(zero)).backward();
  check_complex(
      zero.grad(), [](std::size_t) { return C(0); }, 0, "abs at zero");
}
