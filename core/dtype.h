// Element types, and the one place that turns a run-time DType into a compile-time type.
#pragma once

#include <bit>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include <triad/core/error.h>

namespace triad {

// The upper half of a float: its exponent, and 8 bits of precision. Arithmetic is float's.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  explicit bfloat16(float x) {  // to the nearest, ties to even
    const auto u = std::bit_cast<std::uint32_t>(x);
    bits = std::uint16_t(x == x ? (u + 0x7fff + (u >> 16 & 1)) >> 16 : u >> 16 | 0x40);
  }
  operator float() const { return std::bit_cast<float>(std::uint32_t(bits) << 16); }
};

enum class DType : std::uint8_t { f32, f64, bf16, c64, c128, i32, i64, boolean };
using enum DType;  // triad::f32 and so on, for {.dtype = f64}; c64 is a pair of f32, c128 of f64

const char* name(DType dtype);       // "f32", "f64", "bf16", "c64", "c128", "i32", "i64", "bool"
std::size_t item_size(DType dtype);  // bytes of one element
inline bool is_floating_point(DType dtype) { return dtype <= bf16; }
inline bool is_complex(DType dtype) { return dtype == c64 || dtype == c128; }

template <class T>
inline constexpr bool is_complex_v = false;
template <class T>
inline constexpr bool is_complex_v<std::complex<T>> = true;

template <class T>
constexpr DType dtype_of() {
  if (std::is_same_v<T, float>) return f32;
  if (std::is_same_v<T, double>) return f64;
  if (std::is_same_v<T, bfloat16>) return bf16;
  if (std::is_same_v<T, std::complex<float>>) return c64;
  if (std::is_same_v<T, std::complex<double>>) return c128;
  if (std::is_same_v<T, std::int32_t>) return i32;
  if (std::is_same_v<T, bool>) return boolean;
  static_assert(std::is_arithmetic_v<T> || is_complex_v<T> || std::is_same_v<T, bfloat16>);
  return i64;
}

// A cast as .to() does it: to bool, whether it is zero; from complex, the real part.
template <class To, class From>
To converted(From x) {
  if constexpr (std::is_same_v<To, bool>) return x != From(0);
  else if constexpr (is_complex_v<To> && is_complex_v<From>) return To(x);
  else if constexpr (is_complex_v<From>) return converted<To>(x.real());
  else if constexpr (is_complex_v<To>) return To(converted<typename To::value_type>(x));
  else if constexpr (std::is_same_v<To, bfloat16>) return To(float(x));
  else return To(x);
}

// Calls f(T{}) with the C++ type of f32 or f64; anything else is a DTypeError that names `op`.
template <class F>
auto visit_float(const char* op, DType dtype, F&& f) {
  if (dtype == f32) return f(float{});
  if (dtype == f64) return f(double{});
  throw DTypeError(std::string(op) + ": needs f32 or f64, got " + name(dtype));
}

// What ops on a type compute in: float for bf16, whose kernels are float's, and i64 for i32.
inline DType wide_type(DType dtype) { return dtype == bf16 ? f32 : dtype == i32 ? i64 : dtype; }

// The real type of the parts of a complex one; any other is its own.
inline DType real_type(DType dtype) { return dtype == c64 ? f32 : dtype == c128 ? f64 : dtype; }
inline DType complex_type(DType dtype) { return real_type(dtype) == f64 ? c128 : c64; }

// Calls f(T{}) with the C++ type of a dtype that is its own wide_type: all that kernels compute in.
template <class F>
auto visit_wide(DType dtype, F&& f) {
  switch (dtype) {
    case f32: return f(float{});
    case f64: return f(double{});
    case c64: return f(std::complex<float>{});
    case c128: return f(std::complex<double>{});
    case i64: return f(std::int64_t{});
    case boolean: return f(bool{});
    default: throw DTypeError(std::string("no kernel computes in ") + name(dtype));
  }
}

// The same for every dtype.
template <class F>
auto visit_any(DType dtype, F&& f) {
  if (dtype == bf16) return f(bfloat16{});
  if (dtype == i32) return f(std::int32_t{});
  return visit_wide(dtype, f);
}

}  // namespace triad
