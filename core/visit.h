// For .cpp files only: from a run-time DType to a C++ type, and casts between these.
#pragma once

#include <complex>
#include <cstdint>
#include <string>
#include <type_traits>

#include <triad/core/dtype.h>
#include <triad/core/error.h>

namespace triad {

// A cast as .to() does it: to bool, whether it is zero; from complex, the real part.
template <class To, class From> TRIAD_HD To converted(From x) {
  if constexpr (std::is_same_v<To, bool>) return x != From(0);
  else if constexpr (is_complex_v<To> && is_complex_v<From>) return To(x);
  else if constexpr (is_complex_v<From>) return converted<To>(x.real());
  else if constexpr (is_complex_v<To>) return To(converted<typename To::value_type>(x));
  else if constexpr (is_narrow(dtype_of<To>())) return To(float(x));
  else return To(x);
}

// A number of the user's as a T; outside the integers' range, the nearest end of it.
template <class T> T to_number(double value) {
  if constexpr (std::is_same_v<T, std::int64_t>)
    if (!(value >= -0x1p63 && value < 0x1p63)) return value > 0 ? INT64_MAX : INT64_MIN;
  return converted<T>(value);
}

// Calls f(T{}) with the C++ type of f32 or f64; anything else is a DTypeError that names `op`.
template <class F> auto visit_float(const char* op, DType dtype, F&& f) {
  if (dtype == f32) return f(float{});
  if (dtype == f64) return f(double{});
  throw DTypeError(std::string(op) + ": needs f32 or f64, got " + name(dtype));
}

// Calls f(T{}) with the C++ type of a real dtype that kernels compute in: its own wide_type.
template <class F> auto visit_wide(DType dtype, F&& f) {
  switch (dtype) {
    case f32: return f(float{});
    case f64: return f(double{});
    case i64: return f(std::int64_t{});
    case boolean: return f(bool{});
    default: throw DTypeError(std::string("this kernel does not compute in ") + name(dtype));
  }
}

// With that of any dtype.
template <class F> auto visit_any(DType dtype, F&& f) {
  if (dtype == bf16) return f(bfloat16{});
  if (dtype == f16) return f(float16{});
  if (dtype == c64) return f(std::complex<float>{});
  if (dtype == c128) return f(std::complex<double>{});
  if (dtype == i32) return f(std::int32_t{});
  return visit_wide(dtype, f);
}

}  // namespace triad
