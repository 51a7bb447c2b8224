// Elementwise ops: y[i] = f(a[i], ...).
//
// Each f becomes a row function, a loop over contiguous arrays; one driver brings operands of any
// strides into that form and shares the work among the threads. The formulas are in math.h.
#include <concepts>
#include <functional>
#include <limits>
#include <type_traits>

#include <triad/backends/cpu/strided.h>
#include <triad/backends/cpu/vec.h>
#include <triad/backends/kernels.h>
#include <triad/backends/math.h>
#include <triad/core/visit.h>

namespace triad::kernels {
namespace {

using namespace cpu;

// ---------------------------------------------------------------------- the driver

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

// ---------------------------------------------------------------------- rows

// Floating point, a register at a time. The tail runs through the same instructions, so that an
// element's bits do not depend on its place.
template <class T, auto f, class... In> void float_loop(Index n, T* y, const In*... x) {
  for_each_register<T>(n, [=](Index i, auto part) { part.store(f(part.load(x + i)...), y + i); });
}

// Everything else, left to the compiler.
template <class Out, auto f, class... In> void plain_loop(Index n, Out* y, const In*... x) {
  for (Index i = 0; i < n; ++i) y[i] = f(x[i]...);
}

// The condition is read as bytes, and both values first: else the compiler's loop goes one by one.
template <class T> void where_row(Index n, T* y, const bool* condition, const T* a, const T* b) {
  const auto* byte = reinterpret_cast<const unsigned char*>(condition);
  for (Index i = 0; i < n; ++i) {
    const T yes = a[i], no = b[i];
    y[i] = byte[i] ? yes : no;
  }
}

// ---------------------------------------------------------------------- from the name to the row

template <std::floating_point T> Row<T, T> row_of(Unary f) {
  using V = Vec<T>;
  switch (f) {
    case Unary::neg: return float_loop<T, std::negate<>{}>;
    case Unary::abs: return float_loop<T, [](V x) { return abs(x); }>;
    case Unary::square: return float_loop<T, [](V x) { return x * x; }>;
    case Unary::sign: return float_loop<T, math::sign<V>>;
    case Unary::sqrt: return float_loop<T, [](V x) { return sqrt(x); }>;
    case Unary::floor: return float_loop<T, [](V x) { return floor(x); }>;
    case Unary::round: return float_loop<T, [](V x) { return round(x); }>;
    case Unary::relu: return float_loop<T, math::relu<V>>;
    case Unary::exp: return float_loop<T, [](V x) { return exp(x); }>;
    case Unary::expm1: return float_loop<T, [](V x) { return expm1(x); }>;
    case Unary::log: return float_loop<T, [](V x) { return log(x); }>;
    case Unary::log1p: return float_loop<T, [](V x) { return log1p(x); }>;
    case Unary::sin: return float_loop<T, [](V x) { return sin(x); }>;
    case Unary::cos: return float_loop<T, [](V x) { return cos(x); }>;
    case Unary::tanh: return float_loop<T, [](V x) { return tanh(x); }>;
    case Unary::erf: return float_loop<T, math::erf<V>>;
    case Unary::sigmoid: return float_loop<T, math::sigmoid<V>>;
    case Unary::softplus: return float_loop<T, math::softplus<V>>;
    case Unary::silu: return float_loop<T, math::silu<V>>;
    case Unary::gelu: return float_loop<T, math::gelu<V>>;
    case Unary::gelu_grad: return float_loop<T, math::gelu_grad<V>>;
    case Unary::gelu_tanh: return float_loop<T, math::gelu_tanh<V>>;
    case Unary::conj: break;
  }
  throw DTypeError("conj needs complex numbers");
}

template <class T>
requires is_complex_v<T> Row<T, T> row_of(Unary f) {
  switch (f) {
    case Unary::neg: return plain_loop<T, std::negate<>{}>;
    case Unary::square: return plain_loop<T, [](T x) { return math::times(x, x); }>;
    case Unary::conj: return plain_loop<T, [](T x) { return std::conj(x); }>;
    case Unary::exp: return plain_loop<T, [](T x) { return std::exp(x); }>;
    default: throw DTypeError("this op needs real numbers");
  }
}

// Integers wrap around, as the unsigned arithmetic beneath says.
using I = std::int64_t;
using U = std::uint64_t;

template <std::same_as<I> T> Row<T, T> row_of(Unary f) {
  switch (f) {
    case Unary::neg: return plain_loop<I, std::negate<U>{}>;
    case Unary::abs: return plain_loop<I, [](I x) { return I(x < 0 ? -U(x) : U(x)); }>;
    case Unary::square: return plain_loop<I, [](I x) { return I(U(x) * U(x)); }>;
    case Unary::sign: return plain_loop<I, [](I x) { return I(x > 0) - I(x < 0); }>;
    default: throw DTypeError("this op needs f32 or f64, got i64");
  }
}

template <class T>
requires is_complex_v<T> Row<T, T, T> row_of(Binary f) {
  switch (f) {
    case Binary::add: return plain_loop<T, std::plus<>{}>;
    case Binary::sub: return plain_loop<T, std::minus<>{}>;
    case Binary::mul: return plain_loop<T, [](T a, T b) { return math::times(a, b); }>;
    case Binary::div: return plain_loop<T, std::divides<>{}>;
    default: throw DTypeError("complex numbers have no order");
  }
}

template <std::floating_point T> Row<T, T, T> row_of(Binary f) {
  using V = Vec<T>;
  switch (f) {
    case Binary::add: return float_loop<T, std::plus<>{}>;
    case Binary::sub: return float_loop<T, std::minus<>{}>;
    case Binary::mul: return float_loop<T, std::multiplies<>{}>;
    case Binary::div: return float_loop<T, std::divides<>{}>;
    case Binary::max: return float_loop<T, math::maximum<V>>;
    case Binary::min: return float_loop<T, math::minimum<V>>;
    case Binary::pow: return plain_loop<T, [](T a, T b) { return std::pow(a, b); }>;
    default: throw DTypeError("logical operators need bool");
  }
}

template <std::same_as<I> T> Row<T, T, T> row_of(Binary f) {
  switch (f) {
    case Binary::add: return plain_loop<I, std::plus<U>{}>;
    case Binary::sub: return plain_loop<I, std::minus<U>{}>;
    case Binary::mul: return plain_loop<I, std::multiplies<U>{}>;
    case Binary::max: return plain_loop<I, [](I a, I b) { return std::max(a, b); }>;
    case Binary::min: return plain_loop<I, [](I a, I b) { return std::min(a, b); }>;
    default: throw DTypeError("div needs f32 or f64 and logical operators bool, got i64");
  }
}

template <class T> Row<bool, T, T> comparison_row(Binary f) {
  if (f == Binary::eq) return plain_loop<bool, std::equal_to<>{}>;
  if (f == Binary::ne) return plain_loop<bool, std::not_equal_to<>{}>;
  if constexpr (is_complex_v<T>) throw DTypeError("complex numbers have no order");
  else switch (f) {
      case Binary::lt: return plain_loop<bool, std::less<>{}>;
      case Binary::le: return plain_loop<bool, std::less_equal<>{}>;
      case Binary::gt: return plain_loop<bool, std::greater<>{}>;
      case Binary::ge: return plain_loop<bool, std::greater_equal<>{}>;
      case Binary::logical_and: return plain_loop<bool, [](bool a, bool b) { return bool(a & b); }>;
      case Binary::logical_or: return plain_loop<bool, [](bool a, bool b) { return bool(a | b); }>;
      default: throw DTypeError("arithmetic needs numbers, got bool");
    }
}

template <class T>
void apply_binary(Binary f, const Tensor& y, const Input<T>& a, const Input<T>& b) {
  if (y.dtype() == boolean) return apply<bool, T, T>(kGrain, comparison_row<T>(f), y, a, b);
  if constexpr (!std::is_same_v<T, bool>) apply<T, T, T>(kGrain, row_of<T>(f), y, a, b);
}

// The number as a T; a double outside the integers' range becomes the nearest end of it.
template <class T> T to_number(double value) {
  if constexpr (std::is_same_v<T, I>) {
    if (value >= 0x1p63) return std::numeric_limits<I>::max();
    if (value < -0x1p63) return std::numeric_limits<I>::min();
  }
  return converted<T>(value);
}

}  // namespace

void unary(Cpu, Unary f, const Tensor& x, const Tensor& y) {
  visit_wide(x.dtype(), [&]<class T>(T) {
    const Index grain = is_complex_v<T> || f >= Unary::exp ? kHeavyGrain : kGrain;
    if constexpr (is_complex_v<T>) {
      using R = typename T::value_type;
      constexpr Row<R, T> absolute = plain_loop<R, [](T z) { return std::abs(z); }>;
      if (f == Unary::abs) return apply<R, T>(grain, absolute, y, x);
    }
    if constexpr (!std::is_same_v<T, bool>) apply<T, T>(grain, row_of<T>(f), y, x);
  });
}

void binary(Cpu, Binary f, const Tensor& a, const Tensor& b, const Tensor& y) {
  visit_wide(a.dtype(), [&]<class T>(T) { apply_binary<T>(f, y, a, b); });
}

void binary_scalar(Cpu, Binary f, const Tensor& a, double b, bool swapped, const Tensor& y) {
  visit_wide(a.dtype(), [&]<class T>(T) {
    T tile[kTile];
    std::fill_n(tile, std::min(y.numel(), kTile), to_number<T>(b));
    const Input<T> array(a), number(tile, a.shape());
    apply_binary<T>(f, y, swapped ? number : array, swapped ? array : number);
  });
}

void where(Cpu, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& y) {
  visit_any(y.dtype(),
            [&]<class T>(T) { apply<T, bool, T, T>(kGrain, where_row<T>, y, condition, a, b); });
}

}  // namespace triad::kernels
