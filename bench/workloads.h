// What the benchmark runs, each the same on our side and on the peer's (bench/peers.py).
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <triad/nn/module.h>

namespace triad::bench {

struct Workload {
  std::string name, size;          // "Mixed (4+2+2)", "(2,64)"
  std::vector<std::string> modes;  // of peers.py: forward, and maybe another
  nlohmann::json request = {};     // what builds it on the peer's side, less the data file
  nn::StateDict data = {};         // the data file

  std::function<void(const std::string& mode)> run = {};
  // Runs, and hands out what is to be compared, by the peer's names. Empty: there is nothing.
  std::function<nn::StateDict(const std::string& mode)> outputs = {};
  double agree = 1e-3;  // the difference that two orders of adding up in f32 explain
};

// A HybridAttentionLayer of the notebook: d_model 512, 8 heads, no dropout, random x [B,T,512].
Workload hybrid(const std::string& name, const std::string& heads, std::int64_t B, std::int64_t T,
                Device device = {}, std::int64_t d_model = 512);

// A training step of a GPT with 10.9 M parameters: 6 layers of 6 standard heads, d_model 384, T
// 256, B 16, vocabulary 256; AdamW.
Workload gpt();

}  // namespace triad::bench
