// Softmax, cross entropy and normalisation: a block per row of [R,C].
//
// A thread reads 64 bytes of its row at once, as vectors of 16 where rows lie so, and keeps them:
// of a row that its block holds in registers, memory sees one read. It adds its elements up in
// pairs; what goes beyond is added in double, of narrow types in float.
#include <triad/backends/cuda/reduce.h>

#include <limits>

namespace triad::kernels {
namespace {

using namespace cuda;

// What a narrow type is rounded from needs neither double nor exp() to its last digits, which take
// longer than memory.
template <class E> constexpr bool narrow = is_narrow(dtype_of<E>());
template <class E> using Sum = std::conditional_t<narrow<E>, float, double>;

template <class E> __device__ Wide<E> exp_of(Wide<E> x) {
  if constexpr (narrow<E>) return fast_exp2(x * 1.44269504f);
  else return math::exp(x);
}

// The columns of rows of E, by vectors of N: which are a thread's, turn by turn.
template <class E, int N> struct Columns {
  static constexpr int kHeld = 64 / sizeof(E);
  int C;

  __device__ int at(int first, int i) const {
    return first + int((i / N * blockDim.x + threadIdx.x) * N) + i % N;
  }
  __device__ bool has(int first, int i) const { return at(first, i / N * N) < C; }

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
  // One value from f(i) of the turn's elements, what lies behind the row's end among them.
  template <class Op, class F, int from = 0, int count = kHeld>
  __device__ auto combined(Op op, const F& f) const {
    if constexpr (count == 1) return f(from);
    else
      return op(combined<Op, F, from, count / 2>(op, f),
                combined<Op, F, from + count / 2, count / 2>(op, f));
  }
  // y = f(column, i)
  template <class Y, class F> __device__ void write(Y* y, int first, const F& f) const {
    for (int i = 0; i < kHeld; i += N) {
      Vector<Wide<E>, N> to;
      for (int j = 0; j < N; ++j) to.at[j] = f(at(first, i + j), i + j);
      if (has(first, i)) store_wide(y + at(first, i), to);
    }
  }
};

// What a thread has of a row of T, beside one of E.
template <class T, class E = T> struct Held {
  Wide<T> at[Columns<E, 1>::kHeld];
  __device__ Wide<T> operator[](int i) const { return at[i]; }

  // Without a row, and behind its end, all is `none`.
  template <int N>
  __device__ void read(const Columns<E, N>& columns, const T* row, int first, T none = {}) {
    constexpr int V = std::min(16 / int(sizeof(T)), N);
    const int end = row ? columns.C : 0;
    for (int i = 0; i < columns.kHeld; i += V) {
      const int column = columns.at(first, i);
      const auto values = load_wide<V>(column < end ? row + column : row, column < end, none);
      for (int j = 0; j < V; ++j) at[i + j] = values.at[j];
    }
  }
};

// Two numbers that are reduced together.
template <class T> struct Pair {
  T a = 0, b = 0;
  __device__ friend Pair operator+(Pair x, Pair y) { return {x.a + y.a, x.b + y.b}; }
  template <class U> __device__ operator Pair<U>() const { return {U(a), U(b)}; }
};
// The sum over the row of f(first, i).
template <class S, class Columns, class Read, class F>
__device__ S row_sum(Columns& columns, const Read& read, const F& f) {
  S sum{};
  columns.turns(read, [&](int first) {
    const S turn = columns.combined(Plus(), [&](int i) { return f(first, i); });
    sum = sum + turn;
  });
  return block_reduce(sum, Plus());
}

// ---- Softmax. The largest element is taken off before exp, so that nothing overflows. A row of
// only -inf, or with a NaN, gives NaN.

// The largest element a, and the sum b of exp(x - a). Behind the row's end, x is -inf.
template <class E, int N, class Read>
__device__ Pair<Sum<E>> softmax_sums(Columns<E, N>& columns, const Held<E>& x, const Read& read) {
  using W = Wide<E>;
  const auto shift = [](W top) { return top == W(-INFINITY) ? W(0) : top; };
  W top = W(-INFINITY);
  Sum<E> sum = 0;
  columns.turns(read, [&](int) {
    const W before = top;
    top = Larger()(top, columns.combined(Larger(), [&](int i) { return x[i]; }));
    const W by = shift(top);
    const W turn = columns.combined(Plus(), [&](int i) { return exp_of<E>(x[i] - by); });
    sum = sum * exp_of<E>(before - by) + turn;
  });
  const W all = block_reduce(top, Larger());
  return {all, block_reduce(sum * exp_of<E>(top - shift(all)), Plus())};
}

template <bool logarithm, class E, int N>
__global__ void softmax_rows(Index R, int C, const E* x, E* y) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    Columns<E, N> columns{C};
    Held<E> in;
    const auto read = [&](int first) { in.read(columns, x + r * C, first, E(-INFINITY)); };
    const auto sums = softmax_sums(columns, in, read);
    const W top = W(sums.a), rest = logarithm ? W(log(sums.b)) : W(1 / sums.b);
    columns.turns(read, [&](int first) {
      columns.write(y + r * C, first, [&](int, int i) {
        return logarithm ? in[i] - top - rest : exp_of<E>(in[i] - top) * rest;
      });
    });
  }
}

template <class E, int N>
__global__ void softmax_rows_backward(Index R, int C, const E* dy, const E* y, E* dx) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    Columns<E, N> columns{C};
    Held<E> g, p;
    const auto read = [&](int first) {
      g.read(columns, dy + r * C, first);
      p.read(columns, y + r * C, first);
    };
    const W dot = W(row_sum<Sum<E>>(columns, read, [&](int, int i) { return g[i] * p[i]; }));
    columns.turns(read, [&](int first) {
      columns.write(dx + r * C, first, [&](int, int i) { return p[i] * (g[i] - dot); });
    });
  }
}

// A target outside the row, which the op has not been able to see while a step is captured, gives
// NaN.
template <class E, int N>
__global__ void cross_entropy_rows(Index R, int C, const E* logits, const Index* target,
                                   Index ignore_index, Wide<E>* losses, Wide<E>* logsumexp) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const E* x = logits + r * C;
    Columns<E, N> columns{C};
    Held<E> in;
    const auto [top, sum] =
        softmax_sums(columns, in, [&](int first) { in.read(columns, x, first, E(-INFINITY)); });
    if (threadIdx.x != 0) continue;
    const Index t = target[r];
    const double rest = log(double(sum));
    if (t == ignore_index) losses[r] = logsumexp[r] = 0;
    else {
      logsumexp[r] = W(double(top) + rest);
      losses[r] = t >= 0 && t < C ? W(rest - (double(W(x[t])) - double(top)))
                                  : std::numeric_limits<W>::quiet_NaN();
    }
  }
}

template <class E, int N>
__global__ void cross_entropy_rows_backward(Index R, int C, const E* logits, const Index* target,
                                            const Wide<E>* logsumexp, const Wide<E>* scale,
                                            E* dlogits) {
  using W = Wide<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const W factor = scale[r], lse = logsumexp[r];
    const Index t = target[r];
    Columns<E, N> columns{C};
    Held<E> in;
    columns.turns([&](int first) { in.read(columns, logits + r * C, first); },
                  [&](int first) {
                    columns.write(dlogits + r * C, first, [&](int c, int i) {
                      const W p = factor == 0 ? W(0) : exp_of<E>(in[i] - lse) * factor;
                      return c == t ? p - factor : p;
                    });
                  });
  }
}

// ---- Normalisation, of layers or, where `mean` is null, by the root of the mean of squares. The
// variance is taken around a first estimate of the mean, which is then corrected by the mean of
// what is left: with large means neither loses digits (Chan, Golub and LeVeque, "Algorithms for
// computing the sample variance", 1983).

template <class E, class Y, int N>
__global__ void layer_norm_rows(Index R, int C, const E* x, const Wide<E>* weight,
                                const Wide<E>* bias, double eps, Y* y, Wide<E>* mean,
                                Wide<E>* rstd) {
  using W = Wide<E>;
  using S = Sum<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    Columns<E, N> columns{C};
    Held<E> in;
    const auto read = [&](int first) { in.read(columns, x + r * C, first); };
    const S share = 1 / S(C);
    W estimate = 0;
    if (mean) estimate = W(row_sum<S>(columns, read, [&](int, int i) { return in[i]; }) * share);
    const auto left = row_sum<Pair<S>>(columns, read, [&](int first, int i) {
      const W d = columns.has(first, i) ? in[i] - estimate : W(0);
      return Pair<W>{d, d * d};
    });
    const S correction = mean ? left.a * share : S(0);
    const S variance = left.b * share - correction * correction;
    const S scale = 1 / sqrt((variance > 0 || variance != variance ? variance : 0) + S(eps));
    if (threadIdx.x == 0) {
      if (mean) mean[r] = W(S(estimate) + correction);
      rstd[r] = W(scale);
    }
    const W factor = W(scale), offset = W(-correction * scale);
    columns.turns(read, [&](int first) {
      Held<W, E> w, b;
      w.read(columns, weight, first, 1);
      b.read(columns, bias, first);
      columns.write(y + r * C, first, [&](int, int i) {
        return math::fma(math::fma(in[i] - estimate, factor, offset), w[i], b[i]);
      });
    });
  }
}

// With h = (x - mean) rstd and g = dy weight: dx = before + rstd (g - mean(g) - h mean(g h)).
template <class E, class Y, int N>
__global__ void layer_norm_rows_backward(Index R, int C, const Y* dy, const E* x,
                                         const Wide<E>* weight, const Wide<E>* mean,
                                         const Wide<E>* rstd, const E* before, E* dx) {
  using W = Wide<E>;
  using S = Sum<E>;
  for (Index r = blockIdx.x; r < R; r += gridDim.x) {
    const W center = mean ? mean[r] : W(0), scale = rstd[r];
    Columns<E, N> columns{C};
    Held<Y, E> g;
    Held<E> h;
    const auto read = [&](int first) {
      Held<W, E> w;
      g.read(columns, dy + r * C, first);
      h.read(columns, x + r * C, first);
      w.read(columns, weight, first, 1);
      for (int i = 0; i < columns.kHeld; ++i) g.at[i] *= w[i], h.at[i] = (h[i] - center) * scale;
    };
    const auto sums = row_sum<Pair<S>>(columns, read, [&](int, int i) {
      return Pair<W>{g[i], g[i] * h[i]};
    });
    const W a = mean ? W(sums.a / C) : W(0), b = W(sums.b / C);
    columns.turns(read, [&](int first) {
      Held<E> old;
      old.read(columns, before ? before + r * C : nullptr, first);
      columns.write(dx + r * C, first,
                    [&](int, int i) { return old[i] + math::fma(-h[i], b, g[i] - a) * scale; });
    });
  }
}

// What a row adds to the gradients of weight and bias, and where their sums go.
template <class E, class Y> struct ParameterTerm {
  Index C;
  const Y* dy;
  const E* x;
  const Wide<E>*mean, *rstd;
  __device__ Pair<double> operator()(Index, Index r, Index c) const {
    const double d = double(Wide<Y>(dy[r * C + c]));
    const Wide<E> center = mean ? mean[r] : Wide<E>(0);
    return {d * double((Wide<E>(x[r * C + c]) - center) * rstd[r]), d};
  }
};
template <class W> struct ParameterResult {
  W *dweight, *dbias;
  __device__ void operator()(Index, Index c, Pair<double> sum) const {
    if (dweight) dweight[c] = W(sum.a);
    if (dbias) dbias[c] = W(sum.b);
  }
};

// f<E, N>(run): E is the type of `rows`, which are [R,C] or [C] and made of vectors of N elements;
// run(kernel, args...) launches it for them.
template <class F>
void for_rows(const char* op, Cuda device, std::initializer_list<Tensor> rows, const F& f) {
  const Tensor& x = *rows.begin();
  const Index R = x.shape()[0], C = x.shape()[1];
  if (C > 1 << 30) throw DeviceError(std::string(op) + ": too long a row for a CUDA device");
  visit_any_float(op, x.dtype(), [&]<class E>(E) {
    constexpr int N = 16 / sizeof(E);
    const Index warps = std::clamp<Index>(ceil_div(C, 32 * Columns<E, N>::kHeld), 1, 16);
    const Grid grid{device, dim3(unsigned(std::min<Index>(R, 1 << 20))),
                    dim3(unsigned(32 * warps))};
    const auto run = [&](auto kernel, const auto&... args) {
      launch(grid, kernel, R, int(C), args...);
    };
    bool vectors = C % N == 0;
    for (const Tensor& row : rows)
      if (row.defined()) vectors = vectors && is_aligned(row.first_byte());
    if (vectors) f.template operator()<E, N>(run);
    else f.template operator()<E, 1>(run);
  });
}

// f<E, Y, N>(run): y is of x's type E, or narrow where that is f32; x is the first of `rows`.
template <class F>
void for_norm_rows(const char* op, Cuda device, std::initializer_list<Tensor> rows, const Tensor& y,
                   const F& f) {
  for_rows(op, device, rows, [&]<class E, int N>(const auto& run) {
    if constexpr (std::is_same_v<E, float>) {
      if (y.dtype() == bf16) return f.template operator()<E, bfloat16, N>(run);
      if (y.dtype() == f16) return f.template operator()<E, float16, N>(run);
    }
    f.template operator()<E, E, N>(run);
  });
}

}  // namespace

void softmax(Cuda device, const Tensor& x, const Tensor& y) {
  for_rows("softmax", device, {x, y},
           [&]<class E, int N>(const auto& run) { run(softmax_rows<false, E, N>, x, y); });
}

void log_softmax(Cuda device, const Tensor& x, const Tensor& y) {
  for_rows("log_softmax", device, {x, y},
           [&]<class E, int N>(const auto& run) { run(softmax_rows<true, E, N>, x, y); });
}

void softmax_backward(Cuda device, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  for_rows("softmax_backward", device, {y, dy, dx},
           [&]<class E, int N>(const auto& run) { run(softmax_rows_backward<E, N>, dy, y, dx); });
}

void cross_entropy(Cuda device, const Tensor& logits, const Tensor& target, Index ignore_index,
                   const Tensor& losses, const Tensor& logsumexp) {
  for_rows("cross_entropy", device, {logits}, [&]<class E, int N>(const auto& run) {
    run(cross_entropy_rows<E, N>, logits, target, ignore_index, losses, logsumexp);
  });
}

void cross_entropy_backward(Cuda device, const Tensor& logits, const Tensor& target,
                            const Tensor& logsumexp, const Tensor& scale, const Tensor& dlogits) {
  for_rows("cross_entropy_backward", device, {logits, dlogits},
           [&]<class E, int N>(const auto& run) {
             run(cross_entropy_rows_backward<E, N>, logits, target, logsumexp, scale, dlogits);
           });
}

void layer_norm(Cuda device, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  for_norm_rows("layer_norm", device, {x, weight, bias, y}, y,
                [&]<class E, class Y, int N>(const auto& run) {
                  run(layer_norm_rows<E, Y, N>, x, weight, bias, eps, y, mean, rstd);
                });
}

void layer_norm_backward(Cuda device, const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                         const Tensor& dweight, const Tensor& dbias, const Tensor& before) {
  for_norm_rows("layer_norm_backward", device, {x, dy, weight, before, dx}, dy,
                [&]<class E, class Y, int N>(const auto& run) {
                  using W = Wide<E>;
                  if (dx.defined())
                    run(layer_norm_rows_backward<E, Y, N>, dy, x, weight, mean, rstd, before, dx);
                  if (!dweight.defined() && !dbias.defined()) return;
                  const Index R = x.shape()[0], C = x.shape()[1];
                  const ParameterTerm<E, Y> term{C, data_of<Y>(device, dy), data_of<E>(device, x),
                                                 data_of<W>(device, mean),
                                                 data_of<W>(device, rstd)};
                  reduce_columns<Pair<double>>(
                      device, 1, R, C, term,
                      ParameterResult<W>{data_of<W>(device, dweight), data_of<W>(device, dbias)});
                });
}

}  // namespace triad::kernels
