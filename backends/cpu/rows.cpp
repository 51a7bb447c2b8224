// Softmax and what is made of it, one row of [R,C] at a time while it is in cache.
//
// The largest element m is taken off before exp, so that nothing overflows and exp_weight serves:
// softmax(x) = exp(x - m) / sum exp(x - m). A row of only -inf gives NaN, as does a NaN in it.
#include <cmath>
#include <limits>

#include <triad/backends/cpu/accumulate.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/registers.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::kernels {
namespace {

using namespace cpu;

template <class T>
T* row(const Tensor& x, Index r) {
  return x.data<T>() + r * x.shape()[1];
}

// Calls f(T{}, r, C) for each of the rows of x.
template <class F>
void for_each_row(const Tensor& x, F f) {
  const Index R = x.shape()[0], C = x.shape()[1];
  visit_float("rows", x.dtype(), [&](auto zero) {
    parallel_for(R, 1 + kHeavyGrain / (C + 1), [&](Index r) { f(zero, r, C); });
  });
}

template <class T>
T row_max(const T* x, Index C) {
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  Vec<T> top = lowest;
  for_each_register<T>(C, [&](Index i, auto part) { top = max(top, part.load(x + i, lowest)); });
  return max_lanes(top);
}

// The sum of exp(x - top), the terms stored in y if there is one.
template <class T>
double sum_exp(const T* x, Index C, T top, T* y = nullptr) {
  Accumulator<T> sum;
  for_each_register<T>(C, [&](Index i, auto part) {
    const Vec<T> term = exp_weight(part.load(x + i) - Vec<T>(top));
    if (y) part.store(term, y + i);
    sum.add(part.keep(term));
  });
  return sum.total();
}

}  // namespace

void softmax(Cpu, const Tensor& x, const Tensor& y) {
  for_each_row(x, [&]<class T>(T, Index r, Index C) {
    T *in = row<T>(x, r), *out = row<T>(y, r);
    const Vec<T> factor(T(1 / sum_exp(in, C, row_max(in, C), out)));
    for_each_register<T>(
        C, [&](Index i, auto part) { part.store(part.load(out + i) * factor, out + i); });
  });
}

void softmax_backward(Cpu, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  for_each_row(y, [&]<class T>(T, Index r, Index C) {
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

void log_softmax(Cpu, const Tensor& x, const Tensor& y) {
  for_each_row(x, [&]<class T>(T, Index r, Index C) {
    T *in = row<T>(x, r), *out = row<T>(y, r);
    const T top = row_max(in, C);
    const Vec<T> shift(top), rest(T(std::log(sum_exp(in, C, top))));
    for_each_register<T>(
        C, [&](Index i, auto part) { part.store(part.load(in + i) - shift - rest, out + i); });
  });
}

void log_softmax_backward(Cpu, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  for_each_row(y, [&]<class T>(T, Index r, Index C) {
    T *g = row<T>(dy, r), *log_p = row<T>(y, r), *out = row<T>(dx, r);
    Accumulator<T> sum;
    for_each_register<T>(C, [&](Index i, auto part) { sum.add(part.load(g + i)); });
    const Vec<T> total(T(sum.total()));
    for_each_register<T>(C, [&](Index i, auto part) {
      part.store(fnma(exp_weight(part.load(log_p + i)), total, part.load(g + i)), out + i);
    });
  });
}

void cross_entropy(Cpu, const Tensor& logits, const Tensor& target, Index ignore_index,
                   const Tensor& losses, const Tensor& logsumexp) {
  const std::int64_t* targets = target.data<std::int64_t>();
  for_each_row(logits, [&]<class T>(T, Index r, Index C) {
    T &loss = losses.data<T>()[r], &lse = logsumexp.data<T>()[r];
    if (targets[r] == ignore_index) {
      loss = lse = 0;
      return;
    }
    const T* x = row<T>(logits, r);
    const T top = row_max(x, C);
    const double rest = std::log(sum_exp(x, C, top));
    lse = T(double(top) + rest);
    loss = T(rest - (double(x[targets[r]]) - double(top)));
  });
}

void cross_entropy_backward(Cpu, const Tensor& logits, const Tensor& target,
                            const Tensor& logsumexp, const Tensor& scale, const Tensor& dlogits) {
  const std::int64_t* targets = target.data<std::int64_t>();
  for_each_row(logits, [&]<class T>(T, Index r, Index C) {
    T *x = row<T>(logits, r), *out = row<T>(dlogits, r);
    const T factor = scale.data<T>()[r], lse = logsumexp.data<T>()[r];
    if (factor == 0) {
      std::fill_n(out, C, T(0));
      return;
    }
    for_each_register<T>(C, [&](Index i, auto part) {
      part.store(exp_weight(part.load(x + i) - Vec<T>(lse)) * Vec<T>(factor), out + i);
    });
    // An ignored target is no index, and a NaN gradient makes its scale NaN instead of zero.
    if (targets[r] >= 0 && targets[r] < C) out[targets[r]] -= factor;
  });
}

}  // namespace triad::kernels
