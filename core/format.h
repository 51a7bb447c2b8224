// For .cpp files only: text with {fmt}, and the formatters of our own types.
#pragma once

#include <fmt/format.h>

#include <utility>

#include <triad/core/dtype.h>
#include <triad/core/error.h>
#include <triad/core/layout.h>

template <class T>
requires std::is_same_v<T, triad::Shape> || std::is_same_v<T, triad::DType>
struct fmt::formatter<T> : fmt::formatter<std::string> {
  static std::string text(const triad::Shape& shape) { return shape.str(); }
  static std::string text(triad::DType dtype) { return triad::name(dtype); }
  auto format(const T& x, format_context& context) const {
    return fmt::formatter<std::string>::format(text(x), context);
  }
};

namespace triad {

// throw_error<ShapeError>("matmul: needs ..., got {}", shape);
template <class E, class... Args>
[[noreturn]] void throw_error(fmt::format_string<Args...> text, Args&&... args) {
  throw E(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace triad
