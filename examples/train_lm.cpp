// Trains a causal language model over bytes, whose attention heads may be of several types, on any
// text; and shows what triad looks like in use.
//
//   train_lm --data my_text/ --heads "standard*4, spectral*2, holonomy*2" --out runs/mine
#include <triad/triad.h>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include <triad/examples/common/decoding.h>
#include <triad/examples/common/device_option.h>
#include <triad/examples/common/loss_chart.h>
#include <triad/examples/common/printable.h>
#include <triad/examples/common/program.h>
#include <triad/examples/common/progress.h>
#include <triad/examples/common/run_folder.h>
#include <triad/examples/common/stop_signal.h>
#include <triad/examples/common/text_data.h>

namespace triad::examples {
namespace {

bool read_command_line(int argc, char** argv, TrainingOptions& o) {
  CLI::App app(
      "Trains a language model on the bytes of a text. Ctrl-C saves the model and ends with exit "
      "code 130.\nThe run's folder holds config.json, metrics.jsonl, model.safetensors and "
      "loss.svg.",
      "train_lm");
  app.add_option(
         "--data", o.data,
         fmt::format("files, and folders with all files below; by default {}", kDefaultData))
      ->type_name("PATH");
  app.add_option("--heads", o.heads, "types of the attention heads of every layer")
      ->type_name("LIST")
      ->capture_default_str();
  auto number = [&](const char* flag, auto& value, const char* help, double low, double high) {
    return app.add_option(flag, value, help)
        ->check(in_range(low, high))
        ->type_name("NUMBER")
        ->capture_default_str();
  };
  number("--d-model", o.d_model, "channels", 1, 16384);
  number("--layers", o.layers, "transformer blocks", 1, 1024);
  number("--seq", o.seq, "bytes that the model sees at once", 1, 65536);
  number("--batch", o.batch, "windows of text in a step", 1, 65536);
  number("--steps", o.steps, "steps of training", 1, 1e9);
  number("--lr", o.lr, "the highest learning rate; it rises first and then falls to a tenth of it",
         0, 1e6);
  number("--dropout", o.dropout, "share of activations left out in training", 0, 0.99);
  number("--seed", o.seed, "the same seed gives the same model", 0, 1e18);
  number("--eval-every", o.eval_every,
         "steps between held-out losses, when the model is saved, too; 0: a tenth of all", 0, 1e9);
  number("--sample", o.sample, "bytes of text written at the end", 0, 1e9);
  number("--threads", o.threads, "0: all cores, or what OMP_NUM_THREADS says", 0, 1024);
  add_device_option(app, o.device);
  app.add_option("--out", o.out, "the run's folder; an earlier run there is replaced")
      ->type_name("FOLDER")
      ->capture_default_str();
  if (!parse(app, argc, argv)) return false;
  const auto heads = std::int64_t(nn::heads(o.heads).size());
  if (o.d_model % heads != 0)
    throw ValueError(fmt::format(
        "--d-model {} cannot be shared by the {} heads of --heads: take a multiple of {}",
        o.d_model, heads, heads));
  if (o.data.empty()) o.data = {kDefaultData};
  if (o.eval_every == 0) o.eval_every = std::max<std::int64_t>(1, o.steps / 10);
  return true;
}

// Refuses what cannot fit before the system would have to kill the program: at the least, four
// copies of 12 M^2 weights a layer, and of every position 16 activations a channel and layer. A
// CUDA device has memory of its own, whose end is an error: then it is one copy, made here first.
void check_memory(const TrainingOptions& o) {
  const bool here = o.device == Device::cpu();
  const double M = double(o.d_model), layers = double(o.layers);
  const double tokens = here ? double(o.batch) * double(o.seq) : 0;
  const double needed = 4 * layers * ((here ? 4 : 1) * 12 * M * M + tokens * 16 * M);
  const double there = double(sysconf(_SC_PHYS_PAGES)) * double(sysconf(_SC_PAGESIZE));
  constexpr double kGiB = 1 << 30;
  if (needed > there)
    throw ValueError(
        fmt::format("training takes more than {:.0f} GiB and this machine has {:.0f}: lower "
                    "--d-model, --layers, "
                    "--batch or --seq",
                    needed / kGiB, there / kGiB));
}

class Training {
 public:
  Training(const TrainingOptions& options, const TextData& text, nn::TransformerLM& model,
           RunFolder& folder)
      : o_(options), model_(model), folder_(folder),
        trainer_(model, text, {.steps = options.steps, .batch = options.batch, .lr = options.lr}),
        progress_(options.steps) {}

  // All steps, or fewer after a stop signal. What goes wrong leaves the files of the last
  // measurement.
  void run() {
    folder_.save(model_);
    try {
      while (steps_done() < o_.steps && stop_signal() == 0) step();
    } catch (const Diverged& error) {
      progress_.end();
      throw Failure(fmt::format("{}; {} is that of step {}: try a lower --lr (it is {})",
                                error.what(), (folder_ / "model.safetensors").string(), saved_,
                                o_.lr));
    }
    progress_.end();
    if (saved_ < steps_done()) save();
  }

  std::int64_t steps_done() const { return trainer_.steps_done(); }
  const std::vector<Metrics>& history() const { return history_; }

 private:
  void step() {
    Metrics metrics = trainer_.step();
    if (metrics.step % o_.eval_every == 0 || metrics.step == o_.steps) {
      metrics.val_loss = trainer_.held_out_loss();
      if (metrics.val_loss) save();
    }
    metrics.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    folder_.append(metrics);
    const double left = double(o_.steps - metrics.step) / double(metrics.step);
    progress_.show(metrics, metrics.seconds * left);
    history_.push_back(metrics);
  }

  void save() {
    folder_.save(model_);
    saved_ = steps_done();
  }

  const TrainingOptions& o_;
  nn::TransformerLM& model_;
  RunFolder& folder_;
  Trainer trainer_;
  Progress progress_;
  std::vector<Metrics> history_;
  std::int64_t saved_ = 0;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Text from the model, beginning on a new line.
void write_sample(nn::TransformerLM& model, std::int64_t bytes) {
  say("\n---- sample\n");
  Decoder decoder(model);
  decoder.push('\n');
  PrintableText text;
  for (std::int64_t i = 0; i < bytes && stop_signal() == 0; ++i) {
    const std::int64_t id = draw(decoder.logits(), {});
    say(text.push(static_cast<unsigned char>(id)));
    decoder.push(id);
  }
  say(text.finish() + "\n----\n");
}

int train(int argc, char** argv) {
  TrainingOptions options;
  if (!read_command_line(argc, argv, options)) return 0;
  if (options.threads > 0) set_num_threads(options.threads);
  manual_seed(options.seed);

  check_memory(options);
  Text text = read_data(options.data);
  say(fmt::format("text: {:.1f} MB in {} files, a tenth held out\n",
                  double(text.bytes.size()) / 1e6, text.files));
  const TextData data(std::move(text.bytes), options.seq);
  nn::TransformerLM model(options.model());
  nn::check_causal(model);
  model.to(options.device);
  say(fmt::format("model: {} parameters, {} layers of {} channels, heads {}, on {}\n",
                  model.parameter_count(), options.layers, options.d_model,
                  nn::heads_text(model.options.head_types), name(options.device)));
  RunFolder folder(options);
  note_stop_signals();

  try {
    Training training(options, data, model, folder);
    training.run();
    const std::string no_chart = draw_loss_chart(folder, training.history());
    if (stop_signal() == 0 && options.sample > 0) write_sample(model, options.sample);
    if (!no_chart.empty()) say(no_chart + "\n");
    say(fmt::format("{} of {} steps done; the run is in {}\n", training.steps_done(), options.steps,
                    one_line(options.out)));
  } catch (const std::exception& error) {
    throw Failure(error.what());
  }
  return stop_signal() == 0 ? 0 : 128 + stop_signal();
}

}  // namespace
}  // namespace triad::examples

int main(int argc, char** argv) {
  return triad::examples::run_program("train_lm",
                                      [&] { return triad::examples::train(argc, argv); });
}
