// A short list of integers held in place: the sizes, or the strides, of a tensor.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

namespace triad {

inline constexpr int kMaxRank = 8;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : Shape(dims.begin(), dims.end()) {}
  template <class It>
  Shape(It first, It last) {
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

  friend bool operator==(const Shape& a, const Shape& b) {
    bool same = a.rank_ == b.rank_;
    for (int i = 0; same && i < a.rank_; ++i) same = a.dims_[i] == b.dims_[i];
    return same;
  }

 private:
  std::int64_t dims_[kMaxRank] = {};
  int rank_ = 0;
};

}  // namespace triad
