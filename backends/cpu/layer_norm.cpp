// Layer normalisation of the rows of [R,C], and its gradient.
//
// The variance is taken around a first estimate m of the mean, which is then corrected by the mean
// of what is left: with large means neither loses digits (Chan, Golub and LeVeque, "Algorithms for
// computing the sample variance", 1983). The sums are in double.
//
// With h = (x - mean) rstd and g = dy weight, the gradient of a row is
// dx = rstd (g - mean(g) - h mean(g h)); those of weight and bias are sums over rows, taken over
// blocks of kBlock rows and then over the blocks in pairs, whatever the number of threads.
#include <algorithm>
#include <cmath>
#include <vector>

#include <triad/backends/cpu/accumulate.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/registers.h>
#include <triad/backends/kernels.h>
#include <triad/core/visit.h>

namespace triad::kernels {
namespace {

using namespace cpu;

constexpr Index kBlock = 64;  // rows

template <class T>
T* data_or_null(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

template <class T>
void normalize_row(Index C, const T* x, const T* weight, const T* bias, double eps, T* y, T& mean,
                   T& rstd) {
  Accumulator<T> sum, left, squares;
  for_each_register<T>(C, [&](Index i, auto part) { sum.add(part.load(x + i)); });
  const T estimate = T(sum.total() / double(C));
  for_each_register<T>(C, [&](Index i, auto part) {
    const Vec<T> d = part.keep(part.load(x + i) - Vec<T>(estimate));
    left.add(d);
    squares.add_product(d, d);
  });
  const double correction = left.total() / double(C);
  const double variance = squares.total() / double(C) - correction * correction;
  const double scale = 1 / std::sqrt(std::max(variance, 0.0) + eps);
  mean = T(double(estimate) + correction);
  rstd = T(scale);
  const Vec<T> shift(estimate), factor{T(scale)}, offset{T(-correction * scale)}, one{T(1)};
  for_each_register<T>(C, [&](Index i, auto part) {
    const Vec<T> h = fma(part.load(x + i) - shift, factor, offset);
    const Vec<T> w = weight ? part.load(weight + i) : one;
    part.store(fma(h, w, bias ? part.load(bias + i) : Vec<T>()), y + i);
  });
}

// sums[j] += row element j, in double; sums are kept in whole registers
inline void add_to(double* sums, Vec<double> row) { (Vec<double>::load(sums) + row).store(sums); }
inline void add_to(double* sums, Vec<float> row) {
  add_to(sums, widen_low(row));
  add_to(sums + Vec<double>::lanes, widen_high(row));
}

template <class T>
struct BackwardRow {
  Index C;
  const T *dy, *x, *weight;
  T mean, rstd;

  Vec<T> h(Index i, auto part) const {
    return part.keep((part.load(x + i) - Vec<T>(mean)) * Vec<T>(rstd));
  }
  Vec<T> g(Index i, auto part) const {
    return weight ? part.load(dy + i) * part.load(weight + i) : part.load(dy + i);
  }

  void add_parameters(double* dweight, double* dbias) const {
    for_each_register<T>(C, [&](Index i, auto part) {
      const Vec<T> d = part.load(dy + i);
      if (dweight) add_to(dweight + i, d * h(i, part));
      if (dbias) add_to(dbias + i, d);
    });
  }

  void write_input(T* dx) const {
    Accumulator<T> sum, product;
    for_each_register<T>(C, [&](Index i, auto part) {
      const Vec<T> gradient = g(i, part);
      sum.add(gradient);
      product.add_product(gradient, h(i, part));
    });
    const Vec<T> a(T(sum.total() / double(C))), b(T(product.total() / double(C))), factor(rstd);
    for_each_register<T>(C, [&](Index i, auto part) {
      part.store(fnma(h(i, part), b, g(i, part) - a) * factor, dx + i);
    });
  }
};

}  // namespace

void layer_norm(Cpu, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  const Index R = x.shape()[0], C = x.shape()[1];
  visit_float("layer_norm", x.dtype(), [&]<class T>(T) {
    const T *in = x.data<T>(), *w = data_or_null<T>(weight), *b = data_or_null<T>(bias);
    T *out = y.data<T>(), *m = mean.data<T>(), *s = rstd.data<T>();
    parallel_for(R, 1 + kHeavyGrain / (C + 1), [&](Index r) {
      normalize_row(C, in + r * C, w, b, eps, out + r * C, m[r], s[r]);
    });
  });
}

void layer_norm_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                         const Tensor& dweight, const Tensor& dbias) {
  const Index R = x.shape()[0], C = x.shape()[1];
  visit_float("layer_norm_backward", x.dtype(), [&]<class T>(T) {
    const Index blocks = ceil_div(R, kBlock), width = Vec<T>::whole(C);
    auto sums_of = [&](const Tensor& parameter) {
      return std::vector<double>(parameter.defined() ? blocks * width : 0);
    };
    std::vector<double> weight_sums = sums_of(dweight), bias_sums = sums_of(dbias);
    const T *w = data_or_null<T>(weight), *g = dy.data<T>(), *in = x.data<T>();
    const T *m = mean.data<T>(), *s = rstd.data<T>();
    T* out = data_or_null<T>(dx);
    parallel_ranges(blocks, 1 + kHeavyGrain / (kBlock * (C + 1)), [&](Index begin, Index end) {
      for (Index r = begin * kBlock; r < std::min(R, end * kBlock); ++r) {
        const BackwardRow<T> row{C, g + r * C, in + r * C, w, m[r], s[r]};
        const Index at = r / kBlock * width;
        if (out) row.write_input(out + r * C);
        if (dweight.defined() || dbias.defined())
          row.add_parameters(dweight.defined() ? &weight_sums[at] : nullptr,
                             dbias.defined() ? &bias_sums[at] : nullptr);
      }
    });
    auto combine = [&](const std::vector<double>& sums, const Tensor& parameter) {
      if (!parameter.defined()) return;
      T* result = parameter.data<T>();
      parallel_for(C, 1 + kHeavyGrain / (blocks + 1), [&](Index j) {
        result[j] = blocks ? T(pairwise_sum(&sums[j], blocks, width)) : T(0);
      });
    };
    combine(weight_sums, dweight);
    combine(bias_sums, dbias);
  });
}

}  // namespace triad::kernels
