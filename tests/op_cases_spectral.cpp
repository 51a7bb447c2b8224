// Cases of the ops of attention: softmax attention and filters along time.
#include <triad/tests/op_cases.h>

#include <cmath>
#include <numbers>

namespace op_cases {

using namespace triad;

namespace {

// ---------------------------------------------------------------------- attention

// `allowed` [B,H,T,S], or empty where all may be attended to.
Array attention_twin(A x, bool causal, const Array& allowed, double scale) {
  const Array &q = x[0], &k = x[1], &v = x[2];
  const std::int64_t T = q.size(2), S = k.size(2), D = q.size(3);
  return build(q.shape, [&](const Shape& i) {
    double total = 0;
    C y = 0;
    for (std::int64_t s = 0; s < S; ++s) {
      if (causal && s > i[2] + S - T) continue;
      if (!allowed.values.empty() && allowed[{i[0], i[1], i[2], s}] == 0.0) continue;
      C score = 0;
      for (std::int64_t d = 0; d < D; ++d)
        score += q[{i[0], i[1], i[2], d}] * k[{i[0], i[1], s, d}];
      const double weight = std::exp(scale * score.real());
      total += weight;
      y += weight * v[{i[0], i[1], s, i[3]}];
    }
    return total > 0 ? y / total : 0;
  });
}

Inputs heads(std::int64_t B, std::int64_t H, std::int64_t T, std::int64_t S, std::int64_t D) {
  const Input memory{.shape = {B, H, S, D}};
  return {{.shape = {B, H, T, D}}, memory, memory};
}

void attention(Cases& cases) {
  constexpr auto op = scaled_dot_product_attention;
  const std::vector<Inputs> sizes{heads(1, 2, 3, 4, 2),   heads(2, 3, 5, 7, 8),
                                  heads(1, 2, 13, 13, 5), heads(0, 2, 3, 4, 2),
                                  heads(2, 2, 0, 4, 3),   heads(2, 2, 3, 0, 3)};
  Case c{.name = "scaled_dot_product_attention",
         .inputs = sizes,
         .call = [=](X x) { return Tensors{op(x[0], x[1], x[2], {})}; },
         .twin =
             [](A x) {
               return Arrays{attention_twin(x, false, {}, 1 / std::sqrt(double(x[0].size(3))))};
             },
         .gradient = Gradient::once,
         .bound = 4,
         .large = heads(2, 3, 67, 131, 32)};
  c.errors = {wrong<ShapeError>(
                  [] {
                    const Tensor x = zeros({2, 3});
                    op(x, x, x, {});
                  },
                  "scaled_dot_product_attention: needs q [B,H,T,D] and k, v [B,H,S,D], got [2,3]"),
              wrong<ShapeError>(
                  [] {
                    const Tensor x = zeros({1, 2, 3, 4});
                    op(x, x, x, {.attn_mask = zeros({3, 2}) > 0.0});
                  },
                  "scaled_dot_product_attention: needs a mask [T,S]"),
              wrong<DTypeError>(
                  [] {
                    const Tensor x = zeros({1, 2, 3, 4});
                    op(x, x, x, {.attn_mask = zeros({3, 3})});
                  },
                  "scaled_dot_product_attention: needs bool, got f32; write x != 0"),
              wrong<ShapeError>(
                  [] {
                    const Tensor x = zeros({1, 2, 3, 4});
                    op(x, x, x, {.token_mask = zeros({3}) > 0.0});
                  },
                  "scaled_dot_product_attention: needs a token_mask [1,3], got [3]"),
              wrong<ValueError>(
                  [] {
                    const Tensor x = zeros({1, 2, 3, 4});
                    op(x, x, x, {.dropout_p = 1});
                  },
                  "scaled_dot_product_attention: needs 0 <= dropout_p < 1, got 1")};
  cases.push_back(c);
  c.errors = {};
  c.detail = "causal, with a scale";
  c.call = [=](X x) { return Tensors{op(x[0], x[1], x[2], {.is_causal = true, .scale = 0.3})}; };
  c.twin = [](A x) { return Arrays{attention_twin(x, true, {}, 0.3)}; };
  cases.push_back(c);
  c.detail = "under a mask of all heads";
  c.call = [=](X x) { return Tensors{op(x[0], x[1], x[2], {.attn_mask = x[3], .scale = 0.3})}; };
  c.twin = [](A x) {
    const Shape full{x[0].size(0), x[0].size(1), x[0].size(2), x[1].size(2)};
    return Arrays{attention_twin(x, false, repeated(x[3], full), 0.3)};
  };
  for (Inputs& inputs : c.inputs) inputs.push_back(flags({inputs[0].shape[2], inputs[1].shape[2]}));
  c.inputs[0][3].optional = true;
  c.large.push_back(flags({67, 131}));
  cases.push_back(c);
  c.detail = "under a mask of tokens";
  c.call = [=](X x) { return Tensors{op(x[0], x[1], x[2], {.scale = 0.3, .token_mask = x[3]})}; };
  c.twin = [](A x) {
    const Shape full{x[0].size(0), x[0].size(1), x[0].size(2), x[1].size(2)};
    const Array tokens = reshaped(x[3], {full[0], 1, 1, full[3]});
    return Arrays{attention_twin(x, false, repeated(tokens, full), 0.3)};
  };
  for (Inputs& inputs : c.inputs) inputs[3] = flags({inputs[1].shape[0], inputs[1].shape[2]});
  c.inputs[0][3].optional = true;
  c.large[3] = flags({2, 131});
  cases.push_back(c);
}

// ---------------------------------------------------------------------- filters

Array read_at(const Array& values, std::int64_t bins) {
  return along(values, -1, [=](const Numbers& v) {
    Numbers y;
    for (std::int64_t k = 0; k < bins; ++k) {
      const double place = bins > 1 ? double(k) * double(v.size() - 1) / double(bins - 1) : 0;
      const std::size_t left = std::min(std::size_t(place), v.size() - 1),
                        right = std::min(left + 1, v.size() - 1);
      const double share = place - double(left);
      y.push_back((1 - share) * v[left] + share * v[right]);
    }
    return y;
  });
}

// The real signal of n samples whose frequencies 0..n/2 are given.
Numbers signal(const Numbers& half, std::int64_t n) {
  Numbers y;
  for (std::int64_t t = 0; t < n; ++t) {
    double total = 0;
    for (std::int64_t k = 0; k <= n / 2; ++k) {
      const double angle = 2 * std::numbers::pi * double(k * t % n) / double(n);
      const bool alone = k == 0 || 2 * k == n;  // else its conjugate is there, too
      total += (alone ? 1 : 2) * (half[std::size_t(k)].real() * std::cos(angle) -
                                  (alone ? 0 : half[std::size_t(k)].imag() * std::sin(angle)));
    }
    y.push_back(total / double(n));
  }
  return y;
}

Array response(const Array& log_gain, const Array& phase) {
  return zip(log_gain, phase, [](C gain, C turn) { return std::exp(C(gain.real(), turn.real())); });
}

// y_t = sum over s of taps[t - s] v_s, circular or over the past alone.
Array filtered(const Array& v, const Array& taps, bool circular) {
  const std::int64_t T = v.size(1);
  return build(v.shape, [&](Shape i) {
    const std::int64_t t = i[1];
    C y = 0;
    for (i[1] = 0; i[1] < T; ++i[1]) {
      const std::int64_t lag = circular ? (t - i[1] + T) % T : t - i[1];
      if (lag >= 0 && lag < taps.size(1)) y += taps[{i[2], lag}] * v[i];
    }
    return y;
  });
}

// By way of the cepstrum: the part at t > 0 is doubled, and the phase follows from the gain.
Array taps_twin(A x) {
  const std::int64_t K = 2 * (x[0].size(1) - 1);
  if (K == 0) return zip(x[0], x[1], [](C g, C p) { return std::exp(g) * std::cos(p.real()); });
  const Array gain = read_at(x[0], K + 1), extra = read_at(x[1], K + 1);
  const Array phase = along(gain, -1, [=](const Numbers& row) {
    const Numbers cepstrum = signal(row, 2 * K);
    Numbers y;
    for (std::int64_t k = 0; k <= K; ++k) {
      C total = cepstrum[0] + cepstrum[std::size_t(K)] * (k % 2 == 0 ? 1.0 : -1.0);
      for (std::int64_t t = 1; t < K; ++t)
        total += 2.0 * cepstrum[std::size_t(t)] *
                 std::polar(1.0, -std::numbers::pi * double(k * t) / double(K));
      y.push_back(total.imag());
    }
    return y;
  });
  return along(response(gain, zip(phase, extra, std::plus<C>())), -1, [=](const Numbers& half) {
    Numbers y = signal(half, 2 * K);
    y.resize(std::size_t(K));
    return y;
  });
}

void points(Cases& cases) {
  for (const std::int64_t bins : {7, 2, 1, 5})
    cases.push_back(
        {.name = "at_bins",
         .detail = bins == 7   ? "more"
                   : bins == 2 ? "fewer"
                   : bins == 1 ? "one"
                               : "as many",
         .inputs =
             {{{.shape = {3, 5}}}, {{.shape = {2, 13}}}, {{.shape = {2, 1}}}, {{.shape = {0, 5}}}},
         .call = [=](X x) { return Tensors{at_bins(x[0], bins)}; },
         .twin = [=](A x) { return Arrays{read_at(x[0], bins)}; },
         .memory = bins == 5 || bins == 1 ? Memory::either : Memory::own,
         .bound = 4,
         .errors = {wrong<ShapeError>([] { at_bins(zeros({3}), 2); },
                                      "at_bins: needs values [H,F] and at least one bin, got [3]"),
                    wrong<ShapeError>(
                        [] {
                          at_bins(zeros({2, 3}), 0);
                        },
                        "at_bins: needs values [H,F] and at least one bin")}});
}

void filters(Cases& cases) {
  Case c{.name = "spectral_filter",
         .call = [](X x) { return Tensors{spectral_filter(x[0], x[1], x[2])}; },
         .twin =
             [](A x) {
               const std::int64_t T = x[0].size(1);
               const Array taps = along(response(x[1], x[2]), -1,
                                        [=](const Numbers& half) { return signal(half, T); });
               return Arrays{filtered(x[0], taps, true)};
             },
         .gradient = Gradient::once,
         .bound = 8,
         .large = {{.shape = {2, 360, 3, 17}}, {.shape = {3, 181}}, {.shape = {3, 181}}}};
  for (const Shape& v :
       {Shape{1, 4, 2, 2}, {2, 7, 2, 3}, {1, 1, 2, 2}, {2, 16, 3, 5}, {1, 31, 2, 3}})
    c.inputs.push_back(
        {{.shape = v}, {.shape = {v[2], v[1] / 2 + 1}}, {.shape = {v[2], v[1] / 2 + 1}}});
  c.errors = {wrong<ShapeError>(
                  [] {
                    spectral_filter(zeros({2, 3}), zeros({2, 3}), zeros({2, 3}));
                  },
                  "spectral_filter: needs a sequence [B,T,H,D] with no axis empty, got"),
              wrong<ShapeError>(
                  [] {
                    spectral_filter(zeros({1, 0, 2, 3}), zeros({2, 1}), zeros({2, 1}));
                  },
                  "spectral_filter: needs a sequence [B,T,H,D] with no axis empty, got"),
              wrong<ShapeError>(
                  [] {
                    spectral_filter(zeros({1, 4, 2, 3}), zeros({2, 4}), zeros({2, 4}));
                  },
                  "spectral_filter: needs log_gain and phase [H,T/2+1] for v"),
              wrong<ShapeError>(
                  [] {
                    spectral_filter(zeros({1, 4, 2, 3}), zeros({2, 3}), zeros({2, 2}));
                  },
                  "spectral_filter: needs log_gain and phase of the same sizes [H,F]")};
  cases.push_back(c);

  Case taps{.name = "causal_taps",
            .call = [](X x) { return Tensors{causal_taps(x[0], x[1])}; },
            .twin = [](A x) { return Arrays{taps_twin(x)}; },
            .bound = 8};
  for (const Shape& shape : {Shape{2, 3}, {3, 2}, {2, 1}, {2, 9}})
    taps.inputs.push_back({{.shape = shape}, {.shape = shape}});
  taps.errors = {wrong<ShapeError>(
                     [] {
                       causal_taps(zeros({2, 3}), zeros({2, 2}));
                     },
                     "causal_taps: needs log_gain and phase of the same sizes"),
                 wrong<ShapeError>(
                     [] {
                       causal_taps(zeros({2, 0}), zeros({2, 0}));
                     },
                     "causal_taps: needs log_gain and phase of the same sizes")};
  cases.push_back(taps);

  Case past{.name = "causal_convolution",
            .call = [](X x) { return Tensors{causal_convolution(x[0], x[1])}; },
            .twin = [](A x) { return Arrays{filtered(x[0], x[1], false)}; },
            .gradient = Gradient::once,
            .bound = 8,
            .large = {{.shape = {2, 257, 3, 17}}, {.shape = {3, 61}}}};
  for (const auto& [v, K] : {std::pair<Shape, std::int64_t>{{1, 5, 2, 2}, 3},
                             {{2, 3, 2, 2}, 7},
                             {{1, 1, 2, 3}, 1},
                             {{2, 31, 3, 5}, 13}})
    past.inputs.push_back({{.shape = v}, {.shape = {v[2], K}}});
  past.errors = {wrong<ShapeError>(
                     [] {
                       causal_convolution(zeros({1, 0, 2, 3}), zeros({2, 3}));
                     },
                     "causal_convolution: needs a sequence [B,T,H,D] with no axis"),
                 wrong<ShapeError>(
                     [] {
                       causal_convolution(zeros({1, 4, 2, 3}), zeros({3, 3}));
                     },
                     "causal_convolution: needs taps [H,K] for v")};
  cases.push_back(past);
}

}  // namespace

Cases spectral_cases() {
  Cases cases;
  attention(cases);
  points(cases);
  filters(cases);
  return cases;
}

}  // namespace op_cases
