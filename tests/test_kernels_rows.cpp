// Softmax, cross entropy and layer norm against their definitions in fp64.
#include <triad/tests/kernel_checks.h>

using namespace kernel_checks;
using triad::Cpu;
using triad::DType;

namespace {

const std::vector<Shape> kRows = {{1, 1},    {3, 2},    {5, 17}, {7, 64},
                                  {129, 31}, {2, 1000}, {0, 5},  {300, 67}};

double bound(DType dtype) { return dtype == triad::f32 ? 1e-6 : 2e-15; }

Tensor like(const Tensor& x) { return triad::empty(x.shape(), x.dtype()); }

Tensor run(void (*kernel)(Cpu, const Tensor&, const Tensor&), const Tensor& x) {
  Tensor y = like(x);
  kernel(Cpu{}, x, y);
  return y;
}

}  // namespace

TEST_CASE("softmax and its gradient") {
  for (DType dtype : {triad::f32, triad::f64})
    for (const Shape& shape : kRows)
      for (double scale : {1.0, 100.0}) {
        const std::size_t C = std::size_t(shape[1]);
        const Tensor x = random_tensor(shape, dtype, 1, scale), dy = random_tensor(shape, dtype, 2);
        const Tensor y = run(triad::kernels::softmax, x);
        check_close(y, reference::softmax(values(x), C), bound(dtype), "softmax", 1e-3);
        const Tensor dx = like(x);
        triad::kernels::softmax_backward(Cpu{}, dy, y, dx);
        check_close(dx, reference::softmax_backward(values(dy), values(y), C), bound(dtype),
                    "softmax_backward", 1);
      }
}

TEST_CASE("softmax of infinities and NaN") {
  for (DType dtype : {triad::f32, triad::f64}) {
    reference::Values x(4 * 37, 0.5), want(4 * 37, kNan);
    for (int j = 0; j < 37; ++j) {
      x[std::size_t(j)] = -kInf;                    // nothing but -inf
      x[std::size_t(37 + j)] = j < 36 ? -kInf : 3;  // one is left
      want[std::size_t(37 + j)] = j == 36;
    }
    x[2 * 37 + 20] = kNan;
    x[3 * 37 + 3] = kInf;
    const Tensor rows = tensor(x, {4, 37}, dtype);
    check_close(run(triad::kernels::softmax, rows), want, 0, "softmax");
  }
}

TEST_CASE("cross entropy and its gradient") {
  for (DType dtype : {triad::f32, triad::f64})
    for (const Shape& shape : kRows)
      for (double scale : {1.0, 50.0}) {
        const std::int64_t R = shape[0], C = shape[1];
        if (R == 0) continue;
        const Tensor x = random_tensor(shape, dtype, 1, scale);
        const Tensor target = triad::empty({R}, triad::i64);
        for (std::int64_t r = 0; r < R; ++r)
          target.first<std::int64_t>()[r] = r % 5 == 3 ? -100 : 7 * r % C;
        const auto targets = target.to_vector<std::int64_t>();
        const Tensor losses = triad::empty({R}, dtype), lse = triad::empty({R}, dtype),
                     dx = like(x);
        triad::kernels::cross_entropy(Cpu{}, x, target, -100, losses, lse);
        check_close(losses, reference::cross_entropy(values(x), targets, -100), bound(dtype),
                    "cross_entropy", 0.1);
        Tensor weight = random_tensor({R}, dtype, 3);
        triad::visit_float("test", dtype, [&](auto zero) {
          for (std::int64_t r = 3; r < R; r += 5) weight.first<decltype(zero)>()[r] = 0;
        });
        triad::kernels::cross_entropy_backward(Cpu{}, x, target, lse, weight, dx);
        check_close(dx, reference::cross_entropy_backward(values(x), targets, values(weight)),
                    bound(dtype) * std::max(1.0, scale / 4), "cross_entropy_backward");
      }
}

TEST_CASE("cross entropy at the edges") {
  const Tensor x = tensor({1000, -1000, 0, -kInf, 1, 2, kNan, 0, 0, -kInf, -kInf, -kInf}, {4, 3});
  const Tensor target = tensor({1, 0, 2, 1}, {4}, triad::i64), losses = triad::empty({4}),
               lse = triad::empty({4});
  triad::kernels::cross_entropy(Cpu{}, x, target, -100, losses, lse);
  check_close(losses, {2000, kInf, kNan, kNan}, 1e-6, "losses");
  // An ignored row stays an ignored row when the gradient that arrives is NaN.
  const Tensor ignored = tensor({-100}, {1}, triad::i64), dx = triad::empty({1, 3});
  triad::kernels::cross_entropy_backward(Cpu{}, tensor({1, 2, 3}, {1, 3}), ignored,
                                         tensor({3}, {1}), tensor({kNan}, {1}), dx);
  check_close(dx, {kNan, kNan, kNan}, 0, "NaN");
  // A loss close to zero keeps its digits: log(1 + exp(-20)).
  const Tensor loss = triad::empty({1}, triad::f64);
  triad::kernels::cross_entropy(Cpu{}, tensor({20, 0}, {1, 2}, triad::f64),
                                tensor({0}, {1}, triad::i64), -100, loss,
                                triad::empty({1}, triad::f64));
  check_close(loss, {std::log1p(std::exp(-20))}, 1e-6, "small loss", 0);
}

TEST_CASE("layer norm and its gradients, with and without weight and bias") {
  for (DType dtype : {triad::f32, triad::f64})
    for (const Shape& shape : kRows)
      for (bool affine : {true, false}) {
        const std::int64_t R = shape[0], C = shape[1];
        const std::size_t width = std::size_t(C);
        const Tensor x = random_tensor(shape, dtype, 1), dy = random_tensor(shape, dtype, 2);
        const Tensor weight = affine ? random_tensor({C}, dtype, 3) : Tensor(),
                     bias = affine ? random_tensor({C}, dtype, 4) : Tensor();
        const reference::Values w = affine ? values(weight) : reference::Values(width, 1),
                                b = affine ? values(bias) : reference::Values(width, 0);
        const Tensor y = like(x), mean = triad::empty({R}, dtype), rstd = triad::empty({R}, dtype);
        triad::kernels::layer_norm(Cpu{}, x, weight, bias, 1e-5, y, mean, rstd);
        const reference::Normalized norm = reference::normalize(values(x), width, 1e-5);
        reference::Values want = norm.h, dweight(width), dbias(width), g = values(dy);
        for (std::size_t i = 0; i < want.size(); ++i) {
          want[i] = norm.h[i] * w[i % width] + b[i % width];
          dweight[i % width] += g[i] * norm.h[i];
          dbias[i % width] += g[i];
        }
        const double loose = bound(dtype) * (C == 1 ? 300 : C == 2 ? 100 : 4);  // x - mean cancels
        check_close(y, want, loose, "layer_norm");
        check_close(mean, norm.mean, bound(dtype), "mean");
        check_close(rstd, norm.rstd, loose, "rstd", 0);

        const Tensor dx = like(x), dw = triad::empty({C}, dtype), db = triad::empty({C}, dtype);
        triad::kernels::layer_norm_backward(Cpu{}, dy, x, weight, mean, rstd, dx, dw, db);
        const double scale = C <= 2 ? 300 : 4;
        check_close(dx, reference::layer_norm_backward(values(dy), norm, w), loose, "dx", scale);
        check_close(dw, dweight, loose, "dweight", std::sqrt(double(R)));
        check_close(db, dbias, bound(dtype), "dbias", std::sqrt(double(R)));

        const Tensor only = triad::empty({C}, dtype);  // each gradient alone
        triad::kernels::layer_norm_backward(Cpu{}, dy, x, weight, mean, rstd, {}, only, {});
        CHECK(same_bits(only, dw));
        triad::kernels::layer_norm_backward(Cpu{}, dy, x, weight, mean, rstd, {}, {}, only);
        CHECK(same_bits(only, db));
        const Tensor input = like(x);
        triad::kernels::layer_norm_backward(Cpu{}, dy, x, weight, mean, rstd, input, {}, {});
        CHECK(same_bits(input, dx));
      }
}

TEST_CASE("layer norm keeps its digits when the mean is large") {
  const std::int64_t C = 384;
  Tensor x = random_tensor({5, C}, triad::f32, 1);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.first<float>()[i] += 1e4f;
  const Tensor y = like(x), mean = triad::empty({5}), rstd = triad::empty({5});
  triad::kernels::layer_norm(Cpu{}, x, {}, {}, 1e-5, y, mean, rstd);
  const reference::Normalized want = reference::normalize(values(x), std::size_t(C), 1e-5);
  check_close(y, want.h, 1e-6, "y");
  check_close(rstd, want.rstd, 1e-6, "rstd", 0);
}

TEST_CASE("the same bits at any number of threads") {
  const Shape shape{700, 67};
  for (DType dtype : {triad::f32, triad::f64}) {
    const Tensor x = random_tensor(shape, dtype, 1), dy = random_tensor(shape, dtype, 2);
    check_threads("softmax", [&] { return run(triad::kernels::softmax, x); });
    const Tensor y = like(x), mean = triad::empty({700}, dtype), rstd = triad::empty({700}, dtype);
    triad::kernels::layer_norm(Cpu{}, x, {}, {}, 1e-5, y, mean, rstd);
    for (int which : {0, 1, 2})
      check_threads("layer_norm_backward", [&] {
        const Tensor out[3] = {like(x), triad::empty({67}, dtype), triad::empty({67}, dtype)};
        triad::kernels::layer_norm_backward(Cpu{}, dy, x, {}, mean, rstd, out[0], out[1], out[2]);
        return out[which];
      });
  }
}
