// Measures ops, attention layers and a training step on a CUDA device, and puts each beside what
// the device reaches at most: a copy, where memory sets the pace, else a product of two matrices.
//
// A time is that of runs launched one after the other, from an idle device to an idle device, over
// their number: what a program waits for that does not look at each result. Of such samples of at
// least 2 ms the median counts.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include <triad/backends/cuda/runtime.h>
#include <triad/bench/cuda_rows.h>
#include <triad/core/tensor.h>
#include <triad/examples/common/statistics.h>
#include <triad/nn/files.h>

namespace triad::bench {
namespace {

using Clock = std::chrono::steady_clock;
using examples::median, examples::quantile;

constexpr double kWarmUp = 0.2, kSample = 2e-3;  // seconds
constexpr std::size_t kSamples = 20, kFewest = 3;

struct Options {
  int device = 0;
  bool quick = false;
  double seconds = 1;
  std::string only;
  std::filesystem::path out = "cuda_bench.json";
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), device_{options.device} {
    empty({1}, f32, Device::cuda(options.device));  // whether it is there
  }

  bool run() {
    fmt::print("| {:18} | {:38} | {:>9} | {:>22} | {:>13} | {:>10} | {:>15} |  |\n", "what", "size",
               "ms", "quartiles", "rate", "of best", "goal on an H100");
    fmt::print("| {:-<18} | {:-<38} | {:->9} | {:->22} | {:->13} | {:->10} | {:->15} |--|\n", "",
               "", "", "", "", "", "");
    bool all = true;
    for (const auto& make : cuda_rows(Device::cuda(options_.device), options_.quick)) {
      CudaRow row;
      try {
        row = make();
        if ((row.name + " " + row.size).find(options_.only) != std::string::npos) measure(row);
      } catch (const std::exception& error) {  // the others may work
        fmt::print("| {:18} | {:38} | {}\n", row.name, row.size, error.what());
        rows_.push_back({{"name", row.name}, {"size", row.size}, {"error", error.what()}});
        all = false;
      }
      row = {};
      empty_cache();
      std::fflush(stdout);
      write();
    }
    return all;
  }

 private:
  // Of one run, of `batch` that are launched without waiting.
  double seconds_of(const CudaRow& row, int batch) {
    cuda::synchronize(device_);
    const auto start = Clock::now();
    for (int i = 0; i < batch; ++i) row.run();
    cuda::synchronize(device_);
    return seconds_since(start) / batch;
  }

  std::vector<double> samples(const CudaRow& row) {
    const auto start = Clock::now();
    double once = 0;
    for (int i = 0; i < 3 || (!options_.quick && seconds_since(start) < kWarmUp); ++i)
      once = seconds_of(row, 1);  // the first ones make plans, and the clocks rise
    const int batch = options_.quick ? 1 : std::clamp(int(std::ceil(kSample / once)), 1, 1000);
    std::vector<double> seconds;
    const auto begin = Clock::now();
    while (seconds.size() < kFewest ||
           (!options_.quick && seconds.size() < kSamples && seconds_since(begin) < options_.seconds))
      seconds.push_back(seconds_of(row, batch));
    return seconds;
  }

  void measure(const CudaRow& row) {
    const std::vector<double> seconds = samples(row);
    const double time = median(seconds), rate = (row.bytes > 0 ? row.bytes : row.flops) / time;
    const std::string best = row.bytes > 0 ? kCopy : fmt::format("{} {}", kProduct, row.product);
    if (row.name == kCopy) best_.emplace(kCopy, rate);
    if (row.name == kProduct) best_.emplace(best, rate);
    const double share = best_.contains(best) ? rate / best_[best] : NAN;  // left out by --only

    nlohmann::json entry = {
        {"name", row.name},
        {"size", row.size},
        {"seconds_median", time},
        {"seconds_quartiles", {quantile(seconds, 0.25), quantile(seconds, 0.75)}},
        {"samples", seconds.size()},
        {row.bytes > 0 ? "bytes" : "flops", row.bytes > 0 ? row.bytes : row.flops},
        {row.bytes > 0 ? "bytes_per_second" : "flops_per_second", rate},
        {row.bytes > 0 ? "share_of_copy" : "share_of_matrix_product", share}};
    std::string goal, met;
    if (row.goal && !options_.quick) {
      const bool reached = check(*row.goal, time, rate, share, goal);
      met = reached ? "ok" : "  ";
      entry["goal"] = goal, entry["goal_met"] = reached;
    }
    rows_.push_back(entry);
    fmt::print("| {:18} | {:38} | {:9.4g} | {:>22} | {:>13} | {:>10} | {:>15} |{:2}|\n", row.name,
               row.size, 1e3 * time,
               fmt::format("{:.4g} to {:.4g}", 1e3 * quantile(seconds, 0.25),
                           1e3 * quantile(seconds, 0.75)),
               row.bytes > 0 ? fmt::format("{:.1f} GB/s", rate / 1e9)
                             : fmt::format("{:.1f} TFLOP/s", rate / 1e12),
               std::isnan(share) ? "" : fmt::format("{:.1f} %", 100 * share), goal, met);
  }

  static bool check(const Goal& goal, double time, double rate, double share, std::string& text) {
    switch (goal.of) {
      case Goal::Of::tflops:
        text = fmt::format("{} TFLOP/s", goal.value);
        return rate >= 1e12 * goal.value;
      case Goal::Of::milliseconds:
        text = fmt::format("at most {} ms", goal.value);
        return 1e3 * time <= goal.value;
      default: text = fmt::format("{:.0f} %", 100 * goal.value); return share >= goal.value;
    }
  }

  // After each row: a run that is stopped leaves those before.
  void write() const {
    const nlohmann::json all = {{"device", name(Device::cuda(options_.device))},
                                {"quick", options_.quick},
                                {"rows", rows_}};
    nn::write_file_atomically(options_.out, all.dump(1) + "\n");
  }

  const Options options_;
  const Cuda device_;
  std::map<std::string, double> best_;  // rates
  nlohmann::json rows_ = nlohmann::json::array();
};

}  // namespace
}  // namespace triad::bench

int main(int argc, char** argv) {
  triad::bench::Options options;
  CLI::App app("Measures ops, layers and a training step on a CUDA device.");
  app.add_option("--device", options.device, "its number")->check(CLI::NonNegativeNumber);
  app.add_flag("--quick", options.quick, "tiny sizes, a few runs: does it work?");
  app.add_option("--seconds", options.seconds, "at most so long for a row, beside its warm-up")
      ->check(CLI::PositiveNumber);
  app.add_option("--only", options.only, "rows whose name and size contain this text");
  app.add_option("--out", options.out, "the JSON file");
  try {
    app.parse(argc, argv);
    return triad::bench::Bench(options).run() ? 0 : 1;
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_bench: {}\n", error.what());
    return 2;
  }
}
