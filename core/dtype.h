// Element types, and the one place that turns a run-time DType into a compile-time type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include <triad/core/error.h>

namespace triad {

enum class DType : std::uint8_t { f32, f64, i64, boolean };
using enum DType;  // triad::f32 and so on, for {.dtype = f64}

const char* name(DType dtype);       // "f32", "f64", "i64", "bool"
std::size_t item_size(DType dtype);  // bytes of one element
inline bool is_floating_point(DType dtype) { return dtype == f32 || dtype == f64; }

template <class T>
constexpr DType dtype_of() {
  if (std::is_same_v<T, float>) return f32;
  if (std::is_same_v<T, double>) return f64;
  if (std::is_same_v<T, bool>) return boolean;
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bool> ||
                std::is_same_v<T, std::int64_t>);
  return i64;
}

// Calls f(T{}) with the C++ type of a floating dtype; anything else is a DTypeError that names
// `op`.
template <class F>
auto visit_float(const char* op, DType dtype, F&& f) {
  if (dtype == f32) return f(float{});
  if (dtype == f64) return f(double{});
  throw DTypeError(std::string(op) + ": needs f32 or f64, got " + name(dtype));
}

// The same for every dtype.
template <class F>
auto visit_any(DType dtype, F&& f) {
  switch (dtype) {
    case f32: return f(float{});
    case f64: return f(double{});
    case i64: return f(std::int64_t{});
    case boolean: return f(bool{});
  }
  throw DTypeError("unknown dtype");
}

}  // namespace triad
