// Elementwise ops: y[i] = f(a[i], ...).
//
// Each f becomes a row function, a loop over contiguous arrays; one driver brings operands of any
// strides into that form and shares the work among the threads. The formulas are in math.h.
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <triad/backends/cpu/strided.h>
#include <triad/backends/cpu/vec.h>
#include <triad/backends/kernels.h>
#include <triad/backends/math.h>
#include <triad/core/visit.h>

namespace triad::kernels {
namespace {

using namespace cpu;

// n elements of the output from n of each input.
template <class Out, class... In> using Row = void (*)(Index n, Out* y, const In*... inputs);

// An input of the output's shape: a tensor of any strides, or a number, as a tile full of it.
template <class T> struct Input {
  const T* data;
  Shape shape, strides;
  bool contiguous = true, is_number = true;

  Input(const Tensor& x)
      : data(x.data<T>()), shape(x.shape()), strides(x.strides()), contiguous(x.is_contiguous()),
        is_number(false) {}
  Input(const T* tile, const Shape& s)
      : data(tile), shape(s), strides(Shape::filled(s.rank(), 0)) {}

  const T* at(Index i) const { return is_number ? data : data + i; }
};

template <class Out, class... In>
void apply(Index grain, Row<Out, In...> row, const Tensor& y, const Input<In>&... inputs) {
  Out* out = y.data<Out>();
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

// Floating-point numbers go a register at a time, the tail through the same instructions, so that
// an element's bits do not depend on its place. Everything else is left to the compiler.
template <auto f, class Y, class... X> void row_of(Index n, Y* y, const X*... x) {
  if constexpr (in_registers<f, Y, X...>())
    for_each_register<Y>(
        n, [=](Index i, auto part) { part.store(math::evaluate<f>(part.load(x + i)...), y + i); });
  else
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

// y = f(x...): finds the row of the op and applies it.
template <class Op, class... X>
void apply(Index grain, Op f, const Tensor& y, const Input<X>&... x) {
  constexpr DType types[] = {dtype_of<X>()...};  // all the same
  auto apply_if = [&]<Op op>() {
    if (op != f) return;
    using Y = decltype(math::evaluate<op>(X()...));
    if constexpr (!std::is_void_v<Y>) apply<Y, X...>(grain, row_of<op, Y, X...>, y, x...);
    else throw DTypeError(std::string("this op does not take ") + name(types[0]));
  };
  [&]<int... op>(std::integer_sequence<int, op...>) {
    (apply_if.template operator()<Op(op)>(), ...);
  }
  (std::make_integer_sequence<int, int(Op::last) + 1>());
}

// The number as a T; a double outside the integers' range becomes the nearest end of it.
template <class T> T to_number(double value) {
  if constexpr (std::is_same_v<T, Index>) {
    if (value >= 0x1p63) return std::numeric_limits<Index>::max();
    if (value < -0x1p63) return std::numeric_limits<Index>::min();
  }
  return converted<T>(value);
}

}  // namespace

void unary(Cpu, Unary f, const Tensor& x, const Tensor& y) {
  visit_wide(x.dtype(), [&]<class T>(T) {
    apply(is_complex_v<T> || f >= Unary::exp ? kHeavyGrain : kGrain, f, y, Input<T>(x));
  });
}

void binary(Cpu, Binary f, const Tensor& a, const Tensor& b, const Tensor& y) {
  visit_wide(a.dtype(), [&]<class T>(T) { apply(kGrain, f, y, Input<T>(a), Input<T>(b)); });
}

void binary_scalar(Cpu, Binary f, const Tensor& a, double b, bool swapped, const Tensor& y) {
  visit_wide(a.dtype(), [&]<class T>(T) {
    T tile[kTile];
    std::fill_n(tile, std::min(y.numel(), kTile), to_number<T>(b));
    const Input<T> array(a), number(tile, a.shape());
    apply(kGrain, f, y, swapped ? number : array, swapped ? array : number);
  });
}

void where(Cpu, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& y) {
  visit_any(y.dtype(),
            [&]<class T>(T) { apply<T, bool, T, T>(kGrain, where_row<T>, y, condition, a, b); });
}

}  // namespace triad::kernels
