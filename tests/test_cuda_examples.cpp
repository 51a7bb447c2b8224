// The example programs with --device cuda: losses beside those of the CPU, and a run's folder that
// the other device reads.
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <sstream>
#include <thread>

#include <triad/examples/common/stop_signal.h>
#include <triad/tests/program_test.h>
#include <triad/tests/test_device.h>
#include <triad/triad.h>

using nlohmann::json;
using namespace triad;

namespace {

struct Fixture {
  Fixture() { write_text(folder / "text"); }
  std::string path(const std::string& name) const { return (folder / name).string(); }
  // What the program prints.
  std::string run(const Words& words) const {
    const Result result = Running(folder, words).wait();
    CAPTURE(words[0]);
    CHECK(result.err == "");
    REQUIRE(result.code == 0);
    return result.out;
  }
  // Trains on the device, into a folder of its name.
  std::string train(const std::string& device) const {
    Words words = {"train_lm", "--heads", "standard*2, spectral, holonomy"};
    std::istringstream rest(
        "--d-model 16 --layers 1 --seq 16 --batch 2 --steps 20 --eval-every 10 "
        "--sample 4 --lr 0.01");
    for (std::string word; rest >> word;) words.push_back(word);
    words.insert(words.end(), {"--device", device, "--out", path(device), "--data", path("text")});
    return run(words);
  }

  TemporaryFolder folder;
};

}  // namespace

TEST_CASE("training on the device goes as on the CPU, and each reads the other's model") {
  const Fixture f;
  CHECK(f.train("cpu").find(", on cpu\n") != std::string::npos);
  CHECK(f.train("cuda").find(", on cuda:0\n") != std::string::npos);
  const auto here = read_metrics(f.folder / "cpu"), there = read_metrics(f.folder / "cuda");
  REQUIRE(here.size() == 20);
  REQUIRE(there.size() == 20);
  for (std::size_t i = 0; i < here.size(); ++i)
    for (const char* key : {"loss", "val_loss"}) {
      REQUIRE(here[i].contains(key) == there[i].contains(key));
      if (here[i].contains(key))
        CHECK(there[i].at(key).get<double>() ==
              doctest::Approx(here[i].at(key).get<double>()).epsilon(1e-3));
    }
  const json config = json::parse(nn::read_file(f.folder / "cuda/config.json"));
  CHECK(config.at("training").at("device") == "cuda:0");

  for (const char* model : {"cpu", "cuda"}) {
    const auto text = [&](const char* device) {
      return f.run({"generate", f.path(model), "--device", device, "--prompt", "line", "--tokens",
                    "8", "--temperature", "0"});
    };
    CHECK(text("cuda") == text("cpu"));
  }
}

TEST_CASE("Ctrl-C on the device saves and ends as on the CPU") {
  const Fixture f;
  const Running training(
      f.folder, {"train_lm",    "--d-model", "16",        "--layers",           "1",
                 "--seq",       "8",         "--heads",   "standard, spectral", "--batch",
                 "2",           "--steps",   "100000000", "--eval-every",       "100000000",
                 "--device",    "cuda",      "--out",     f.path("run"),        "--data",
                 f.path("text")});
  const auto metrics = f.folder / "run/metrics.jsonl";
  std::error_code missing;
  for (int i = 0; i < 6000 && (!std::filesystem::exists(metrics, missing) ||
                               std::filesystem::file_size(metrics, missing) < 160);
       ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const std::string before = nn::read_file(f.folder / "run/model.safetensors");
  training.signal(SIGINT);
  const Result result = training.wait();
  CHECK(result.code == 128 + SIGINT);
  CHECK(result.err == "");
  CHECK(result.out.find("of 100000000 steps done; the run is in ") != std::string::npos);
  CHECK(nn::read_file(f.folder / "run/model.safetensors") != before);
  f.run({"generate", f.path("run"), "--device", "cuda", "--tokens", "3"});
}

TEST_CASE("Ctrl-C while a step is captured: it goes on to its end, and nothing is lost") {
  const MemoryStats before = memory_stats(Device::cuda());
  {
    examples::note_stop_signals();
    Tensor w = ones({3}, {.device = Device::cuda()}).requires_grad_();
    nn::Adam optimizer(nn::NamedTensors{{"w", w}}, {.lr = 0.1});
    int calls = 0;
    const auto loss = [&](const Tensors& batch) {
      if (++calls == 2) ::raise(SIGINT);  // the second call is the capture
      return sum(square(w * batch[0]));
    };
    nn::GraphedStep step(optimizer, loss, {.max_norm = 1});
    const Tensors batch{ones({3}, {.device = Device::cuda()})};
    const double first = step(batch).item<double>(), second = step(batch).item<double>();
    CHECK(calls == 2);
    CHECK(examples::stop_signal() == SIGINT);
    CHECK(!is_capturing());
    CHECK(second < first);
  }
  CHECK(memory_stats(Device::cuda()).live_bytes == before.live_bytes);
}

TEST_CASE("the hybrid demo has the CPU's numbers") {
  if (is_simulated()) return;  // layers of 512 channels would take hours
  const Fixture f;
  const auto results = [&](const std::string& device) {
    f.run({"hybrid_demo", "--device", device, "--out", f.path(device), "--data", f.path("text"),
           "--steps", "3", "--runs", "2", "--max-seq", "128"});
    return json::parse(nn::read_file(f.folder / (device + "/results.json")));
  };
  const json here = results("cpu"), there = results("cuda");
  CHECK(there.at("performance").at("device") == "cuda:0");
  // 1e-3: of sums over all elements, which come near zero.
  const auto check = [&](const char* pointer) {
    const json::json_pointer at(pointer);
    const double a = here.at(at).get<double>(), b = there.at(at).get<double>();
    CHECK_MESSAGE(std::abs(a - b) <= 1e-3 * std::max(std::abs(a), 1.0), pointer, ": ", a, " ", b);
  };
  for (const char* pointer :
       {"/forward_pass/mean", "/forward_pass/std", "/forward_pass/min", "/forward_pass/max",
        "/patterns/outputs/0/std", "/patterns/outputs/1/std", "/patterns/outputs/2/std",
        "/gradients/input_norm", "/gradients/slices/2/v", "/training/models/0/loss_after",
        "/training/models/1/loss_after", "/training/models/2/loss_after",
        "/training/models/3/loss_after", "/training/models/4/loss_after"})
    check(pointer);
}
