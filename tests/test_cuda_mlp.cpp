// mlp on a CUDA device, where gelu is part of a product, against the ops that it stands for, in
// f64.
#include <doctest/doctest.h>

#include <triad/tests/kernel_checks.h>
#include <triad/triad.h>

#ifdef TRIAD_CUDA_ON_CPU
#include <cublasLt.h>
#endif

using namespace triad;
using kernel_checks::check_close;
using kernel_checks::random_tensor;
using kernel_checks::values;
using reference::Values;

namespace {

// Of a few roundings, beside the largest number; in f16 there is cuBLASLt's tanh, too, to 2^-11.
double bound(DType dtype) {
  if (is_narrow(dtype)) return dtype == bf16 ? 0x1p-7 : 0x1p-9;
  return dtype == f32 ? 1e-6 : 1e-14;
}

double largest(const Values& x) {
  double most = 0;
  for (double value : x) most = std::max(most, std::abs(value));
  return most;
}

Tensors inputs(const Shape& x, std::int64_t K, std::int64_t N, std::int64_t M, DType dtype) {
  Tensors all;
  for (const Shape& shape : {x, Shape{N, K}, Shape{N}, Shape{M, N}, Shape{M}})
    all.push_back(random_tensor(shape, dtype, unsigned(all.size() + 1)));
  return all;
}

// Each of them as a leaf if `wanted` has its bit.
Tensors leaves(const Tensors& all, Device device, DType dtype, int wanted = 31) {
  Tensors made;
  for (const Tensor& x : all)
    made.push_back(x.to(device).to(dtype).requires_grad_(wanted >> made.size() & 1));
  return made;
}

Tensor run(const Tensors& x) { return mlp(x[0], x[1], x[2], x[3], x[4]); }

// The result and what arrives at the leaves, undefined where nothing does.
Tensors run_and_back(const Tensors& x, const Tensor& g) {
  const Tensor y = run(x);
  if (y.requires_grad()) y.backward(g.to(y.device()).to(y.dtype()));
  Tensors all{y.detach()};
  for (const Tensor& leaf : x) all.push_back(leaf.grad());
  return all;
}

void check(const Tensors& x, int wanted = 31) {
  const DType dtype = x[0].dtype();
  CAPTURE(name(dtype));
  CAPTURE(x[0].shape().str());
  CAPTURE(x[1].shape().str());
  CAPTURE(wanted);
  Shape shape = x[0].shape();
  shape[shape.rank() - 1] = x[3].size(0);
  const Tensor g = random_tensor(shape, dtype, 77);
  const Tensors want = run_and_back(leaves(x, Device::cpu(), f64), g);
  const Tensors got = run_and_back(leaves(x, kCuda, dtype, wanted), g);
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i].defined() == (i == 0 || (wanted >> (i - 1) & 1)));
    if (!got[i].defined()) continue;
    CHECK(got[i].dtype() == dtype);
    check_close(got[i], values(want[i]), bound(dtype), std::to_string(i), largest(values(want[i])));
  }
}

}  // namespace

TEST_CASE("mlp on CUDA: values and gradients of every type, on every kind of GPU") {
  for_capabilities([] {
    for (DType dtype : {f32, f64, bf16, f16}) {
      check(inputs({2, 5, 7}, 7, 24, 3, dtype));
      check(inputs({8}, 8, 8, 8, dtype));
      check(inputs({33, 16}, 16, 64, 16, dtype));
      check(inputs({3, 5}, 5, 13, 2, dtype));  // which no product of cuBLASLt takes with gelu
      check(inputs({0, 5}, 5, 16, 2, dtype));
      check(inputs({3, 5}, 5, 16, 0, dtype));
    }
  });
}

TEST_CASE("mlp on CUDA: whatever is frozen gets no gradient, and all else the same") {
  for (int wanted = 0; wanted < 32; ++wanted) check(inputs({6, 5}, 5, 16, 4, bf16), wanted);
}

TEST_CASE("mlp on CUDA: views are read as they lie") {
  for (DType dtype : {f32, bf16}) {
    const Tensors x = inputs({6, 8}, 8, 16, 4, dtype);
    const Values want = values(run(leaves(x, kCuda, dtype)));
    Tensors views = leaves(x, kCuda, dtype, 0);
    views[0] = views[0].transpose(0, 1).contiguous().transpose(0, 1);
    views[1] = cat({views[1], views[1]}, 1).slice(1, 8);
    views[2] = roll(cat({views[2], views[2]}, 0).slice(0, 15, 31), -1, 0);
    views[3] = views[3].transpose(0, 1).contiguous().transpose(0, 1);
    check_close(run(views), want, bound(dtype), "views", largest(want));
    views[2] = cat({ones({1}, {.dtype = dtype, .device = kCuda}), leaves(x, kCuda, dtype, 0)[2]}, 0)
                   .slice(0, 1);  // of no multiple of 16 bytes
    check_close(run(views), want, bound(dtype), "a bias out of line", largest(want));
  }
}

TEST_CASE("mlp on CUDA under Autocast: parameters stay f32") {
  const Tensors x = inputs({2, 5, 8}, 8, 32, 8, f32);
  const Tensor g = random_tensor({2, 5, 8}, f32, 78);
  const Tensors want = run_and_back(leaves(x, Device::cpu(), f64), g);
  const Autocast guard(bf16);
  const Tensors got = run_and_back(leaves(x, kCuda, f32), g);
  CHECK(got[0].dtype() == bf16);
  for (std::size_t i = 1; i < got.size(); ++i) CHECK(got[i].dtype() == f32);
  for (std::size_t i = 0; i < got.size(); ++i)
    check_close(got[i], values(want[i]), bound(bf16), std::to_string(i), largest(values(want[i])));
}

TEST_CASE("mlp on CUDA: one op for a GPU that has the products, which says what it cannot do") {
  const auto op_of = [](DType dtype) {
    return std::string(run(leaves(inputs({4, 8}, 8, 16, 4, dtype), kCuda, dtype)).node()->name);
  };
  for (DType dtype : {f32, f64}) CHECK(op_of(dtype) != "mlp");
#ifdef TRIAD_CUDA_ON_CPU
  for (DType dtype : {bf16, f16}) {
    CHECK(op_of(dtype) == "mlp");
    triad::cuda::epilogues_seen = 0;
    run_and_back(leaves(inputs({4, 8}, 8, 16, 4, dtype), kCuda, dtype), ones({4, 4}));
    const int seen = triad::cuda::epilogues_seen & ~CUBLASLT_EPILOGUE_DEFAULT;
    const int all = CUBLASLT_EPILOGUE_GELU_AUX_BIAS | CUBLASLT_EPILOGUE_BGRADB;
    CHECK(seen == (all | (dtype == bf16 ? CUBLASLT_EPILOGUE_DGELU : 0)));  // refused in f16
  }
  const Tensors x = leaves(inputs({4, 8}, 8, 16, 4, bf16), kCuda, bf16);
  const Tensor first = grad({sum(run(x))}, {x[0]}, {}, {.create_graph = true})[0];
  std::string text;
  try {
    grad({sum(square(first))}, {x[0]});
  } catch (const AutogradError& error) {
    text = error.what();
  }
  CHECK(text ==
        "mlp: the gradient of this fused op cannot be differentiated again; compose it of linear "
        "and gelu");
  triad::cuda::capability_shown = 8;
  CHECK(op_of(bf16) != "mlp");
  triad::cuda::capability_shown = 9;
#endif
}

TEST_CASE("mlp on CUDA: sizes and devices that do not fit are linear's errors") {
  const Tensors x = leaves(inputs({4, 8}, 8, 16, 4, f32), kCuda, f32);
  CHECK_THROWS_AS(mlp(x[0], x[3], x[2], x[3], x[4]), ShapeError);
  CHECK_THROWS_AS(mlp(x[0], x[1], x[4], x[3], x[4]), ShapeError);
  CHECK_THROWS_AS(mlp(x[0], x[1], x[2], x[1], x[4]), ShapeError);
  CHECK_THROWS_AS(mlp(x[0], x[1], x[2], x[3], x[2]), ShapeError);
  CHECK_THROWS_AS(mlp(x[0], x[2], x[2], x[3], x[4]), ShapeError);
  CHECK_THROWS_AS(mlp(x[0], x[1].to(Device::cpu()), x[2], x[3], x[4]), DeviceError);
  CHECK_THROWS_AS(mlp(x[0], x[1], x[2], x[3], x[4].to(bf16)), DTypeError);
  CHECK_THROWS_AS(mlp(x[0], {}, x[2], x[3], x[4]), ValueError);
  const Autocast guard(bf16);
  CHECK_THROWS_AS(mlp(x[0], x[1], x[2], x[3].to(f64), x[4]), DTypeError);
  CHECK_THROWS_AS(mlp(x[0], x[1].to(f64), x[2], x[3], x[4]), DTypeError);
}

TEST_CASE("mlp on CUDA without biases, and with what is written to before backward") {
  const Tensors x = leaves(inputs({4, 8}, 8, 16, 4, bf16), kCuda, bf16);
  const Values want = values(linear(gelu(linear(x[0], x[1]), Gelu::tanh), x[3]));
  check_close(mlp(x[0], x[1], {}, x[3], {}), want, bound(bf16), "no bias", largest(want));
  for (const Tensor& written : x) {
    const Tensor y = run(x);
    written.detach().fill_(0);
    CHECK_THROWS_AS(sum(y).backward(), AutogradError);
  }
}

TEST_CASE("MLP with gelu by tanh: on CUDA what it is on the CPU, captured what it is without") {
  manual_seed(5);
  nn::MLP here(8), there(8), graphed(8);
  for (nn::MLP* model : {&here, &there, &graphed}) {
    model->approximate = Gelu::tanh;
    model->load_state_dict(here.state_dict());
  }
  there.to(kCuda), graphed.to(kCuda);
  const Tensor x = random_tensor({3, 8}, f32, 3).to(kCuda);
  check_close(there(x), values(here(x.to(Device::cpu()))), 1e-5, "forward");
  const Autocast guard(bf16);
  nn::Adam own(there.named_parameters()), captured(graphed.named_parameters());
  nn::GraphedStep step(captured,
                       [&](const Tensors& batch) { return sum(square(graphed(batch[0]))); }, {});
  for (int i = 0; i < 4; ++i) {
    own.zero_grad();
    const Tensor loss = sum(square(there(x)));
    loss.backward();
    own.step();
    CHECK(step({x}).item<double>() == loss.item<double>());
  }
  // Hooks of its layers are called: then these are ops of their own.
  there.fc1.register_forward_hook([](auto&, auto&, const Tensor& y) { return y * 0.0; });
  check_close(there.fc2.forward(zeros({1, 32}, {.device = kCuda})), values(there(x).slice(0, 0, 1)),
              bound(bf16), "hooked");
}
