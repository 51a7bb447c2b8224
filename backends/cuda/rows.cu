// Softmax, cross entropy and layer normalisation: a block per row of [R,C], sums in double.
#include <triad/backends/cuda/reduce.h>

#include <limits>

namespace triad::kernels {
namespace {

using namespace cuda;

// A row of a matrix: its elements are shared out among the threads of the block.
template <class F> __device__ void for_each_column(Index C, F f) {
  for (Index c = threadIdx.x; c < C; c += blockDim.x) f(c);
}

// ---- Softmax. The largest element is taken off before exp, so that nothing overflows. A row of
// only -inf, or with a NaN, gives NaN.

template <class T> struct SoftmaxSums {
  T top;       // the largest element
  double sum;  // of exp(x - top)
};
template <class T> __device__ SoftmaxSums<T> softmax_sums(const T* x, Index C) {
  T top = -std::numeric_limits<T>::infinity();
  for_each_column(C, [&](Index c) { top = Larger()(top, x[c]); });
  top = block_reduce(top, Larger());
  double sum = 0;
  for_each_column(C, [&](Index c) { sum += double(math::exp(x[c] - top)); });
  return {top, block_reduce(sum, Plus())};
}

template <bool logarithm, class T>
__global__ void softmax_rows(Index R, Index C, const T* x, T* y) {
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const T* in = x + r * C;
    T* out = y + r * C;
    const auto [top, sum] = softmax_sums(in, C);
    const T rest = logarithm ? T(log(sum)) : T(1 / sum);
    for_each_column(C, [&, top = top](Index c) {
      out[c] = logarithm ? in[c] - top - rest : math::exp(in[c] - top) * rest;
    });
  }
}

template <class T>
__global__ void softmax_rows_backward(Index R, Index C, const T* dy, const T* y, T* dx) {
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const T *g = dy + r * C, *p = y + r * C;
    double sum = 0;
    for_each_column(C, [&](Index c) { sum += double(g[c]) * double(p[c]); });
    const T dot = T(block_reduce(sum, Plus()));
    for_each_column(C, [&](Index c) { dx[r * C + c] = p[c] * (g[c] - dot); });
  }
}

// A target outside the row, which the op has not been able to see while a step is captured, gives
// NaN.
template <class T>
__global__ void cross_entropy_rows(Index R, Index C, const T* logits, const Index* target,
                                   Index ignore_index, T* losses, T* logsumexp) {
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const T* x = logits + r * C;
    const auto [top, sum] = softmax_sums(x, C);
    if (threadIdx.x != 0) continue;
    const Index t = target[r];
    const double rest = log(sum);
    if (t == ignore_index) losses[r] = logsumexp[r] = 0;
    else {
      logsumexp[r] = T(double(top) + rest);
      losses[r] = t >= 0 && t < C ? T(rest - (double(x[t]) - double(top)))
                                  : std::numeric_limits<T>::quiet_NaN();
    }
  }
}

template <class T>
__global__ void cross_entropy_rows_backward(Index R, Index C, const T* logits, const Index* target,
                                            const T* logsumexp, const T* scale, T* dlogits) {
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const T *x = logits + r * C, factor = scale[r], lse = logsumexp[r];
    const Index t = target[r];
    for_each_column(C, [&](Index c) {
      const T p = factor == 0 ? T(0) : math::exp(x[c] - lse) * factor;
      dlogits[r * C + c] = c == t ? p - factor : p;
    });
  }
}

// ---- Layer normalisation. The variance is taken around a first estimate of the mean, which is
// then corrected by the mean of what is left: with large means neither loses digits (Chan, Golub
// and LeVeque, "Algorithms for computing the sample variance", 1983).

template <class T>
__global__ void layer_norm_rows(Index R, Index C, const T* x, const T* weight, const T* bias,
                                double eps, T* y, T* mean, T* rstd) {
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const T* in = x + r * C;
    double sum = 0, left = 0, squares = 0;
    for_each_column(C, [&](Index c) { sum += double(in[c]); });
    const T estimate = T(block_reduce(sum, Plus()) / double(C));
    for_each_column(C, [&](Index c) {
      const double d = double(in[c] - estimate);
      left += d;
      squares += d * d;
    });
    const double correction = block_reduce(left, Plus()) / double(C);
    const double variance = block_reduce(squares, Plus()) / double(C) - correction * correction;
    const double scale = 1 / sqrt((variance > 0 || variance != variance ? variance : 0) + eps);
    if (threadIdx.x == 0) {
      mean[r] = T(double(estimate) + correction);
      rstd[r] = T(scale);
    }
    const T factor = T(scale), offset = T(-correction * scale);
    for_each_column(C, [&](Index c) {
      const T h = math::fma(in[c] - estimate, factor, offset);
      y[r * C + c] = math::fma(h, weight ? weight[c] : T(1), bias ? bias[c] : T(0));
    });
  }
}

// With h = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - h mean(g h)).
template <class T>
__global__ void layer_norm_rows_backward(Index R, Index C, const T* dy, const T* x, const T* weight,
                                         const T* mean, const T* rstd, T* dx) {
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const auto g = [=](Index c) { return weight ? dy[r * C + c] * weight[c] : dy[r * C + c]; };
    const auto h = [=](Index c) { return (x[r * C + c] - mean[r]) * rstd[r]; };
    double sum = 0, product = 0;
    for_each_column(C, [&](Index c) {
      sum += double(g(c));
      product += double(g(c)) * double(h(c));
    });
    const T a = T(block_reduce(sum, Plus()) / double(C));
    const T b = T(block_reduce(product, Plus()) / double(C));
    for_each_column(C, [&](Index c) { dx[r * C + c] = math::fma(-h(c), b, g(c) - a) * rstd[r]; });
  }
}

// What a row adds to the gradients of weight and bias, and where their sums go.
struct Pair {
  double weight = 0, bias = 0;
  __device__ friend Pair operator+(Pair a, Pair b) {
    return {a.weight + b.weight, a.bias + b.bias};
  }
};
template <class T> struct ParameterTerm {
  Index C;
  const T *dy, *x, *mean, *rstd;
  __device__ Pair operator()(Index, Index r, Index c) const {
    const double d = double(dy[r * C + c]);
    return {d * double((x[r * C + c] - mean[r]) * rstd[r]), d};
  }
};
template <class T> struct ParameterResult {
  T *dweight, *dbias;
  __device__ void operator()(Index, Index c, Pair sum) const {
    if (dweight) dweight[c] = T(sum.weight);
    if (dbias) dbias[c] = T(sum.bias);
  }
};

Grid grid_for_rows(Cuda device, const Tensor& x) {
  const Index R = x.shape()[0], C = x.shape()[1];
  return {device, dim3(unsigned(std::min<Index>(R, 1 << 20))), threads_for(C)};
}

}  // namespace

void softmax(Cuda device, const Tensor& x, const Tensor& y) {
  visit_float("softmax", x.dtype(), [&]<class T>(T) {
    launch(grid_for_rows(device, x), softmax_rows<false, T>, x.shape()[0], x.shape()[1],
           data_of<T>(device, x), data_of<T>(device, y));
  });
}

void log_softmax(Cuda device, const Tensor& x, const Tensor& y) {
  visit_float("log_softmax", x.dtype(), [&]<class T>(T) {
    launch(grid_for_rows(device, x), softmax_rows<true, T>, x.shape()[0], x.shape()[1],
           data_of<T>(device, x), data_of<T>(device, y));
  });
}

void softmax_backward(Cuda device, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  visit_float("softmax_backward", y.dtype(), [&]<class T>(T) {
    launch(grid_for_rows(device, y), softmax_rows_backward<T>, y.shape()[0], y.shape()[1],
           data_of<T>(device, dy), data_of<T>(device, y), data_of<T>(device, dx));
  });
}

void cross_entropy(Cuda device, const Tensor& logits, const Tensor& target, Index ignore_index,
                   const Tensor& losses, const Tensor& logsumexp) {
  visit_float("cross_entropy", logits.dtype(), [&]<class T>(T) {
    launch(grid_for_rows(device, logits), cross_entropy_rows<T>, logits.shape()[0],
           logits.shape()[1], data_of<T>(device, logits), data_of<Index>(device, target),
           ignore_index, data_of<T>(device, losses), data_of<T>(device, logsumexp));
  });
}

void cross_entropy_backward(Cuda device, const Tensor& logits, const Tensor& target,
                            const Tensor& logsumexp, const Tensor& scale, const Tensor& dlogits) {
  visit_float("cross_entropy_backward", logits.dtype(), [&]<class T>(T) {
    launch(grid_for_rows(device, logits), cross_entropy_rows_backward<T>, logits.shape()[0],
           logits.shape()[1], data_of<T>(device, logits), data_of<Index>(device, target),
           data_of<T>(device, logsumexp), data_of<T>(device, scale), data_of<T>(device, dlogits));
  });
}

void layer_norm(Cuda device, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  visit_float("layer_norm", x.dtype(), [&]<class T>(T) {
    launch(grid_for_rows(device, x), layer_norm_rows<T>, x.shape()[0], x.shape()[1],
           data_of<T>(device, x), data_of<T>(device, weight), data_of<T>(device, bias), eps,
           data_of<T>(device, y), data_of<T>(device, mean), data_of<T>(device, rstd));
  });
}

void layer_norm_backward(Cuda device, const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                         const Tensor& dweight, const Tensor& dbias) {
  const Index R = x.shape()[0], C = x.shape()[1];
  visit_float("layer_norm_backward", x.dtype(), [&]<class T>(T) {
    const T *g = data_of<T>(device, dy), *in = data_of<T>(device, x);
    const T *m = data_of<T>(device, mean), *s = data_of<T>(device, rstd);
    if (dx.defined())
      launch(grid_for_rows(device, x), layer_norm_rows_backward<T>, R, C, g, in,
             data_of<T>(device, weight), m, s, data_of<T>(device, dx));
    if (dweight.defined() || dbias.defined())
      reduce_columns<Pair>(
          device, 1, R, C, ParameterTerm<T>{C, g, in, m, s},
          ParameterResult<T>{data_of<T>(device, dweight), data_of<T>(device, dbias)});
  });
}

}  // namespace triad::kernels
