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

// IEEE 754's half: 11 bits up to 65504, multiples of 2^-24 below 2^-14. Arithmetic is float's.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  TRIAD_HD explicit float16(float x) {  // to the nearest, ties to even; from 65520 on infinite
    const auto u = std::bit_cast<std::uint32_t>(x), size = u & 0x7fffffff;
    // A float's last place is 2^-23 of its power of two, a half's 2^-10, but at least 2^-24. So to
    // add 2^13 of these powers rounds to a half, and counts its last places in the lowest bits.
    const std::uint32_t exponent = size < 113u << 23 ? 113 : size >> 23;
    const std::uint32_t ruler = (exponent + 13) << 23;
    const auto sum = std::bit_cast<float>(size) + std::bit_cast<float>(ruler);
    const auto places = std::bit_cast<std::uint32_t>(sum) - ruler + ((exponent - 113) << 10);
    const std::uint32_t special = size > 0x7f800000 ? 0x7e00 : 0x7c00;  // NaN, infinity
    bits = std::uint16_t((u >> 16 & 0x8000) | (size < 143u << 23 ? places : special));
  }
  TRIAD_HD operator float() const {
    // So many last places, the first bit among them, of that size: or of infinity, or NaN.
    const std::uint32_t size = bits & 0x7fff, exponent = size < 0x400 ? 1 : size >> 10;
    const std::uint32_t unit = size < 0x7c00 ? (exponent + 102) << 23 : size << 13 | 0x7f800000;
    const std::uint32_t sign = std::uint32_t(bits) >> 15 << 31;
    return float(int(size - ((exponent - 1) << 10))) * std::bit_cast<float>(unit | sign);
  }
};

enum class DType : std::uint8_t { f32, f64, bf16, f16, c64, c128, i32, i64, boolean };
using enum DType;  // triad::f32 and so on, for {.dtype = f64}; c64 is a pair of f32, c128 of f64

const char* name(DType dtype);  // "f32", "f64", "bf16", "f16", "c64", "c128", "i32", "i64", "bool"
std::size_t item_size(DType dtype);  // bytes of one element
constexpr bool is_floating_point(DType dtype) { return dtype <= f16; }
constexpr bool is_narrow(DType dtype) { return dtype == bf16 || dtype == f16; }
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
  else if constexpr (std::is_same_v<T, float16>) return f16;
  else if constexpr (std::is_same_v<T, std::int32_t>) return i32;
  else if constexpr (std::is_same_v<T, bool>) return boolean;
  else if constexpr (std::is_same_v<T, long> || std::is_same_v<T, long long>) return i64;
}

// What ops on a type compute in: float for narrow types, whose kernels are float's, i64 for i32.
inline DType wide_type(DType dtype) { return is_narrow(dtype) ? f32 : dtype == i32 ? i64 : dtype; }
template <class T>
using Wide = std::conditional_t<is_narrow(dtype_of<T>()), float,
                                std::conditional_t<dtype_of<T>() == i32, std::int64_t, T>>;

// The real type of the parts of a complex one; any other is its own.
inline DType real_type(DType dtype) { return dtype == c64 ? f32 : dtype == c128 ? f64 : dtype; }
inline DType complex_type(DType dtype) { return real_type(dtype) == f64 ? c128 : c64; }

}  // namespace triad
