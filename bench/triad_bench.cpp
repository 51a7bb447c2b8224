// Measures what users wait for: attention layers and a training step, or with --ops every op by
// itself; with --peers beside PyTorch.
//
// Both sides run in turns, round by round, so that a machine that speeds up or slows down does so
// for both; the ratio is that of a round, and the number to quote is the median of the ratios.
// Before anything is timed, both sides compute the same thing from the same numbers and are
// compared.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <filesystem>

#include <triad/core/device.h>
#include <triad/nn/files.h>
#include <triad/nn/safetensors.h>

#include <triad/bench/ops.h>
#include <triad/bench/peer.h>
#include <triad/bench/report.h>
#include <triad/bench/workloads.h>
#include <triad/examples/common/configurations.h>
#include <triad/examples/common/statistics.h>

namespace triad::bench {
namespace {

namespace fs = std::filesystem;
using examples::median;

constexpr double kLarge = 1e7;  // bytes that no cache holds

struct Options {
  std::string python;  // of the peer; empty: no peer
  std::string only;    // part of a row's name
  int rounds = 5;
  int threads = get_num_threads();
  double seconds = 0.2;  // of a side in a round, at least one run
  bool ops = false;
  fs::path out = fs::path(TRIAD_SOURCE_DIR) / "bench" / "results" / "cpu.json";
};

// Of one run: the mean of `batch`, which what is over in no time needs to be timed at all.
double seconds_of(const Workload& w, const std::string& mode, int batch = 1) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < batch; ++i) w.run(mode);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / batch;
}

// The largest difference of any output, relative to the largest value of that output.
double difference(const nn::StateDict& ours, const nn::StateDict& theirs) {
  double worst = 0;
  for (const auto& [name, a] : ours) {
    auto it = theirs.find(name);
    if (it == theirs.end()) continue;  // a parameter that takes no part has no gradient there
    const double size = max(abs(it->second)).item<double>();
    const double off = max(abs(a - it->second)).item<double>();
    // A gradient that is zero but for rounding (a key's bias) has no scale of its own.
    const double relative = off / std::max(size, 1e-3);
    if (!(relative <= worst)) worst = relative;  // NaN too, which nothing after it may hide
    if (std::isnan(worst)) break;
  }
  return worst;
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {
    set_num_threads(options.threads);
    folder_ = fs::path(TRIAD_BINARY_DIR) / fmt::format("bench_{}", getpid());
    if (options.python.empty()) return;
    peer_ = std::make_unique<Peer>(options.python);
    peer_->ask({{"op", "threads"}, {"n", options.threads}});
    fs::create_directories(folder_);
  }
  ~Bench() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  // `bytes` must be moved, where that is what sets the pace.
  void run(const Workload& w, double bytes = 0) {
    if ((w.name + " " + w.size + ";").find(options_.only) == std::string::npos) return;
    if (peer_) {
      nlohmann::json request = w.request;
      if (!w.data.empty()) {
        request["data"] = folder_ / "data.safetensors";
        nn::save_safetensors(folder_ / "data.safetensors", w.data);
      }
      peer_->ask(request);
    }
    for (const std::string& mode : w.modes) {
      Row& row = rows_.emplace_back(Row{.name = w.name, .size = w.size, .mode = mode});
      if (peer_ && w.outputs) compare(w, mode, row);
      measure(w, mode, row);
      if (bytes >= kLarge) row.share_of_copy = share_of_copy(w, mode, bytes);
      fmt::print("{}\n", table_line(row, options_.ops));
      std::fflush(stdout);
    }
  }

  void write() {
    fs::create_directories(fs::absolute(options_.out).parent_path());
    nn::write_file_atomically(options_.out,
                              to_json(rows_, peer_ ? peer_->version() : "").dump(1) + "\n");
    fmt::print("every number: {}\n", options_.out.string());
  }

  bool has_peer() const { return peer_ != nullptr; }

 private:
  void compare(const Workload& w, const std::string& mode, Row& row) {
    const fs::path path = folder_ / "outputs.safetensors";
    // The second loss of a training step tells whether the first update was right.
    if (mode == "train_step") {
      peer_->ask({{"op", "time"}, {"mode", mode}, {"repeats", 1}});
      w.run(mode);
    }
    peer_->ask({{"op", "outputs"}, {"mode", mode}, {"path", path}});
    row.difference = difference(w.outputs(mode), nn::load_safetensors(path));
    if (!(*row.difference <= w.agree))
      throw Error(fmt::format("{} {} {}: the outputs differ by {:.1e}; nothing to compare",
                              row.name, row.size, mode, *row.difference));
  }

  // The bandwidth that moving `bytes` in a run means, over that of a copy of 2 x 120 MB: the median
  // of runs in turns, because that of the machine comes and goes.
  double share_of_copy(const Workload& w, const std::string& mode, double bytes) {
    std::vector<double> shares;
    for (int round = 0; round < 2 * options_.rounds + 1; ++round) {
      const auto start = std::chrono::steady_clock::now();
      const Tensor copy = copied_.clone();
      const std::chrono::duration<double> copying = std::chrono::steady_clock::now() - start;
      const double moved = 2 * double(copied_.storage()->bytes());
      shares.push_back(bytes / seconds_of(w, mode) / (moved / copying.count()));
    }
    return median(shares);
  }

  void measure(const Workload& w, const std::string& mode, Row& row) {
    seconds_of(w, mode);
    const double once = std::max(seconds_of(w, mode), 1e-9);
    const int batch = std::clamp(int(20e-6 / once), 1, 200);
    const int repeats = std::max(1, int(options_.seconds / once / batch));
    for (int round = 0; round < options_.rounds; ++round) {
      std::vector<double> ours;
      seconds_of(w, mode);  // the first run after a pause is slow, on both sides
      for (int i = 0; i < repeats; ++i) ours.push_back(seconds_of(w, mode, batch));
      row.ours.insert(row.ours.end(), ours.begin(), ours.end());
      if (!peer_) continue;
      const nlohmann::json answer =
          peer_->ask({{"op", "time"}, {"mode", mode}, {"batch", batch}, {"repeats", repeats + 1}});
      auto theirs = answer.at("seconds").get<std::vector<double>>();
      theirs.erase(theirs.begin());
      row.theirs.insert(row.theirs.end(), theirs.begin(), theirs.end());
      row.ratios.push_back(median(theirs) / median(ours));
    }
  }

  Options options_;
  fs::path folder_;  // of the files that both sides read
  std::unique_ptr<Peer> peer_;
  std::vector<Row> rows_;
  Tensor copied_ = zeros({30'000'000});
};

void run_all(const Options& options) {
  Bench bench(options);
  fmt::print("{} threads\n\n{}\n", options.threads, table_head(bench.has_peer(), options.ops));
  if (options.ops) {
    for (std::int64_t n : {1, 1'000, 1'000'000, 30'000'000})
      for (const OpWorkload& op : ops(n)) bench.run(op.workload, op.bytes);
    for (std::int64_t n : {1'000, 1'009, 10'000, 100'000})
      for (const OpWorkload& op : transforms(n)) bench.run(op.workload);
    return bench.write();
  }
  constexpr std::pair<std::int64_t, std::int64_t> sizes[] = {
      {2, 64}, {4, 128}, {2, 1024}, {1, 4096}};
  for (auto [B, T] : sizes)
    for (const auto& [name, heads] : examples::kConfigurations)
      bench.run(hybrid(name, heads, B, T));
  bench.run(gpt());
  bench.write();
}

}  // namespace
}  // namespace triad::bench

int main(int argc, char** argv) {
  triad::bench::Options options;
  CLI::App app("Measures attention layers and a training step.");
  app.add_option("--peers", options.python, "a Python that has PyTorch, to run beside");
  app.add_option("--only", options.only, "rows whose name and size contain this text");
  app.add_flag("--ops", options.ops, "single ops instead; the JSON file is then ops.json");
  app.add_option("--rounds", options.rounds, "rounds to alternate")->check(CLI::PositiveNumber);
  app.add_option("--seconds", options.seconds, "of each side in a round")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--threads", options.threads, "threads of both sides")->check(CLI::PositiveNumber);
  app.add_option("--out", options.out, "the JSON file");
  try {
    app.parse(argc, argv);
    if (options.ops && app.count("--out") == 0) options.out.replace_filename("ops.json");
    triad::bench::run_all(options);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
  } catch (const std::exception& error) {
    fmt::print(stderr, "triad_bench: {}\n", error.what());
    return 2;
  }
}
