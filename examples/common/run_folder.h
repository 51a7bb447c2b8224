// The folder of a training run:
//
//   config.json        all options, the kind of vocabulary, and those the model is built from
//   metrics.jsonl      an object a line, written as training goes
//   model.safetensors  the parameters under their PyTorch names
//   loss.svg           drawn by gnuplot from loss.gnuplot and loss.dat, which stay beside it
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <triad/examples/common/trainer.h>

namespace triad::examples {

// How a language model is trained: the options of train_lm.
struct TrainingOptions {
  std::vector<std::string> data = {};
  std::string heads = "standard*4, spectral*2, holonomy*2";
  std::int64_t d_model = 128, layers = 4, seq = 128, batch = 16, steps = 1200;
  double lr = 4e-3, dropout = 0;
  std::uint64_t seed = 42;
  std::int64_t eval_every = 0;  // 0: ten times in all
  std::int64_t sample = 600;
  std::string out = "runs/train_lm";
  int threads = 0;  // 0: OpenMP's default
  Device device = {};

  nn::TransformerLM::Options model() const;  // over bytes
};

class RunFolder {
 public:
  // Makes the folder, writes config.json and begins metrics.jsonl; what an earlier run left there
  // is replaced. Here and below, whatever cannot be written is a FileError.
  explicit RunFolder(const TrainingOptions& options);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  void append(const Metrics& metrics);  // a line, whole or not at all
  void save(const nn::TransformerLM& model) const;

 private:
  std::filesystem::path path_;
  int metrics_ = -1;  // file descriptor
};

// The model of a run, in eval mode. Files that are damaged, foreign or of two runs are a FileError.
nn::TransformerLM load_model(const std::filesystem::path& folder);

}  // namespace triad::examples
