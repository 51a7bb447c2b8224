#include <cmath>
#include <map>

#include <triad/autograd/op_helpers.h>

namespace triad {

// x as a kernel reads it: one of the last two axes has stride 1, or one entry.
static Tensor readable(const Tensor& x) {
  for (int axis : {x.dim() - 2, x.dim() - 1})
    if (x.strides()[axis] == 1 || x.shape()[axis] == 1) return x.detach();
  return x.detach().contiguous();
}

static Shape batch_of(const Shape& shape) { return {shape.begin(), shape.end() - 2}; }
static Shape rows_of(const Tensor& x) { return {x.shape().begin(), x.shape().end() - 1}; }

static Shape matrix_shape(Shape batch, std::int64_t rows, std::int64_t columns) {
  batch.push_back(rows);
  batch.push_back(columns);
  return batch;
}

// Of real matrices [...,M,K] and [...,K,N]; `sums` as in kernels::matmul.
static Tensor product(const Tensor& a, const Tensor& b, const Tensor& sums = {}) {
  const std::int64_t M = a.size(-2), K = a.size(-1), N = b.size(-1);
  const Shape batch = broadcast_shapes("matmul", batch_of(a.shape()), batch_of(b.shape()));
  Tensor c = empty(matrix_shape(batch, M, N), a.dtype(), a.device(), "matmul");
  const Tensor left = readable(a).expand(matrix_shape(batch, M, K));
  const Tensor right = readable(b).expand(matrix_shape(batch, K, N));
  on(a.device(), "matmul", [&](auto device) { kernels::matmul(device, left, right, {}, c, sums); });
  return record("matmul", c, {a, b}, [a, b](const Tensor& g) {
    return Tensors{
        a.requires_grad() ? sum_to(matmul(g, b.transpose(-1, -2)), a.shape()) : Tensor(),
        b.requires_grad() ? sum_to(matmul(a.transpose(-1, -2), g), b.shape()) : Tensor()};
  });
}

// (x + i y) (u + i v) is the real product [x y] [[u v], [-v u]]: rows of a as pairs, [M,2K], times
// those of b, each with i times itself below, [2K,2N].
static Tensor complex_product(const Tensor& a, const Tensor& b) {
  auto pairs = [](const Tensor& z) { return view_as_real(z).flatten(-2); };
  Tensor both = stack({b, complex(-imag(b), real(b))}, -2).flatten(-3, -2);
  Tensor c = product(pairs(a), pairs(both));
  return view_as_complex(c.reshape(matrix_shape(rows_of(c), b.size(-1), 2)));
}

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (narrows(a, b)) return matmul(narrowed(a), narrowed(b));
  check_inexact("matmul", a);
  check_same_type("matmul", a, b);
  if (a.dim() == 0 || b.dim() == 0)
    throw_error<ShapeError>("matmul: needs at least one axis each, got {} and {}", a.shape(),
                            b.shape());
  const Tensor left = a.dim() == 1 ? a.unsqueeze(0) : a, right = b.dim() == 1 ? b.unsqueeze(1) : b;
  if (left.size(-1) != right.size(-2))
    throw_error<ShapeError>("matmul: needs [...,M,K] and [...,K,N], got {} and {}", left.shape(),
                            right.shape());
  Tensor c = is_complex(a.dtype()) ? complex_product(left, right) : product(left, right);
  if (b.dim() == 1) c = c.squeeze(-1);
  if (a.dim() == 1) c = c.squeeze(b.dim() == 1 ? -1 : -2);
  return c;
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (narrows(x, weight)) return linear(narrowed(x), narrowed(weight), narrowed(bias));
  check_float("linear", x);
  check_same_type("linear", x, weight);
  if (bias.defined()) check_same_type("linear", x, bias);
  if (weight.dim() != 2 || x.dim() < 1 || x.size(-1) != weight.size(1) ||
      (bias.defined() && bias.shape() != Shape{weight.size(0)}))
    throw_error<ShapeError>("linear: needs x [...,K], weight [N,K], bias [N], got {}, {}, {}",
                            x.shape(), weight.shape(), bias.shape());
  const std::int64_t N = weight.size(0), K = weight.size(1), R = rows_of(x).numel();
  Shape shape = x.shape();
  shape[x.dim() - 1] = N;
  Tensor rows = readable(x.detach().reshape({R, K})), y = empty({R, N}, x.dtype(), x.device());
  Tensor w = readable(weight).transpose(0, 1), b = packed(bias);
  on(x.device(), [&](auto device) { kernels::matmul(device, rows, w, b, y); });
  return record("linear", y.reshape(shape), {x, weight, bias}, [=](const Tensor& g) {
    Tensor rows_g = g.reshape({R, N});
    Tensors grads(3);
    if (x.requires_grad()) grads[0] = matmul(rows_g, weight).reshape(x.shape());
    // CUDA sums g's columns in passing, where a product reads them.
    const bool fused = weight.requires_grad() && !grad_enabled() && g.device() != Device::cpu();
    if (bias.requires_grad()) grads[2] = fused ? empty_like(bias) : sum(rows_g, {0});
    if (weight.requires_grad())
      grads[1] = product(rows_g.transpose(0, 1), x.reshape({R, K}), fused ? grads[2] : Tensor());
    return grads;
  });
}

// ---------------------------------------------------------------------- einsum

namespace {

// A tensor with a letter for each axis.
struct Lettered {
  Tensor x;
  std::string axes;

  bool has(char c) const { return axes.find(c) != std::string::npos; }

  // Two axes of one letter become their diagonal.
  void take_diagonals() {
    for (std::size_t i = 0; i < axes.size(); ++i)
      for (std::size_t j = axes.size() - 1; j > i; --j) {
        if (axes[i] != axes[j]) continue;
        x = window("einsum", x, [i = int(i), j = int(j)](Layout diagonal) {
          diagonal.strides[i] += diagonal.strides[j];
          diagonal.strides.erase(j);
          diagonal.shape.erase(j);
          return diagonal;
        });
        axes.erase(j, 1);
      }
  }
  // Sums over the axes that nobody asks for.
  void keep(const std::string& wanted) {
    auto unwanted = [&](char c) { return wanted.find(c) == std::string::npos; };
    Axes gone;
    for (std::size_t i = 0; i < axes.size(); ++i)
      if (unwanted(axes[i])) gone.push_back(std::int64_t(i));
    if (!gone.empty()) x = sum(x, gone);
    std::erase_if(axes, unwanted);
  }
  Tensor in_order(const std::string& order) const {
    Shape permutation;
    for (char c : order) permutation.push_back(std::int64_t(axes.find(c)));
    return x.permute(permutation);
  }
  Shape sizes(const std::string& letters) const {
    Shape shape;
    for (char c : letters) shape.push_back(x.size(std::int64_t(axes.find(c))));
    return shape;
  }
  // [batch..., M, N] of the axes of each.
  Tensor matrices(const std::string& batch, const std::string& m, const std::string& n) const {
    const Shape shape = matrix_shape(sizes(batch), sizes(m).numel(), sizes(n).numel());
    return in_order(batch + m + n).reshape(shape);
  }
};

Lettered contract(const Lettered& a, const Lettered& b, const std::string& wanted) {
  std::string batch, rows, inner, columns;
  for (char c : a.axes)
    (!b.has(c) ? rows : wanted.find(c) == std::string::npos ? inner : batch) += c;
  for (char c : b.axes)
    if (!a.has(c)) columns += c;
  Tensor y = matmul(a.matrices(batch, rows, inner), b.matrices(batch, inner, columns));
  Shape shape = a.sizes(batch + rows);
  for (std::int64_t n : b.sizes(columns)) shape.push_back(n);
  return {y.reshape(shape), batch + rows + columns};
}

}  // namespace

Tensor einsum(const std::string& equation, const Tensors& operands) {
  auto fail = [&](const std::string& why) {
    throw_error<ValueError>("einsum: '{}' {}", equation, why);
  };
  std::string text = equation;
  std::erase(text, ' ');
  const std::size_t arrow = text.find("->");
  if (arrow == std::string::npos) fail("has no '->'");
  const std::string out = text.substr(arrow + 2);
  text.erase(arrow);
  std::vector<std::string> names(1);  // of each operand's axes
  for (char c : text + out)
    if (c != ',' && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z'))
      fail("has more than letters");
  for (char c : text)
    if (c == ',') names.emplace_back();
    else names.back() += c;
  if (names.size() != operands.size())
    fail(fmt::format("names {} operands, {} came", names.size(), operands.size()));
  std::vector<Lettered> terms;
  std::map<char, std::int64_t> sizes;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    check_inexact("einsum", operands[i]);
    if (operands[i].dim() != int(names[i].size()))
      fail(fmt::format("names {} axes for {}", names[i].size(), operands[i].shape()));
    for (std::size_t k = 0; k < names[i].size(); ++k) {
      const std::int64_t n = operands[i].shape()[int(k)];
      const auto [seen, is_new] = sizes.try_emplace(names[i][k], n);
      if (seen->second != n)
        throw_error<ShapeError>("einsum: axis {} is {} long and {}", names[i][k], seen->second, n);
    }
    terms.push_back({operands[i], names[i]});
    terms.back().take_diagonals();
  }
  for (std::size_t k = 0; k < out.size(); ++k)
    if (!sizes.contains(out[k]) || out.find(out[k], k + 1) != std::string::npos)
      fail(fmt::format("has {} in its result, which needs each axis of an operand once", out[k]));

  Lettered result = terms[0];
  for (std::size_t i = 0;; ++i) {
    std::string wanted = out;  // by the result and the operands still to come
    for (std::size_t k = i + 1; k < terms.size(); ++k) wanted += terms[k].axes;
    if (i > 0) {
      terms[i].keep(wanted + result.axes);
      result = contract(result, terms[i], wanted);
    }
    result.keep(wanted);
    if (i + 1 == terms.size()) return result.in_order(out);
  }
}

// ---------------------------------------------------------------------- attention

namespace {

constexpr const char* kAttention = "scaled_dot_product_attention";

// [B,H,T,D] seen in a buffer [B,T,H,D]: where heads lie side by side, ready for a projection.
Tensor empty_heads(const Shape& s, const Tensor& like) {
  const Shape heads{s[0], s[2], s[1], s[3]};
  return empty(heads, like.dtype(), like.device(), kAttention).transpose(1, 2);
}

void check_shapes(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) {
  check_float(kAttention, q);
  check_same_type(kAttention, q, k);
  check_same_type(kAttention, q, v);
  if (q.dim() != 4 || k.dim() != 4 || k.shape() != v.shape() || q.size(0) != k.size(0) ||
      q.size(1) != k.size(1) || q.size(3) != k.size(3) || q.size(3) == 0)
    throw_error<ShapeError>("{}: needs q [B,H,T,D] and k, v [B,H,S,D], got {}, {}, {}", kAttention,
                            q.shape(), k.shape(), v.shape());
  if (!out.defined()) return;
  check_same_type(kAttention, q, out);
  if (out.shape() != q.shape() || out.strides().back() != 1 || out.requires_grad())
    throw_error<ShapeError>("{}: out must be {} with stride 1 along D and without history",
                            kAttention, q.shape());
}

Tensor full_mask(const Tensor& mask, const Shape& q, const Shape& k) {
  if (!mask.defined()) return mask;
  const Shape full{q[0], q[1], q[2], k[2]};
  Layout wide = mask.layout();
  if (mask.dim() == 3) wide = unsqueezed(wide, 1);
  const int rank = wide.shape.rank();
  bool fits = rank == 2 || rank == 4;
  for (int i = 0; fits && i < rank; ++i) {
    const std::int64_t size = wide.shape[i], needed = full[i + 4 - rank];
    fits = size == needed || (size == 1 && i < rank - 2);
  }
  if (!fits)
    throw_error<ShapeError>(
        "{}: needs a mask [T,S], [B,T,S], [B,1,T,S] or [B,H,T,S] with B {}, H {}, T {}, S {}, got "
        "{}",
        kAttention, full[0], full[1], full[2], full[3], mask.shape());
  return mask.with_layout(expanded(wide, full));
}

// Whatever Autocast says.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const AttentionOptions& options) {
  check_shapes(q, k, v, options.out);
  if (is_narrow(q.dtype()) && q.device() == Device::cpu()) {  // which has no such kernel
    AttentionOptions wide = options;
    wide.out = {};
    return attention(q.to(f32), k.to(f32), v.to(f32), wide).to(q.dtype());
  }
  for (const Tensor& mask : {options.attn_mask, options.token_mask})
    if (mask.defined()) check_bool(kAttention, mask), check_same_device(kAttention, q, mask);
  if (options.token_mask.defined() && options.token_mask.shape() != Shape{k.size(0), k.size(2)})
    throw_error<ShapeError>("{}: needs a token_mask [{},{}], got {}", kAttention, k.size(0),
                            k.size(2), options.token_mask.shape());
  if (!(options.dropout_p >= 0 && options.dropout_p < 1))
    throw_error<ValueError>("{}: needs 0 <= dropout_p < 1, got {}", kAttention, options.dropout_p);
  const kernels::AttentionArgs args{
      .scale = options.scale.value_or(1 / std::sqrt(double(q.size(3)))),
      .causal = options.is_causal,
      .mask = full_mask(options.attn_mask, q.shape(), k.shape()),
      .token_mask = options.token_mask,
      .dropout = options.dropout_p,
      .random = options.dropout_p > 0 ? next_stream() : RandomStream{},
  };
  Tensor out = options.out.defined() ? options.out : empty_heads(q.shape(), q);
  Tensor lse = empty(rows_of(q), wide_type(q.dtype()), q.device(), kAttention);
  on(q.device(), kAttention, [&](auto device) {
    kernels::attention(device, with_packed_rows(q), with_packed_rows(k), with_packed_rows(v), args,
                       out, lse);
  });
  Tensors inputs{q, k, v, args.mask, args.token_mask};
  const Tensor& qkv = options.qkv;
  bool whole = qkv.defined() && qkv.requires_grad() && qkv.dim() == 5 && qkv.size(2) == 3;
  for (int i = 0; whole && i < 3; ++i)
    whole = inputs[i].requires_grad() && inputs[i].storage() == qkv.storage() &&
            inputs[i].layout() == qkv.detach().select(2, i).transpose(1, 2).layout();
  if (whole) inputs[0] = qkv;
  auto rule = [q, k, v, out, lse, args, whole, of = inputs[0]](const Tensor& g) {
    const Tensor all = whole ? empty_gradient(of) : Tensor();
    Tensors grads;
    for (const Tensor& x : {q, k, v})
      grads.push_back(all.defined()       ? all.select(2, std::ssize(grads)).transpose(1, 2)
                      : x.requires_grad() ? empty_heads(x.shape(), x)
                                          : Tensor());
    on(g.device(), [&](auto device) {
      kernels::attention_backward(device, with_packed_rows(g), with_packed_rows(q),
                                  with_packed_rows(k), with_packed_rows(v), out, lse, args,
                                  grads[0], grads[1], grads[2]);
    });
    return all.defined() ? Tensors{all} : grads;
  };
  return record_fused(kAttention, out, inputs, rule, "matmul, exp and log_softmax");
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  return narrows(q, k) || narrows(q, v) ? attention(narrowed(q), narrowed(k), narrowed(v), options)
                                        : attention(q, k, v, options);
}

}  // namespace triad
