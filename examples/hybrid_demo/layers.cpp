// Sections 1, 2 and 6: the layer, one pass through it, and four configurations.
#include <fmt/format.h>

#include <cmath>
#include <utility>
#include <vector>

#include <triad/examples/common/program.h>
#include <triad/examples/hybrid_demo/sections.h>

namespace triad::examples {

nn::HybridAttentionLayer make_layer(const std::string& heads, Device device, double dropout) {
  nn::HybridAttentionLayer layer(
      {.d_model = kModelSize, .head_types = nn::heads(heads), .dropout = dropout});
  layer.to(device);
  return layer;
}

Cell shape_cell(const Tensor& x) {
  return {x.shape().str(), std::vector<std::int64_t>(x.shape().begin(), x.shape().end())};
}

namespace {

// "4 standard, 2 spectral", in grouped order.
Cell head_counts(const nn::HybridAttentionLayer& layer) {
  std::string text;
  nlohmann::ordered_json value;
  for (const auto& [type, count] : layer.head_type_counts) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, nn::name(type));
    value[nn::name(type)] = count;
  }
  return {text, value};
}

Cell head_list(const nn::HybridAttentionLayer& layer) {
  nlohmann::ordered_json value;
  for (nn::HeadType type : layer.head_types) value.push_back(nn::name(type));
  return {nn::heads_text(layer.head_types), value};
}

// Parameters by the part of the layer that holds them: a projection, or all heads of one type.
std::vector<std::pair<std::string, std::int64_t>> parameters_by_part(
    const nn::HybridAttentionLayer& layer) {
  std::vector<std::pair<std::string, std::int64_t>> counts = {{"W_qkv", 0}, {"W_o", 0}};
  for (const auto& [type, count] : layer.head_type_counts)
    counts.emplace_back(std::string("attention_modules.") + nn::name(type), 0);
  for (auto& [part, count] : counts)
    for (const auto& [name, p] : layer.named_parameters())
      if (name.starts_with(part + ".")) count += p.numel();
  return counts;
}

}  // namespace

bool basic_usage(Report& report, const nn::HybridAttentionLayer& layer) {
  report.section("Basic usage", "basic_usage");
  report.text(
      "One layer with heads of three types side by side: four attend by softmax, two filter their "
      "channels along time, two attend by softmax with queries that a learned matrix carries "
      "first.");
  report.facts({{"Head configuration", "head_types", head_list(layer)},
                {"Total heads", "total_heads", layer.n_heads},
                {"Model dimension", "d_model", kModelSize},
                {"Dimension per head", "d_head", layer.d_head},
                {"Dropout", "dropout", {layer.drop.p, "{}"}},
                {"Number of parameters", "parameters", layer.parameter_count()}});
  Table parts{"parameters_by_part", {{"part", "part"}, {"parameters", "parameters"}}};
  for (const auto& [part, count] : parameters_by_part(layer)) parts.rows.push_back({part, count});
  report.table(parts);
  report.text(
      "Standard heads own nothing beyond their share of W_qkv and W_o. A group of spectral heads "
      "holds projections of its own and, for each head, a gain and a phase at control points over "
      "the frequencies. (Two thirds of its own W_qkv are there for the layout alone and take no "
      "part, and neither do the rows of the layer's W_qkv that would make its keys and values.) "
      "Holonomy heads hold one matrix each.");
  return true;
}

bool forward_pass(Report& report, nn::HybridAttentionLayer& layer) {
  report.section("Forward pass", "forward_pass");
  NoGradGuard guard;
  const Tensor x = randn({4, 128, kModelSize}, {.device = layer.W_o.weight.device()});
  const Tensor y = layer(x);
  report.text("The layer is new and in training mode, so dropout acts.");
  report.facts({{"Input shape", "input_shape", shape_cell(x)},
                {"Output shape", "output_shape", shape_cell(y)},
                {"Mean", "mean", {mean(y).item<double>(), "{:.6f}"}},
                {"Std", "std", {std::sqrt(var(y).item<double>()), "{:.6f}"}},
                {"Min", "min", {min(y).item<double>(), "{:.6f}"}},
                {"Max", "max", {max(y).item<double>(), "{:.6f}"}},
                {"Contains NaN", "contains_nan", any(isnan(y)).item<bool>()},
                {"Contains Inf", "contains_inf", any(isinf(y)).item<bool>()}});
  return true;
}

bool configuration_examples(Report& report, const DemoOptions& options) {
  report.section("Configuration examples", "configuration_examples");
  struct Example {
    const char *name, *description, *heads;
  };
  constexpr Example kExamples[] = {
      {"Balanced Multi-modal", "Equal representation of all attention types for diverse patterns",
       "standard, spectral, holonomy, standard, spectral, holonomy, standard, spectral"},
      {"Spectral-heavy", "Emphasizes frequency-domain processing for long sequences",
       "spectral*6, standard, holonomy"},
      {"Standard-dominant", "Mostly standard attention with some specialized heads",
       "standard*6, spectral, holonomy"},
      {"Alternating Pattern", "Alternating pattern for diverse information processing",
       "standard, spectral, holonomy, standard, spectral, holonomy, standard*2"},
  };
  report.text(
      "Heads may be listed in any order; the layer groups them by type. A forward pass on each:");
  Table table{"examples",
              {{"name", "name"},
               {"head counts", "head_counts"},
               {"heads", "total_heads"},
               {"input", "input_shape"},
               {"output", "output_shape"},
               {"finite", "finite"}}};
  for (const Example& example : kExamples) {
    nn::HybridAttentionLayer layer = make_layer(example.heads, options.device);
    const Tensor x = randn({1, 16, kModelSize}, {.device = options.device});
    const Tensor y = no_grad([&] { return layer(x); });
    report.text(fmt::format("{}: {}. Configuration: {}.", example.name, example.description,
                            example.heads));
    table.rows.push_back({example.name, head_counts(layer), layer.n_heads, shape_cell(x),
                          shape_cell(y), all_finite(y)});
  }
  report.table(table);
  return true;
}

}  // namespace triad::examples
