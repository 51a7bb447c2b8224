// Every kernel, for the device tag TRIAD_TAG: backends/kernels.h includes this once per device.
//
// A kernel computes and nothing else. The op above it has checked shapes, dtypes and devices and
// has allocated the outputs; tensors come without history. Unless a comment says otherwise:
//   * inputs may have any strides, outputs are contiguous and hold nothing yet;
//   * all tensors of one call have the same dtype, f32 or f64 where nothing else is said; bf16, f16
//     and i32 come where they are named, else ops cast them to their wide_type;
//   * an output that is an undefined Tensor is not wanted and not computed;
//   * results do not depend on the number of threads.
// Symbols: B batch, T and S sequence lengths, H heads, D channels of a head, R rows, C columns.

// ------------------------------------------------------------------------- elementwise

// y = f(x). neg, abs, square and sign also of i64; neg, square, conj, exp and abs (to real numbers)
// also of complex. This and the two below also take bf16, f16 and i32, computed in wide_type.
void unary(TRIAD_TAG, Unary f, const Tensor& x, const Tensor& y);
// y = f(a, b), a and b already expanded to y's shape. Logical operators take bool, min and max
// return NaN where either is NaN; complex numbers have no order. CUDA adds bf16 or f16 to f32, too.
void binary(TRIAD_TAG, Binary f, const Tensor& a, const Tensor& b, const Tensor& y);
// The same with a number in the place of b, or of a when `swapped`.
void binary_scalar(TRIAD_TAG, Binary f, const Tensor& a, double b, bool swapped, const Tensor& y);
// y = condition ? a : b, all of y's shape.
void where(TRIAD_TAG, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& y);
// y = x, or y += x; both of any strides and type. copy also casts between any two.
void copy(TRIAD_TAG, const Tensor& x, const Tensor& y);
void add_into(TRIAD_TAG, const Tensor& x, const Tensor& y);
void fill(TRIAD_TAG, double value, const Tensor& y);                 // y of any strides and type
void arange(TRIAD_TAG, double start, double step, const Tensor& y);  // y[i] = start + i step

// ------------------------------------------------------------------------- random numbers

void uniform(TRIAD_TAG, RandomStream random, const Tensor& y);  // [0, 1)
// Box-Muller on pairs of elements: normal_pair in backends/math.h.
void normal(TRIAD_TAG, RandomStream random, const Tensor& y);
// low + (bits (high - low) >> 64) from 64 random bits: off even by at most (high - low) / 2^64.
void random_integers(TRIAD_TAG, RandomStream random, std::int64_t low, std::int64_t high,
                     const Tensor& y);
// y = uniform < p ? 0 : x / (1 - p); x contiguous. The same call on dy is the gradient.
void dropout(TRIAD_TAG, RandomStream random, double p, const Tensor& x, const Tensor& y);

// ------------------------------------------------------------------------- reductions

// y has x's rank; its axes of size 1 are summed over. In a fixed order, pairwise or better. f32,
// f64, i64; bool, into i64; on CUDA also bf16 and f16, into f32.
void sum(TRIAD_TAG, const Tensor& x, const Tensor& y);
// The largest (smallest) along the last axis, which is not empty, and the index [...] (i64) of the
// first one; a NaN comes before all. f32, f64, i64 or bool.
void max_last(TRIAD_TAG, const Tensor& x, bool largest, const Tensor& y, const Tensor& index);
// y[..., i] = x[..., 0] + ... + x[..., i], in double; f32, f64 or i64.
void cumsum_last(TRIAD_TAG, const Tensor& x, const Tensor& y);

// ---------------- contiguous rows [R,C]; on CUDA also bf16 and f16, with what is one per row in f32

void softmax(TRIAD_TAG, const Tensor& x, const Tensor& y);
void log_softmax(TRIAD_TAG, const Tensor& x, const Tensor& y);
// dx = y (dy - sum(dy y))
void softmax_backward(TRIAD_TAG, const Tensor& dy, const Tensor& y, const Tensor& dx);

// y = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps), variance over C (biased).
// weight, bias [C] contiguous, either may be undefined; mean, rstd [R] are kept for backward. With
// `mean` undefined none is taken off, and rstd = 1 / sqrt(mean of squares + eps): rms_norm. On CUDA
// y, and so dy, may be bf16 or f16 where x is f32, and what is in `before` is added to dx.
void layer_norm(TRIAD_TAG, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                const Tensor& y, const Tensor& mean, const Tensor& rstd);
void layer_norm_backward(TRIAD_TAG, const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                         const Tensor& dweight, const Tensor& dbias, const Tensor& before = {});

// losses[r] = -log softmax(logits[r])[target[r]], 0 where target is ignore_index; logsumexp [R] is
// kept for backward. Targets i64 [R], checked to lie in range by the op.
void cross_entropy(TRIAD_TAG, const Tensor& logits, const Tensor& target, std::int64_t ignore_index,
                   const Tensor& losses, const Tensor& logsumexp);
// dlogits = scale[r] (softmax(logits) - onehot(target)), scale [R] is zero at ignored rows
void cross_entropy_backward(TRIAD_TAG, const Tensor& logits, const Tensor& target,
                            const Tensor& logsumexp, const Tensor& scale, const Tensor& dlogits);

// ------------------------------------------------------------------------- indexing

// y[i] = weight[ids[i]]; weight [V,C] of any type, ids i64 [R], y [R,C], all contiguous, in range.
void embedding(TRIAD_TAG, const Tensor& weight, const Tensor& ids, const Tensor& y);
// Adds to dweight.
void embedding_backward(TRIAD_TAG, const Tensor& dy, const Tensor& ids, const Tensor& dweight);

// Rows of any strides and any type, index i64 [..., k] in range: y[..., j] = x[..., index[..., j]],
void gather_last(TRIAD_TAG, const Tensor& x, const Tensor& index, const Tensor& y);
// and back, y[..., index[..., j]] += x[..., j] in the order of j.
void scatter_add_last(TRIAD_TAG, const Tensor& x, const Tensor& index, const Tensor& y);
// index[..., j] = the place of the j-th largest (smallest) of x [..., n], f32, f64, i64 or bool.
void topk_last(TRIAD_TAG, const Tensor& x, bool largest, const Tensor& index);

// ------------------------------------------------------------------------- matrix product

// c[...,M,N] = a[...,M,K] b[...,K,N] (+ bias[N] when defined). Batch axes of a and b are already
// expanded to c's (stride 0 repeats). One of the last two strides of a and of b is 1: a transposed
// matrix is read as it lies. bias contiguous. bf16 and f16 too, summed in f32. All but f64 may
// depend on the number of threads: oneDNN may split K by it. On CUDA, of two matrices and without a
// bias, also sums[M], those of a's rows.
void matmul(TRIAD_TAG, const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& c,
            const Tensor& sums = {});

// ------------------------------------------------------------------------- attention

// out = dropout(softmax(scale q k^T + restrictions)) v. q [B,H,T,D], k and v [B,H,S,D], out
// [B,H,T,D] are views of any strides but 1 along D. lse [B,H,T], contiguous: log-sum-exp of the
// scaled scores, -inf in a row that may attend to nothing, whose out is zero. On CUDA bf16
// and f16 too, with lse in f32.
void attention(TRIAD_TAG, const Tensor& q, const Tensor& k, const Tensor& v,
               const AttentionArgs& args, const Tensor& out, const Tensor& lse);
// The gradients, views like q, k and v, from recomputed weights.
void attention_backward(TRIAD_TAG, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse,
                        const AttentionArgs& args, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv);

// ------------------------------------------------------------------------- Fourier transforms

// y [..., n] = scale * sum over t of x_t exp(-2 pi i k t / n), c64 or c128; + for `inverse`.
void fft(TRIAD_TAG, const Tensor& x, bool inverse, double scale, const Tensor& y);
// The same of real x [..., n], frequencies 0..n/2: y [..., n/2+1].
void rfft(TRIAD_TAG, const Tensor& x, double scale, const Tensor& y);
// Back, unscaled but for `scale`: x [..., n/2+1] stands for a Hermitian spectrum, so that its
// imaginary parts at DC and, for even n, at Nyquist take no part. y [..., n] is real.
void irfft(TRIAD_TAG, const Tensor& x, double scale, const Tensor& y);

// The smallest size >= n whose transforms need no detour.
std::int64_t fast_fft_size(TRIAD_TAG, std::int64_t n);

// y[b,t,h,d] = sum over s < T of f_h[(t - s) mod n] v[b,s,h,d], t < T <= n, n = fast_fft_size(n).
// v, y [B,T,H,D], any strides but 1 along D; spectrum [H, n/2+1], c128 whatever v is, is rfft(f).
// On CUDA bf16 and f16 too.
void cyclic_convolution(TRIAD_TAG, const Tensor& v, const Tensor& spectrum, std::int64_t n,
                        const Tensor& y);
void cyclic_convolution_backward(TRIAD_TAG, const Tensor& dy, const Tensor& v,
                                 const Tensor& spectrum, std::int64_t n, const Tensor& dv,
                                 const Tensor& dspectrum);

// ------------------------------------------------------------------------- optimizers

// Lists are not empty, their tensors contiguous. The sum of all squares, in double, to y, 0-d, f64.
void sum_of_squares(TRIAD_TAG, const std::vector<Tensor>& xs, const Tensor& y);
// In place: x *= max_norm / (sqrt(squares) + 1e-6) where that is between 0 and 1; squares 0-d, f64.
void clip(TRIAD_TAG, const Tensor& squares, double max_norm, const std::vector<Tensor>& xs);
void adam_step(TRIAD_TAG, const std::vector<AdamUpdate>& updates);
