// Cases of the ops of neural networks.
#include <triad/tests/op_cases.h>
#include <triad/tests/reference.h>

#include <cmath>
#include <limits>

namespace op_cases {

using namespace triad;

namespace {

// A function of rows from reference.h, along an axis.
Array rows_along(const Array& x, std::int64_t axis,
                 reference::Values (*twin)(const reference::Values&, std::size_t)) {
  return along(x, axis, [=](const Numbers& v) {
    reference::Values row;
    for (C value : v) row.push_back(value.real());
    if (row.empty()) return Numbers();
    row = twin(row, row.size());
    return Numbers(row.begin(), row.end());
  });
}

void softmaxes(Cases& cases) {
  for (const std::int64_t axis : {0, 1, -1}) {
    Case c{.name = "softmax",
           .detail = axis == 0   ? "axis 0"
                     : axis == 1 ? "axis 1"
                                 : "the last axis",
           .inputs = {{{.shape = {3, 5, 2}, .low = -5, .high = 5}},
                      {{.shape = {7, 13, 31}, .low = -5, .high = 5}},
                      {{.shape = {1, 1, 1}}},
                      {{.shape = {0, 3, 2}}},
                      {{.shape = {3, 2, 0}}}},
           .call = [=](X x) { return Tensors{softmax(x[0], axis)}; },
           .twin = [=](A x) { return Arrays{rows_along(x[0], axis, reference::softmax)}; },
           .gradient = Gradient::once,
           .large = {{.shape = {61, 31, 57}}}};
    if (axis == 0)
      c.errors = {
          wrong<IndexError>([] { softmax(zeros({2}), 1); }, "softmax: axis 1 is out of range")};
    cases.push_back(c);
    c.name = "log_softmax";
    c.gradient = Gradient::twice;  // made of ops
    c.call = [=](X x) { return Tensors{log_softmax(x[0], axis)}; };
    c.twin = [=](A x) { return Arrays{rows_along(x[0], axis, reference::log_softmax)}; };
    if (axis == 0)
      c.errors = {wrong<IndexError>([] { log_softmax(zeros({2}), -2); },
                                    "log_softmax: axis -2 is out of range")};
    cases.push_back(c);
  }
}

// (x - mean, where it is subtracted) / sqrt(mean square of that + eps), weighted and shifted.
Array normalized(A x, bool centred, double eps) {
  Array y = along(x[0], -1, [=](Numbers v) {
    const double n = double(v.size());
    C mean = 0;
    for (C value : v) mean += value / n;
    if (!centred) mean = 0;
    double squares = 0;
    for (C& value : v) squares += std::norm(value -= mean) / n;
    for (C& value : v) value /= std::sqrt(squares + eps);
    return v;
  });
  if (x.size() > 1) y = zip(y, x[1], std::multiplies<C>());
  if (x.size() > 2) y = zip(y, x[2], std::plus<C>());
  return y;
}

void norms(Cases& cases) {
  Case c{.name = "layer_norm",
         .detail = "with weight and bias",
         .call = [](X x) { return Tensors{layer_norm(x[0], x[1], x[2])}; },
         .twin = [](A x) { return Arrays{normalized(x, true, 1e-5)}; },
         .gradient = Gradient::once,
         .bound = 16,  // where a row's variance is little beside eps
         .large = {{.shape = {509, 131}}, {.shape = {131}}, {.shape = {131}}}};
  for (const Shape& shape : {Shape{2, 3, 5}, {7}, {13, 31}, {11, 64}, {0, 5}, {2, 0, 5}})
    c.inputs.push_back({{.shape = shape},
                        {.shape = {shape.back()}, .optional = true},
                        {.shape = {shape.back()}, .optional = true}});
  c.errors = {
      wrong<ShapeError>([] { layer_norm(scalar(1)); }, "layer_norm: needs at least one axis"),
      wrong<ShapeError>(
          [] {
            layer_norm(zeros({2, 3}), zeros({2}));
          },
          "layer_norm: needs weight and bias [3] for x [2,3], got [2]"),
      wrong<ShapeError>(
          [] {
            layer_norm(zeros({2, 3}), {}, zeros({1, 3}));
          },
          "layer_norm: needs weight and bias [3] for x [2,3], got [1,3]")};
  cases.push_back(c);
  c.detail = "alone";
  c.call = [](X x) { return Tensors{layer_norm(x[0])}; };
  for (Inputs& inputs : c.inputs) inputs.resize(1);
  c.large.resize(1);
  c.errors = {};
  cases.push_back(c);
  c.detail = "with another eps";
  c.call = [](X x) { return Tensors{layer_norm(x[0], {}, {}, 0.5)}; };
  c.twin = [](A x) { return Arrays{normalized(x, true, 0.5)}; };
  cases.push_back(c);
  c.name = "rms_norm";
  c.detail = "alone";
  c.call = [](X x) { return Tensors{rms_norm(x[0])}; };
  c.twin = [](A x) { return Arrays{normalized(x, false, 1e-6)}; };
  cases.push_back(c);
  c.detail = "with weight";
  c.call = [](X x) { return Tensors{rms_norm(x[0], x[1])}; };
  for (Inputs& inputs : c.inputs)
    inputs.push_back({.shape = {inputs[0].shape.back()}, .optional = true});
  c.large.push_back({.shape = {131}});
  c.errors = {wrong<ShapeError>(
                  [] {
                    rms_norm(zeros({2, 3}), zeros({2}));
                  },
                  "rms_norm: needs weight [3] for x [2,3], got [2]"),
              wrong<ShapeError>([] { rms_norm(scalar(1)); }, "rms_norm: needs at least one axis")};
  cases.push_back(c);
}

void drops(Cases& cases) {
  Case c{.name = "dropout",
         .inputs = {{{.shape = {3, 5}}}, {{.shape = {13, 17}}}, {{.shape = {0, 3}}}},
         .call =
             [](X x) {
               manual_seed(3);
               return Tensors{dropout(x[0], 0.25)};
             },
         .twin =
             [](A x) {
               Array y = x[0];
               for (std::size_t i = 0; i < y.values.size(); ++i)
                 y.values[i] *= reference::uniform_f32({3, 0}, i) >= 0.25f ? 1 / 0.75 : 0;
               return Arrays{y};
             },
         .large = {{.shape = {311, 307}}},
         .errors = {wrong<ValueError>([] { dropout(zeros({2}), 1); },
                                      "dropout: needs 0 <= p < 1, got 1"),
                    wrong<ValueError>([] { dropout(zeros({2}), -0.1); },
                                      "dropout: needs 0 <= p < 1, got -0.1")}};
  cases.push_back(c);
  c.detail = "not training";
  c.call = [](X x) { return Tensors{dropout(x[0], 0.25, false)}; };
  c.twin = [](A x) { return x; };
  c.memory = Memory::either;
  c.errors = {};
  cases.push_back(c);
}

void convolutions(Cases& cases) {
  Case c{.name = "causal_conv1d",
         .detail = "with bias",
         .call = [](X x) { return Tensors{causal_conv1d(x[0], x[1], x[2])}; },
         .twin =
             [](A x) {
               return Arrays{build(x[0].shape, [&](const Shape& i) {
                 const std::int64_t K = x[1].size(1), first = i[1] - K + 1;
                 C y = x.size() > 2 ? x[2][{i[2]}] : 0;
                 for (std::int64_t k = 0; k < K; ++k)
                   if (first + k >= 0) y += x[1][{i[2], k}] * x[0][{i[0], first + k, i[2]}];
                 return y;
               })};
             },
         .types = kNumbers,
         .bound = 4,
         .said = {"causal_conv1d", "add", "mul"}};
  const std::pair<Shape, std::int64_t> sizes[] = {
      {{2, 5, 3}, 3}, {{1, 2, 2}, 4}, {{3, 13, 7}, 1}, {{0, 5, 3}, 2}, {{2, 0, 3}, 2}};
  for (const auto& [x, K] : sizes)
    c.inputs.push_back({{.shape = x}, {.shape = {x[2], K}}, {.shape = {x[2]}, .optional = true}});
  c.errors = {
      wrong<ShapeError>(
          [] {
            causal_conv1d(zeros({2, 5, 3}), zeros({2, 4}));
          },
          "causal_conv1d: needs x [B,T,C], weight [C,K], bias [C], got"),
      wrong<ShapeError>(
          [] {
            causal_conv1d(zeros({2, 5, 3}), zeros({3, 2}), zeros({1}));
          },
          "causal_conv1d: needs x [B,T,C], weight [C,K], bias [C], got [2,5,3], [3,2], [1]"),
      wrong<ShapeError>(
          [] {
            causal_conv1d(zeros({2, 5, 3}), zeros({3, 0}));
          },
          "causal_conv1d: needs x [B,T,C], weight [C,K], bias [C], got")};
  cases.push_back(c);
  c.detail = "without";
  c.call = [](X x) { return Tensors{causal_conv1d(x[0], x[1])}; };
  for (Inputs& inputs : c.inputs) inputs.pop_back();
  c.errors = {};
  cases.push_back(c);
}

// -sum of t log p over the classes, t the smoothed target; the mean over all positions.
Array cross_entropy_twin(A x, double smoothing) {
  const Array logp = rows_along(x[0], -1, reference::log_softmax);
  const std::size_t classes = std::size_t(logp.size(-1)), rows = logp.values.size() / classes;
  C total = 0;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < classes; ++c) {
      const double target = double(c) == x[1].values[r].real() ? 1 - smoothing : 0;
      total -= (target + smoothing / double(classes)) * logp.values[r * classes + c];
    }
  return {{}, {total / double(rows)}};
}

void losses(Cases& cases) {
  Case c{.name = "cross_entropy",
         .inputs = {{{.shape = {2, 3, 5}}, index_below(5, {2, 3})},
                    {{.shape = {31, 17}}, index_below(17, {31})},
                    {{.shape = {5}}, index_below(5, {})},
                    {{.shape = {0, 5}}, index_below(5, {0})}},
         .call = [](X x) { return Tensors{cross_entropy(x[0], x[1])}; },
         .twin = [](A x) { return Arrays{cross_entropy_twin(x, 0)}; },
         .gradient = Gradient::once,
         .large = {{.shape = {509, 131}}, index_below(131, {509})},
         .errors = {wrong<ShapeError>(
                        [] {
                          cross_entropy(zeros({2, 5}), zeros({2, 3}, {.dtype = i64}));
                        },
                        "cross_entropy: needs logits [...,C] and target [...], got [2,5]"),
                    wrong<DTypeError>(
                        [] {
                          cross_entropy(zeros({2, 5}), zeros({2}));
                        },
                        "cross_entropy: needs i64 indices, got f32; write x.to(i64)"),
                    wrong<IndexError>(
                        [] {
                          cross_entropy(zeros({1, 5}), tensor({5}, {.dtype = i64}));
                        },
                        "cross_entropy: needs indices in 0..4, got 5"),
                    wrong<ValueError>(
                        [] {
                          cross_entropy(zeros({1, 5}), zeros({1}, {.dtype = i64}), -100, 1.5);
                        },
                        "cross_entropy: needs 0 <= label_smoothing <= 1, got 1.5")}};
  cases.push_back(c);
  c.detail = "smoothed";
  c.call = [](X x) { return Tensors{cross_entropy(x[0], x[1], kIgnoreIndex, 0.2)}; };
  c.twin = [](A x) { return Arrays{cross_entropy_twin(x, 0.2)}; };
  c.said = {"cross_entropy", "log_softmax"};
  c.errors = {};
  cases.push_back(c);
}

using Loss = Tensor (*)(const Tensor&, const Tensor&, Reduction);

void differences(Cases& cases, const char* name, Loss loss, C (*twin)(C, C), double low,
                 std::vector<Wrong> errors) {
  const std::pair<const char*, Reduction> reductions[] = {
      {"mean", Reduction::mean}, {"sum", Reduction::sum}, {"none", Reduction::none}};
  for (const auto& [detail, reduction] : reductions)
    cases.push_back({.name = name,
                     .detail = detail,
                     .inputs = {{{.shape = {3, 5}}, {.shape = {3, 5}, .low = low}},
                                {{.shape = {13, 17}}, {.shape = {13, 17}, .low = low}},
                                {{.shape = {0, 3}}, {.shape = {0, 3}}}},
                     .call = [=, r = reduction](X x) { return Tensors{loss(x[0], x[1], r)}; },
                     .twin =
                         [=, r = reduction](A x) {
                           const Array each = zip(x[0], x[1], twin);
                           if (r == Reduction::none) return Arrays{each};
                           C total = 0;
                           for (C value : each.values) total += value;
                           const double n = double(each.values.size());
                           return Arrays{{{}, {r == Reduction::mean ? total / n : total}}};
                         },
                     .bound = 4,
                     .said = {name, "sub", "mean", "clamp", "eq", "log"},
                     .large = {{.shape = {311, 307}}, {.shape = {311, 307}, .low = low}},
                     .errors = errors});
}

}  // namespace

Cases neural_cases() {
  Cases cases;
  softmaxes(cases);
  norms(cases);
  drops(cases);
  convolutions(cases);
  losses(cases);
  differences(cases, "mse_loss", mse_loss, [](C a, C b) { return (a - b) * (a - b); }, -2,
              {wrong<ShapeError>(
                  [] {
                    mse_loss(zeros({3, 5}), zeros({5}));
                  },
                  "mse_loss: the sizes differ, [3,5] and [5]")});
  differences(
      cases, "huber_loss",
      [](const Tensor& x, const Tensor& y, Reduction r) { return huber_loss(x, y, 1.5, r); },
      [](C a, C b) {
        const double d = std::abs(a - b);
        return C(d <= 1.5 ? d * d / 2 : 1.5 * (d - 0.75));
      },
      -2,
      {wrong<ShapeError>([] { huber_loss(zeros({2}), zeros({3})); },
                         "huber_loss: the sizes differ"),
       wrong<ValueError>([] { huber_loss(zeros({2}), zeros({2}), 0); },
                         "huber_loss: needs delta > 0, got 0")});
  differences(cases, "kl_div", kl_div, [](C a, C b) { return b * (std::log(b.real()) - a); }, 0.1,
              {wrong<ShapeError>([] { kl_div(zeros({2}), zeros({3})); },
                                 "kl_div: the sizes differ, [2] and [3]")});
  for (Case& c : cases) {
    if (c.name == std::string("mse_loss")) {
      c.types = c.detail == std::string("mean") ? kInexact : kNumbers;
      if (c.detail == std::string("sum")) c.results = {Gives::counted};
    }
    if (c.name == std::string("huber_loss")) c.types = kInexact, c.results = {Gives::real};
  }
  return cases;
}

}  // namespace op_cases
