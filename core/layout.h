// How a tensor lies in its storage: sizes, strides and offset, counted in elements. Every view op
// (permute, slice, expand, ...) is a function from one layout to another and touches no data.
#pragma once

#include <compare>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

namespace triad {

inline constexpr int kMaxRank = 8;

// A short list of integers held in place: the sizes, or the strides, of a tensor.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : Shape(dims.begin(), dims.end()) {}
  template <class It> Shape(It first, It last) {
    for (; first != last; ++first) push_back(*first);
  }
  static Shape filled(int rank, std::int64_t value);

  int rank() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  std::int64_t operator[](int i) const { return dims_[i]; }
  std::int64_t& operator[](int i) { return dims_[i]; }
  std::int64_t back() const { return dims_[rank_ - 1]; }
  const std::int64_t* begin() const { return dims_; }
  const std::int64_t* end() const { return dims_ + rank_; }
  std::int64_t* begin() { return dims_; }
  std::int64_t* end() { return dims_ + rank_; }

  void push_back(std::int64_t dim);  // past kMaxRank: a ShapeError
  void insert(int at, std::int64_t dim);
  void erase(int at);

  // The product of all entries; 1 for a 0-d shape. Overflow of 63 bits is a ShapeError.
  std::int64_t numel() const;
  std::string str() const;  // "[4,128,512]"

  auto operator<=>(const Shape&) const = default;  // as keys of a map want it

 private:
  std::int64_t dims_[kMaxRank] = {};  // past rank_ zero
  int rank_ = 0;
};

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
// Elements start, start + step, ... below end; Python's rules for negative and large bounds.
Layout sliced(const Layout& x, std::int64_t axis, std::int64_t start, std::int64_t end,
              std::int64_t step);
Layout selected(const Layout& x, std::int64_t axis, std::int64_t index);
// New axes and those of size 1 repeat with stride 0; -1 keeps a size.
Layout expanded(const Layout& x, const Shape& shape);
Layout unsqueezed(const Layout& x, std::int64_t axis);
Layout squeezed(const Layout& x, std::int64_t axis);

// The sizes of a reshape with one -1 filled in; a count that does not match is a ShapeError.
Shape reshape_sizes(const char* op, const Shape& from, const Shape& to);
// The same elements in the same order under new sizes, or nothing where only a copy can do it.
std::optional<Layout> reshaped(const Layout& x, const Shape& shape);

// The NumPy broadcasting rule; sizes that do not fit are a ShapeError that names `op`.
Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

}  // namespace triad
