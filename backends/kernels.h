// The contract between ops and backends: every kernel, declared once per device tag.
//
// A kernel computes and nothing else. The op above it has checked shapes, dtypes and devices and
// has allocated the outputs; tensors come without history. Unless a comment says otherwise:
//   * inputs may have any strides, outputs are contiguous and hold nothing yet;
//   * all floating tensors of one call have the same dtype, f32 or f64;
//   * an output that is an undefined Tensor is not wanted and not computed;
//   * results do not depend on the number of threads.
// Symbols: B batch, T and S sequence lengths, H heads, D channels of a head, R rows, C columns.
#pragma once

#include <cstdint>

#include <triad/core/random.h>
#include <triad/core/tensor.h>

namespace triad::kernels {

// ------------------------------------------------------------------------- elementwise

enum class Unary { neg, abs, exp, log, sqrt, square, tanh, sin, cos, gelu, gelu_grad, sign };
enum class Binary { add, sub, mul, div, max, min, eq, ne, lt, le, gt, ge, logical_and, logical_or };

// y = f(x), x and y of one shape. gelu is x/2 (1 + erf(x / sqrt 2)), gelu_grad its derivative at x.
void unary(Cpu, Unary f, const Tensor& x, const Tensor& y);
// y = f(a, b), a and b already expanded to y's shape. Comparisons and logical operators give bool;
// logical operators take bool, min and max return NaN where either is NaN.
void binary(Cpu, Binary f, const Tensor& a, const Tensor& b, const Tensor& y);
// The same with a number in the place of b, or of a when `swapped`.
void binary_scalar(Cpu, Binary f, const Tensor& a, double b, bool swapped, const Tensor& y);
// y = condition ? a : b, all of y's shape.
void where(Cpu, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& y);
// y = x, or y += x; both of any strides. copy also casts between any two dtypes.
void copy(Cpu, const Tensor& x, const Tensor& y);
void add_into(Cpu, const Tensor& x, const Tensor& y);
void fill(Cpu, double value, const Tensor& y);                 // y of any strides
void arange(Cpu, double start, double step, const Tensor& y);  // y[i] = start + i step

// ------------------------------------------------------------------------- random numbers
// (core/random.h)

void uniform(Cpu, RandomStream random, const Tensor& y);  // [0, 1)
// Box-Muller on pairs of elements: normal_pair in backends/math.h.
void normal(Cpu, RandomStream random, const Tensor& y);
// low + (bits (high - low) >> 64) from 64 random bits: off even by no more than (high - low) /
// 2^64.
void random_integers(Cpu, RandomStream random, std::int64_t low, std::int64_t high,
                     const Tensor& y);
// y = uniform < p ? 0 : x / (1 - p); x contiguous. The same call on dy is the gradient.
void dropout(Cpu, RandomStream random, double p, const Tensor& x, const Tensor& y);

// ------------------------------------------------------------------------- reductions

// y has x's rank; its axes of size 1 are summed over. In a fixed order, pairwise or better.
void sum(Cpu, const Tensor& x, const Tensor& y);
// max over the last axis: y [...], index [...] (i64) of its first occurrence. NaN is larger than
// all.
void max_last(Cpu, const Tensor& x, const Tensor& y, const Tensor& index);
// sum of squares of all elements, into y, 0-d, f64.
void sum_of_squares(Cpu, const Tensor& x, const Tensor& y);

// ------------------------------------------------------------------------- rows: x [R,C]
// contiguous

void softmax(Cpu, const Tensor& x, const Tensor& y);
void softmax_backward(Cpu, const Tensor& dy, const Tensor& y,
                      const Tensor& dx);  // y (dy - sum(dy y))
void log_softmax(Cpu, const Tensor& x, const Tensor& y);
void log_softmax_backward(Cpu, const Tensor& dy, const Tensor& y,
                          const Tensor& dx);  // dy - exp(y) sum(dy)

// y = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps), variance over C (biased).
// weight, bias [C] contiguous, either may be undefined; mean, rstd [R] are kept for backward.
void layer_norm(Cpu, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                const Tensor& y, const Tensor& mean, const Tensor& rstd);
void layer_norm_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                         const Tensor& dweight, const Tensor& dbias);

// losses[r] = -log softmax(logits[r])[target[r]], 0 where target is ignore_index; logsumexp [R] is
// kept for backward. Targets i64 [R], checked to lie in range by the op.
void cross_entropy(Cpu, const Tensor& logits, const Tensor& target, std::int64_t ignore_index,
                   const Tensor& losses, const Tensor& logsumexp);
// dlogits = scale[r] (softmax(logits) - onehot(target)), scale [R] is zero at ignored rows
void cross_entropy_backward(Cpu, const Tensor& logits, const Tensor& target,
                            const Tensor& logsumexp, const Tensor& scale, const Tensor& dlogits);

// ------------------------------------------------------------------------- indexing

// y[i] = weight[ids[i]]; weight [V,C], ids i64 [R], y [R,C], all contiguous, ids in range.
void embedding(Cpu, const Tensor& weight, const Tensor& ids, const Tensor& y);
void embedding_backward(Cpu, const Tensor& dy, const Tensor& ids,
                        const Tensor& dweight);  // zeroes first
// The smallest and the largest of ids, i64 [2]; ids is not empty.
void index_range(Cpu, const Tensor& ids, const Tensor& range);

// ------------------------------------------------------------------------- matrix product

// c[...,M,N] = a[...,M,K] b[...,K,N] (+ bias[N] when defined; + c as it stands when `accumulate`).
// Batch axes of a and b are already expanded to c's (stride 0 repeats). One of the last two strides
// of a and of b is 1: a transposed matrix is read as it lies. bias and c contiguous. No f32 result
// depends on anything but the inputs and the number of threads (oneDNN may split K by it); no f64
// on the latter.
void matmul(Cpu, const Tensor& a, const Tensor& b, const Tensor& bias, bool accumulate,
            const Tensor& c);

// ------------------------------------------------------------------------- attention

// What a query may attend to, all combined by "and", and how its weights are scaled and dropped.
struct AttentionArgs {
  double scale = 1;     // of q k^T, before the softmax
  bool causal = false;  // s <= t + S - T: the last query sees every key
  Tensor mask;          // bool, expanded to [B,H,T,S] (stride 0 repeats); undefined: none
  Tensor token_mask;    // bool [B,S], true = a real token; undefined: none
  double dropout =
      0;  // of the weights; element ((b H + h) T + t) S + s of `random` decides, as in dropout
  RandomStream random;
};

// out = dropout(softmax(scale q k^T + restrictions)) v. q [B,H,T,D], k and v [B,H,S,D], out
// [B,H,T,D] are views of any strides but 1 along D. lse [B,H,T], contiguous: log-sum-exp of the
// scaled scores, -inf in a row that may attend to nothing, whose out is zero.
void attention(Cpu, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionArgs& args,
               const Tensor& out, const Tensor& lse);
// The gradients, views like q, k and v, from recomputed weights.
void attention_backward(Cpu, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& out, const Tensor& lse, const AttentionArgs& args,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv);

// ------------------------------------------------------------------------- spectral
// v, y, x and their gradients: [B,T,H,D], any strides but 1 along D. Formulas: docs/attention.md.

// y = irfft(rfft(v over T) exp(log_gain + i phase)); log_gain, phase [H, T/2+1] contiguous. At DC
// and, for even T, at Nyquist the filter is exp(log_gain) cos(phase).
void spectral_filter(Cpu, const Tensor& v, const Tensor& log_gain, const Tensor& phase,
                     const Tensor& y);
void spectral_filter_backward(Cpu, const Tensor& dy, const Tensor& v, const Tensor& log_gain,
                              const Tensor& phase, const Tensor& dv, const Tensor& dlog_gain,
                              const Tensor& dphase);

// taps [H,K] of the minimum-phase filter of that gain, with extra phase; log_gain, phase [H,K+1] at
// the bins of a grid of 2K points, contiguous, K even.
void causal_taps(Cpu, const Tensor& log_gain, const Tensor& phase, const Tensor& taps);
void causal_taps_backward(Cpu, const Tensor& dtaps, const Tensor& log_gain, const Tensor& phase,
                          const Tensor& dlog_gain, const Tensor& dphase);

// y_t = sum over s <= t of taps[t-s] v_s, per head; taps [H,K] contiguous, those beyond T take no
// part.
void causal_convolution(Cpu, const Tensor& v, const Tensor& taps, const Tensor& y);
void causal_convolution_backward(Cpu, const Tensor& dy, const Tensor& v, const Tensor& taps,
                                 const Tensor& dv, const Tensor& dtaps);

// out [H,N] = values [H,F] read at position k (F-1)/(N-1), N = 1 at point 0, linearly; contiguous.
void interpolate_linear(Cpu, const Tensor& values, const Tensor& out);
void interpolate_linear_backward(Cpu, const Tensor& dout, const Tensor& dvalues);

// Orthonormal DCT-II over T; `inverse`: DCT-III, its transpose.
void dct(Cpu, const Tensor& x, bool inverse, const Tensor& y);

// ------------------------------------------------------------------------- optimizers, in place

struct AdamArgs {
  double lr, beta1, beta2, eps;
  double weight_decay;  // AdamW: p -= lr * weight_decay * p
  double l2;            // Adam: gradient += l2 * p
  std::int64_t step;    // of this update, from 1
};
// m, v: running means of the gradient and of its square. All contiguous.
void adam_step(Cpu, const AdamArgs& args, const Tensor& gradient, const Tensor& p, const Tensor& m,
               const Tensor& v);

struct SgdArgs {
  double lr, momentum, dampening, l2;
  bool nesterov, first;  // first: the momentum buffer is the gradient
};
void sgd_step(Cpu, const SgdArgs& args, const Tensor& gradient, const Tensor& p,
              const Tensor& buffer);
void scale(Cpu, double factor, const Tensor& x);  // x *= factor, contiguous

}  // namespace triad::kernels
