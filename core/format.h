// For .cpp files only: text with {fmt}, and the formatters of our own types.
#pragma once

#include <fmt/format.h>

#include <utility>

#include <triad/core/dtype.h>
#include <triad/core/error.h>
#include <triad/core/layout.h>

template <> struct fmt::formatter<triad::Shape> : fmt::formatter<std::string> {
  auto format(const triad::Shape& shape, format_context& ctx) const {
    return fmt::formatter<std::string>::format(shape.str(), ctx);
  }
};

template <> struct fmt::formatter<triad::DType> : fmt::formatter<std::string> {
  auto format(triad::DType dtype, format_context& ctx) const {
    return fmt::formatter<std::string>::format(triad::name(dtype), ctx);
  }
};

namespace triad {

// throw_error<ShapeError>("matmul: needs ..., got {}", shape);
template <class E, class... Args>
[[noreturn]] void throw_error(fmt::format_string<Args...> text, Args&&... args) {
  throw E(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace triad
