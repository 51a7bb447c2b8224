// Elementwise ops: y[i] = f(a[i], ...).
//
// Each f becomes a row function, a loop over contiguous arrays; one driver brings operands of any
// strides into that form and shares the work among the threads. The formulas are in math.h.
#include <cmath>
#include <limits>
#include <type_traits>

#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/registers.h>
#include <triad/backends/cpu/strided.h>
#include <triad/backends/cpu/vec.h>
#include <triad/backends/kernels.h>
#include <triad/backends/math.h>

namespace triad::kernels {
namespace {

using cpu::Vec;

// Elements below which a second thread does not pay (AVX-512 machine, 2 cores: starting one costs
// about 2 us), for memory-bound formulas and for those that compute 20 to 40 times as much.
constexpr std::int64_t kGrain = 65536, kHeavyGrain = 16384;

// ---------------------------------------------------------------------- the driver

// One element of the output from one of each input.
template <class Out, class... In>
using Row = void (*)(std::int64_t n, Out* y, const In*... inputs);

template <class>
using TensorOf = Tensor;

template <class Out, class... In>
void apply(std::int64_t grain, Row<Out, In...> row, const Tensor& y,
           const TensorOf<In>&... inputs) {
  Out* out = y.data<Out>();
  const bool contiguous = (inputs.is_contiguous() && ...);
  cpu::parallel_for(y.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
    if (contiguous) return row(end - begin, out + begin, (inputs.template data<In>() + begin)...);
    auto run = [&](auto... reader) {
      for (std::int64_t i = begin, n; i < end; i += n) {
        n = std::min({end - i, reader.span()...});
        row(n, out + i, reader.next(n)...);
      }
    };
    run(cpu::Reader<In>(inputs.template data<In>(), inputs.shape(), inputs.strides(), begin)...);
  });
}

// The same with a number in the place of the second input, or of the first when `swapped`.
template <class Out, class T>
void apply_scalar(Row<Out, T, T> row, const Tensor& y, const Tensor& x, T number, bool swapped) {
  const T* in = x.data<T>();
  Out* out = y.data<Out>();
  const bool contiguous = x.is_contiguous();
  T tile[cpu::kTile];
  std::fill_n(tile, std::min(y.numel(), cpu::kTile), number);
  cpu::parallel_for(y.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    auto run = [&](auto next, auto span) {
      for (std::int64_t i = begin, n; i < end; i += n) {
        n = std::min({end - i, cpu::kTile, span()});
        const T* elements = next(i, n);
        row(n, out + i, swapped ? tile : elements, swapped ? elements : tile);
      }
    };
    if (contiguous) return run([&](auto i, auto) { return in + i; }, [] { return cpu::kTile; });
    cpu::Reader<T> reader(in, x.shape(), x.strides(), begin);
    run([&](auto, auto n) { return reader.next(n); }, [&] { return reader.span(); });
  });
}

// ---------------------------------------------------------------------- rows

// Floating point, a register at a time. The tail runs through the same instructions, so that an
// element's bits do not depend on its place.
template <class T, auto f>
void unary_row(std::int64_t n, T* y, const T* x) {
  cpu::for_each_register<T>(
      n, [=](std::int64_t i, auto part) { part.store(f(part.load(x + i)), y + i); });
}

template <class T, auto f>
void binary_row(std::int64_t n, T* y, const T* a, const T* b) {
  cpu::for_each_register<T>(n, [=](std::int64_t i, auto part) {
    part.store(f(part.load(a + i), part.load(b + i)), y + i);
  });
}

// Everything else, left to the compiler.
template <class In, class Out, auto f>
void plain_unary_row(std::int64_t n, Out* y, const In* x) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

template <class In, class Out, auto f>
void plain_binary_row(std::int64_t n, Out* y, const In* a, const In* b) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(a[i], b[i]);
}

// Booleans are read as bytes here, and both values of a choice first: else the compiler's loops go
// one by one.
void not_row(std::int64_t n, bool* y, const bool* x) {
  const auto* from = reinterpret_cast<const unsigned char*>(x);
  auto* to = reinterpret_cast<unsigned char*>(y);
  for (std::int64_t i = 0; i < n; ++i) to[i] = from[i] ^ 1;
}

template <class T>
void where_row(std::int64_t n, T* y, const bool* condition, const T* a, const T* b) {
  const auto* byte = reinterpret_cast<const unsigned char*>(condition);
  for (std::int64_t i = 0; i < n; ++i) {
    const T yes = a[i], no = b[i];
    y[i] = byte[i] ? yes : no;
  }
}

// ---------------------------------------------------------------------- from the name to the row

template <class T>
Row<T, T> float_row(Unary f) {
  switch (f) {
    case Unary::neg: return unary_row<T, math::neg<Vec<T>>>;
    case Unary::abs: return unary_row<T, math::abs_of<Vec<T>>>;
    case Unary::exp: return unary_row<T, math::exp_of<Vec<T>>>;
    case Unary::log: return unary_row<T, math::log_of<Vec<T>>>;
    case Unary::sqrt: return unary_row<T, math::sqrt_of<Vec<T>>>;
    case Unary::square: return unary_row<T, math::square<Vec<T>>>;
    case Unary::tanh: return unary_row<T, math::tanh_of<Vec<T>>>;
    case Unary::sin: return unary_row<T, math::sin_of<Vec<T>>>;
    case Unary::cos: return unary_row<T, math::cos_of<Vec<T>>>;
    case Unary::gelu: return unary_row<T, math::gelu<Vec<T>>>;
    case Unary::gelu_grad: return unary_row<T, math::gelu_grad<Vec<T>>>;
    case Unary::sign: return unary_row<T, math::sign<Vec<T>>>;
    case Unary::logical_not: break;
  }
  throw DTypeError("logical_not: needs bool");
}

// Integers wrap around, as the unsigned arithmetic beneath says.
using I = std::int64_t;
using U = std::uint64_t;

Row<I, I> integer_row(Unary f) {
  switch (f) {
    case Unary::neg: return plain_unary_row<I, I, [](I x) { return I(-U(x)); }>;
    case Unary::abs: return plain_unary_row<I, I, [](I x) { return I(x < 0 ? -U(x) : U(x)); }>;
    case Unary::square: return plain_unary_row<I, I, [](I x) { return I(U(x) * U(x)); }>;
    case Unary::sign: return plain_unary_row<I, I, [](I x) { return I(x > 0) - I(x < 0); }>;
    default: throw DTypeError("this op needs f32 or f64, got i64");
  }
}

template <class T>
Row<T, T, T> float_row(Binary f) {
  switch (f) {
    case Binary::add: return binary_row<T, math::add<Vec<T>>>;
    case Binary::sub: return binary_row<T, math::sub<Vec<T>>>;
    case Binary::mul: return binary_row<T, math::mul<Vec<T>>>;
    case Binary::div: return binary_row<T, math::div<Vec<T>>>;
    case Binary::max: return binary_row<T, math::maximum<Vec<T>>>;
    case Binary::min: return binary_row<T, math::minimum<Vec<T>>>;
    default: throw DTypeError("logical operators need bool");
  }
}

Row<I, I, I> integer_row(Binary f) {
  switch (f) {
    case Binary::add: return plain_binary_row<I, I, [](I a, I b) { return I(U(a) + U(b)); }>;
    case Binary::sub: return plain_binary_row<I, I, [](I a, I b) { return I(U(a) - U(b)); }>;
    case Binary::mul: return plain_binary_row<I, I, [](I a, I b) { return I(U(a) * U(b)); }>;
    case Binary::max: return plain_binary_row<I, I, [](I a, I b) { return (a > b) ? a : b; }>;
    case Binary::min: return plain_binary_row<I, I, [](I a, I b) { return a < b ? a : b; }>;
    default: throw DTypeError("div needs f32 or f64 and logical operators bool, got i64");
  }
}

template <class T>
Row<bool, T, T> comparison_row(Binary f) {
  switch (f) {
    case Binary::eq: return plain_binary_row<T, bool, [](T a, T b) { return a == b; }>;
    case Binary::ne: return plain_binary_row<T, bool, [](T a, T b) { return a != b; }>;
    case Binary::lt: return plain_binary_row<T, bool, [](T a, T b) { return a < b; }>;
    case Binary::le: return plain_binary_row<T, bool, [](T a, T b) { return a <= b; }>;
    case Binary::gt: return plain_binary_row<T, bool, [](T a, T b) { return (a > b); }>;
    case Binary::ge: return plain_binary_row<T, bool, [](T a, T b) { return a >= b; }>;
    case Binary::logical_and:
      if constexpr (std::is_same_v<T, bool>)
        return plain_binary_row<T, bool, [](T a, T b) { return bool(a & b); }>;
      break;
    case Binary::logical_or:
      if constexpr (std::is_same_v<T, bool>)
        return plain_binary_row<T, bool, [](T a, T b) { return bool(a | b); }>;
      break;
    default: break;
  }
  throw DTypeError("logical operators need bool, arithmetic needs numbers");
}

bool is_heavy(Unary f) {
  return f != Unary::neg && f != Unary::abs && f != Unary::square && f != Unary::sign &&
         f != Unary::sqrt;
}

// Calls g with the row of f for elements of T; its type tells that of the output.
template <class T, class G>
void with_row(Binary f, const Tensor& y, G g) {
  if (y.dtype() == boolean) return g(comparison_row<T>(f));
  if constexpr (std::is_floating_point_v<T>) g(float_row<T>(f));
  if constexpr (std::is_same_v<T, I>) g(integer_row(f));
}

// The number as a T; a double outside the integers' range becomes the nearest end of it.
template <class T>
T to_number(double value) {
  if constexpr (std::is_same_v<T, I>) {
    if (value >= 0x1p63) return std::numeric_limits<I>::max();
    if (value < -0x1p63) return std::numeric_limits<I>::min();
  }
  return T(value);
}

}  // namespace

void unary(Cpu, Unary f, const Tensor& x, const Tensor& y) {
  if (x.dtype() == boolean) return apply<bool, bool>(kGrain, not_row, y, x);
  if (x.dtype() == i64) return apply<I, I>(kGrain, integer_row(f), y, x);
  visit_float("unary", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    apply<T, T>(is_heavy(f) ? kHeavyGrain : kGrain, float_row<T>(f), y, x);
  });
}

void binary(Cpu, Binary f, const Tensor& a, const Tensor& b, const Tensor& y) {
  visit_any(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_row<T>(f, y,
                [&]<class Out>(Row<Out, T, T> row) { apply<Out, T, T>(kGrain, row, y, a, b); });
  });
}

void binary_scalar(Cpu, Binary f, const Tensor& a, double b, bool swapped, const Tensor& y) {
  visit_any(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_row<T>(f, y, [&]<class Out>(Row<Out, T, T> row) {
      apply_scalar<Out, T>(row, y, a, to_number<T>(b), swapped);
    });
  });
}

void where(Cpu, const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& y) {
  visit_any(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    apply<T, bool, T, T>(kGrain, where_row<T>, y, condition, a, b);
  });
}

}  // namespace triad::kernels
