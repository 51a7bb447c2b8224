#include <triad/autograd/cuda/mlp.h>

#include <triad/autograd/op_helpers.h>

#ifdef TRIAD_CUDA
#include <triad/backends/cuda/cublas.h>
#include <triad/backends/cuda/runtime.h>
#include <triad/core/cuda/tf32.h>
#endif

namespace triad {

#ifdef TRIAD_CUDA
namespace {

// c = gelu(h), h = a b^T + bias; or c = (a b) gelu'(h). All contiguous. False, with nothing done,
// where cuBLASLt has no such product.
bool gelu_product(cuda::Epilogue epilogue, const Tensor& a, const Tensor& b, const Tensor& bias,
                  const Tensor& h, const Tensor& c) {
  const Cuda device{a.device().index};
  cuda::Gemm gemm{.dtype = a.dtype(), .M = c.size(0), .N = c.size(1), .K = a.size(1)};
  void* const row = bias.defined() ? bias.first_byte() : nullptr;
  if (gemm.N == 0 || gemm.K == 0 || gemm.N % 8 != 0) return false;
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0 || cuda::capability(device) < 9) return false;
  gemm.transpose_b = epilogue == cuda::Epilogue::gelu;
  gemm.a_row = gemm.K, gemm.b_row = gemm.transpose_b ? gemm.K : gemm.N;
  gemm.tf32 = gemm.dtype == f32 && tf32_is_allowed;
  gemm.epilogue = epilogue;
  return on(a.device(), "mlp", [&](auto) {
    return cuda::gemm(device, gemm, a.first_byte(), b.first_byte(), row, c.first_byte(),
                      h.first_byte());
  });
}

// The gradients of a layer's weight and bias, from that of its rows y, as far as they are wanted.
void layer_gradients(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& bias,
                     Tensor& dweight, Tensor& dbias) {
  if (!weight.requires_grad() && !bias.requires_grad()) return;
  dweight = empty_like(weight), dbias = empty_gradient(bias);
  on(dy.device(), "mlp",
     [&](auto device) { kernels::matmul(device, dy.transpose(0, 1), x, {}, dweight, dbias); });
}

// An undefined tensor where it is not to be one op.
Tensor fused(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
             const Tensor& bias2) {
  bool fits = true;
  for (const Tensor& other : {weight1, weight2, bias1, bias2})
    fits = fits && other.defined() && other.device() == x.device() && other.dtype() == x.dtype();
  if (!fits || x.dim() == 0 || x.numel() == 0 || weight1.dim() != 2 || weight2.dim() != 2)
    return {};
  const std::int64_t K = weight1.size(1), N = weight1.size(0), M = weight2.size(0);
  if (x.size(-1) != K || weight2.size(1) != N || bias1.shape() != Shape{N}) return {};
  const Tensor rows = packed(x).reshape({-1, K}), w1 = packed(weight1), w2 = packed(weight2);
  const Tensor h = empty({rows.size(0), N}, x.dtype(), x.device(), "mlp"), a = empty_like(h, "mlp");
  if (!gelu_product(cuda::Epilogue::gelu, rows, w1, packed(bias1), h, a)) return {};
  Shape shape = x.shape();
  shape[x.dim() - 1] = M;
  const Tensor y = no_grad([&] { return linear(a, w2, bias2); }).reshape(shape);
  auto rule = [=](const Tensor& g) {
    const Tensor dy = packed(g).reshape({-1, M});
    Tensors grads(5);
    layer_gradients(dy, a, weight2, bias2, grads[3], grads[4]);
    if (!x.requires_grad() && !weight1.requires_grad() && !bias1.requires_grad()) return grads;
    const Tensor dh = empty_like(h, "mlp");
    if (!gelu_product(cuda::Epilogue::gelu_grad, dy, w2, {}, h, dh)) {
      const Tensor da = matmul(dy, w2);
      on(h.device(), "mlp",
         [&](auto device) { kernels::binary(device, kernels::Binary::gelu_tanh_grad, da, h, dh); });
    }
    layer_gradients(dh, rows, weight1, bias1, grads[1], grads[2]);
    if (x.requires_grad()) grads[0] = matmul(dh, w1).reshape(x.shape());
    return grads;
  };
  return record_fused("mlp", y, {x, weight1, bias1, weight2, bias2}, rule, "linear and gelu");
}

}  // namespace
#endif

Tensor mlp(const Tensor& x, const Tensor& weight1, const Tensor& bias1, const Tensor& weight2,
           const Tensor& bias2) {
#ifdef TRIAD_CUDA
  if (x.defined() && x.device() != Device::cpu()) {
    if (narrows(x, weight1) || narrows(x, weight2))
      return mlp(narrowed(x), narrowed(weight1), narrowed(bias1), narrowed(weight2),
                 narrowed(bias2));
    if (Tensor y = fused(x, weight1, bias1, weight2, bias2); y.defined()) return y;
  }
#endif
  return linear(gelu(linear(x, weight1, bias1), Gelu::tanh), weight2, bias2);
}

}  // namespace triad
