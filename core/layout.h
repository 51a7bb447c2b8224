// How a tensor lies in its storage: sizes, strides and offset, counted in elements.
//
// A Layout never changes. Every view op (permute, slice, expand, ...) is a function from one layout
// to another and touches no data; this file is all there is to views.
#pragma once

#include <cstdint>
#include <optional>

#include <triad/core/shape.h>

namespace triad {

struct Layout {
  Shape shape, strides;
  std::int64_t offset = 0;

  bool operator==(const Layout&) const = default;
};

Layout contiguous_layout(const Shape& shape);  // row-major: the last axis has stride 1
bool is_contiguous(const Layout& layout);      // axes of size 1 may have any stride

// Turns a negative axis into its index; out of range is an IndexError that names `op`.
int normalize_axis(const char* op, std::int64_t axis, int rank);

Layout permuted(const Layout& x, const Shape& order);
Layout transposed(const Layout& x, std::int64_t a, std::int64_t b);
// Elements start, start + step, ... below end, Python's rules for negative and large bounds; step >
// 0.
Layout sliced(const Layout& x, std::int64_t axis, std::int64_t start, std::int64_t end,
              std::int64_t step);
Layout selected(const Layout& x, std::int64_t axis, std::int64_t index);
Layout expanded(const Layout& x,
                const Shape& shape);  // new and size-1 axes repeat with stride 0; -1 keeps
Layout unsqueezed(const Layout& x, std::int64_t axis);
Layout squeezed(const Layout& x, std::int64_t axis);

// The sizes of a reshape with one -1 filled in; a count that does not match is a ShapeError.
Shape reshape_sizes(const char* op, const Shape& from, const Shape& to);
// The same elements in the same order under new sizes, or nothing where only a copy can do it.
std::optional<Layout> reshaped(const Layout& x, const Shape& shape);

// The NumPy broadcasting rule; sizes that do not fit are a ShapeError that names `op`.
Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

}  // namespace triad
