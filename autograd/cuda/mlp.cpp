#include <triad/autograd/cuda/mlp.h>

#include <triad/autograd/op_helpers.h>

#ifdef TRIAD_CUDA
#include <triad/backends/cuda/cublas.h>
#include <triad/backends/cuda/runtime.h>
#endif

namespace triad {

#ifdef TRIAD_CUDA
namespace {

// Before Hopper, cuBLASLt takes longer than with a kernel for gelu (so llm.c has measured). Sizes
// that do not fit are errors of linear.
bool can_be_fused(const Tensor& x, const Tensor& weight1, const Tensor& bias1,
                  const Tensor& weight2, const Tensor& bias2) {
  for (const Tensor& other : {weight1, bias1, weight2, bias2})
    if (!other.defined() || other.device() != x.device() || other.dtype() != x.dtype())
      return false;
  if (!is_narrow(x.dtype()) || x.dim() == 0 || weight1.dim() != 2 || weight2.dim() != 2)
    return false;
  const std::int64_t N = weight1.size(0), M = weight2.size(0);
  return x.size(-1) == weight1.size(1) && bias1.shape() == Shape{N} && weight2.size(1) == N &&
         bias2.shape() == Shape{M} && x.numel() > 0 && N > 0 && M > 0 && N % 8 == 0 &&
         cuda::capability({x.device().index}) >= 9;
}

// c = gelu(h), h = a b^T + bias; or c = (a b) gelu'(h). All contiguous. False, with nothing done,
// where cuBLASLt has no such product.
bool gelu_product(cuda::Epilogue epilogue, const Tensor& a, const Tensor& b, const Tensor& bias,
                  const Tensor& h, const Tensor& c) {
  cuda::Gemm gemm{.dtype = a.dtype(), .M = c.size(0), .N = c.size(1), .K = a.size(1)};
  gemm.transpose_b = epilogue == cuda::Epilogue::gelu;
  gemm.a_row = gemm.K, gemm.b_row = gemm.transpose_b ? gemm.K : gemm.N;
  gemm.epilogue = epilogue;
  return on(a.device(), "mlp", [&](auto) {
    return cuda::gemm({a.device().index}, gemm, a.first_byte(), b.first_byte(),
                      bias.defined() ? bias.first_byte() : nullptr, c.first_byte(), h.first_byte());
  });
}

// The gradients of a layer's weight and bias, from that of its rows y, as far as they are wanted.
void layer_gradients(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& bias,
                     Tensor& dweight, Tensor& dbias) {
  if (bias.requires_grad()) dbias = weight.requires_grad() ? empty_like(bias, "mlp") : sum(dy, {0});
  if (!weight.requires_grad()) return;
  dweight = empty_like(weight, "mlp");
  on(dy.device(), "mlp",
     [&](auto device) { kernels::matmul(device, dy.transpose(0, 1), x, {}, dweight, dbias); });
}

// Undefined where it is not to be one op.
Tensor fused(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
             const Tensor& bias2) {
  if (!can_be_fused(x, weight1, bias1, weight2, bias2)) return {};
  const std::int64_t K = weight1.size(1), N = weight1.size(0), M = weight2.size(0);
  const Tensor rows = packed(x).reshape({-1, K}), w1 = packed(weight1), w2 = packed(weight2);
  const Tensor h = empty({rows.size(0), N}, x.dtype(), x.device(), "mlp"), a = empty_like(h, "mlp");
  Tensor b1 = packed(bias1);
  if (reinterpret_cast<std::uintptr_t>(b1.first_byte()) % 16 != 0) b1 = b1.clone();
  if (!gelu_product(cuda::Epilogue::gelu, rows, w1, b1, h, a)) return {};
  Shape shape = x.shape();
  shape[x.dim() - 1] = M;
  if (!x.requires_grad() && !weight1.requires_grad() && !bias1.requires_grad())
    return linear(a, weight2, bias2).reshape(shape);
  const Tensor y = empty({rows.size(0), M}, x.dtype(), x.device(), "mlp");
  on(x.device(), "mlp",
     [&](auto device) { kernels::matmul(device, a, w2.transpose(0, 1), packed(bias2), y); });
  auto rule = [=](const Tensor& g) {
    const Tensor dy = packed(g).reshape({h.size(0), M}), dh = empty_like(h, "mlp");
    Tensors grads(5);
    layer_gradients(dy, a, weight2, bias2, grads[3], grads[4]);
    if (!gelu_product(cuda::Epilogue::gelu_grad, dy, w2, {}, h, dh)) {
      const Tensor da = matmul(dy, w2);
      on(h.device(), "mlp",
         [&](auto device) { kernels::binary(device, kernels::Binary::gelu_tanh_grad, da, h, dh); });
    }
    layer_gradients(dh, rows, weight1, bias1, grads[1], grads[2]);
    if (x.requires_grad()) grads[0] = matmul(dh, w1).reshape(x.shape());
    return grads;
  };
  return record_fused("mlp", y.reshape(shape), {x, weight1, bias1, weight2, bias2}, rule,
                      "linear and gelu");
}

}  // namespace
#endif

Tensor mlp(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
           const Tensor& bias2) {
#ifdef TRIAD_CUDA
  if (x.defined() && x.device() != Device::cpu() && weight1.defined() && weight2.defined()) {
    if ((narrows(x, weight1) || narrows(x, weight2)) && are_cast(weight1, weight2))
      return mlp(narrowed(x), narrowed(weight1), narrowed(bias1), narrowed(weight2),
                 narrowed(bias2));
    if (Tensor y = fused(x, weight1, bias1, weight2, bias2); y.defined()) return y;
  }
#endif
  return linear(gelu(linear(x, weight1, bias1), Gelu::tanh), weight2, bias2);
}

}  // namespace triad
