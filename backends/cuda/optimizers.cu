// Norms of gradients and updates of parameters, lists of up to 256 in one launch: a block takes
// kChunk elements of one of them. Where they lie is in the kernel's arguments, of which a captured
// graph keeps a copy. The arithmetic is that of torch.optim; what depends on the step alone is in
// double.
#include <triad/backends/cuda/reduce.h>
#include <triad/backends/cuda/replay.h>

namespace triad::kernels {
namespace {

using namespace cuda;

constexpr Index kChunk = 4096;

// What a kernel is told of tensors x that it takes together, N of the same size; blocks from
// first_block on are theirs.
template <class T, int N> struct Item {
  T* x[N];
  Index count;
  unsigned first_block;
  bool aligned;  // all of them, to 16 bytes
  AdamArgs args;

  // Calls f<V>(i) for the first of every V elements that this thread takes.
  template <class F> __device__ void for_elements(F f) const {
    constexpr int V = 16 / sizeof(T);
    const Index begin = Index(blockIdx.x - first_block) * kChunk, rest = begin + kChunk;
    const Index end = count < rest ? count : rest;
    const Index whole = aligned ? end - (end - begin) % V : begin;
    for (Index i = begin + threadIdx.x * V; i < whole; i += kThreads * V)
      f.template operator()<V>(i);
    for (Index i = whole + threadIdx.x; i < end; i += kThreads) f.template operator()<1>(i);
  }
};

template <class T, int N> struct List {
  static constexpr int kMost = 256;  // arguments have room for 32,764 bytes
  int size = 0;
  Item<T, N> items[kMost];

  void add(Cuda device, unsigned block, const AdamArgs& args, const Tensor (&tensors)[N]) {
    Item<T, N>& item = items[size++] = {{}, tensors[0].numel(), block, true, args};
    for (int i = 0; i < N; ++i) {
      item.x[i] = data_of<T>(device, tensors[i]);
      item.aligned = item.aligned && is_aligned(item.x[i]);
    }
  }
  void add(Cuda device, unsigned block, const Tensor& x) { add(device, block, {}, {x}); }
  void add(Cuda device, unsigned block, const AdamUpdate& u) {
    add(device, block, u.args, {u.gradient, u.p, u.m, u.v});
  }
  // The item of this block: the last one that does not begin after it.
  __device__ const Item<T, N>& own() const {
    int low = 0, high = size;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (items[middle].first_block <= blockIdx.x ? low : high) = middle;
    }
    return items[low];
  }
};

// Calls launch_list(list, grid) for lists that make up all of `sources`.
template <class T, int N, class Source, class F>
void for_lists(Cuda device, const std::vector<Source>& sources, F launch_list) {
  static_assert(sizeof(List<T, N>) < 32'700);
  List<T, N> list;
  unsigned blocks = 0;
  for (const Source& source : sources) {
    list.add(device, blocks, source);
    blocks += unsigned(ceil_div(list.items[list.size - 1].count, kChunk));
    if (list.size < list.kMost && &source != &sources.back()) continue;
    launch_list(list, Grid{device, dim3(blocks), dim3(kThreads)});
    list.size = 0, blocks = 0;
  }
}

template <class T> __global__ void add_squares(List<T, 1> list, double* partial) {
  const Item<T, 1>& own = list.own();
  double sum = 0;
  own.for_elements([&]<int V>(Index i) {
    for (T value : load_vector<V>(own.x[0] + i).at) sum += double(value) * double(value);
  });
  sum = block_reduce(sum, Plus());
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <class T>
__global__ void scale_down(const double* squares, double max_norm, List<T, 1> list) {
  const double factor = max_norm / (sqrt(*squares) + 1e-6);
  if (!(factor > 0 && factor < 1)) return;
  const Item<T, 1>& own = list.own();
  own.for_elements([&]<int V>(Index i) {
    auto values = load_vector<V>(own.x[0] + i);
    for (T& value : values.at) value *= T(factor);
    store_vector(own.x[0] + i, values);
  });
}

// Adam: Kingma and Ba, arXiv 1412.6980; AdamW: Loshchilov and Hutter, arXiv 1711.05101.
template <class T> __global__ void adam(const ReplayState* replay, List<T, 4> list) {
  __shared__ Shared<T, 3> of_step;  // two pow() are as much work as all of a thread's elements
  const Item<T, 4>& own = list.own();
  const AdamArgs& args = own.args;
  if (threadIdx.x % 32 == 0 && threadIdx.x < 64) {
    // GraphedStep captures with lr = 1, at some step from which it counts
    const double lr = replay ? args.lr * replay->lr : args.lr;
    const double step = double(args.step + (replay ? replay->steps : 0));
    if (threadIdx.x == 0) {
      of_step[0] = T(lr / (1 - pow(args.beta1, step)));
      of_step[1] = T(1 - lr * args.weight_decay);
    } else of_step[2] = T(1 / sqrt(1 - pow(args.beta2, step)));
  }
  __syncthreads();
  const T step = of_step[0], decay = of_step[1], root_scale = of_step[2];
  const T new1 = T(1 - args.beta1), keep2 = T(args.beta2), new2 = T(1 - args.beta2);
  const T l2 = T(args.l2), eps = T(args.eps);
  const auto [gradient, p, m, v] = own.x;
  own.for_elements([&]<int V>(Index i) {
    const auto g = load_vector<V>(gradient + i);
    auto x = load_vector<V>(p + i), mean = load_vector<V>(m + i), square = load_vector<V>(v + i);
    for (int k = 0; k < V; ++k) {
      const T d = math::fma(l2, x.at[k], g.at[k]);
      const T a = mean.at[k] = math::fma(d - mean.at[k], new1, mean.at[k]);
      const T b = square.at[k] = math::fma(d * d, new2, square.at[k] * keep2);
      x.at[k] = math::fma(-step, a / math::fma(math::sqrt(b), root_scale, eps), x.at[k] * decay);
    }
    store_vector(m + i, mean);
    store_vector(v + i, square);
    store_vector(p + i, x);
  });
}

}  // namespace

void sum_of_squares(Cuda device, const std::vector<Tensor>& xs, const Tensor& y) {
  Index blocks = 0;
  for (const Tensor& x : xs) blocks += ceil_div(x.numel(), kChunk);
  const Tensor partial = empty({blocks}, f64, y.device());
  double* to = data_of<double>(device, partial);
  visit_float("sum_of_squares", xs[0].dtype(), [&]<class T>(T) {
    for_lists<T, 1>(device, xs, [&](auto& list, const Grid& grid) {
      launch(grid, add_squares<T>, list, to);
      to += grid.blocks.x;
    });
  });
  sum(device, partial, y.with_layout(contiguous_layout({1})));
}

void clip(Cuda device, const Tensor& squares, double max_norm, const std::vector<Tensor>& xs) {
  visit_float("clip", xs[0].dtype(), [&]<class T>(T) {
    for_lists<T, 1>(device, xs, [&](auto& list, const Grid& grid) {
      launch(grid, scale_down<T>, squares, max_norm, list);
    });
  });
}

void adam_step(Cuda device, const std::vector<AdamUpdate>& updates) {
  visit_float("adam_step", updates[0].p.dtype(), [&]<class T>(T) {
    for_lists<T, 4>(device, updates, [&](auto& list, const Grid& grid) {
      launch(grid, adam<T>, replay_state(), list);
    });
  });
}

}  // namespace triad::kernels
