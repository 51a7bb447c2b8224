// backends/cuda/hopper.h in plain C++: what the instructions mean, and as late as they may happen.
#pragma once

#include <instructions.h>

namespace triad::cuda {

// ---------------------------------------------------------------------- barriers and copies

struct Barrier {
  std::int8_t arrivals, left, parity, unused;
  std::int32_t bytes;

  void begin(int count) {
    arrivals = left = std::int8_t(count), parity = 0, bytes = 0;
    simt::may_be_ready();
  }
  void change(int arrived, int more_bytes) {
    left = std::int8_t(left - arrived), bytes += more_bytes;
    if (left < 0) simt::fail("more threads arrive at a barrier than it is for");
    if (left == 0 && bytes == 0) left = arrivals, parity ^= 1;
    simt::may_be_ready();
  }
  void arrive() { change(1, 0); }
  void arrive_and_expect(int more_bytes) { change(1, more_bytes); }
  void wait(int of_parity) {
    simt::wait_until([this, of_parity] { return parity != of_parity; });
  }
};
static_assert(sizeof(Barrier) == 8);

inline void publish_barriers() { __syncthreads(); }

struct BoxMap {
  const void* data;
  std::int64_t sizes[4], strides[3];
  int rows;
};
inline BoxMap map_boxes(const void* data, DType, const std::int64_t (&sizes)[4],
                        const std::int64_t (&strides)[3], int rows) {
  BoxMap map{data, {}, {}, rows};
  std::copy_n(sizes, 4, map.sizes);
  std::copy_n(strides, 3, map.strides);
  for (std::int64_t stride : strides)
    if (stride <= 0 || stride % 16 != 0) throw std::logic_error("boxes of such strides cannot be");
  for (std::int64_t size : sizes)
    if (size < 1) throw std::logic_error("boxes of nothing cannot be");
  check_aligned(data, 16);
  return map;
}

inline void copy_box(void* shared, const BoxMap& map, Barrier& arrives, int d, int row, int h,
                     int b) {
  if (reinterpret_cast<std::uintptr_t>(shared) % 1024 != 0) simt::fail("a box at such an address");
  const std::size_t bytes = std::size_t(map.rows) * 128;
  std::memset(shared, 0xff, bytes);
  simt::do_late([=, map = map, arrives = &arrives] {
    for (int r = 0; r < map.rows; ++r)
      for (int chunk = 0; chunk < 8; ++chunk) {
        char* to = static_cast<char*>(shared) + r * 128 + (chunk ^ r % 8) * 16;
        std::memset(to, 0, 16);
        const std::int64_t at = row + r, column = d + chunk * 8;
        if (at < 0 || at >= map.sizes[2] || column >= map.sizes[3]) continue;
        std::memcpy(to,
                    static_cast<const char*>(map.data) + b * map.strides[0] + h * map.strides[1] +
                        at * map.strides[2] + column * 2,
                    16);
      }
    arrives->change(0, -int(bytes));
  });
}

// ---------------------------------------------------------------------- products

template <int count> void take_registers() {}
template <int count> void give_registers() {}
inline void begin_products() {}
inline void commit_products() { simt::commit_products(); }
template <int groups_left, int N> void wait_products(float (&)[N][4]) {
  simt::wait_products(groups_left);
}

// As the instructions want it; an address counts from a multiple of 1,024 before all shared memory.
inline const char* shared_begin() {
  const auto address = reinterpret_cast<std::uintptr_t>(simt::dynamic_shared());
  return reinterpret_cast<const char*>(address & ~std::uintptr_t(1023));
}
inline std::uint64_t operand(const void* first, int apart = 16) {
  const auto address = std::uint64_t(static_cast<const char*>(first) - shared_begin());
  return address >> 4 | std::uint64_t(apart / 16) << 16 | std::uint64_t(64) << 32 |
         std::uint64_t(1) << 62;
}
// Where the element at `row` and `column` of a box lies, or with `boxes` of boxes side by side.
template <class E> const E* place_in(std::uint64_t operand, bool boxes, int row, int column) {
  std::uint64_t at = (operand & 0x3fff) * 16 + (operand >> 32 & 0x3fff) * 16 * unsigned(row / 8) +
                     unsigned(row % 8) * 128;
  if (boxes) at += (operand >> 16 & 0x3fff) * 16 * unsigned(column / 64), column %= 64;
  at += unsigned(column) * 2;
  at ^= (at >> 7 & 7) << 4;
  return reinterpret_cast<const E*>(shared_begin() + at);
}
// 16 elements of a row, which are two chunks.
template <class E> void read_row(float (&to)[16], std::uint64_t operand, int row) {
  for (int i = 0; i < 16; i += 8) {
    const E* from = place_in<E>(operand, false, row, i);
    for (int j = 0; j < 8; ++j) to[i + j] = from[j];
  }
}

// Two rows of the left operand, those of a lane.
struct Left {
  float row[2][16];
};
// d += left b. Of b, the two columns of d that a lane has of each 8 are rows, or with `turned`
// columns.
template <class E, int N>
void add_product(float (&d)[N][4], const Left& left, std::uint64_t b, bool turned, int lane) {
  for (int n = 0; n < N; ++n) {
    const int column = n * 8 + lane % 4 * 2;
    float right[2][16];
    if (turned)
      for (int k = 0; k < 16; ++k) {
        const E* from = place_in<E>(b, true, k, column);
        right[0][k] = from[0], right[1][k] = from[1];
      }
    else
      for (int i = 0; i < 2; ++i) read_row<E>(right[i], b, column + i);
    for (int e = 0; e < 4; ++e) {
      float sum = d[n][e];
      for (int k = 0; k < 16; ++k) sum += left.row[e / 2][k] * right[e % 2][k];
      d[n][e] = sum;
    }
  }
}

template <class E, int N>
void multiply_later(float (&d)[N][4], std::uint64_t a, std::uint64_t b, bool adds) {
  if (!adds)
    for (auto& each : d) std::fill_n(each, 4, NAN);
  const int first = int(threadIdx.x) % 128 / 32 * 16;
  simt::multiply_later([=, &d, lane = simt::lane] {
    if (!adds)
      for (auto& each : d) std::fill_n(each, 4, 0.0f);
    Left left;
    for (int i = 0; i < 2; ++i) read_row<E>(left.row[i], a, first + lane / 4 + i * 8);
    add_product<E>(d, left, b, false, lane);
  });
}

template <class E, int N>
void multiply_later(float (&d)[N][4], const unsigned (&a)[4], std::uint64_t b) {
  struct Row {
    unsigned pairs[4];
  };
  const auto all = simt::exchange("wgmma", Row{{a[0], a[1], a[2], a[3]}});
  Left left;
  for (int i = 0; i < 4; ++i) {
    const Row of = all[simt::lane / 4 * 4 + i];
    for (int j = 0; j < 8; ++j)
      left.row[j / 2 % 2][i * 2 + j % 2 + j / 4 * 8] = element_of<E>(of.pairs[j / 2], j % 2);
  }
  simt::multiply_later([=, &d, lane = simt::lane] { add_product<E>(d, left, b, true, lane); });
}

}  // namespace triad::cuda
