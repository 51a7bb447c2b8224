// Elementwise ops: y[i] = f(a[i], ...), one kernel per op and type, with the formulas of math.h.
//
// A thread computes the elements of 16 bytes at a time. An input that lies in such vectors, as a
// contiguous one and most views do, is read with one access, any other element by element where its
// strides say; a number in the place of a tensor is read from the arguments.
#include <triad/backends/cuda/elements.h>

namespace triad::kernels {
namespace {

using namespace cuda;

// An input: a tensor, or without data a number.
template <class T> struct Input {
  using Element = typename OnDevice<T>::type;
  const Element* data;
  Wide<Element> number;
  bool vectors;  // set by launch_map
};

template <class T> Input<T> input(Cuda device, const Tensor& x) {
  return {data_of<T>(device, x), {}, false};
}

template <int N, int k, int inputs, class T>
__device__ void read(const Input<T>& x, const Axes<inputs>& axes, Index first, Index count,
                     Vector<Wide<typename Input<T>::Element>, N>& to) {
  using W = Wide<typename Input<T>::Element>;
  if (x.data && x.vectors && count == N) to = load_wide<N>(x.data + axes.place(first, k));
  else
    for (int j = 0; j < N; ++j)
      to.at[j] = x.data && j < count ? W(x.data[axes.place(first + j, k)]) : x.number;
}

// y = f(x...), y contiguous.
template <int N, class F, class Y, class... X>
__global__ void map(F f, Y* y, Axes<sizeof...(X)> axes, Input<X>... inputs) {
  for (Index i = first_index() * N; i < axes.count; i += stride() * N) {
    const Index count = axes.count - i < N ? axes.count - i : N;
    [&]<std::size_t... k>(std::index_sequence<k...>, auto... values) {
      (read<N, int(k)>(inputs, axes, i, count, values), ...);
      Vector<decltype(f(values.at[0]...)), N> result;
      for (int j = 0; j < N; ++j) result.at[j] = f(values.at[j]...);
      if (count == N) store_wide(y + i, result);
      else
        for (int j = 0; j < count; ++j) y[i + j] = Y(result.at[j]);
    }
    (std::index_sequence_for<X...>(), Vector<Wide<typename Input<X>::Element>, N>{}...);
  }
}

template <class F, class Y, class... X>
void launch_map(Cuda device, F f, Y* y, const Axes<sizeof...(X)>& axes, Input<X>... x) {
  constexpr std::size_t widest = std::max({sizeof(Y), sizeof(X)...});
  constexpr int N = int(16 / widest);
  int k = 0;
  ((x.vectors = axes.vectors(k++, N) && is_aligned(x.data)), ...);
  if (!is_aligned(y)) throw DeviceError("the result of an elementwise op is to be aligned");
  launch(grid_for(device, axes.count, N), map<N, F, Y, X...>, f, y, axes, x...);
}

// normal_tail() for narrow types: to 2^-16 of itself, of which a half keeps 11 bits, and 0 below
// 2^-126. Fitted in the same way, in u = 8 / (4 + a) - 1.
__device__ math::NormalTail<float> short_tail(float x) {
  constexpr float c[] = {0.755286914f,  0.607891217f,  0.387042421f,   0.186611714f,
                         0.0611068243f, 0.0068740403f, -0.00480808053f};
  const float a = fminf(fabsf(x), 13.5f), t = __fdividef(1, 4 + a);
  const float density = fast_exp2(-0.72134752f * a * a);
  return {a, density, density * (t * math::polynomial(fmaf(8, t, -1), c))};
}

template <auto op, bool narrow> struct Apply {
  template <class... X> __device__ auto operator()(X... x) const {
    return math::evaluate<op>(x...);
  }
};
template <> struct Apply<Unary::gelu, true> {
  __device__ float operator()(float x) const { return math::gelu(x, short_tail(x)); }
};
template <> struct Apply<Binary::gelu_grad, true> {
  __device__ float operator()(float a, float b) const {
    return a * math::gelu_grad(b, short_tail(b));
  }
};
struct Choose {
  template <class X> __device__ X operator()(bool condition, X a, X b) const {
    return condition ? a : b;
  }
};

// Launches the kernel of `f`, which is one of those of its enum, on inputs of T.
template <class T, class Op, class... In>
void apply(Cuda device, Op f, const Tensor& y, const Axes<sizeof...(In)>& axes, const In&... x) {
  using X = Wide<typename OnDevice<T>::type>;
  auto apply_if = [&]<Op op>() {
    if (op != f) return;
    using Result = decltype(math::evaluate<op>((void(x), X())...));
    using Y = std::conditional_t<std::is_same_v<Result, X>, T, Result>;
    if constexpr (std::is_void_v<Result>)
      throw DTypeError(std::string("this op does not take ") + name(dtype_of<T>()));
    else
      launch_map(device, Apply<op, is_narrow(dtype_of<T>())>(), data_of<Y>(device, y), axes, x...);
  };
  [&]<int... op>(std::integer_sequence<int, op...>) {
    (apply_if.template operator()<Op(op)>(), ...);
  }
  (std::make_integer_sequence<int, int(Op::last) + 1>());
}

}  // namespace

void unary(Cuda device, Unary f, const Tensor& x, const Tensor& y) {
  const Axes<1> axes(x.shape(), {&x.strides()});
  visit_elements(x.dtype(), [&]<class T>() { apply<T>(device, f, y, axes, input<T>(device, x)); });
}

void binary(Cuda device, Binary f, const Tensor& a, const Tensor& b, const Tensor& y) {
  if (a.dtype() != b.dtype() && (f != Binary::add || a.dtype() != f32 || !is_narrow(b.dtype())))
    throw DTypeError("an op of two types: there is none but f32 + bf16 or f16");
  const Axes<2> axes(a.shape(), {&a.strides(), &b.strides()});
  visit_elements(b.dtype(), [&]<class T>() {
    if (a.dtype() == b.dtype())
      apply<T>(device, f, y, axes, input<T>(device, a), input<T>(device, b));
    else if constexpr (is_narrow(dtype_of<T>()))  // f32 plus a narrow type
      launch_map(device, Apply<Binary::add, true>(), data_of<float>(device, y), axes,
                 input<float>(device, a), input<T>(device, b));
  });
}

void binary_scalar(Cuda device, Binary f, const Tensor& a, double b, bool swapped,
                   const Tensor& y) {
  const Axes<2> axes(a.shape(), {&a.strides(), &a.strides()});
  visit_elements(a.dtype(), [&]<class T>() {
    const auto array = input<T>(device, a);
    using W = Wide<T>;
    const Input<T> number{nullptr, typename OnDevice<W>::type(to_number<W>(b)), false};
    if (swapped) apply<T>(device, f, y, axes, number, array);
    else apply<T>(device, f, y, axes, array, number);
  });
}

void where(Cuda device, const Tensor& condition, const Tensor& a, const Tensor& b,
           const Tensor& y) {
  const Axes<3> axes(y.shape(), {&condition.strides(), &a.strides(), &b.strides()});
  visit_elements(y.dtype(), [&]<class T>() {
    launch_map(device, Choose(), data_of<T>(device, y), axes, input<bool>(device, condition),
               input<T>(device, a), input<T>(device, b));
  });
}

}  // namespace triad::kernels
