#include <triad/autograd/attention.h>

#include <cmath>

#include <triad/autograd/autograd.h>
#include <triad/autograd/op_helpers.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {
namespace {

constexpr const char* kOp = "scaled_dot_product_attention";

// [B,H,T,D] seen in a buffer [B,T,H,D]: where heads lie side by side, ready for a projection.
Tensor empty_heads(const Shape& s, const Tensor& like) {
  return empty({s[0], s[2], s[1], s[3]}, like.dtype(), like.device()).transpose(1, 2);
}

void check_shapes(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) {
  check_float(kOp, q);
  check_same_type(kOp, q, k);
  check_same_type(kOp, q, v);
  const bool fits = q.dim() == 4 && k.dim() == 4 && k.shape() == v.shape() &&
                    q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3) &&
                    q.size(3) > 0;
  if (!fits)
    throw_error<ShapeError>("{}: needs q [B,H,T,D] and k, v [B,H,S,D], got {}, {}, {}", kOp,
                            q.shape(), k.shape(), v.shape());
  if (!out.defined()) return;
  check_same_type(kOp, q, out);
  if (out.shape() != q.shape() || out.strides().back() != 1 || out.requires_grad())
    throw_error<ShapeError>("{}: out must be {} with stride 1 along D and without history", kOp,
                            q.shape());
}

Tensor full_mask(const Tensor& mask, const Shape& q, const Shape& k) {
  if (!mask.defined()) return mask;
  check_bool(kOp, mask);
  const Shape full{q[0], q[1], q[2], k[2]};
  auto fail = [&] {
    throw_error<ShapeError>(
        "{}: needs a mask [T,S], [B,T,S], [B,1,T,S] or [B,H,T,S] with B {}, H {}, T {}, S {}, got "
        "{}",
        kOp, full[0], full[1], full[2], full[3], mask.shape());
  };
  Layout wide = mask.layout();
  if (mask.dim() == 3) wide = unsqueezed(wide, 1);
  const int rank = wide.shape.rank();
  if ((rank != 2 && rank != 4) || wide.shape[rank - 1] != full[3] ||
      wide.shape[rank - 2] != full[2])
    fail();
  for (int i = 0; i < rank - 2; ++i)
    if (wide.shape[i] != full[i] && wide.shape[i] != 1) fail();
  return mask.with_layout(expanded(wide, full));
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  check_shapes(q, k, v, options.out);
  if (q.dtype() == bf16) {
    AttentionOptions wide = options;
    wide.out = {};
    return scaled_dot_product_attention(q.to(f32), k.to(f32), v.to(f32), wide).to(bf16);
  }
  if (options.token_mask.defined()) {
    check_bool(kOp, options.token_mask);
    if (options.token_mask.shape() != Shape{k.size(0), k.size(2)})
      throw_error<ShapeError>("{}: needs a token_mask [{},{}], got {}", kOp, k.size(0), k.size(2),
                              options.token_mask.shape());
  }
  if (!(options.dropout >= 0 && options.dropout < 1))
    throw_error<ValueError>("{}: needs 0 <= dropout < 1, got {}", kOp, options.dropout);
  const kernels::AttentionArgs args{
      .scale = options.scale.value_or(1 / std::sqrt(double(q.size(3)))),
      .causal = options.causal,
      .mask = full_mask(options.mask, q.shape(), k.shape()),
      .token_mask = options.token_mask,
      .dropout = options.dropout,
      .random = options.dropout > 0 ? next_stream() : RandomStream{},
  };
  Tensor out = options.out.defined() ? options.out : empty_heads(q.shape(), q);
  Tensor lse = empty({q.size(0), q.size(1), q.size(2)}, q.dtype(), q.device());
  on(q.device(), [&](auto device) {
    kernels::attention(device, with_packed_rows(q), with_packed_rows(k), with_packed_rows(v), args,
                       out, lse);
  });
  return record_fused(kOp, out, {q, k, v}, [q, k, v, out, lse, args](const Tensor& g) {
    auto wanted = [](const Tensor& x) {
      return x.requires_grad() ? empty_heads(x.shape(), x) : Tensor();
    };
    Tensors grads{wanted(q), wanted(k), wanted(v)};
    on(g.device(), [&](auto device) {
      kernels::attention_backward(device, with_packed_rows(g), with_packed_rows(q),
                                  with_packed_rows(k), with_packed_rows(v), out, lse, args,
                                  grads[0], grads[1], grads[2]);
    });
    return grads;
  });
}

}  // namespace triad
