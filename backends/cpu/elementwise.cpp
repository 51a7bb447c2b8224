// Elementwise ops: y[i] = f(a[i], ...).
//
// Each f becomes a row function, a loop over contiguous arrays; one driver brings operands of any
// strides into that form and shares the work among the threads. The formulas are in math.h.
#include <triad/backends/cpu/strided.h>
#include <triad/backends/cpu/vec.h>

namespace triad::kernels {
namespace {

// n elements of the output from n of each input.
template <class Out, class... In> using Row = void (*)(Index n, Out* y, const In*... inputs);

// An input of the output's shape: a tensor of any strides, or a number, as a tile full of it.
template <class T> struct Input {
  const T* data;
  Shape shape, strides;
  bool contiguous = true, is_number = true;

  Input(const Tensor& x)
      : data(x.first<T>()), shape(x.shape()), strides(x.strides()), contiguous(x.is_contiguous()),
        is_number(false) {}
  Input(const T* tile, const Shape& s)
      : data(tile), shape(s), strides(Shape::filled(s.rank(), 0)) {}

  const T* at(Index i) const { return is_number ? data : data + i; }
};

template <class Out, class... In>
void run_rows(Index grain, Row<Out, In...> row, const Tensor& y, const Input<In>&... inputs) {
  Out* out = y.first<Out>();
  parallel_ranges(y.numel(), grain, [&](Index begin, Index end) {
    if ((inputs.contiguous && ...)) {
      const Index most = (inputs.is_number || ...) ? kTile : end - begin;
      for (Index i = begin; i < end; i += most)
        row(std::min(most, end - i), out + i, inputs.at(i)...);
      return;
    }
    auto run = [&](auto... reader) {
      for (Index i = begin, n; i < end; i += n) {
        n = std::min({end - i, reader.span()...});
        row(n, out + i, reader.next(n)...);
      }
    };
    run(Reader<In>(inputs.data, inputs.shape, inputs.strides, begin)...);
  });
}

// Whether math::evaluate<f> takes registers of the elements that the row reads and writes.
template <auto f, class Y, class... X> constexpr bool in_registers() {
  if constexpr (std::is_floating_point_v<Y> && (std::is_same_v<X, Y> && ...))
    return !std::is_void_v<decltype(math::evaluate<f>(Vec<X>()...))>;
  else return false;
}

// A complex number as a plain pair: of loops over std::complex the compiler makes no registers.
template <class T> struct [[gnu::may_alias]] Parts {
  T re, im;
  T real() const { return re; }
  T imag() const { return im; }
};

// Floating-point numbers go a register at a time, the tail through the same instructions, so that
// an element's bits do not depend on its place. Everything else is left to the compiler. Narrow
// types are widened and narrowed again a tile at a time, while it is in cache.
template <auto f, class Y, class... X> void row_of(Index n, Y* y, const X*... x) {
  if constexpr (!(std::is_same_v<X, Wide<X>> && ...)) {
    using Result = decltype(math::evaluate<f>(Wide<X>()...));
    Result result[kTile];
    std::common_type_t<Wide<X>...> tiles[sizeof...(X)][kTile];
    for (Index i = 0; i < n; i += kTile) {
      const Index count = std::min(kTile, n - i);
      [&]<std::size_t... k>(std::index_sequence<k...>) {
        (std::transform(x + i, x + i + count, tiles[k], converted<Wide<X>, X>), ...);
        row_of<f, Result, Wide<X>...>(count, result, tiles[k]...);
      }
      (std::index_sequence_for<X...>());
      std::transform(result, result + count, y + i, converted<Y, Result>);
    }
  } else if constexpr (in_registers<f, Y, X...>()) {
    for_each_register<Y>(
        n, [=](Index i, auto part) { part.store(math::evaluate<f>(part.load(x + i)...), y + i); });
  } else if constexpr (is_complex_v<Y> && sizeof...(X) == 2 && int(f) == int(Binary::mul)) {
    using P = Parts<typename Y::value_type>;
    auto* out = reinterpret_cast<P*>(y);
    for (Index i = 0; i < n; ++i) out[i] = math::times(reinterpret_cast<const P*>(x)[i]...);
  } else
    for (Index i = 0; i < n; ++i) y[i] = math::evaluate<f>(x[i]...);
}

// The condition is read as bytes, and both values first: else the compiler's loop goes one by one.
template <class T> void where_row(Index n, T* y, const bool* condition, const T* a, const T* b) {
  const auto* byte = reinterpret_cast<const unsigned char*>(condition);
  for (Index i = 0; i < n; ++i) {
    const T yes = a[i], no = b[i];
    y[i] = byte[i] ? yes : no;
  }
}

// y = f(x...), of tensors of T: finds the row of the op and applies it.
template <class T, class Op, class... X>
void apply(Index grain, Op f, const Tensor& y, const Input<X>&... x) {
  auto apply_if = [&]<Op op>() {
    if (op != f) return;
    using Result = decltype(math::evaluate<op>(Wide<X>()...));
    using Y = std::conditional_t<std::is_same_v<Result, Wide<T>>, T, Result>;
    if constexpr (!std::is_void_v<Y>) run_rows<Y, X...>(grain, row_of<op, Y, X...>, y, x...);
    else throw DTypeError(std::string("this op does not take ") + name(dtype_of<T>()));
  };
  [&]<int... op>(std::integer_sequence<int, op...>) {
    (apply_if.template operator()<Op(op)>(), ...);
  }
  (std::make_integer_sequence<int, int(Op::last) + 1>());
}

}  // namespace

void unary(Cpu, Unary f, const Tensor& x, const Tensor& y) {
  visit_any(x.dtype(), [&]<class T>(T) {
    apply<T>(is_complex_v<T> || f >= Unary::exp ? kHeavyGrain : kGrain, f, y, Input<T>(x));
  });
}

void binary(Cpu, Binary f, const Tensor& a, const Tensor& b, const Tensor& y) {
  visit_any(a.dtype(), [&]<class T>(T) { apply<T>(kGrain, f, y, Input<T>(a), Input<T>(b)); });
}

void binary_scalar(Cpu, Binary f, const Tensor& a, double b, bool swapped, const Tensor& y) {
  visit_any(a.dtype(), [&]<class T>(T) {
    Wide<T> tile[kTile];
    std::fill_n(tile, std::min(y.numel(), kTile), to_number<Wide<T>>(b));
    const Input<T> array(a);
    const Input<Wide<T>> number(tile, a.shape());
    swapped ? apply<T>(kGrain, f, y, number, array) : apply<T>(kGrain, f, y, array, number);
  });
}

void where(Cpu, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& y) {
  visit_any(y.dtype(),
            [&]<class T>(T) { run_rows<T, bool, T, T>(kGrain, where_row<T>, y, condition, a, b); });
}

}  // namespace triad::kernels
