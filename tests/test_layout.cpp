// Layout against brute force. A Grid lists, for every index, the place in memory where its element
// lies; a view op turns one Grid into another by mapping indices, which is its definition.
#include <triad/tests/op_test.h>

#include <random>

using namespace op_test;

namespace {

using Index = std::vector<std::int64_t>;

// f(index) for each index of `shape`, in row-major order.
template <class F> void for_each_index(const Shape& shape, F f) {
  Index index(std::size_t(shape.rank()));
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    std::int64_t rest = i;
    for (int axis = shape.rank(); axis-- > 0; rest /= shape[axis])
      index[std::size_t(axis)] = rest % shape[axis];
    f(index);
  }
}

struct Grid {
  Shape shape;
  Index places;

  std::int64_t at(const Index& index) const {
    std::int64_t i = 0;
    for (int axis = 0; axis < shape.rank(); ++axis) i = i * shape[axis] + index[std::size_t(axis)];
    return places[std::size_t(i)];
  }
  // The grid of sizes `to` whose element at an index is ours at from(index).
  template <class F> Grid mapped(const Shape& to, F from) const {
    Grid result{to, {}};
    for_each_index(to, [&](const Index& index) { result.places.push_back(at(from(index))); });
    return result;
  }
};

Grid grid_of(const Layout& x) {
  Grid grid{x.shape, {}};
  for_each_index(x.shape, [&](const Index& index) {
    std::int64_t at = x.offset;
    for (int axis = 0; axis < x.shape.rank(); ++axis)
      at += index[std::size_t(axis)] * x.strides[axis];
    grid.places.push_back(at);
  });
  return grid;
}

bool operator==(const Grid& a, const Grid& b) { return a.shape == b.shape && a.places == b.places; }

// Whether one stride per axis describes where the elements of the grid lie.
bool has_strides(const Grid& grid) {
  if (grid.places.empty()) return true;
  Layout layout{grid.shape, Shape::filled(grid.shape.rank(), 0), grid.places[0]};
  for (int axis = 0; axis < grid.shape.rank(); ++axis) {
    if (grid.shape[axis] == 1) continue;
    Index one(std::size_t(grid.shape.rank()), 0);
    one[std::size_t(axis)] = 1;
    layout.strides[axis] = grid.at(one) - grid.places[0];
  }
  return grid_of(layout) == grid;
}

std::mt19937 engine(20);
std::int64_t pick(std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(engine);
}
std::int64_t pick_axis(int rank) { return pick(-rank, rank - 1); }
int plain(std::int64_t axis, int rank) { return int(axis < 0 ? axis + rank : axis); }

// Sizes with n elements: n's prime factors dealt out at random, and axes of size 1 among them.
Shape random_sizes(std::int64_t n) {
  Shape sizes = Shape::filled(int(pick(1, 4)), 1);
  for (std::int64_t p = 2; n > 1; ++p)
    for (; n % p == 0; n /= p) sizes[int(pick(0, sizes.rank() - 1))] *= p;
  if (n == 0) sizes[int(pick(0, sizes.rank() - 1))] = 0;
  return sizes;
}

// One random view op on a layout and, by its definition, on the grid.
void step(Layout& layout, Grid& grid) {
  const int rank = layout.shape.rank();
  switch (pick(0, 7)) {
    case 0: {  // permute
      Shape order;
      for (int i = 0; i < rank; ++i) order.push_back(i);
      std::shuffle(order.begin(), order.end(), engine);
      Shape to;
      for (std::int64_t axis : order) to.push_back(layout.shape[int(axis)]);
      grid = grid.mapped(to, [&](const Index& index) {
        Index from(index.size());
        for (int i = 0; i < rank; ++i) from[std::size_t(order[i])] = index[std::size_t(i)];
        return from;
      });
      for (std::int64_t& axis : order) axis -= pick(0, 1) * rank;
      layout = permuted(layout, order);
      return;
    }
    case 1: {  // transpose
      if (rank == 0) return;
      const std::int64_t a = pick_axis(rank), b = pick_axis(rank);
      const int i = plain(a, rank), j = plain(b, rank);
      Shape to = layout.shape;
      std::swap(to[i], to[j]);
      grid = grid.mapped(to, [&](Index index) {
        std::swap(index[std::size_t(i)], index[std::size_t(j)]);
        return index;
      });
      layout = transposed(layout, a, b);
      return;
    }
    case 2: {  // slice, by collecting what Python's range would
      if (rank == 0) return;
      const std::int64_t axis = pick_axis(rank), size = layout.shape[plain(axis, rank)];
      const std::int64_t start = pick(-size - 2, size + 2), end = pick(-size - 2, size + 2);
      const std::int64_t by = pick(1, size + 2);
      auto bound = [&](std::int64_t at) {
        return std::clamp(at < 0 ? at + size : at, std::int64_t(0), size);
      };
      Index kept;
      for (std::int64_t i = bound(start); i < bound(end); i += by) kept.push_back(i);
      Shape to = layout.shape;
      to[plain(axis, rank)] = std::int64_t(kept.size());
      grid = grid.mapped(to, [&](Index index) {
        std::int64_t& i = index[std::size_t(plain(axis, rank))];
        i = kept[std::size_t(i)];
        return index;
      });
      layout = sliced(layout, axis, start, end, by);
      return;
    }
    case 3: {  // select
      if (rank == 0) return;
      const std::int64_t axis = pick_axis(rank), size = layout.shape[plain(axis, rank)];
      if (size == 0) return;
      const std::int64_t chosen = pick(-size, size - 1);
      Shape to = layout.shape;
      to.erase(plain(axis, rank));
      grid = grid.mapped(to, [&](Index index) {
        index.insert(index.begin() + plain(axis, rank), chosen < 0 ? chosen + size : chosen);
        return index;
      });
      layout = selected(layout, axis, chosen);
      return;
    }
    case 4: {  // expand
      const std::int64_t extra = rank < 5 ? pick(0, 1) : 0;
      Shape to = layout.shape, asked;
      for (std::int64_t& size : to)
        if (size == 1 && layout.shape.numel() < 100) size = pick(0, 3);
      for (std::int64_t size : to) asked.push_back(pick(0, 3) == 0 ? -1 : size);
      for (int i = 0; i < rank; ++i)
        if (asked[i] == -1) to[i] = layout.shape[i];
      if (extra) to.insert(0, 2), asked.insert(0, 2);
      grid = grid.mapped(to, [&](Index index) {
        if (extra) index.erase(index.begin());
        for (int i = 0; i < rank; ++i)
          if (layout.shape[i] == 1) index[std::size_t(i)] = 0;
        return index;
      });
      layout = expanded(layout, asked);
      return;
    }
    case 5: {  // unsqueeze
      if (rank >= 5) return;
      const std::int64_t axis = pick(-rank - 1, rank);
      Shape to = layout.shape;
      to.insert(plain(axis, rank + 1), 1);
      grid.shape = to;
      layout = unsqueezed(layout, axis);
      return;
    }
    case 6: {  // squeeze
      if (rank == 0) return;
      const std::int64_t axis = pick_axis(rank);
      if (layout.shape[plain(axis, rank)] == 1) grid.shape.erase(plain(axis, rank));
      layout = squeezed(layout, axis);
      return;
    }
    default: {  // reshape, where the elements allow it
      const Shape to = random_sizes(layout.shape.numel());
      const Grid wanted{to, grid.places};
      const auto view = reshaped(layout, to);
      CHECK_MESSAGE(view.has_value() == has_strides(wanted), "reshape of ", layout.shape.str(),
                    " with strides ", layout.strides.str(), " to ", to.str());
      if (!view) return;
      grid = wanted;
      layout = *view;
    }
  }
}

}  // namespace

TEST_CASE("2000 random chains of views lie where their definitions say") {
  for (int chain = 0; chain < 2000; ++chain) {
    Shape shape;
    for (std::int64_t rank = pick(0, 4); rank > 0; --rank)
      shape.push_back(pick(0, 19) == 0 ? 0 : pick(1, 6));
    Layout layout = contiguous_layout(shape);
    Grid grid = grid_of(layout);
    REQUIRE(grid.places.size() == std::size_t(shape.numel()));
    for (std::size_t i = 0; i < grid.places.size(); ++i) REQUIRE(grid.places[i] == std::int64_t(i));
    for (int steps = 0; steps < 6; ++steps) {
      step(layout, grid);
      REQUIRE_MESSAGE(grid_of(layout) == grid, "chain ", chain, ", step ", steps, ": ",
                      layout.shape.str(), " strides ", layout.strides.str());
      bool in_order = true;
      for (std::size_t i = 1; i < grid.places.size(); ++i)
        in_order &= grid.places[i] == grid.places[i - 1] + 1;
      CHECK(is_contiguous(layout) == in_order);
    }
  }
}

TEST_CASE("axes of size 1 and 0 do not stand in the way of a reshape") {
  const Layout x = contiguous_layout({4, 6});
  CHECK(reshaped(transposed(x, 0, 1), {24}) == std::nullopt);
  CHECK(reshaped(sliced(x, 1, 0, 1, 1), {4})->strides == Shape{6});
  CHECK(reshaped(transposed(sliced(x, 1, 0, 1, 1), 0, 1), {2, 1, 2})->strides[0] == 12);
  CHECK(reshaped(sliced(x, 0, 0, kEnd, 2), {2, 3, 2}).value() == Layout{{2, 3, 2}, {12, 2, 1}, 0});
  CHECK(reshaped(transposed(sliced(x, 0, 4, kEnd, 1), 0, 1), {3, 0, 7}).has_value());
  CHECK(reshaped(expanded(contiguous_layout({1}), {6}), {2, 3})->strides == Shape{0, 0});
}

TEST_CASE("slice bounds are Python's") {
  const Layout x = contiguous_layout({7});
  auto size_and_start = [&](std::int64_t start, std::int64_t end, std::int64_t step) {
    const Layout y = sliced(x, 0, start, end, step);
    return std::pair(y.shape[0], y.offset);
  };
  using Pair = std::pair<std::int64_t, std::int64_t>;
  CHECK(size_and_start(0, kEnd, 1) == Pair(7, 0));
  CHECK(size_and_start(-3, kEnd, 1) == Pair(3, 4));
  CHECK(size_and_start(2, -2, 1) == Pair(3, 2));
  CHECK(size_and_start(1, kEnd, 3) == Pair(2, 1));
  CHECK(size_and_start(-100, 100, 2) == Pair(4, 0));
  CHECK(size_and_start(0, kEnd, INT64_MAX) == Pair(1, 0));
  CHECK(size_and_start(INT64_MIN, INT64_MAX, INT64_MAX) == Pair(1, 0));
  CHECK(size_and_start(5, 2, 1).first == 0);
  CHECK(size_and_start(7, kEnd, 1).first == 0);
  check_error<ValueError>([&] { sliced(x, 0, 0, 7, 0); }, "slice: needs a step of at least 1");
  check_error<ValueError>([&] { sliced(x, 0, 7, 0, -1); }, "got -1");
  check_error<IndexError>([&] { sliced(x, 1, 0, 7, 1); }, "slice: axis 1 is out of range");
}

TEST_CASE("reshape sizes with one open") {
  CHECK(reshape_sizes("op", {4, 6}, {-1}) == Shape{24});
  CHECK(reshape_sizes("op", {4, 6}, {3, -1, 2}) == Shape{3, 4, 2});
  CHECK(reshape_sizes("op", {0, 6}, {-1, 2}) == Shape{0, 2});
  CHECK(reshape_sizes("op", {}, {}) == Shape{});
  CHECK(reshape_sizes("op", {}, {1, -1}) == Shape{1, 1});
  const Shape wrong[] = {
      {5, -1}, {-1, -1}, {-2, 12}, {23}, {0, -1}, {}, {std::int64_t(1) << 62, 8}};
  for (const Shape& to : wrong)
    check_error<ShapeError>(
        [&] {
          reshape_sizes("op", {4, 6}, to);
        },
        "op: [4,6] does not fit into " + to.str());
}

TEST_CASE("broadcasting is NumPy's") {
  CHECK(broadcast_shapes("op", {3, 5}, {5}) == Shape{3, 5});
  CHECK(broadcast_shapes("op", {3, 1}, {1, 5}) == Shape{3, 5});
  CHECK(broadcast_shapes("op", {}, {3, 5}) == Shape{3, 5});
  CHECK(broadcast_shapes("op", {2, 1, 4}, {7, 1}) == Shape{2, 7, 4});
  CHECK(broadcast_shapes("op", {0, 3}, {1, 3}) == Shape{0, 3});
  CHECK(broadcast_shapes("op", {1}, {0}) == Shape{0});
  check_error<ShapeError>(
      [] {
        broadcast_shapes("op", {3, 5}, {3});
      },
      "op: [3,5] and [3] do not broadcast");
  check_error<ShapeError>([] { broadcast_shapes("op", {0}, {2}); }, "do not broadcast");
}

TEST_CASE("expand repeats axes of size 1 and new ones, no others") {
  const Layout x = contiguous_layout({3, 1});
  CHECK(expanded(x, {2, 3, 4}) == Layout{{2, 3, 4}, {0, 1, 0}, 0});
  CHECK(expanded(x, {-1, 5}).shape == Shape{3, 5});
  const Shape wrong[] = {{3}, {4, 1}, {-1, 3, 1}, {3, -2}, {0, 1}};
  for (const Shape& to : wrong)
    check_error<ShapeError>([&] { expanded(x, to); },
                            "expand: [3,1] does not expand to " + to.str());
}

TEST_CASE("no view has more than kMaxRank axes") {
  const Shape full = Shape::filled(kMaxRank, 1);
  const Layout x = contiguous_layout(full);
  const std::string message = "a tensor has at most 8 axes";
  check_error<ShapeError>([] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }, message);
  check_error<ShapeError>([] { Shape::filled(kMaxRank + 1, 2); }, message);
  check_error<ShapeError>([&] { unsqueezed(x, 0); }, message);
  check_error<ShapeError>([&] { stack({zeros(full), zeros(full)}); }, message);
}

TEST_CASE("errors of axes and orders name the op") {
  const Layout x = contiguous_layout({2, 3});
  check_error<IndexError>([&] { transposed(x, 0, 2); },
                          "transpose: axis 2 is out of range for a tensor with 2 axes");
  check_error<IndexError>([&] { transposed(x, -3, 0); }, "transpose: axis -3");
  check_error<IndexError>([&] { selected(x, 2, 0); }, "select: axis 2");
  check_error<IndexError>([&] { selected(x, 1, 3); },
                          "select: index 3 is out of range for axis 1 of [2,3]");
  check_error<IndexError>([&] { selected(x, 1, -4); }, "select: index -4");
  check_error<IndexError>([&] { unsqueezed(x, 3); }, "unsqueeze: axis 3");
  check_error<IndexError>([&] { squeezed(x, 2); }, "squeeze: axis 2");
  check_error<IndexError>([&] { permuted(x, {0, 2}); }, "permute: axis 2");
  check_error<ShapeError>(
      [&] {
        permuted(x, {0, 0});
      },
      "permute: needs each of the 2 axes of [2,3] once, got [0,0]");
  check_error<ShapeError>([&] { permuted(x, {0}); }, "got [0]");
  check_error<ShapeError>([&] { permuted(x, {0, -2}); }, "got [0,-2]");
}

TEST_CASE("the count of elements never overflows") {
  const std::int64_t big = std::int64_t(1) << 40;
  check_error<ShapeError>([&] { Shape({big, big}).numel(); }, "has too many elements");
  check_error<ShapeError>([&] { empty({big, big}); }, "too many elements");
  check_error<ShapeError>([&] { empty({big, 1 << 22}, f64); }, "too many elements");
  check_error<ShapeError>([&] { empty({big, big, 0}); }, "too many elements");
  check_error<ShapeError>([&] { empty({0, big, big}); }, "too many elements");
  check_error<ShapeError>([] { empty({2, -1}); }, "sizes must not be negative, got [2,-1]");
}
