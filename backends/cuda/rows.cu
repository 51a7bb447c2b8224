// Softmax, cross entropy and layer normalisation: a block per row of [R,C].
//
// A thread reads 16 elements of its row at once, as vectors of 16 bytes where rows lie so, and
// keeps them: of a row that its block holds in registers, memory sees one read. It adds its 16 up
// in pairs; what goes beyond is added in double.
#include <triad/backends/cuda/reduce.h>

#include <limits>

namespace triad::kernels {
namespace {

using namespace cuda;

constexpr int kHeld = 16;  // elements of a thread

inline dim3 threads_of_row(Index C) {
  return dim3(unsigned(std::clamp<Index>(ceil_div(C, 32 * kHeld) * 32, 32, 512)));
}

// The columns of rows of E, by vectors: which are a thread's, turn by turn.
template <class E> struct Columns {
  static constexpr int N = 16 / sizeof(E);
  int C;
  bool vectors;  // all rows are made of them

  __device__ Columns(int C, bool aligned) : C(C), vectors(aligned && C % N == 0) {}
  __device__ int at(int first, int i) const {
    return first + int((i / N * blockDim.x + threadIdx.x) * N) + i % N;
  }
  // read(first) and f(first) for every turn. Where one turn is enough, the next call does not read
  // again: what `read` fills must live as long as this.
  bool held = false;
  template <class Read, class F> __device__ void turns(const Read& read, const F& f) {
    const int step = kHeld * int(blockDim.x);
    for (int first = 0; first < C; first += step) {
      if (!held) read(first);
      f(first);
    }
    held = C <= step;
  }
  // One value from f(i) of the turn's 16, and `none` behind the row's end.
  template <class Op, class S, class F, int from = 0, int count = kHeld>
  __device__ S combined(int first, Op op, S none, const F& f) const {
    if constexpr (count > 1)
      return op(combined<Op, S, F, from, count / 2>(first, op, none, f),
                combined<Op, S, F, from + count / 2, count / 2>(first, op, none, f));
    else return at(first, from) < C ? f(from) : none;
  }
  // y = f(column, i)
  template <class F> __device__ void write(E* y, int first, const F& f) const {
    for (int i = 0; i < kHeld; i += N) {
      Vector<E, N> to;
      for (int j = 0; j < N; ++j)
        if (at(first, i + j) < C) to.at[j] = E(f(at(first, i + j), i + j));
      if (vectors && at(first, i) < C) store_vector(y + at(first, i), to);
      else if (!vectors)
        for (int j = 0; j < N; ++j)
          if (at(first, i + j) < C) y[at(first, i + j)] = to.at[j];
    }
  }
};

// What a thread has of a row of T, an E's or its Wide's.
template <class T> struct Held {
  Wide<T> at[kHeld];
  __device__ Wide<T> operator[](int i) const { return at[i]; }

  // Without a row, all is `none`.
  template <class E>
  __device__ void read(const Columns<E>& columns, const T* row, int first, Wide<T> none = {}) {
    constexpr int N = std::min<int>(16 / sizeof(T), Columns<E>::N);
    for (int i = 0; i < kHeld; i += N) {
      const int column = columns.at(first, i);
      if (row && columns.vectors && column < columns.C) {
        const auto from = load_vector<N>(row + column);
        for (int j = 0; j < N; ++j) at[i + j] = Wide<T>(from.at[j]);
      } else
        for (int j = 0; j < N; ++j)
          at[i + j] = row && columns.at(first, i + j) < columns.C
                          ? Wide<T>(row[columns.at(first, i + j)])
                          : none;
    }
  }
};

__device__ inline bool all_aligned(std::initializer_list<const void*> rows) {
  std::uintptr_t bits = 0;
  for (const void* row : rows) bits |= reinterpret_cast<std::uintptr_t>(row);
  return bits % 16 == 0;
}

// Two sums at once.
template <class T> struct Pair {
  T a = 0, b = 0;
  __device__ friend Pair operator+(Pair x, Pair y) { return {x.a + y.a, x.b + y.b}; }
};
// The sums over the row of what f(i) gives, a pair of Wide<E>.
template <class E, class Read, class F>
__device__ Pair<double> row_sums(Columns<E>& columns, const Read& read, const F& f) {
  Pair<double> sum;
  columns.turns(read, [&](int first) {
    const auto turn = columns.combined(first, Plus(), Pair<Wide<E>>(), f);
    sum = sum + Pair<double>{double(turn.a), double(turn.b)};
  });
  return block_reduce(sum, Plus());
}

// ---- Softmax. The largest element is taken off before exp, so that nothing overflows. A row of
// only -inf, or with a NaN, gives NaN.

template <class T> struct SoftmaxSums {
  T top = -std::numeric_limits<T>::infinity();  // the largest element
  double sum = 0;                               // of exp(x - top)

  __device__ T shift() const { return top == -std::numeric_limits<T>::infinity() ? T(0) : top; }
};
struct Merge {
  template <class T>
  __device__ SoftmaxSums<T> operator()(SoftmaxSums<T> a, SoftmaxSums<T> b) const {
    SoftmaxSums<T> both{Larger()(a.top, b.top)};
    const T shift = both.shift();
    both.sum = a.sum * double(math::exp(a.top - shift)) + b.sum * double(math::exp(b.top - shift));
    return both;
  }
};
template <class E, class Read>
__device__ SoftmaxSums<Wide<E>> softmax_sums(Columns<E>& columns, const Held<E>& x,
                                             const Read& read) {
  using W = Wide<E>;
  SoftmaxSums<W> sums;
  columns.turns(read, [&](int first) {
    SoftmaxSums<W> turn;
    turn.top = columns.combined(first, Larger(), turn.top, [&](int i) { return x[i]; });
    const W shift = turn.shift();
    turn.sum = double(
        columns.combined(first, Plus(), W(0), [&](int i) { return math::exp(x[i] - shift); }));
    sums = first == 0 ? turn : Merge()(sums, turn);
  });
  return block_reduce(sums, Merge());
}

template <bool logarithm, class E> __global__ void softmax_rows(Index R, int C, const E* x, E* y) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    Columns<E> columns(C, all_aligned({x, y}));
    Held<E> in;
    const auto read = [&](int first) { in.read(columns, x + r * C, first); };
    const auto [top, sum] = softmax_sums(columns, in, read);
    const W rest = logarithm ? W(log(sum)) : W(1 / sum);
    columns.turns(read, [&, top = top](int first) {
      columns.write(y + r * C, first, [&](int, int i) {
        return logarithm ? in[i] - top - rest : math::exp(in[i] - top) * rest;
      });
    });
  }
}

template <class E>
__global__ void softmax_rows_backward(Index R, int C, const E* dy, const E* y, E* dx) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    Columns<E> columns(C, all_aligned({dy, y, dx}));
    Held<E> g, p;
    const auto read = [&](int first) {
      g.read(columns, dy + r * C, first);
      p.read(columns, y + r * C, first);
    };
    const W dot = W(row_sums(columns, read, [&](int i) { return Pair<W>{g[i] * p[i]}; }).a);
    columns.turns(read, [&](int first) {
      columns.write(dx + r * C, first, [&](int, int i) { return p[i] * (g[i] - dot); });
    });
  }
}

// A target outside the row, which the op has not been able to see while a step is captured, gives
// NaN.
template <class E>
__global__ void cross_entropy_rows(Index R, int C, const E* logits, const Index* target,
                                   Index ignore_index, Wide<E>* losses, Wide<E>* logsumexp) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const E* x = logits + r * C;
    Columns<E> columns(C, all_aligned({logits}));
    Held<E> in;
    const auto [top, sum] =
        softmax_sums(columns, in, [&](int first) { in.read(columns, x, first); });
    if (threadIdx.x != 0) continue;
    const Index t = target[r];
    const double rest = log(sum);
    if (t == ignore_index) losses[r] = logsumexp[r] = 0;
    else {
      logsumexp[r] = W(double(top) + rest);
      losses[r] = t >= 0 && t < C ? W(rest - (double(W(x[t])) - double(top)))
                                  : std::numeric_limits<W>::quiet_NaN();
    }
  }
}

template <class E>
__global__ void cross_entropy_rows_backward(Index R, int C, const E* logits, const Index* target,
                                            const Wide<E>* logsumexp, const Wide<E>* scale,
                                            E* dlogits) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const W factor = scale[r], lse = logsumexp[r];
    const Index t = target[r];
    Columns<E> columns(C, all_aligned({logits, dlogits}));
    Held<E> in;
    columns.turns([&](int first) { in.read(columns, logits + r * C, first); },
                  [&](int first) {
                    columns.write(dlogits + r * C, first, [&](int c, int i) {
                      const W p = factor == 0 ? W(0) : math::exp(in[i] - lse) * factor;
                      return c == t ? p - factor : p;
                    });
                  });
  }
}

// ---- Layer normalisation. The variance is taken around a first estimate of the mean, which is
// then corrected by the mean of what is left: with large means neither loses digits (Chan, Golub
// and LeVeque, "Algorithms for computing the sample variance", 1983).

template <class E>
__global__ void layer_norm_rows(Index R, int C, const E* x, const Wide<E>* weight,
                                const Wide<E>* bias, double eps, E* y, Wide<E>* mean,
                                Wide<E>* rstd) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    Columns<E> columns(C, all_aligned({x, weight, bias, y}));
    Held<E> in;
    const auto read = [&](int first) { in.read(columns, x + r * C, first); };
    const double share = 1 / double(C);
    const W estimate = W(row_sums(columns, read, [&](int i) { return Pair<W>{in[i]}; }).a * share);
    const auto left = row_sums(columns, read, [&](int i) {
      const W d = in[i] - estimate;
      return Pair<W>{d, d * d};
    });
    const double correction = left.a * share;
    const double variance = left.b * share - correction * correction;
    const double scale = 1 / sqrt((variance > 0 || variance != variance ? variance : 0) + eps);
    if (threadIdx.x == 0) {
      mean[r] = W(double(estimate) + correction);
      rstd[r] = W(scale);
    }
    const W factor = W(scale), offset = W(-correction * scale);
    columns.turns(read, [&](int first) {
      Held<W> w, b;
      w.read(columns, weight, first, 1);
      b.read(columns, bias, first);
      columns.write(y + r * C, first, [&](int, int i) {
        return math::fma(math::fma(in[i] - estimate, factor, offset), w[i], b[i]);
      });
    });
  }
}

// With h = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - h mean(g h)).
template <class E>
__global__ void layer_norm_rows_backward(Index R, int C, const E* dy, const E* x,
                                         const Wide<E>* weight, const Wide<E>* mean,
                                         const Wide<E>* rstd, E* dx) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    Columns<E> columns(C, all_aligned({dy, x, weight, dx}));
    Held<E> g, h;
    const auto read = [&](int first) {
      Held<W> w;
      g.read(columns, dy + r * C, first);
      h.read(columns, x + r * C, first);
      w.read(columns, weight, first, 1);
      for (int i = 0; i < kHeld; ++i) g.at[i] *= w[i], h.at[i] = (h[i] - mean[r]) * rstd[r];
    };
    const auto sums = row_sums(columns, read, [&](int i) { return Pair<W>{g[i], g[i] * h[i]}; });
    const W a = W(sums.a / C), b = W(sums.b / C);
    columns.turns(read, [&](int first) {
      columns.write(dx + r * C, first,
                    [&](int, int i) { return math::fma(-h[i], b, g[i] - a) * rstd[r]; });
    });
  }
}

// What a row adds to the gradients of weight and bias, and where their sums go.
template <class E> struct ParameterTerm {
  Index C;
  const E *dy, *x;
  const Wide<E>*mean, *rstd;
  __device__ Pair<double> operator()(Index, Index r, Index c) const {
    const double d = double(Wide<E>(dy[r * C + c]));
    return {d * double((Wide<E>(x[r * C + c]) - mean[r]) * rstd[r]), d};
  }
};
template <class W> struct ParameterResult {
  W *dweight, *dbias;
  __device__ void operator()(Index, Index c, Pair<double> sum) const {
    if (dweight) dweight[c] = W(sum.a);
    if (dbias) dbias[c] = W(sum.b);
  }
};

// f(E{}, run) with x's type: run(kernel, args...) launches it for x's rows.
template <class F> void for_rows(const char* op, Cuda device, const Tensor& x, const F& f) {
  const Index R = x.shape()[0], C = x.shape()[1];
  const Grid grid{device, dim3(unsigned(std::min<Index>(R, 1 << 20))), threads_of_row(C)};
  if (C > 1 << 30) throw DeviceError(std::string(op) + ": too long a row for a CUDA device");
  const auto run = [&](auto kernel, const auto&... args) {
    launch(grid, kernel, R, int(C), args...);
  };
  if (x.dtype() == bf16) f(bfloat16{}, run);
  else if (x.dtype() == f16) f(float16{}, run);
  else visit_float(op, x.dtype(), [&]<class E>(E) { f(E{}, run); });
}

}  // namespace

void softmax(Cuda device, const Tensor& x, const Tensor& y) {
  for_rows("softmax", device, x, [&]<class E>(E, const auto& run) {
    run(softmax_rows<false, E>, data_of<E>(device, x), data_of<E>(device, y));
  });
}

void log_softmax(Cuda device, const Tensor& x, const Tensor& y) {
  for_rows("log_softmax", device, x, [&]<class E>(E, const auto& run) {
    run(softmax_rows<true, E>, data_of<E>(device, x), data_of<E>(device, y));
  });
}

void softmax_backward(Cuda device, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  for_rows("softmax_backward", device, y, [&]<class E>(E, const auto& run) {
    run(softmax_rows_backward<E>, data_of<E>(device, dy), data_of<E>(device, y),
        data_of<E>(device, dx));
  });
}

void cross_entropy(Cuda device, const Tensor& logits, const Tensor& target, Index ignore_index,
                   const Tensor& losses, const Tensor& logsumexp) {
  for_rows("cross_entropy", device, logits, [&]<class E>(E, const auto& run) {
    run(cross_entropy_rows<E>, data_of<E>(device, logits), data_of<Index>(device, target),
        ignore_index, data_of<Wide<E>>(device, losses), data_of<Wide<E>>(device, logsumexp));
  });
}

void cross_entropy_backward(Cuda device, const Tensor& logits, const Tensor& target,
                            const Tensor& logsumexp, const Tensor& scale, const Tensor& dlogits) {
  for_rows("cross_entropy_backward", device, logits, [&]<class E>(E, const auto& run) {
    run(cross_entropy_rows_backward<E>, data_of<E>(device, logits), data_of<Index>(device, target),
        data_of<Wide<E>>(device, logsumexp), data_of<Wide<E>>(device, scale),
        data_of<E>(device, dlogits));
  });
}

void layer_norm(Cuda device, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  for_rows("layer_norm", device, x, [&]<class E>(E, const auto& run) {
    using W = Wide<E>;
    run(layer_norm_rows<E>, data_of<E>(device, x), data_of<W>(device, weight),
        data_of<W>(device, bias), eps, data_of<E>(device, y), data_of<W>(device, mean),
        data_of<W>(device, rstd));
  });
}

void layer_norm_backward(Cuda device, const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                         const Tensor& dweight, const Tensor& dbias) {
  const Index R = x.shape()[0], C = x.shape()[1];
  for_rows("layer_norm_backward", device, x, [&]<class E>(E, const auto& run) {
    using W = Wide<E>;
    const E *g = data_of<E>(device, dy), *in = data_of<E>(device, x);
    const W *m = data_of<W>(device, mean), *s = data_of<W>(device, rstd);
    if (dx.defined())
      run(layer_norm_rows_backward<E>, g, in, data_of<W>(device, weight), m, s,
          data_of<E>(device, dx));
    if (dweight.defined() || dbias.defined())
      reduce_columns<Pair<double>>(
          device, 1, R, C, ParameterTerm<E>{C, g, in, m, s},
          ParameterResult<W>{data_of<W>(device, dweight), data_of<W>(device, dbias)});
  });
}

}  // namespace triad::kernels
