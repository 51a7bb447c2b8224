// The programs train_lm and generate as a user meets them: their files, exit codes and one-line
// errors, and what is left after Ctrl-C, a full disk and a loss that is NaN.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include <triad/nn/files.h>
#include <triad/nn/safetensors.h>
#include <triad/tests/program_test.h>

namespace fs = std::filesystem;
using namespace triad;

namespace {

// A folder with a text and, in `run`, what a small training left there.
struct Fixture {
  Fixture() { write_text(folder / "text"); }
  Words train(const Words& more) const {
    Words words = {
        "train_lm",  "--data",  path("text"), "--heads", "standard*2, spectral, holonomy",
        "--d-model", "16",      "--layers",   "1",       "--seq",
        "16",        "--batch", "2"};
    // Given twice is an error, so what `more` gives is left out.
    for (std::size_t i = 1; i < words.size();)
      if (std::find(more.begin(), more.end(), words[i]) != more.end())
        words.erase(words.begin() + long(i), words.begin() + long(i) + 2);
      else i += 2;
    words.insert(words.end(), more.begin(), more.end());
    if (std::find(more.begin(), more.end(), "--out") == more.end())
      words.insert(words.end(), {"--out", path("run")});
    return words;
  }
  Result run(const Words& words) const { return Running(folder, words).wait(); }
  std::string path(const std::string& name) const { return (folder / name).string(); }
  std::vector<nlohmann::json> metrics() const { return read_metrics(folder / "run"); }
  // Waits until training has done this many steps.
  void wait_for_steps(std::size_t steps) const {
    for (int i = 0; i < 6000; ++i) {
      std::error_code missing;
      if (fs::file_size(folder / "run/metrics.jsonl", missing) > 80 * steps && !missing) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL("training does not start");
  }

  TemporaryFolder folder;
};

}  // namespace

TEST_CASE("a training run and what it leaves") {
  Fixture f;
  const Result result = f.run(f.train(
      {"--steps", "60", "--eval-every", "25", "--sample", "20", "--lr", "0.01", "--seed", "7"}));
  CHECK(result.err == "");
  REQUIRE(result.code == 0);
  for (const char* part :
       {"step 1/60  loss 5.", "held out", "bits)", "tokens/s", " left\n", "---- sample\n"})
    CHECK(result.out.find(part) != std::string::npos);
  CHECK(result.out.find('\r') == std::string::npos);  // that is for terminals

  const auto lines = f.metrics();
  REQUIRE(lines.size() == 60);
  for (std::size_t i = 0; i < 60; ++i) {
    CHECK(lines[i].at("step") == i + 1);
    for (const char* key : {"loss", "lr", "tokens_per_s", "seconds"})
      CHECK(lines[i].at(key).get<double>() > 0);
    CHECK(lines[i].contains("val_loss") == (i + 1 == 25 || i + 1 == 50 || i + 1 == 60));
  }
  CHECK(lines.front().at("loss").get<double>() == doctest::Approx(std::log(256.0)).epsilon(0.05));
  CHECK(lines.back().at("val_loss").get<double>() < 4.0);

  const auto config = nlohmann::json::parse(nn::read_file(f.folder / "run/config.json"));
  CHECK(config.at("vocabulary") == "bytes");
  CHECK(config.at("model").at("heads") == "standard*2, spectral, holonomy");
  CHECK(config.at("training").at("seed") == 7);
  CHECK(nn::load_safetensors(f.folder / "run/model.safetensors").contains("tok.weight"));
  CHECK(nn::read_file(f.folder / "run/loss.dat").find("held-out") != std::string::npos);
  if (has_gnuplot)
    CHECK(nn::read_file(f.folder / "run/loss.svg").find("</svg>") != std::string::npos);

  // The same seed, the same model; another one, another.
  const std::string model = nn::read_file(f.folder / "run/model.safetensors");
  const Words again = {"--steps", "60", "--eval-every", "25", "--lr", "0.01", "--sample", "0"};
  auto with_seed = [&](const char* seed) {
    Words words = again;
    words.insert(words.end(), {"--seed", seed});
    REQUIRE(f.run(f.train(words)).code == 0);
    return nn::read_file(f.folder / "run/model.safetensors");
  };
  CHECK(with_seed("7") == model);
  CHECK(with_seed("8") != model);
}

TEST_CASE("Ctrl-C saves and ends cleanly") {
  for (int number : {SIGINT, SIGTERM}) {
    Fixture f;
    Running training(f.folder, f.train({"--steps", "100000000", "--eval-every", "100000000"}));
    f.wait_for_steps(3);
    const std::string before = nn::read_file(f.folder / "run/model.safetensors");
    training.signal(number);
    const Result result = training.wait();
    CHECK(result.code == 128 + number);
    CHECK(result.err == "");
    CHECK(result.out.find("of 100000000 steps done; the run is in ") != std::string::npos);
    CHECK(f.metrics().size() >= 3);
    CHECK(nn::read_file(f.folder / "run/model.safetensors") != before);
    CHECK(fs::exists(f.folder / "run/loss.svg") == has_gnuplot);
    CHECK(f.run({"generate", f.path("run"), "--tokens", "5"}).code == 0);
  }
}

TEST_CASE("a killed training leaves files that can be read") {
  Fixture f;
  Running training(f.folder, f.train({"--steps", "100000000", "--eval-every", "1"}));
  f.wait_for_steps(4);
  training.signal(SIGKILL);
  CHECK(training.wait().code == -SIGKILL);
  CHECK(f.metrics().size() >= 4);
  CHECK(f.run({"generate", f.path("run"), "--tokens", "5"}).code == 0);
}

TEST_CASE("a full disk ends training with one line, and what was there stays") {
  Fixture f;
  REQUIRE(f.run(f.train({"--steps", "2", "--sample", "0"})).code == 0);
  const std::string model = nn::read_file(f.folder / "run/model.safetensors");
  auto with_limit = [&](std::size_t bytes, const Words& words) {
    rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = {bytes, before.rlim_max};
    auto handler = ::signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    Running training(f.folder, words);
    setrlimit(RLIMIT_FSIZE, &before);
    ::signal(SIGXFSZ, handler);
    return training.wait();
  };
  Result result = with_limit(model.size() - 1, f.train({"--steps", "2"}));
  CHECK(result.code == 1);
  CHECK(result.err ==
        "train_lm: " + f.path("run/model.safetensors") + ": cannot write: File too large\n");
  CHECK(nn::read_file(f.folder / "run/model.safetensors") == model);

  // Now the model fits, and the metrics grow until they do not.
  result = with_limit(model.size() + 10, f.train({"--steps", "100000000", "--seq", "1", "--batch",
                                                  "1", "--eval-every", "100000000"}));
  CHECK(result.code == 1);
  CHECK(result.err ==
        "train_lm: " + f.path("run/metrics.jsonl") + ": cannot write: File too large\n");
  CHECK(f.metrics().size() > 100);  // every line is whole
}

TEST_CASE("a loss that is NaN ends training with one line that says what to do") {
  Fixture f;
  // One step changes every log_gain by about a million, and exp of that is infinite.
  const Result result =
      f.run(f.train({"--steps", "5", "--lr", "1e6", "--eval-every", "1", "--heads", "spectral*4"}));
  CHECK(result.code == 1);
  CHECK(result.one_line());
  CHECK(result.err.find(" at step ") != std::string::npos);
  CHECK(result.err.find("try a lower --lr (it is 1000000)") != std::string::npos);
  for (auto& [name, p] : nn::load_safetensors(f.folder / "run/model.safetensors"))
    for (float v : p.to_vector<float>()) REQUIRE(std::isfinite(v));
  CHECK(f.run({"generate", f.path("run"), "--tokens", "5"}).code == 0);
}

TEST_CASE("what train_lm refuses, before it touches anything") {
  Fixture f;
  nn::write_file_atomically(f.folder / "empty", "");
  nn::write_file_atomically(f.folder / "short", std::string(100, 'x'));
  fs::create_directory(f.folder / "nothing");
  const std::pair<Words, std::string> cases[] = {
      {{"--unknown", "3"}, "--unknown"},
      {{"--steps"}, "--steps"},
      {{"--steps", "0"}, "--steps: needs a number from 1 to "},
      {{"--steps", "many"}, "--steps"},
      {{"--steps", "1.5"}, "--steps"},
      {{"--steps", "99999999999999999999"}, "--steps: needs a number from 1 to "},
      {{"--lr", "nan"}, "--lr: needs a number from 0 to 1000000, got nan"},
      {{"--lr", "-1"}, "--lr: needs a number from 0 to 1000000, got -1"},
      {{"--dropout", "1"}, "--dropout: needs a number from 0 to 0.99, got 1"},
      {{"--seed", "-1"}, "--seed"},
      {{"--device", "gpu"}, "--device: needs cpu, cuda or cuda:N, got gpu"},
      {{"--heads", "standard*3"},
       "--d-model 16 cannot be shared by the 3 heads of --heads: take a multiple of 3"},
      {{"--heads", "standart"}, "unknown head type 'standart'"},
      {{"--heads", ""}, "heads"},
      {{"--d-model", "15"},
       "--d-model 15 cannot be shared by the 4 heads of --heads: take a multiple of 4"},
      {{"--d-model", "16384", "--layers", "1024"}, "GiB"},
      {{"--data", f.path("missing")},
       f.path("missing") + ": cannot read: No such file or directory"},
      {{"--data", f.path("empty")}, "the text has 0 bytes"},
      {{"--data", f.path("nothing")}, "the text has 0 bytes"},
      {{"--data", f.path("short")}, "the text has 100 bytes; windows of 16 need at least 170"},
      {{"--out", f.path("text")}, f.path("text") + ": cannot make this folder"},
      {{"--out", "/proc/no/run"}, "/proc/no/run: cannot make this folder"},
  };
  for (const auto& [words, text] : cases) {
    CAPTURE(text);
    const Result result = f.run(f.train(words));
    CAPTURE(result.err);
    CHECK(result.code == 2);
    CHECK(result.one_line());
    CHECK(result.err.starts_with("train_lm: "));
    CHECK(result.err.find(text) != std::string::npos);
    CHECK_FALSE(fs::exists(f.folder / "run"));
  }
  const Result help = f.run({"train_lm", "--help"});
  CHECK(help.code == 0);
  CHECK(help.err == "");
  for (const char* flag :
       {"--data", "--heads", "--d-model", "--layers", "--seq", "--batch", "--steps", "--lr",
        "--dropout", "--seed", "--eval-every", "--sample", "--out", "--threads", "--device"})
    CHECK(help.out.find(flag) != std::string::npos);
}

TEST_CASE("generate continues a prompt") {
  Fixture f;
  REQUIRE(f.run(f.train({"--steps", "30", "--sample", "0"})).code == 0);
  auto text = [&](const Words& more) {
    Words words = {"generate", f.path("run")};
    words.insert(words.end(), more.begin(), more.end());
    const Result result = f.run(words);
    CHECK(result.err == "");
    CHECK(result.code == 0);
    return result.out;
  };
  const std::string one = text({"--prompt", "line 1", "--tokens", "40", "--seed", "1"});
  CHECK(one.starts_with("line 1"));
  CHECK(text({"--prompt", "line 1", "--tokens", "40", "--seed", "1"}) == one);
  CHECK(text({"--prompt", "line 1", "--tokens", "40", "--seed", "2"}) != one);
  const Words greedy = {"--tokens", "40", "--temperature", "0", "--seed"};
  auto with = [](Words words, const char* last) { return words.push_back(last), words; };
  CHECK(text(with(greedy, "1")) == text(with(greedy, "2")));
  CHECK(text({"--tokens", "40", "--top-k", "1"}) == text(with(greedy, "0")));
  CHECK(text({"--prompt", "", "--tokens", "0"}) == "\n\n");
  CHECK(text({"--prompt", std::string(100, 'x'), "--tokens", "0"}) == std::string(100, 'x') + "\n");
  CHECK(text({"--prompt", "\x1b[2J\xff", "--tokens", "0"}) == "\\x1b[2J\\xff\n");

  const std::pair<Words, std::string> cases[] = {
      {{}, "RUN"},
      {{f.path("run"), "--tokens", "-1"}, "--tokens: needs a number from 0 to "},
      {{f.path("run"), "--temperature", "nan"}, "--temperature: needs a number from 0 to "},
      {{f.path("run"), "--top-k", "-1"}, "--top-k: needs a number from 0 to "},
      {{f.path("run"), "--what"}, "--what"},
      {{f.path("none")}, f.path("none") + ": is not the folder of a run"},
      {{f.path("text")}, f.path("text") + ": is not the folder of a run"},
      {{f.folder / "."}, "config.json: cannot read"},
  };
  for (auto [words, expected] : cases) {
    CAPTURE(expected);
    words.insert(words.begin(), "generate");
    const Result result = f.run(words);
    CAPTURE(result.err);
    CHECK(result.code == 2);
    CHECK(result.one_line());
    CHECK(result.err.starts_with("generate: "));
    CHECK(result.err.find(expected) != std::string::npos);
  }
  const Result full = Running(f.folder, {"generate", f.path("run")}, "/dev/full").wait();
  CHECK(full.code == 1);
  CHECK(full.err == "generate: cannot write the text\n");
}
