// Softmax, cross entropy and normalisation, one row of [R,C] at a time while it is in cache.
#include <triad/backends/cpu/vec.h>

namespace triad::kernels {
namespace {

template <class T> T* row(const Tensor& x, Index r) { return x.first<T>() + r * x.shape()[1]; }

template <class T> T* data_or_null(const Tensor& x) { return x.defined() ? x.first<T>() : nullptr; }

// Calls f(T{}, r, C) for each of the rows of x.
template <class F> void for_each_row(const char* op, const Tensor& x, F f) {
  const Index R = x.shape()[0], C = x.shape()[1];
  visit_float(op, x.dtype(), [&](auto zero) {
    parallel_for(R, 1 + kHeavyGrain / (C + 1), [&](Index r) { f(zero, r, C); });
  });
}

// ---- Softmax. The largest element m is taken off before exp, so that nothing overflows and
// exp_weight serves: exp(x - m) / sum exp(x - m). A row of only -inf, or with a NaN, gives NaN.

template <class T> T row_max(const T* x, Index C) {
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  Vec<T> top = lowest;
  for_each_register<T>(C, [&](Index i, auto part) { top = max(top, part.load(x + i, lowest)); });
  return max_lanes(top);
}

// The sum of exp(x - top), the terms stored in y if there is one.
template <class T> double sum_exp(const T* x, Index C, T top, T* y = nullptr) {
  Accumulator<T> sum;
  for_each_register<T>(C, [&](Index i, auto part) {
    const Vec<T> term = exp_weight(part.load(x + i) - Vec<T>(top));
    if (y) part.store(term, y + i);
    sum.add(part.keep(term));
  });
  return sum.total();
}

// sums[j] += row element j, in double; sums are kept in whole registers
inline void add_to(double* sums, Vec<double> row) { (Vec<double>::load(sums) + row).store(sums); }
inline void add_to(double* sums, Vec<float> row) {
  add_to(sums, widen_low(row));
  add_to(sums + Vec<double>::lanes, widen_high(row));
}

// With h = (x - mean) rstd and g = dy weight, the gradient of a row of layer_norm is
// dx = rstd (g - mean(g) - h mean(g h)); dy h and dy add to those of weight and bias, unless null.
// Where `mean` is null, none was taken off x, and none is off g: rms_norm.
template <class T>
void layer_norm_row_backward(Index C, const T* dy, const T* x, const T* weight, const T* mean,
                             T rstd, T* dx, double* dweight, double* dbias) {
  const Vec<T> shift(mean ? *mean : T(0)), factor(rstd);
  const auto h = [=](Index i, auto part) { return part.keep((part.load(x + i) - shift) * factor); };
  const auto g = [=](Index i, auto part) {
    return weight ? part.load(dy + i) * part.load(weight + i) : part.load(dy + i);
  };
  if (dx) {
    Accumulator<T> sum, product;
    for_each_register<T>(C, [&](Index i, auto part) {
      const Vec<T> gradient = g(i, part);
      if (mean) sum.add(gradient);
      product.add_product(gradient, h(i, part));
    });
    const Vec<T> a(T(sum.total() / double(C))), b(T(product.total() / double(C)));
    for_each_register<T>(C, [&](Index i, auto part) {
      part.store(fnma(h(i, part), b, g(i, part) - a) * factor, dx + i);
    });
  }
  if (!dweight && !dbias) return;
  for_each_register<T>(C, [&](Index i, auto part) {
    const Vec<T> d = part.load(dy + i);
    if (dweight) add_to(dweight + i, d * h(i, part));
    if (dbias) add_to(dbias + i, d);
  });
}

}  // namespace

void softmax(Cpu, const Tensor& x, const Tensor& y) {
  for_each_row("softmax", x, [&]<class T>(T, Index r, Index C) {
    T *in = row<T>(x, r), *out = row<T>(y, r);
    const Vec<T> factor(T(1 / sum_exp(in, C, row_max(in, C), out)));
    for_each_register<T>(
        C, [&](Index i, auto part) { part.store(part.load(out + i) * factor, out + i); });
  });
}

void log_softmax(Cpu, const Tensor& x, const Tensor& y) {
  for_each_row("log_softmax", x, [&]<class T>(T, Index r, Index C) {
    T *in = row<T>(x, r), *out = row<T>(y, r);
    const T top = row_max(in, C);
    const Vec<T> shift(top), rest(T(std::log(sum_exp(in, C, top))));
    for_each_register<T>(
        C, [&](Index i, auto part) { part.store(part.load(in + i) - shift - rest, out + i); });
  });
}

void softmax_backward(Cpu, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  for_each_row("softmax_backward", y, [&]<class T>(T, Index r, Index C) {
    T *g = row<T>(dy, r), *p = row<T>(y, r), *out = row<T>(dx, r);
    Accumulator<T> sum;
    for_each_register<T>(
        C, [&](Index i, auto part) { sum.add_product(part.load(g + i), part.load(p + i)); });
    const Vec<T> dot(T(sum.total()));
    for_each_register<T>(C, [&](Index i, auto part) {
      part.store(part.load(p + i) * (part.load(g + i) - dot), out + i);
    });
  });
}

void cross_entropy(Cpu, const Tensor& logits, const Tensor& target, Index ignore_index,
                   const Tensor& losses, const Tensor& logsumexp) {
  const std::int64_t* targets = target.first<std::int64_t>();
  for_each_row("cross_entropy", logits, [&]<class T>(T, Index r, Index C) {
    T &loss = losses.first<T>()[r], &lse = logsumexp.first<T>()[r];
    loss = lse = 0;
    if (targets[r] == ignore_index) return;
    const T* x = row<T>(logits, r);
    const T top = row_max(x, C);
    const double rest = std::log(sum_exp(x, C, top));
    lse = T(double(top) + rest);
    loss = T(rest - (double(x[targets[r]]) - double(top)));
  });
}

void cross_entropy_backward(Cpu, const Tensor& logits, const Tensor& target,
                            const Tensor& logsumexp, const Tensor& scale, const Tensor& dlogits) {
  const std::int64_t* targets = target.first<std::int64_t>();
  for_each_row("cross_entropy_backward", logits, [&]<class T>(T, Index r, Index C) {
    T *x = row<T>(logits, r), *out = row<T>(dlogits, r);
    const T factor = scale.first<T>()[r], lse = logsumexp.first<T>()[r];
    if (factor == 0) return void(std::fill_n(out, C, T(0)));
    for_each_register<T>(C, [&](Index i, auto part) {
      part.store(exp_weight(part.load(x + i) - Vec<T>(lse)) * Vec<T>(factor), out + i);
    });
    if (targets[r] >= 0 && targets[r] < C) out[targets[r]] -= factor;  // an ignored one is no index
  });
}

// The variance is taken around a first estimate of the mean, which is then corrected by the mean of
// what is left: with large means neither loses digits (Chan, Golub and LeVeque, "Algorithms for
// computing the sample variance", 1983). The sums are in double.
void layer_norm(Cpu, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  for_each_row("layer_norm", x, [&]<class T>(T, Index r, Index C) {
    const T *in = row<T>(x, r), *w = data_or_null<T>(weight), *b = data_or_null<T>(bias);
    T *out = row<T>(y, r), *mean_of = data_or_null<T>(mean);
    Accumulator<T> sum, left, squares;
    if (mean_of) for_each_register<T>(C, [&](Index i, auto part) { sum.add(part.load(in + i)); });
    const T estimate = T(sum.total() / double(C));
    for_each_register<T>(C, [&](Index i, auto part) {
      const Vec<T> d = part.keep(part.load(in + i) - Vec<T>(estimate));
      if (mean_of) left.add(d);
      squares.add_product(d, d);
    });
    const double correction = left.total() / double(C);
    const double variance = squares.total() / double(C) - correction * correction;
    const double scale = 1 / std::sqrt(std::max(variance, 0.0) + eps);
    if (mean_of) mean_of[r] = T(double(estimate) + correction);
    rstd.first<T>()[r] = T(scale);
    const Vec<T> shift(estimate), factor{T(scale)}, offset{T(-correction * scale)}, one{T(1)};
    for_each_register<T>(C, [&](Index i, auto part) {
      const Vec<T> h = fma(part.load(in + i) - shift, factor, offset);
      const Vec<T> weights = w ? part.load(w + i) : one;
      part.store(fma(h, weights, b ? part.load(b + i) : Vec<T>()), out + i);
    });
  });
}

// The gradients of weight and bias: sums over kBlock rows, added in pairs, whatever the threads.
void layer_norm_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                         const Tensor& dweight, const Tensor& dbias, const Tensor&) {
  constexpr Index kBlock = 64;
  const Index R = x.shape()[0], C = x.shape()[1], blocks = ceil_div(R, kBlock);
  visit_float("layer_norm_backward", x.dtype(), [&]<class T>(T) {
    const Index width = Vec<T>::whole(C);
    std::vector<double> weight_sums(dweight.defined() ? blocks * width : 0);
    std::vector<double> bias_sums(dbias.defined() ? blocks * width : 0);
    const T *g = dy.first<T>(), *in = x.first<T>(), *w = data_or_null<T>(weight);
    const T *m = data_or_null<T>(mean), *s = rstd.first<T>();
    T* out = data_or_null<T>(dx);
    parallel_for(blocks, 1 + kHeavyGrain / (kBlock * (C + 1)), [&](Index block) {
      double* dw = dweight.defined() ? weight_sums.data() + block * width : nullptr;
      double* db = dbias.defined() ? bias_sums.data() + block * width : nullptr;
      for (Index r = block * kBlock; r < std::min(R, (block + 1) * kBlock); ++r)
        layer_norm_row_backward(C, g + r * C, in + r * C, w, m ? m + r : nullptr, s[r],
                                out ? out + r * C : nullptr, dw, db);
    });
    const auto combine = [&](const std::vector<double>& sums, const Tensor& parameter) {
      if (!parameter.defined()) return;
      T* result = parameter.first<T>();
      parallel_for(C, 1 + kHeavyGrain / (blocks + 1), [&](Index j) {
        result[j] = blocks ? T(pairwise_sum(&sums[j], blocks, width)) : T(0);
      });
    };
    combine(weight_sums, dweight);
    combine(bias_sums, dbias);
  });
}

}  // namespace triad::kernels
