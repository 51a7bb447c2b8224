// Every module against PyTorch: the same parameters in, the same output and the same gradients out.
#include <triad/tests/golden_case.h>

using namespace triad;

namespace {

// fp64 leaves nothing but the rounding of the file to fp32, 6e-8 of each number.
constexpr double kExact = 1e-2;

// Loads the file's parameters into the module, runs it both ways in `dtype`, compares everything.
void check_module(const GoldenCase& golden, nn::SelfAttention& module, DType dtype) {
  const double scale = dtype == f64 ? kExact : 1;
  module.load_state_dict(golden.part("param."));
  module.to(dtype);
  module.to(test_device());
  Tensor x = golden.tensor("input.x").to(dtype).clone().requires_grad_();
  Tensor y = module(x, {.mask = golden.tensor_or_none("input.mask"),
                        .token_mask = golden.tensor_or_none("input.token_mask")});
  y.backward(golden.tensor("cotangent").to(dtype));
  golden.check_value("output", y, scale);
  golden.check_gradient("x", x.grad(), scale);
  golden.check_gradients(module, scale);
}

void check_state_dict(const GoldenCase& golden, const nn::Module& module) {
  std::set<std::string> own, theirs;
  for (const auto& [key, value] : module.state_dict()) own.insert(key);
  for (const auto& [key, value] : golden.part("param.")) theirs.insert(key);
  CHECK_MESSAGE(own == theirs, golden.name(), ": the names of the state dict differ");
}

nn::HybridAttentionLayer hybrid(const GoldenCase& golden) {
  return nn::HybridAttentionLayer({.d_model = golden.integer("d_model"),
                                   .head_types = nn::heads(golden.text("head_types")),
                                   .max_seq_len = golden.integer("max_seq_len"),
                                   .causal = golden.flag("causal"),
                                   .residual = golden.flag("residual"),
                                   .token_gate = golden.flag("token_gate"),
                                   .use_dct = golden.flag("use_dct")});
}

nn::SpectralAttention spectral(const GoldenCase& golden) {
  return nn::SpectralAttention({.d_model = golden.integer("d_model"),
                                .n_heads = golden.integer("n_heads"),
                                .max_seq_len = golden.integer("max_seq_len"),
                                .causal = golden.flag("causal"),
                                .token_gate = golden.flag("token_gate"),
                                .use_dct = golden.flag("use_dct")});
}

template <class Make> void check_all(const std::string& kind, std::size_t at_least, Make make) {
  const auto files = golden_files(kind);
  CHECK(files.size() + is_simulated() >= at_least);
  int count = 0;
  for (const auto& path : files) {
    GoldenCase golden(path);
    const bool in_f64 = !is_simulated() || ++count % 3 == 0;  // to save time there
    for (DType dtype : {f32, f64}) {
      if (dtype == f64 && !in_f64) continue;
      auto module = make(golden);
      check_state_dict(golden, module);
      check_module(golden, module, dtype);
    }
  }
}

}  // namespace

TEST_CASE("hybrid layers compute what PyTorch computes") { check_all("hybrid", 50, hybrid); }

TEST_CASE("spectral attention computes what PyTorch computes") {
  check_all("spectral", 50, spectral);
}

TEST_CASE("causal taps are PyTorch's") {
  const auto files = golden_files("causal_taps");
  CHECK(files.size() >= 7);
  for (const auto& path : files) {
    GoldenCase golden(path);
    for (DType dtype : {f32, f64}) {
      const double scale = dtype == f64 ? kExact : 1;
      Tensor log_gain = golden.tensor("param.log_gain").to(dtype).clone().requires_grad_();
      Tensor phase = golden.tensor("param.phase").to(dtype).clone().requires_grad_();
      Tensor taps = causal_taps(log_gain, phase);
      taps.backward(golden.tensor("cotangent").to(dtype));
      golden.check_value("output", taps, scale);
      golden.check_gradient("log_gain", log_gain.grad(), scale);
      golden.check_gradient("phase", phase.grad(), scale);
    }
  }
}

TEST_CASE("a spectral filter starts as PyTorch's, plus one small random number for each head") {
  GoldenCase golden(TRIAD_SOURCE_DIR "/tests/golden/initial_filter.safetensors");
  const auto slopes = golden.part("max_seq_len.");
  CHECK(slopes.size() >= 7);
  manual_seed(1);
  for (const auto& [length, slope] : slopes) {
    constexpr std::int64_t heads = 64;
    nn::SpectralAttention module(
        {.d_model = heads, .n_heads = heads, .max_seq_len = std::stoll(length)});
    REQUIRE(module.log_gain.shape() == Shape{heads, slope.numel()});
    Tensor noise = module.log_gain.detach() - slope;
    Tensor of_head = noise.slice(1, 0, 1);
    CHECK(largest_difference(noise, of_head.expand(noise.shape())) < 1e-6);
    CHECK(largest(of_head) < 0.06);
    CHECK(sqrt(var(of_head)).item<double>() == doctest::Approx(0.01).epsilon(0.3));
    CHECK(largest(module.phase) < 0.06);
    CHECK(sqrt(var(module.phase.detach())).item<double>() == doctest::Approx(0.01).epsilon(0.3));
  }
}

TEST_CASE("no golden file is left out") {
  std::size_t known = 0;
  for (const char* kind :
       {"hybrid", "spectral", "causal_taps", "initial_filter", "lm", "classifier"})
    known += golden_files(kind).size();
  CHECK(known == golden_files().size());
}
