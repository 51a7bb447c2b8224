// Element types. What turns a DType into a C++ type is in core/visit.h.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#define TRIAD_HD __host__ __device__
#else
#define TRIAD_HD
#endif

namespace triad {

// The upper half of a float: its exponent, and 8 bits of precision. Arithmetic is float's.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  TRIAD_HD explicit bfloat16(float x) {  // to the nearest, ties to even
    const auto u = std::bit_cast<std::uint32_t>(x);
    bits = std::uint16_t(x == x ? (u + 0x7fff + (u >> 16 & 1)) >> 16 : u >> 16 | 0x40);
  }
  TRIAD_HD operator float() const { return std::bit_cast<float>(std::uint32_t(bits) << 16); }
};

enum class DType : std::uint8_t { f32, f64, bf16, c64, c128, i32, i64, boolean };
using enum DType;  // triad::f32 and so on, for {.dtype = f64}; c64 is a pair of f32, c128 of f64

const char* name(DType dtype);       // "f32", "f64", "bf16", "c64", "c128", "i32", "i64", "bool"
std::size_t item_size(DType dtype);  // bytes of one element
inline bool is_floating_point(DType dtype) { return dtype <= bf16; }
inline bool is_complex(DType dtype) { return dtype == c64 || dtype == c128; }

// std::complex<float> and <double>, recognised by their parts: <complex> is slow to compile.
template <class T, class Part> inline constexpr bool has_parts = requires(T z) {
  requires std::is_same_v<decltype(z.real()), Part> && std::is_same_v<decltype(z.imag()), Part>;
  requires sizeof(T) == 2 * sizeof(Part);
};
template <class T> inline constexpr bool is_complex_v = has_parts<T, float> || has_parts<T, double>;

template <class T> constexpr DType dtype_of() {
  if constexpr (has_parts<T, float>) return c64;
  else if constexpr (has_parts<T, double>) return c128;
  else if constexpr (std::is_same_v<T, float>) return f32;
  else if constexpr (std::is_same_v<T, double>) return f64;
  else if constexpr (std::is_same_v<T, bfloat16>) return bf16;
  else if constexpr (std::is_same_v<T, std::int32_t>) return i32;
  else if constexpr (std::is_same_v<T, bool>) return boolean;
  else if constexpr (std::is_same_v<T, long> || std::is_same_v<T, long long>) return i64;
}

// What ops on a type compute in: float for bf16, whose kernels are float's, and i64 for i32.
inline DType wide_type(DType dtype) { return dtype == bf16 ? f32 : dtype == i32 ? i64 : dtype; }

// The real type of the parts of a complex one; any other is its own.
inline DType real_type(DType dtype) { return dtype == c64 ? f32 : dtype == c128 ? f64 : dtype; }
inline DType complex_type(DType dtype) { return real_type(dtype) == f64 ? c128 : c64; }

}  // namespace triad
