// Section 7: the five configurations as small language models, trained alike.
#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include <triad/examples/common/configurations.h>
#include <triad/examples/common/progress.h>
#include <triad/examples/common/stop_signal.h>
#include <triad/examples/common/trainer.h>
#include <triad/examples/hybrid_demo/palette.h>
#include <triad/examples/hybrid_demo/sections.h>
#include <triad/nn/transformer.h>

namespace triad::examples {
namespace {

constexpr std::int64_t kSize = 128, kLayers = 2, kBatch = 16, kMeasurements = 15;
constexpr double kLr = 4e-3;

struct Point {
  std::int64_t step;
  double seconds, loss;  // of training alone; held-out, nats per byte
};

struct Outcome {
  std::int64_t parameters = 0, unused = 0;
  std::int64_t tensors = 0, reached = 0;  // reached: those that a gradient arrived at
  std::vector<Point> curve = {};
};

std::int64_t with_gradient(const nn::Module& model) {
  std::int64_t count = 0;
  for (const Tensor& p : model.parameters())
    count += p.grad().defined() && norm(p.grad()).item<double>() > 0;
  return count;
}

// Parameters that take no part: the rows of W_qkv that make keys and values of spectral heads, and
// two thirds of their own W_qkv.
std::int64_t unused_parameters(const nn::TransformerLM& model) {
  std::int64_t count = 0;
  for (const nn::TransformerBlock& block : model.blocks) {
    auto& layer = dynamic_cast<const nn::HybridAttentionLayer&>(*block.attn);
    const auto spectral = layer.head_type_counts.find(nn::HeadType::spectral);
    if (spectral == layer.head_type_counts.end()) continue;
    const std::int64_t width = spectral->second * layer.d_head;
    count += 2 * width * (kSize + 1) + 2 * width * (width + 1);
  }
  return count;
}

// Trains one configuration; since `start`, the others before it have taken `done` steps.
Outcome train(const Configuration& configuration, const DemoOptions& o, const TextData& text,
              ProgressLine& line, std::int64_t done, std::chrono::steady_clock::time_point start) {
  manual_seed(o.seed);
  nn::TransformerLM model({.vocab_size = 256,
                           .d_model = kSize,
                           .layers = kLayers,
                           .head_types = nn::heads(configuration.heads),
                           .max_seq_len = kTrainingSeq});
  nn::check_causal(model);
  model.to(o.device);
  manual_seed(o.seed);  // the same batches for every configuration
  Trainer trainer(model, text, {.steps = o.steps, .batch = kBatch, .lr = kLr});
  Outcome outcome{.parameters = model.parameter_count(),
                  .unused = unused_parameters(model),
                  .tensors = std::int64_t(model.parameters().size())};
  const std::int64_t every = std::max<std::int64_t>(1, o.steps / kMeasurements);
  double seconds = 0;
  for (std::int64_t step = 0; stop_signal() == 0; ++step) {
    if (step % every == 0 || step == o.steps)
      if (const auto loss = trainer.held_out_loss())
        outcome.curve.push_back({step, seconds, *loss});
    if (step == o.steps) break;
    const auto begin = std::chrono::steady_clock::now();
    const Metrics metrics = trainer.step();
    const auto end = std::chrono::steady_clock::now();
    seconds += std::chrono::duration<double>(end - begin).count();
    if (step == 0) outcome.reached = with_gradient(model);
    const std::chrono::duration<double> passed = end - start;
    const double rate = double(done + step + 1) / passed.count();
    const auto all = o.steps * std::int64_t(kConfigurations.size());
    line.show(fmt::format("{}  step {}/{}  loss {:.3f}  {:.0f} tokens/s  {} left",
                          configuration.name, step + 1, o.steps, metrics.loss, metrics.tokens_per_s,
                          time_text(double(all - done - step - 1) / rate)));
  }
  return outcome;
}

Cell text_cell(const DemoOptions& o) {
  if (o.data.empty()) return kDefaultData;
  return {fmt::format("{}", fmt::join(o.data, ", ")), o.data};
}

void curves(Report& report, const std::vector<Outcome>& outcomes) {
  std::string data = "# step, seconds, held-out loss (nats per byte)\n", by_step, by_time;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    data += fmt::format("{}# {}\n", i == 0 ? "" : "\n\n", kConfigurations[i].name);
    for (const Point& p : outcomes[i].curve)
      data += fmt::format("{} {:.4f} {:.6g}\n", p.step, p.seconds, p.loss);
    const auto curve = [&](int column) {
      return fmt::format(
          R"({}"training.dat" index {} using {}:3 with linespoints linecolor rgb "{}" linewidth 2 pointtype {} dashtype {} title "{}: {}")",
          i == 0 ? "" : ", \\\n       ", i, column, kStyles[i].color, kStyles[i].point,
          kStyles[i].dash, kConfigurations[i].name, Cell(outcomes[i].parameters).text);
    };
    by_step += curve(1);
    by_time += curve(2);
  }
  report.chart({.name = "training",
                .title = "Held-out loss of the five configurations against steps and against "
                         "seconds of training; the legend gives the number of parameters.",
                .width = 1000,
                .height = 460,
                .data = data,
                .plot = fmt::format(R"(  set multiplot layout 1,2
  set grid
  set ylabel "held-out loss, nats per byte"
  set key top right font ",12"
  set xlabel "step"
  plot {}
  set xlabel "seconds of training"
  plot {}
  unset multiplot
)",
                                    by_step, by_time)});
}

}  // namespace

bool training(Report& report, const DemoOptions& options, const TextData& text) {
  report.section("Training", "training");
  report.text(
      "Does the gradient reach all of it, and does it learn? Each configuration as a causal "
      "language model over bytes, with the same batches and the same seed for all. Before training "
      "each is checked to be causal.");
  report.facts({{"Layers", "layers", kLayers},
                {"Channels", "d_model", kSize},
                {"Bytes a window", "seq", kTrainingSeq},
                {"Windows a step", "batch", kBatch},
                {"Steps", "steps", options.steps},
                {"Seed", "seed", std::int64_t(options.seed)},
                {"Text", "data", text_cell(options)},
                {"Highest learning rate", "lr", {kLr, "{}"}}});
  std::vector<Outcome> outcomes;
  ProgressLine line;
  const auto start = std::chrono::steady_clock::now();
  for (const Configuration& c : kConfigurations) {
    const auto done = std::int64_t(outcomes.size()) * options.steps;
    outcomes.push_back(train(c, options, text, line, done, start));
    if (stop_signal() != 0) break;
  }
  line.end();
  if (stop_signal() != 0) return false;

  Table table{"models",
              {{"configuration", "name"},
               {"parameters", "parameters"},
               {"unused", "unused"},
               {"reached by a gradient", "reached"},
               {"loss before", "loss_before"},
               {"loss after", "loss_after"},
               {"bits per byte", "bits_per_byte"},
               {"seconds", "seconds"}}};
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const Outcome& o = outcomes[i];
    const Point& last = o.curve.back();
    table.rows.push_back({kConfigurations[i].name,
                          o.parameters,
                          o.unused,
                          {fmt::format("{} of {} tensors", o.reached, o.tensors),
                           {{"reached", o.reached}, {"tensors", o.tensors}}},
                          {o.curve.front().loss, "{:.3f}"},
                          {last.loss, "{:.3f}"},
                          {last.loss / std::log(2.0), "{:.2f}"},
                          {last.seconds, "{:.1f}"}});
  }
  report.table(table);
  report.text(
      "A tensor counts as reached when a gradient arrives at any of it. The unused parameters are "
      "rows of projections that spectral heads do not need.");
  curves(report, outcomes);
  return true;
}

}  // namespace triad::examples
