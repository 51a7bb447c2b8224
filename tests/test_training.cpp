// Training for long: nothing grows, and the same seed gives the same weights.
#include <triad/core/device.h>
#include <triad/nn/optimizer.h>
#include <triad/tests/module_checks.h>
#include <unistd.h>

#include <fstream>

using namespace triad;
using enum nn::HeadType;

namespace {

struct Threads {
  explicit Threads(int n) : before(get_num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
  int before;
};

nn::TransformerLM make_model(std::int64_t d_model, std::int64_t length) {
  return nn::TransformerLM({.vocab_size = 32,
                            .d_model = d_model,
                            .layers = 2,
                            .head_types = {standard, spectral, holonomy, spectral},
                            .max_seq_len = length,
                            .dropout = 0.1});
}

// One step on a text with a rule: 5 times the token before it, plus 3.
double train_step(nn::TransformerLM& model, nn::Optimizer& optimizer, std::int64_t B,
                  std::int64_t T) {
  std::vector<std::int64_t> text;
  for (std::int64_t token : randint(0, 32, {B}).to_vector<std::int64_t>())
    for (std::int64_t t = 0; t <= T; ++t) {
      text.push_back(token);
      token = (5 * token + 3) % 32;
    }
  const Tensor ids = from_vector(text, {B, T + 1});
  optimizer.zero_grad();
  Tensor loss = cross_entropy(model(ids.slice(1, 0, T)), ids.slice(1, 1));
  loss.backward();
  nn::clip_grad_norm(model.parameters(), 1);
  optimizer.step();
  return loss.item<double>();
}

std::int64_t resident_bytes() {
  std::int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

nn::StateDict weights_after(int steps, int threads, std::int64_t d_model, std::int64_t B,
                            std::int64_t T, DType dtype) {
  Threads use(threads);
  manual_seed(3);
  nn::TransformerLM model = make_model(d_model, T);
  model.to(dtype);
  nn::AdamW optimizer(nn::decay_groups(model, 0.1), {.lr = 1e-3});
  for (int step = 0; step < steps; ++step) train_step(model, optimizer, B, T);
  return model.state_dict();
}

void check_same(const nn::StateDict& a, const nn::StateDict& b) {
  REQUIRE(a.size() == b.size());
  for (const auto& [name, value] : a) CHECK_MESSAGE(same_bits(value, b.at(name)), name);
}

}  // namespace

TEST_CASE("a thousand training steps: it learns, and nothing grows") {
  manual_seed(1);
  constexpr int kSteps = kSanitized ? 200 : 1000, kWarmUp = kSteps / 10;
  nn::TransformerLM model = make_model(32, 16);
  nn::AdamW optimizer(nn::decay_groups(model, 0.01), {.lr = 3e-3});
  MemoryStats start;
  std::int64_t start_resident = 0;
  double first = 0, last = 0;
  for (int step = 0; step < kSteps; ++step) {
    last = train_step(model, optimizer, 4, 16);
    if (step == 0) first = last;
    if (step + 1 == kWarmUp) start = memory_stats(), start_resident = resident_bytes();
    if (step + 1 > kWarmUp) {
      REQUIRE(memory_stats().live_blocks == start.live_blocks);
      REQUIRE(memory_stats().live_bytes == start.live_bytes);
    }
  }
  CHECK(first > 3);
  CHECK(last < 1);
  CHECK(memory_stats().peak_bytes == start.peak_bytes);
  CHECK(memory_stats().cached_bytes == start.cached_bytes);
  // AddressSanitizer keeps what is freed for a while.
  if (!kSanitized) CHECK(resident_bytes() - start_resident < 1 << 20);
}

TEST_CASE("lengths that change from step to step leave no tensor behind") {
  manual_seed(2);
  nn::TransformerLM model = make_model(32, 16);
  nn::AdamW optimizer(nn::decay_groups(model, 0.01), {.lr = 1e-3});
  train_step(model, optimizer, 2, 16);
  const std::int64_t blocks = memory_stats().live_blocks;
  for (std::int64_t T = 1; T <= 16; ++T) {
    train_step(model, optimizer, 1 + T % 3, T);
    CHECK(memory_stats().live_blocks == blocks);
  }
}

// oneDNN may split the sum of an f32 product among threads (it does for a gradient of a small
// weight over many tokens), so f32 is compared at equal counts. Everything else, and all of f64,
// does not know how many threads there are.
TEST_CASE("the same seed gives the same weights, bit for bit") {
  constexpr int kSteps = kSanitized ? 5 : 20;
  constexpr std::int64_t M = 32, B = 4, T = 40;
  auto weights = [&](int threads, DType dtype) {
    return weights_after(kSteps, threads, M, B, T, dtype);
  };
  for (int threads : {1, 2}) check_same(weights(threads, f32), weights(threads, f32));
  const nn::StateDict exact = weights(1, f64);
  check_same(exact, weights(2, f64));
  CHECK(!same_bits(exact.at("tok.weight"),
                   weights_after(kSteps - 1, 1, M, B, T, f64).at("tok.weight")));
}
