#include <triad/examples/common/trainer.h>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include <triad/autograd/ops.h>
#include <triad/examples/common/stop_signal.h>

namespace triad::examples {
namespace {

constexpr double kWeightDecay = 0.1, kMaxNorm = 1.0, kFinalLr = 0.1;  // the last as a share of lr
constexpr std::int64_t kMaxWarmup = 100;

void check_finite(const char* what, double value, std::int64_t step) {
  if (!std::isfinite(value))
    throw Diverged(fmt::format("the {} is {} at step {}", what,
                               std::isnan(value) ? std::abs(value) : value, step));  // no "-nan"
}

}  // namespace

Trainer::Trainer(nn::TransformerLM& model, const TextData& text, const Options& options)
    : model_(model), text_(text), options_(options), parameters_(model.parameters()),
      optimizer_(nn::decay_groups(model, kWeightDecay), {.lr = options.lr}) {}

Metrics Trainer::step() {
  const auto start = std::chrono::steady_clock::now();
  optimizer_.set_lr(nn::cosine_lr(done_, {.lr = options_.lr,
                                          .steps = options_.steps,
                                          .warmup_steps = std::min(kMaxWarmup, options_.steps / 10),
                                          .final_lr = kFinalLr * options_.lr}));
  const Batch batch = text_.sample(options_.batch).to(device());
  optimizer_.zero_grad();
  const Tensor loss = cross_entropy(model_(batch.ids), batch.targets);
  const double value = loss.item<double>();
  check_finite("loss", value, done_ + 1);
  loss.backward();
  const Tensor norm = nn::clip_grad_norm(parameters_, kMaxNorm);
  check_finite("norm of the gradient", norm.item<double>(), done_ + 1);
  optimizer_.step();
  ++done_;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {.step = done_,
          .loss = value,
          .lr = optimizer_.lr(),
          .tokens_per_s = double(batch.ids.numel()) / seconds.count()};
}

std::optional<double> Trainer::held_out_loss() {
  NoGradGuard guard;
  model_.eval();
  double sum = 0;
  const std::int64_t windows = text_.held_out_windows();
  for (std::int64_t first = 0; first < windows && stop_signal() == 0; first += options_.batch) {
    const std::int64_t count = std::min(options_.batch, windows - first);
    const Batch batch = text_.held_out(first, count).to(device());
    sum += double(count) * cross_entropy(model_(batch.ids), batch.targets).item<double>();
  }
  model_.train();
  if (stop_signal() != 0) return {};
  check_finite("held-out loss", sum / double(windows), done_);
  return sum / double(windows);
}

}  // namespace triad::examples
