// Cases of views, copies and joins.
#include <triad/tests/op_cases.h>

#include <algorithm>

namespace op_cases {

using namespace triad;

namespace {

// The first of three axes; the others are of sizes none of which is the same.
std::vector<Inputs> blocks() {
  std::vector<Inputs> all;
  for (const Shape& shape : {Shape{3, 4, 5}, {7, 4, 13}, {0, 4, 5}, {2, 4, 0}})
    all.push_back({{.shape = shape}});
  return all;
}

Case view(const char* name, const char* said, Tensor (*op)(const Tensor&),
          Array (*twin)(const Array&)) {
  return {.name = name,
          .inputs = blocks(),
          .call = [op](X x) { return Tensors{op(x[0])}; },
          .twin = [twin](A x) { return Arrays{twin(x[0])}; },
          .types = kAll,
          .memory = Memory::view,
          .said = {said},
          .large = {{.shape = {128, 4, 131}}}};
}

// Entries start, start + step, ... below end of an axis.
Array sliced(const Array& x, std::int64_t axis, std::int64_t start, std::int64_t end,
             std::int64_t step = 1) {
  return along(x, axis, [=](const Numbers& v) {
    Numbers y;
    for (std::int64_t i = start; i < std::min(end, std::int64_t(v.size())); i += step)
      y.push_back(v[std::size_t(i)]);
    return y;
  });
}

// Without the axis of size 1, or with a new one.
Array without_axis(const Array& x, std::int64_t axis) { return {without(x.shape, axis), x.values}; }
Array with_axis(const Array& x, int axis) {
  Array y = x;
  y.shape.insert(axis, 1);
  return y;
}

void orders(Cases& cases) {
  auto push = [&](Case c) -> Case& { return cases.emplace_back(std::move(c)); };
  Case& shaped = push(view(
      "Tensor::reshape", "reshape",
      [](const Tensor& x) {
        return x.reshape({2, -1, 2});
      },
      [](const Array& x) {
        return reshaped(x, {2, std::int64_t(x.values.size()) / 4, 2});
      }));
  shaped.memory = Memory::either;
  shaped.inputs.pop_back(), shaped.inputs.pop_back();
  shaped.inputs.push_back({{.shape = {0, 4, 5}}});
  shaped.errors = {wrong<ShapeError>(
                       [] {
                         zeros({2, 3}).reshape({4});
                       },
                       "reshape: "),
                   wrong<ShapeError>(
                       [] {
                         zeros({2, 3}).reshape({-1, -1});
                       },
                       "reshape: ")};
  Case& seen = push(view(
      "Tensor::view", "view",
      [](const Tensor& x) {
        return x.view({x.shape()[0], 2, 2, x.shape()[2]});
      },
      [](const Array& x) {
        return reshaped(x, {x.size(0), 2, 2, x.size(2)});
      }));
  seen.errors = {wrong<ShapeError>(
                     [] {
                       zeros({2, 3}).view({4});
                     },
                     "view: "),
                 wrong<ShapeError>(
                     [] {
                       zeros({2, 3}).transpose(0, 1).view({6});
                     },
                     "use reshape")};
  push(view(
           "Tensor::flatten", "flatten", [](const Tensor& x) { return x.flatten(1); },
           [](const Array& x) {
             return reshaped(x, {x.size(0), x.size(1) * x.size(2)});
           }))
      .memory = Memory::either;
  cases.back().errors = {wrong<ValueError>([] { zeros({2, 3}).flatten(1, 0); }, "flatten: axis 1")};
  push(view(
           "Tensor::permute", "permute",
           [](const Tensor& x) {
             return x.permute({2, 0, 1});
           },
           [](const Array& x) {
             return build({x.size(2), x.size(0), x.size(1)}, [&](const Shape& i) {
               return x[{i[1], i[2], i[0]}];
             });
           }))
      .errors = {wrong<ShapeError>(
                     [] {
                       zeros({2, 3}).permute({0});
                     },
                     "permute: "),
                 wrong<IndexError>(
                     [] {
                       zeros({2, 3}).permute({0, 2});
                     },
                     "permute: ")};
  push(view(
           "Tensor::transpose", "transpose", [](const Tensor& x) { return x.transpose(0, -1); },
           [](const Array& x) { return transposed(x, 0, -1); }))
      .errors = {wrong<IndexError>(
      [] {
        zeros({2, 3}).transpose(0, 2);
      },
      "transpose: axis 2")};
  push(view(
           "Tensor::unsqueeze", "unsqueeze", [](const Tensor& x) { return x.unsqueeze(-2); },
           [](const Array& x) { return with_axis(x, 2); }))
      .errors = {wrong<IndexError>([] { zeros({2}).unsqueeze(3); }, "unsqueeze: axis 3")};
  Case& squeezed = push(view(
      "Tensor::squeeze", "squeeze", [](const Tensor& x) { return x.squeeze(1); },
      [](const Array& x) { return without_axis(x, 1); }));
  squeezed.inputs = {{{.shape = {3, 1, 5}}}, {{.shape = {3, 1, 0}}}, {{.shape = {1, 1}}}};
  squeezed.large = {};
  squeezed.errors = {wrong<IndexError>([] { zeros({2, 3}).squeeze(2); }, "squeeze: axis 2")};
  Case& wide = push(view(
      "Tensor::expand", "expand",
      [](const Tensor& x) {
        return x.expand({2, x.shape()[0], 4, -1});
      },
      [](const Array& x) {
        return repeated(x, {2, x.size(0), 4, x.size(2)});
      }));
  wide.inputs = {{{.shape = {3, 1, 5}}}, {{.shape = {3, 4, 5}}}, {{.shape = {0, 1, 5}}}};
  wide.large = {};
  wide.errors = {wrong<ShapeError>([] { zeros({2, 3}).expand({2, 4}); }, "expand: ")};
}

void parts(Cases& cases) {
  auto push = [&](Case c) -> Case& { return cases.emplace_back(std::move(c)); };
  push(view(
           "Tensor::slice", "slice", [](const Tensor& x) { return x.slice(1, 1, -1, 2); },
           [](const Array& x) { return sliced(x, 1, 1, 3, 2); }))
      .errors = {wrong<IndexError>([] { zeros({2}).slice(1, 0); }, "slice: axis 1"),
                 wrong<ValueError>([] { zeros({2}).slice(0, 0, 2, 0); }, "slice: ")};
  push(view(
           "Tensor::select", "select", [](const Tensor& x) { return x.select(1, -2); },
           [](const Array& x) { return without_axis(sliced(x, 1, 2, 3), 1); }))
      .errors = {wrong<IndexError>([] { zeros({2}).select(0, 2); }, "select: index 2"),
                 wrong<IndexError>([] { zeros({2}).select(1, 0); }, "select: axis 1")};
  push(view(
           "Tensor::operator[]", "index",
           [](const Tensor& x) {
             return x[{Ellipsis, Slice(1, kEnd, 2), None, Slice(0, 3)}];
           },
           [](const Array& x) { return with_axis(sliced(sliced(x, 1, 1, 4, 2), 2, 0, 3), 2); }))
      .errors = {wrong<IndexError>(
                     [] {
                       zeros({2})[{0, 0}];
                     },
                     "index: 2 entries for the 1 axes"),
                 wrong<IndexError>(
                     [] {
                       zeros({2})[{Ellipsis, Ellipsis}];
                     },
                     "index: Ellipsis may stand once")};
  push(view(
      "window", "window",
      [](const Tensor& x) {
        return window("window", x, [](const Layout& from) {
          return triad::transposed(triad::sliced(from, 1, 1, 4, 2), 0, 1);
        });
      },
      [](const Array& x) { return transposed(sliced(x, 1, 1, 4, 2), 0, 1); }));
  Case pieces = view("Tensor::split", "split", nullptr, nullptr);
  pieces.detail = "by a size";
  pieces.call = [](X x) { return x[0].split(3, 1); };
  pieces.twin = [](A x) { return Arrays{sliced(x[0], 1, 0, 3), sliced(x[0], 1, 3, 4)}; };
  pieces.results = {Gives::same, Gives::same};
  pieces.errors = {wrong<ValueError>([] { zeros({2}).split(0); }, "split: needs a size"),
                   wrong<IndexError>([] { zeros({2}).split(1, 1); }, "axis 1")};
  push(pieces);
  pieces.detail = "by sizes";
  pieces.call = [](X x) { return x[0].split({1, 0, 3}, -2); };
  pieces.twin = [](A x) {
    return Arrays{sliced(x[0], 1, 0, 1), sliced(x[0], 1, 1, 1), sliced(x[0], 1, 1, 4)};
  };
  pieces.results.push_back(Gives::same);
  pieces.errors = {wrong<ShapeError>(
                       [] {
                         zeros({2}).split({1, 2});
                       },
                       "split: the sizes add up to 3"),
                   wrong<ValueError>(
                       [] {
                         zeros({2}).split({3, -1});
                       },
                       "split: sizes must not be negative")};
  push(pieces);
  pieces.name = "chunk";
  pieces.detail = "";
  pieces.said = {"chunk"};
  pieces.call = [](X x) { return chunk(x[0], 2, 1); };
  pieces.twin = [](A x) { return Arrays{sliced(x[0], 1, 0, 2), sliced(x[0], 1, 2, 4)}; };
  pieces.results.pop_back();
  pieces.errors = {wrong<ValueError>([] { chunk(zeros({2}), 0); }, "chunk: needs at least 1")};
  push(pieces);
}

void copies(Cases& cases) {
  const auto same = [](const Array& x) { return x; };
  Case copy = view(
      "Tensor::clone", "clone", [](const Tensor& x) { return x.clone(); }, same);
  copy.memory = Memory::own;
  cases.push_back(copy);
  cases.push_back(view(
      "Tensor::contiguous", "contiguous", [](const Tensor& x) { return x.contiguous(); }, same));
  cases.back().memory = Memory::either;
  // Between all types: test_dtypes.
  cases.push_back(view(
      "Tensor::to", "to", [](const Tensor& x) { return x.to(c128); }, same));
  cases.back().results = {Gives::c128};
  cases.back().memory = Memory::either;
}

void joins(Cases& cases) {
  Case join{.name = "cat",
            .inputs = {{{.shape = {3, 4}}, {.shape = {3, 2}}, {.shape = {3, 4}}},
                       {{.shape = {13, 7}}, {.shape = {13, 0}}, {.shape = {13, 11}}},
                       {{.shape = {0, 4}}, {.shape = {0, 2}}, {.shape = {0, 1}}}},
            .call = [](X x) { return Tensors{cat(x, 1)}; },
            .twin =
                [](A x) {
                  const std::int64_t first = x[0].size(1), second = first + x[1].size(1);
                  const Shape shape = with(x[0].shape, 1, second + x[2].size(1));
                  return Arrays{build(shape, [&](const Shape& i) {
                    return i[1] < first    ? x[0][i]
                           : i[1] < second ? x[1][{i[0], i[1] - first}]
                                           : x[2][{i[0], i[1] - second}];
                  })};
                },
            .types = kAll,
            .large = {{.shape = {256, 64}}, {.shape = {256, 31}}, {.shape = {256, 64}}}};
  join.errors = {wrong<ValueError>([] { cat({}); }, "cat: needs at least one tensor"),
                 wrong<IndexError>([] { cat({zeros({2})}, 1); }, "cat: axis 1"),
                 wrong<ShapeError>(
                     [] {
                       cat({zeros({2, 3}), zeros({2, 4})});
                     },
                     "cat: [2,3] and [2,4] differ in more than axis 0")};
  cases.push_back(join);
  join.name = "stack";
  join.inputs = {{{.shape = {3, 4}}, {.shape = {3, 4}}},
                 {{.shape = {13, 7}}, {.shape = {13, 7}}},
                 {{.shape = {0, 4}}, {.shape = {0, 4}}}};
  join.call = [](X x) { return Tensors{stack(x, -1)}; };
  join.twin = [](A x) {
    return Arrays{build({x[0].size(0), x[0].size(1), 2}, [&](const Shape& i) {
      return x[std::size_t(i[2])][{i[0], i[1]}];
    })};
  };
  join.large = {{.shape = {256, 64}}, {.shape = {256, 64}}};
  join.errors = {wrong<ValueError>([] { stack({}); }, "stack: needs at least one tensor"),
                 wrong<ShapeError>(
                     [] {
                       stack({zeros({2}), zeros({3})});
                     },
                     "stack: the sizes differ, [2] and [3]")};
  cases.push_back(join);

  Case more = view(
      "repeat", "repeat",
      [](const Tensor& x) {
        return repeat(x, {2, 1, 3, 1});
      },
      [](const Array& x) {
        return build({2, x.size(0), 3 * x.size(1), x.size(2)}, [&](const Shape& i) {
          return x[{i[1], i[2] % x.size(1), i[3]}];
        });
      });
  more.memory = Memory::own;
  more.errors = {wrong<ShapeError>(
                     [] {
                       repeat(zeros({2, 3}), {2});
                     },
                     "repeat: needs a count"),
                 wrong<ValueError>([] { repeat(zeros({1}), {-1}); },
                                   "repeat: counts must not be negative, got [-1]")};
  cases.push_back(more);
  more.detail = "once";
  more.call = [](X x) { return Tensors{repeat(x[0], {1, 1, 1})}; };
  more.twin = [](A x) { return x; };
  cases.push_back(more);

  Case padded = view(
      "pad", "pad",
      [](const Tensor& x) {
        return pad(x, {1, 2, 0, 3}, 1);
      },
      [](const Array& x) {
        return build({x.size(0), x.size(1) + 3, x.size(2) + 3}, [&](const Shape& i) {
          const bool inside = i[1] < x.size(1) && i[2] > 0 && i[2] <= x.size(2);
          return inside ? x[{i[0], i[1], i[2] - 1}] : C(1);
        });
      });
  padded.memory = Memory::own;
  padded.errors = {wrong<ShapeError>([] { pad(zeros({2}), {1}); }, "pad: needs two widths an axis"),
                   wrong<ShapeError>(
                       [] {
                         pad(zeros({2}), {1, 1, 1, 1});
                       },
                       "pad: needs two widths an axis"),
                   wrong<ValueError>(
                       [] {
                         pad(zeros({2}), {1, -1});
                       },
                       "pad: widths must not be negative or that large, got [1,-1]"),
                   wrong<ValueError>(
                       [] {
                         pad(zeros({2}), {INT64_MAX, 1});
                       },
                       "or that large")};
  cases.push_back(padded);
  padded.detail = "by nothing";
  padded.call = [](X x) { return Tensors{pad(x[0], {0, 0})}; };
  padded.twin = [](A x) { return x; };
  cases.push_back(padded);
}

}  // namespace

Cases view_cases() {
  Cases cases;
  copies(cases);
  orders(cases);
  parts(cases);
  joins(cases);
  return cases;
}

}  // namespace op_cases
