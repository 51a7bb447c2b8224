// Matrix products, and softmax attention: two of them as one op that never holds the T x T weights.
#pragma once

#include <optional>
#include <string>

#include <triad/autograd/autograd.h>

namespace triad {

// torch.matmul: a [...,M,K] b [...,K,N] -> [...,M,N], leading axes broadcast; a 1-d argument is a
// row (left) or a column (right) and leaves no axis. Transposed views are read as they lie.
Tensor matmul(const Tensor& a, const Tensor& b);

// x [...,K] weight[N,K]^T + bias[N] -> [...,N]; bias may be undefined.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

// Sums of products by the name of each axis: einsum("bij,bjk->bik", {a, b}). Every operand's axes
// are lower or upper case letters, the result's come after "->"; an axis that is named twice in one
// operand means its diagonal. Two operands at a time, from the left, become one matmul.
Tensor einsum(const std::string& equation, const Tensors& operands);

// What a query may attend to (all combined by "and"), and dropout.
struct AttentionOptions {
  Tensor attn_mask = {};   // bool [T,S], [B,T,S], [B,1,T,S] or [B,H,T,S], true = may attend
  double dropout_p = 0;    // of the weights; set it in training only
  bool is_causal = false;  // query t sees keys s <= t + S - T: itself and the past
  std::optional<double> scale = {};  // of q k^T; 1/sqrt(D) unless given
  Tensor token_mask = {};            // bool [B,S], true = a real token, false = padding
  Tensor qkv = {};  // [B,T,3,H,D], if q, k and v are its parts: it takes their gradients as one
  Tensor out = {};  // where to write, [B,H,T,D] without history (not in bf16 and f16 on the CPU)
};

// dropout(softmax(scale q k^T + restrictions)) v, by tiles with the running softmax of Milakov &
// Gimelshein 2018 (arXiv 1805.02867) and Dao et al. 2022 (arXiv 2205.14135); backward recomputes.
// q [B,H,T,D], k, v [B,H,S,D] -> [B,H,T,D], stored as [B,T,H,D]; zeros where nothing is attended.
Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options = {});

}  // namespace triad
