// What the benchmark measures of each op: a line of Python for PyTorch and the same in C++, over
// the tensors of BenchInputs, which bench/peers.py makes with the same names and numbers.
#include <triad/tests/op_cases.h>

#include <map>
#include <string_view>

namespace op_cases {

using namespace triad;

namespace {

using I = const BenchInputs&;

// clang-format off
const std::multimap<std::string_view, Bench> kBenches{
  // name, what PyTorch runs, what triad runs, f32 numbers read and written for each element
  {"Tensor::clone", {"x.clone()", [](I i) { return i.x.clone(); }, 2}},
  {"Tensor::to", {"x.bfloat16()", [](I i) { return i.x.to(bf16); }, 1.5}},
  {"Tensor::to", {"h.float()", [](I i) { return i.h.to(f32); }, 1.5}},
  {"Tensor::to", {"x.double()", [](I i) { return i.x.to(f64); }, 3}},
  {"Tensor::contiguous", {"m.T.contiguous()", [](I i) { return i.m.transpose(0, 1).contiguous(); }, 2}},

  {"operator+", {"x + y", [](I i) { return i.x + i.y; }, 3}},
  {"operator+", {"h + k", [](I i) { return i.h + i.k; }, 1.5}},
  {"operator-", {"x - y", [](I i) { return i.x - i.y; }, 3}},
  {"operator-", {"-x", [](I i) { return -i.x; }, 2}},
  {"operator*", {"x * y", [](I i) { return i.x * i.y; }, 3}},
  {"operator*", {"x * 1.5", [](I i) { return i.x * 1.5; }, 2}},
  {"operator*", {"z * z", [](I i) { return i.z * i.z; }, 4}},
  {"operator/", {"x / y", [](I i) { return i.x / i.y; }, 3}},
  {"maximum", {"torch.maximum(x, y)", [](I i) { return maximum(i.x, i.y); }, 3}},
  {"minimum", {"torch.minimum(x, y)", [](I i) { return minimum(i.x, i.y); }, 3}},
  {"operator==", {"x == y", [](I i) { return i.x == i.y; }, 2.25}},
  {"operator!=", {"x != y", [](I i) { return i.x != i.y; }, 2.25}},
  {"operator<", {"x < y", [](I i) { return i.x < i.y; }, 2.25}},
  {"operator<=", {"x <= y", [](I i) { return i.x <= i.y; }, 2.25}},
  {"operator>", {"x > y", [](I i) { return i.x > i.y; }, 2.25}},
  {"operator>=", {"x >= y", [](I i) { return i.x >= i.y; }, 2.25}},
  {"operator>", {"x > 0", [](I i) { return i.x > 0.0; }, 1.25}},
  {"logical_and", {"torch.logical_and(b, c)", [](I i) { return logical_and(i.b, i.c); }, 0.75}},
  {"logical_or", {"torch.logical_or(b, c)", [](I i) { return logical_or(i.b, i.c); }, 0.75}},
  {"logical_xor", {"torch.logical_xor(b, c)", [](I i) { return logical_xor(i.b, i.c); }, 0.75}},
  {"logical_not", {"torch.logical_not(b)", [](I i) { return logical_not(i.b); }, 0.5}},
  {"isnan", {"torch.isnan(x)", [](I i) { return isnan(i.x); }, 1.25}},
  {"isinf", {"torch.isinf(x)", [](I i) { return isinf(i.x); }, 1.25}},
  {"isfinite", {"torch.isfinite(x)", [](I i) { return isfinite(i.x); }, 1.25}},
  {"where", {"torch.where(b, x, y)", [](I i) { return where(i.b, i.x, i.y); }, 3.25}},
  {"masked_fill", {"x.masked_fill(b, 0)", [](I i) { return masked_fill(i.x, i.b, 0); }, 2.25}},
  {"clamp", {"x.clamp(-1, 1)", [](I i) { return clamp(i.x, -1, 1); }, 2}},
  {"lerp", {"torch.lerp(x, y, 0.25)", [](I i) { return lerp(i.x, i.y, 0.25); }, 3}},
  {"pow", {"x ** 3", [](I i) { return pow(i.x, 3); }, 2}},
  {"pow", {"y ** 2.5", [](I i) { return pow(i.y, 2.5); }, 2}},
  {"pow", {"y ** x", [](I i) { return pow(i.y, i.x); }, 3}},

  {"abs", {"x.abs()", [](I i) { return abs(i.x); }, 2}},
  {"abs", {"z.abs()", [](I i) { return abs(i.z); }, 3}},
  {"sign", {"x.sign()", [](I i) { return sign(i.x); }, 2}},
  {"square", {"x.square()", [](I i) { return square(i.x); }, 2}},
  {"floor", {"x.floor()", [](I i) { return floor(i.x); }, 2}},
  {"round", {"x.round()", [](I i) { return round(i.x); }, 2}},
  {"sqrt", {"y.sqrt()", [](I i) { return sqrt(i.y); }, 2}},
  {"rsqrt", {"y.rsqrt()", [](I i) { return rsqrt(i.y); }, 2}},
  {"reciprocal", {"y.reciprocal()", [](I i) { return reciprocal(i.y); }, 2}},
  {"exp", {"x.exp()", [](I i) { return exp(i.x); }, 2}},
  {"expm1", {"x.expm1()", [](I i) { return expm1(i.x); }, 2}},
  {"log", {"y.log()", [](I i) { return log(i.y); }, 2}},
  {"log1p", {"y.log1p()", [](I i) { return log1p(i.y); }, 2}},
  {"sin", {"x.sin()", [](I i) { return sin(i.x); }, 2}},
  {"cos", {"x.cos()", [](I i) { return cos(i.x); }, 2}},
  {"tanh", {"x.tanh()", [](I i) { return tanh(i.x); }, 2}},
  {"erf", {"x.erf()", [](I i) { return erf(i.x); }, 2}},
  {"sigmoid", {"x.sigmoid()", [](I i) { return sigmoid(i.x); }, 2}},
  {"softplus", {"F.softplus(x)", [](I i) { return softplus(i.x); }, 2}},
  {"relu", {"x.relu()", [](I i) { return relu(i.x); }, 2}},
  {"silu", {"F.silu(x)", [](I i) { return silu(i.x); }, 2}},
  {"gelu", {"F.gelu(x)", [](I i) { return gelu(i.x); }, 2}},
  {"gelu", {"F.gelu(x, approximate='tanh')", [](I i) { return gelu(i.x, Gelu::tanh); }, 2}},
  {"conj", {"z.conj_physical()", [](I i) { return conj(i.z); }, 4}},
  {"complex", {"torch.complex(x, y)", [](I i) { return complex(i.x, i.y); }, 4}},
  {"polar", {"torch.polar(y, x)", [](I i) { return polar(i.y, i.x); }, 4}},

  {"sum", {"y.sum()", [](I i) { return sum(i.y); }, 1}},
  {"sum", {"w.sum(0)", [](I i) { return sum(i.w, {0}); }, 1}},
  {"sum", {"w.sum(1)", [](I i) { return sum(i.w, {1}); }, 1}},
  {"mean", {"y.mean()", [](I i) { return mean(i.y); }, 1}},
  {"var", {"m.var(1, correction=0)", [](I i) { return var(i.m, {1}, false, 0); }, 1}},
  {"stddev", {"m.std(1, correction=0)", [](I i) { return stddev(i.m, {1}, false, 0); }, 1}},
  {"max", {"x.max()", [](I i) { return max(i.x); }, 1}},
  {"max", {"m.max(1)[0]", [](I i) { return max(i.m, 1).first; }, 1}},
  {"min", {"x.min()", [](I i) { return min(i.x); }, 1}},
  {"argmax", {"m.argmax(1)", [](I i) { return argmax(i.m, 1); }, 1}},
  {"argmin", {"m.argmin(1)", [](I i) { return argmin(i.m, 1); }, 1}},
  {"any", {"torch.any(b)", [](I i) { return any(i.b); }, 0.25}},
  {"all", {"torch.all(b)", [](I i) { return all(i.b); }, 0.25}},
  {"norm", {"x.norm()", [](I i) { return norm(i.x); }, 1}},
  {"logsumexp", {"m.logsumexp(1)", [](I i) { return logsumexp(i.m, {1}); }, 1}},
  {"cumsum", {"m.cumsum(1)", [](I i) { return cumsum(i.m, 1); }, 2}},

  {"softmax", {"m.softmax(1)", [](I i) { return softmax(i.m, 1); }, 2}},
  {"log_softmax", {"m.log_softmax(1)", [](I i) { return log_softmax(i.m, 1); }, 2}},
  {"layer_norm", {"F.layer_norm(m, m.shape[1:])", [](I i) { return layer_norm(i.m); }, 2}},
  {"rms_norm", {"F.rms_norm(m, m.shape[1:], eps=1e-6)", [](I i) { return rms_norm(i.m); }, 2}},
  {"dropout", {"F.dropout(x, 0.1)", [](I i) { return dropout(i.x, 0.1); }, 2, true}},
  {"cross_entropy", {"F.cross_entropy(m, t)", [](I i) { return cross_entropy(i.m, i.t); }, 1}},
  {"mse_loss", {"F.mse_loss(x, y)", [](I i) { return mse_loss(i.x, i.y); }, 2}},
  {"huber_loss", {"F.huber_loss(x, y)", [](I i) { return huber_loss(i.x, i.y); }, 2}},
  {"kl_div", {"F.kl_div(x, y, reduction='mean')", [](I i) { return kl_div(i.x, i.y); }, 2}},
  {"embedding", {"F.embedding(r, m)", [](I i) { return embedding(i.r, i.m); }, 2}},
  {"scaled_dot_product_attention", {"F.scaled_dot_product_attention(q, q, q, is_causal=True)",
    [](I i) { return scaled_dot_product_attention(i.q, i.q, i.q, {.is_causal = true}); }, 0}},
  {"causal_conv1d", {"F.conv1d(F.pad(m.T, (3, 0))[None], v[:, None], groups=len(v))[0].T",
    [](I i) { return causal_conv1d(i.m.unsqueeze(0), i.v).squeeze(0); }, 2}},

  {"cat", {"torch.cat([x, y])", [](I i) { return cat({i.x, i.y}); }, 4}},
  {"stack", {"torch.stack([x, y], -1)", [](I i) { return stack({i.x, i.y}, -1); }, 4}},
  {"repeat", {"x.repeat(2)", [](I i) { return repeat(i.x, {2}); }, 3}},
  {"pad", {"F.pad(m, (1, 1))", [](I i) { return pad(i.m, {1, 1}); }, 2}},
  {"flip", {"x.flip(0)", [](I i) { return flip(i.x, 0); }, 2}},
  {"flip", {"m.flip(0)", [](I i) { return flip(i.m, 0); }, 2}},
  {"roll", {"x.roll(7)", [](I i) { return roll(i.x, 7, 0); }, 2}},
  {"index_select", {"m.index_select(0, r)", [](I i) { return index_select(i.m, 0, i.r); }, 2}},
  {"gather", {"m.gather(1, g)", [](I i) { return gather(i.m, 1, i.g); }, 4}},
  {"scatter_add", {"m.scatter_add(1, g, w)", [](I i) { return scatter_add(i.m, 1, i.g, i.w); }, 5}},
  {"topk", {"m.topk(1)[0]", [](I i) { return topk(i.m, 1).first; }, 1}},
  {"tril", {"s.tril()", [](I i) { return tril(i.s); }, 0}},
  {"triu", {"s.triu()", [](I i) { return triu(i.s); }, 0}},

  {"matmul", {"s @ s", [](I i) { return matmul(i.s, i.s); }, 0}},
  {"matmul", {"s.bfloat16() @ s.bfloat16()", [](I i) { return matmul(i.s.to(bf16), i.s.to(bf16)); }, 0}},
  {"matmul", {"s.double() @ s.double()", [](I i) { return matmul(i.s.to(f64), i.s.to(f64)); }, 0}},
  {"matmul", {"u @ u", [](I i) { return matmul(i.u, i.u); }, 0}},
  {"linear", {"F.linear(s, s)", [](I i) { return linear(i.s, i.s); }, 0}},
  {"mlp", {"F.linear(F.gelu(F.linear(s, s, s[0]), approximate='tanh'), s, s[0])",
           [](I i) { return mlp(i.s, i.s, i.s.select(0, 0), i.s, i.s.select(0, 0)); }, 0}},
  {"einsum", {"torch.einsum('ij,kj->ik', s, s)", [](I i) { return einsum("ij,kj->ik", {i.s, i.s}); }, 0}},

  {"zeros", {"torch.zeros(len(x))", [](I i) { return zeros({i.x.numel()}); }, 1}},
  {"full_like", {"torch.full_like(x, 2)", [](I i) { return full_like(i.x, 2); }, 1}},
  {"arange", {"torch.arange(float(len(x)))", [](I i) { return arange(double(i.x.numel())); }, 1}},
  {"rand", {"torch.rand(len(x))", [](I i) { return rand({i.x.numel()}); }, 1, true}},
  {"randn", {"torch.randn(len(x))", [](I i) { return randn({i.x.numel()}); }, 1, true}},
};
// clang-format on

}  // namespace

std::vector<Bench> benches_of(std::string_view op) {
  std::vector<Bench> found;
  for (auto [it, end] = kBenches.equal_range(op); it != end; ++it) found.push_back(it->second);
  return found;
}

}  // namespace op_cases
