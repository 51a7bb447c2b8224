// The sections of the demo, in the order of the notebook that it follows. Each says what it found
// through the report, and returns whether it got to its end: false after a stop signal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <triad/examples/common/text_data.h>
#include <triad/examples/hybrid_demo/report.h>
#include <triad/nn/attention.h>

namespace triad::examples {

inline constexpr std::int64_t kModelSize = 512;    // d_model of every layer but those of training
inline constexpr std::int64_t kTrainingSeq = 128;  // bytes that a model in training sees at once

struct DemoOptions {
  std::string out = "runs/hybrid_demo";
  std::vector<std::string> data = {};  // what the models of the last section train on
  std::int64_t steps = 300;            // of training, for each configuration
  std::int64_t runs = 10;              // of each timing, at most
  std::int64_t max_seq = 4096;         // where the sweep over T ends
  std::uint64_t seed = 42;
  int threads = 0;  // 0: OpenMP's default
  Device device = {};
};

bool basic_usage(Report& report, const nn::HybridAttentionLayer& layer);
bool forward_pass(Report& report, nn::HybridAttentionLayer& layer);
bool performance_comparison(Report& report, const DemoOptions& options);
bool attention_patterns(Report& report, nn::HybridAttentionLayer& layer);
bool gradient_flow(Report& report, const DemoOptions& options);
bool configuration_examples(Report& report, const DemoOptions& options);
bool training(Report& report, const DemoOptions& options, const TextData& text);

// "standard*4, ..." as a layer of kModelSize with its other options at their defaults.
nn::HybridAttentionLayer make_layer(const std::string& heads, Device device, double dropout = 0);

Cell shape_cell(const Tensor& x);  // "[4,128,512]"

}  // namespace triad::examples
