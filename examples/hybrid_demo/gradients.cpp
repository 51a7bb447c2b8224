// Section 5: where gradients go.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include <triad/examples/hybrid_demo/palette.h>
#include <triad/examples/hybrid_demo/sections.h>

namespace triad::examples {
namespace {

double norm_of(const Tensor& gradient) { return norm(gradient).item<double>(); }

// The norms of the gradients of all parameters that the heads of each type own.
std::map<nn::HeadType, std::vector<double>> norms_by_type(const nn::HybridAttentionLayer& layer) {
  std::map<nn::HeadType, std::vector<double>> norms;
  for (const auto& [type, count] : layer.head_type_counts) {
    const std::string prefix = std::string("attention_modules.") + nn::name(type) + ".";
    norms[type] = {};
    for (const auto& [name, p] : layer.named_parameters())
      if (name.starts_with(prefix)) norms[type].push_back(norm_of(p.grad()));
  }
  return norms;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum / double(values.size());
}

}  // namespace

bool gradient_flow(Report& report, const DemoOptions& options) {
  report.section("Gradient flow analysis", "gradients");
  nn::HybridAttentionLayer layer = make_layer("standard*4, spectral*2, holonomy*2", options.device);
  Tensor x = randn({2, 16, kModelSize}, {.device = options.device, .requires_grad = true});
  sum(layer(x)).backward();

  report.text("A new layer without dropout; the loss is the sum of the output.");
  report.facts({{"Input shape", "input_shape", shape_cell(x)},
                {"Input gradient norm", "input_norm", {norm_of(x.grad()), "{:.6f}"}}});
  Table parameters{"parameters", {{"parameter", "name"}, {"gradient norm", "norm"}}};
  for (const auto& [name, p] : layer.named_parameters())
    parameters.rows.push_back({name, {norm_of(p.grad()), "{:.6f}"}});
  report.table(parameters);

  double own_smallest = HUGE_VAL, own_largest = 0;
  std::string data = "# type, mean norm over its own parameters, color\n";
  Table by_type{"by_type",
                {{"own parameters of", "type"},
                 {"tensors", "tensors"},
                 {"avg", "average"},
                 {"max", "max"},
                 {"min", "min"}}};
  for (const auto& [type, norms] : norms_by_type(layer)) {
    std::vector<Cell> row{nn::name(type), std::int64_t(norms.size())};
    if (norms.empty()) {
      row.resize(5, Cell("none", nullptr));
      data += fmt::format("{} 0 0\n", nn::name(type));
    } else {
      row.emplace_back(mean_of(norms), "{:.6f}");
      row.emplace_back(*std::max_element(norms.begin(), norms.end()), "{:.6f}");
      row.emplace_back(*std::min_element(norms.begin(), norms.end()), "{:.6f}");
      data +=
          fmt::format("{} {:.6g} {}\n", nn::name(type), mean_of(norms), color_number(style(type)));
      own_smallest = std::min(own_smallest, mean_of(norms));
      own_largest = std::max(own_largest, mean_of(norms));
    }
    by_type.rows.push_back(std::move(row));
  }
  report.table(by_type);

  report.text(
      "Standard heads own no parameters, so there is nothing of theirs to compare. What all three "
      "types have in common is W_qkv, whose rows belong to q, k and v of each head; the gradient "
      "that arrives at the rows of each type, per head:");
  Table slices{"slices",
               {{"rows of W_qkv.weight of", "type"},
                {"heads", "heads"},
                {"q", "q"},
                {"k", "k"},
                {"v", "v"}}};
  data += "\n\n# at q, k, v: place, norm per head (none: 0), color\n";
  const Tensor rows = layer.W_qkv.weight.grad().view({3, layer.n_heads, layer.d_head, kModelSize});
  double smallest = HUGE_VAL, largest = 0;
  std::int64_t first = 0;
  for (const auto& [type, count] : layer.head_type_counts) {
    slices.rows.push_back({nn::name(type), std::int64_t(count)});
    for (int part = 0; part < 3; ++part) {
      double norm = 0;
      for (std::int64_t head = first; head < first + count; ++head)
        norm += norm_of(rows.select(0, part).select(0, head)) / count;
      slices.rows.back().push_back({norm, "{:.6f}"});
      data += fmt::format("{} {:.6g} {}\n", part + 0.27 * (int(type) - 1), norm,
                          color_number(style(type)));
      largest = std::max(largest, norm);
      if (norm > 0) smallest = std::min(smallest, norm);
    }
    first += count;
  }
  report.table(slices);
  report.text(
      "Spectral heads use neither k nor v, so nothing arrives there. Queries and keys of softmax "
      "heads get far less than values: at the start every position averages, and to attend a "
      "little differently changes little.");
  report.chart(
      {.name = "gradients",
       .title =
           "Gradient norms. Left: the mean over the parameters that the heads of a "
           "type own (standard heads own none). Right: what arrives at each type's "
           "rows of W_qkv, per head (nothing at k and v of spectral heads); from left to right "
           "standard, spectral, holonomy.",
       .width = 900,
       .height = 420,
       .data = data,
       .plot = fmt::format(
           R"(  set multiplot layout 1,2
  set style fill solid 0.9 border -1
  set logscale y
  set format y "10^{{%L}}"
  set border 3
  set xtics nomirror
  set ytics nomirror
  unset key
  set title "average over own parameters"
  set xrange [-0.7:2.7]
  set yrange [{0:.3g}:{1:.3g}]
  plot "gradients.dat" index 0 using 0:($2 > 0 ? $2 : NaN):(0.6):3:xtic(1) with boxes \
         linecolor rgb variable, \
       "" index 0 using 0:($2 > 0 ? $2 : {0:.3g}):($2 > 0 ? sprintf("%.2e", $2) : "none") \
         with labels offset 0,0.8
  set title "at the rows of W_qkv, per head" noenhanced
  set key top left reverse Left
  set xtics ("q" 0, "k" 1, "v" 2)
  set xrange [-0.5:2.5]
  set yrange [{2:.3g}:{3:.3g}]
  set boxwidth 0.25
  plot "gradients.dat" index 1 every ::0::2 using 1:($2 > 0 ? $2 : NaN) with boxes \
         linecolor rgb "{4}" title "standard", \
       "" index 1 every ::3::5 using 1:($2 > 0 ? $2 : NaN) with boxes \
         linecolor rgb "{5}" title "spectral", \
       "" index 1 every ::6::8 using 1:($2 > 0 ? $2 : NaN) with boxes \
         linecolor rgb "{6}" title "holonomy", \
       "" index 1 using 1:($2 > 0 ? $2 : {2:.3g}):(sprintf("%.3g", $2)) with labels \
         offset 0,0.8 font ",10" notitle
  unset multiplot
)",
           own_smallest / 10, own_largest * 5, smallest / 10, largest * 20,
           style(nn::HeadType::standard).color, style(nn::HeadType::spectral).color,
           style(nn::HeadType::holonomy).color)});
  return true;
}

}  // namespace triad::examples
