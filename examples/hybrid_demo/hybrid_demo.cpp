// A tour of the hybrid attention layer: what it is, how fast, what its heads attend to, where
// gradients go, and what it learns. It follows the notebook of the public PyTorch project that the
// layer's interface comes from, section by section.
//
//   hybrid_demo --out runs/hybrid_demo
#include <fmt/format.h>

#include <functional>

#include <triad/core/device.h>
#include <triad/core/random.h>
#include <triad/examples/common/device_option.h>
#include <triad/examples/common/program.h>
#include <triad/examples/common/stop_signal.h>
#include <triad/examples/hybrid_demo/sections.h>

namespace triad::examples {
namespace {

bool read_command_line(int argc, char** argv, DemoOptions& o) {
  CLI::App app(
      "Shows the hybrid attention layer in numbers and pictures, and trains small models with it: "
      "two to three minutes.\nThe folder holds report.html, results.json and charts/. Ctrl-C ends "
      "with the finished sections and exit code 130.",
      "hybrid_demo");
  app.add_option("--out", o.out, "the report's folder; an earlier report there is replaced")
      ->type_name("FOLDER")
      ->capture_default_str();
  app.add_option("--data", o.data,
                 fmt::format("files, and folders with all files below, to train on; by default {}",
                             kDefaultData))
      ->type_name("PATH");
  auto number = [&](const char* flag, auto& value, const char* help, double low, double high) {
    app.add_option(flag, value, help)
        ->check(in_range(low, high))
        ->type_name("NUMBER")
        ->capture_default_str();
  };
  number("--steps", o.steps, "steps of training for each configuration", 1, 1e6);
  number("--runs", o.runs, "runs of each timing; long ones are run less often", 1, 1e4);
  number("--max-seq", o.max_seq, "the timings are taken at 64, 128, 256, ... up to this length", 64,
         65536);
  number("--seed", o.seed, "the same seed gives the same numbers, but for times", 0, 1e18);
  number("--threads", o.threads, "0: all cores, or what OMP_NUM_THREADS says", 0, 1024);
  add_device_option(app, o.device);
  if (!parse(app, argc, argv)) return false;
  if (o.out.empty()) throw ValueError("--out needs the name of a folder");
  return true;
}

int demo(int argc, char** argv) {
  DemoOptions options;
  if (!read_command_line(argc, argv, options)) return 0;
  if (options.threads > 0) set_num_threads(options.threads);
  const TextData text(read_data(options.data).bytes, kTrainingSeq);
  Report report(options.out);
  note_stop_signals();

  try {
    manual_seed(options.seed);
    nn::HybridAttentionLayer layer =
        make_layer("standard*4, spectral*2, holonomy*2", options.device, 0.1);
    // Each says whether it got to its end; a signal may cut the long ones short.
    const std::function<bool()> sections[] = {
        [&] { return basic_usage(report, layer); },
        [&] { return forward_pass(report, layer); },
        [&] { return performance_comparison(report, options); },
        [&] { return attention_patterns(report, layer); },
        [&] { return gradient_flow(report, options); },
        [&] { return configuration_examples(report, options); },
        [&] { return training(report, options, text); },
    };
    std::uint64_t seed = options.seed;
    for (const auto& section : sections) {
      // Its own, whatever the sections before drew, and not the layer's: normals and uniforms of
      // one seed come from the same random words.
      manual_seed(++seed);
      const bool complete = section();
      if (complete) report.write();
      if (stop_signal() != 0) {
        if (complete || seed > options.seed + 1)
          say(fmt::format("\nstopped; {}/report.html has the finished sections\n", options.out));
        return 128 + stop_signal();
      }
    }
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Failure(error.what());
  }
  say(fmt::format("the report is {0}/report.html, its numbers are in {0}/results.json\n",
                  options.out));
  return 0;
}

}  // namespace
}  // namespace triad::examples

int main(int argc, char** argv) {
  return triad::examples::run_program("hybrid_demo",
                                      [&] { return triad::examples::demo(argc, argv); });
}
