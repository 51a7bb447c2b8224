// The causal filter: minimum phase, its gain kept; and what curvature is.
#include <triad/tests/module_checks.h>

#include <complex>

using namespace triad;
using enum nn::HeadType;

namespace {

using Complex = std::complex<double>;
using Values = std::vector<double>;

// sum over t of x[t] exp(-2 pi i k t / n): the transform of a real sequence at bin k of n.
Complex transform_at(const Values& x, std::size_t k, std::size_t n) {
  Complex sum = 0;
  for (std::size_t t = 0; t < x.size(); ++t)
    sum += x[t] * std::polar(1.0, -2 * M_PI * double(k * t % n) / double(n));
  return sum;
}

// The inverse for a spectrum given at bins 0..n/2, n even.
Values inverse(const std::vector<Complex>& spectrum) {
  const std::size_t n = 2 * (spectrum.size() - 1);
  Values x(n);
  for (std::size_t t = 0; t < n; ++t) {
    double sum = 0;
    for (std::size_t k = 0; k <= n / 2; ++k) {
      const double weight = k == 0 || k == n / 2 ? 1 : 2;
      sum +=
          weight * (spectrum[k] * std::polar(1.0, 2 * M_PI * double(k * t % n) / double(n))).real();
    }
    x[t] = sum / double(n);
  }
  return x;
}

// One head's initial log-gain without its noise, at the K + 1 bins of the grid of 2K points.
struct Initial {
  Tensor points;  // [1,F]
  Values gain;    // log-gain at the bins
};

Initial initial_filter(std::int64_t K) {
  nn::SpectralAttention module({.d_model = 1, .n_heads = 1, .max_seq_len = K, .causal = true});
  Tensor points = module.log_gain.detach().to(f64);
  return {points, values(at_bins(points, K + 1))};
}

// The whole minimum-phase response of 2K points, by the folded cepstrum (attention.md, section 2).
Values minimum_phase_response(const Values& log_gain) {
  const std::size_t K = log_gain.size() - 1;
  Values cepstrum = inverse({log_gain.begin(), log_gain.end()});
  for (std::size_t t = 1; t < 2 * K; ++t) cepstrum[t] *= t < K ? 2 : t == K ? 1 : 0;
  std::vector<Complex> spectrum(K + 1);
  for (std::size_t k = 0; k <= K; ++k) {
    const double theta = transform_at(cepstrum, k, 2 * K).imag();
    spectrum[k] = std::polar(std::exp(log_gain[k]), theta);
  }
  return inverse(spectrum);
}

}  // namespace

TEST_CASE("with phase 0 the initial gain is kept, and what is cut off is nothing") {
  manual_seed(1);
  for (std::int64_t K : {64, 128, 256}) {
    const Initial start = initial_filter(K);
    const Tensor phase = zeros(start.points.shape(), {.dtype = f64});
    const Values taps = values(causal_taps(start.points, phase));
    REQUIRE(taps.size() == std::size_t(K));
    double worst = 0;
    for (std::size_t k = 0; k <= std::size_t(K); ++k) {
      const double gain = std::abs(transform_at(taps, k, 2 * std::size_t(K)));
      worst = std::max(worst, std::abs(gain / std::exp(start.gain[k]) - 1));
    }
    CHECK(worst < 2e-5);
    CHECK(worst > 0);

    const Values whole = minimum_phase_response(start.gain);
    double kept = 0, cut = 0;
    for (std::size_t t = 0; t < whole.size(); ++t) {
      (t < taps.size() ? kept : cut) += whole[t] * whole[t];
      if (t < taps.size()) CHECK(std::abs(taps[t] - whole[t]) < 1e-13);
    }
    CHECK(cut < 1e-8 * kept);
  }
}

TEST_CASE("the initial random phase costs at most a few percent of gain") {
  manual_seed(2);
  constexpr std::int64_t K = 64;
  nn::SpectralAttention module({.d_model = 8, .n_heads = 8, .max_seq_len = K, .causal = true});
  const Tensor taps = causal_taps(module.log_gain, module.phase).detach();
  const Tensor gain = at_bins(module.log_gain.detach(), K + 1);
  for (std::int64_t h = 0; h < 8; ++h) {
    const Values of_head = values(taps.select(0, h)), wanted = values(gain.select(0, h));
    for (std::size_t k = 0; k <= K; ++k)
      CHECK(std::abs(std::abs(transform_at(of_head, k, 2 * K)) / std::exp(wanted[k]) - 1) < 0.03);
  }
}

TEST_CASE("a minimum-phase filter has its energy early: the first tap is the largest") {
  manual_seed(3);
  const Initial start = initial_filter(64);
  const Values taps =
      values(causal_taps(start.points, zeros(start.points.shape(), {.dtype = f64})));
  for (std::size_t t = 1; t < taps.size(); ++t) CHECK(std::abs(taps[t]) < std::abs(taps[0]));
}

TEST_CASE("curvature is absorbed by the projection of the queries") {
  manual_seed(4);
  constexpr std::int64_t M = 12, H = 3, D = 4;
  for (bool causal : {false, true}) {
    nn::HybridAttentionLayer curved(
        {.d_model = M, .head_types = {holonomy, holonomy, holonomy}, .causal = causal});
    nn::HybridAttentionLayer plain(
        {.d_model = M, .head_types = {standard, standard, standard}, .causal = causal});
    curved.to(f64);
    plain.to(f64);
    randomise(curved);
    nn::StateDict state = curved.state_dict();
    const std::string name = "attention_modules.holonomy.curvature";
    const Tensor C = state.at(name);
    state.erase(name);
    // q' = (W x + b) C of each head: the rows of W and b that make q, mixed by C.
    Tensor weight = state["W_qkv.weight"].clone(), bias = state["W_qkv.bias"].clone();
    for (std::int64_t h = 0; h < H; ++h) {
      Tensor rows = weight.slice(0, h * D, (h + 1) * D),
             entries = bias.slice(0, h * D, (h + 1) * D);
      Tensor mix = C.select(0, h).transpose(0, 1);
      rows.copy_(matmul(mix, rows.clone()));
      entries.copy_(matmul(mix, entries.clone()));
    }
    state["W_qkv.weight"] = weight;
    state["W_qkv.bias"] = bias;
    plain.load_state_dict(state);
    const Tensor x = randn({2, 9, M}, {.dtype = f64});
    CHECK(largest_difference(curved(x), plain(x)) < 1e-12 * largest(plain(x)));
    plain.load_state_dict({{"W_qkv.weight", curved.W_qkv.weight.detach()}}, false);
    CHECK(largest_difference(curved(x), plain(x)) > 1e-3);  // it is the curvature that did it
  }
}
