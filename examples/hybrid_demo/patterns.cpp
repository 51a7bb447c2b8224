// Section 4: what the heads of each type make of the same input, and what they attend to.
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include <triad/examples/hybrid_demo/palette.h>
#include <triad/examples/hybrid_demo/sections.h>

namespace triad::examples {
namespace {

constexpr std::int64_t kLength = 32;

// From nothing to much, in steps that the eye sees as equal (a few points of matplotlib's viridis);
// and from negative (red) to positive (blue).
constexpr const char* kViridis =
    R"(set palette defined (0 "#440154", 1 "#3b528b", 2 "#21918c", 3 "#5ec962", 4 "#fde725"))";
constexpr const char* kSigned = R"(set palette defined (0 "#b2182b", 1 "#ffffff", 2 "#2166ac"))";

// The heads [B,count,T,D] of one type, as the layer hands them to their module.
struct Heads {
  nn::HeadType type;
  Tensor q, k, v, out;
};

std::vector<Heads> run_heads(nn::HybridAttentionLayer& layer, const Tensor& x) {
  const std::int64_t B = x.size(0), T = x.size(1);
  const Tensor qkv = layer.W_qkv(x).view({B, T, 3, layer.n_heads, layer.d_head});
  const Tensor packed = qkv.permute({2, 0, 3, 1, 4});  // [3,B,H,T,D]
  std::vector<Heads> groups;
  std::int64_t first = 0;
  for (const auto& [type, count] : layer.head_type_counts) {
    auto heads = [&](std::int64_t part) {
      return packed.select(0, part).slice(1, first, first + count);
    };
    groups.push_back({type, heads(0), heads(1), heads(2), {}});
    groups.back().out = (*layer.attention_modules.at(type))(heads(0), heads(1), heads(2));
    first += count;
  }
  return groups;
}

// One [T,T] map for each head: row t says how much position t takes from each position s.
Tensor softmax_map(const Tensor& q, const Tensor& k) {
  const double scale = 1 / std::sqrt(double(q.size(-1)));
  return softmax(matmul(q, k.transpose(-1, -2)) * scale, -1).select(0, 0);
}

// A filter maps time to time whatever the channel: its matrix is what it makes of each impulse.
Tensor filter_map(const nn::SpectralAttention& spectral, std::int64_t T) {
  const std::int64_t H = spectral.n_heads, bins = T / 2 + 1;
  const Tensor time = arange(double(T), {.device = spectral.log_gain.device()});
  const Tensor impulses = (time.unsqueeze(1) == time).to(f32).reshape({T, T, 1, 1});
  const Tensor y = spectral_filter(impulses.expand({T, T, H, 1}), at_bins(spectral.log_gain, bins),
                                   at_bins(spectral.phase, bins));  // [s,t,H,1]
  return y.squeeze(-1).permute({2, 1, 0});
}

Tensor attention_map(nn::HybridAttentionLayer& layer, const Heads& heads) {
  nn::HeadGroup& module = *layer.attention_modules.at(heads.type);
  if (auto* spectral = dynamic_cast<nn::SpectralHeads*>(&module))
    return filter_map(spectral->spectral_attn, heads.q.size(2));
  if (auto* holonomy = dynamic_cast<nn::HolonomyAttention*>(&module))
    return softmax_map(matmul(heads.q, holonomy->curvature), heads.k);
  return softmax_map(heads.q, heads.k);
}

void statistics(Report& report, const std::vector<Heads>& groups) {
  Table table{"outputs",
              {{"head type", "type"},
               {"heads", "heads"},
               {"output", "shape"},
               {"mean", "mean"},
               {"std", "std"},
               {"max", "max"},
               {"min", "min"}}};
  std::string data = "# type, mean, std, max, min, color\n";
  for (const Heads& heads : groups) {
    const Tensor& y = heads.out;
    const double values[] = {mean(y).item<double>(), std::sqrt(var(y).item<double>()),
                             max(y).item<double>(), min(y).item<double>()};
    table.rows.push_back({nn::name(heads.type), y.size(1), shape_cell(y)});
    data += nn::name(heads.type);
    for (double value : values) {
      table.rows.back().push_back({value, "{:.3f}"});
      data += fmt::format(" {:.6g}", value);
    }
    data += fmt::format(" {}\n", color_number(style(heads.type)));
  }
  report.table(table);
  report.chart({.name = "outputs",
                .title = "Outputs of the heads of each type on the same input.",
                .width = 800,
                .height = 600,
                .data = data,
                .plot = R"(  set multiplot layout 2,2
  set style fill solid 0.9 border -1
  set boxwidth 0.6
  set border 3
  set xtics nomirror scale 0 font ",11"
  set ytics nomirror font ",11"
  set offsets 0.5,0.5,graph 0.2,graph 0.2
  set xzeroaxis linetype -1
  unset key
  do for [at = 2:5] {
    set title word("mean std max min", at - 1)
    plot "outputs.dat" using 0:at:(0.6):6:xtic(1) with boxes linecolor rgb variable, \
         "" using 0:(column(at) < 0 ? NaN : column(at)):(sprintf("%.3f", column(at))) \
           with labels offset 0,0.8, \
         "" using 0:(column(at) < 0 ? column(at) : NaN):(sprintf("%.3f", column(at))) \
           with labels offset 0,-0.8
  }
  unset multiplot
)"});
}

void maps(Report& report, nn::HybridAttentionLayer& layer, const std::vector<Heads>& groups) {
  std::string data, panels;
  int index = 0;
  for (const Heads& heads : groups) {
    const Tensor map = attention_map(layer, heads).to(Device::cpu()).contiguous();  // [heads,T,T]
    const float* value = map.data<float>();
    const double widest = max(abs(map)).item<double>();
    const bool is_filter = heads.type == nn::HeadType::spectral;
    for (std::int64_t head = 0; head < map.size(0); ++head, ++index) {
      data += fmt::format("{}# {} {}: a row for each query t, a column for each s\n",
                          index == 0 ? "" : "\n\n", nn::name(heads.type), head + 1);
      for (std::int64_t t = 0; t < kLength; ++t)
        for (std::int64_t s = 0; s < kLength; ++s)
          data += fmt::format("{:.5g}{}", *value++, s + 1 == kLength ? '\n' : ' ');
      // A filter of a new layer is nearly the identity: what lies beside it shows at a tenth of it.
      const double top = is_filter ? widest / 10 : widest;
      panels += fmt::format(R"(  set title "{0} {1}" textcolor rgb "{2}"
  set cbrange [{3:.4g}:{4:.4g}]
  set cbtics ({3:.4g}, {4:.4g}) format "%.2g"
  {5}
  eval "plot 'maps.dat' index {6} matrix with image ".cells
)",
                            nn::name(heads.type), head + 1, style(heads.type).color,
                            is_filter ? -top : 0, top, is_filter ? kSigned : kViridis, index);
    }
  }
  report.chart(
      {.name = "maps",
       .title = "How much position t (down) takes from position s (across): softmax "
                "weights of standard and holonomy heads, the mixing matrix of spectral "
                "heads. A filter has the same values along every diagonal; they may be "
                "negative (red), and the largest, on the main diagonal, are ten times "
                "what the darkest blue stands for. Each type has a scale of its own.",
       .width = 1100,
       .height = 560,
       .data = data,
       // Browsers would blur an image of so few pixels; PNGs would show seams between cells.
       .plot = fmt::format(R"(  cells = (format eq "svg" ? "pixels" : "")
  set multiplot layout 2,4
  set xrange [-0.5:{0}]
  set yrange [{0}:-0.5]
  set size ratio 1
  set xtics 10 out nomirror
  set ytics 10 out nomirror
  unset key
{1}  unset multiplot
)",
                           double(kLength) - 0.5, panels)});
}

void response(Report& report, const nn::SpectralAttention& spectral) {
  const Tensor gain = exp(spectral.log_gain.detach().to(Device::cpu()));
  const Tensor phase = spectral.phase.detach().to(Device::cpu());
  const std::int64_t H = gain.size(0), F = gain.size(1);
  std::string data = "# frequency / pi, then for each head gain and phase\n", gains, phases;
  for (std::int64_t k = 0; k < F; ++k) {
    data += fmt::format("{:.6g}", double(k) / double(F - 1));
    for (std::int64_t h = 0; h < H; ++h)
      data += fmt::format(" {:.6g} {:.6g}", gain.select(0, h).select(0, k).item<double>(),
                          phase.select(0, h).select(0, k).item<double>());
    data += "\n";
  }
  Table table{"filters",
              {{"spectral head", "head"},
               {"gain at 0", "gain_0"},
               {"gain at pi", "gain_pi"},
               {"largest phase, rad", "phase"}}};
  for (std::int64_t h = 0; h < H; ++h) {
    const Tensor own = gain.select(0, h);
    table.rows.push_back({h + 1,
                          {own.select(0, 0).item<double>(), "{:.3f}"},
                          {own.select(0, F - 1).item<double>(), "{:.3f}"},
                          {max(abs(phase.select(0, h))).item<double>(), "{:.3f}"}});
    const auto line = [&](std::int64_t column) {
      return fmt::format(
          R"("response.dat" using 1:{} with lines linecolor rgb "{}" linewidth {} dashtype {} title "spectral {}", )",
          column, h % 2 == 0 ? style(nn::HeadType::spectral).color : kDarkSpectral,
          h % 2 == 0 ? 3 : 1, h + 1, h + 1);
    };
    gains += line(2 + 2 * h);
    phases += line(3 + 2 * h);
  }
  gains.resize(gains.size() - 2), phases.resize(phases.size() - 2);
  report.table(table);
  report.chart({.name = "response",
                .title = "The frequency response of the spectral heads of a new layer: a gentle "
                         "low pass, and a phase that is small and random.",
                .width = 900,
                .height = 340,
                .data = data,
                .plot = fmt::format(R"(  set multiplot layout 1,2
  set grid
  set xlabel "frequency / pi"
  set title "gain"
  set yrange [0:*]
  set key bottom left
  plot {}
  set title "phase, radians"
  set autoscale y
  set offsets 0,0,graph 0.2,0
  set key top right
  plot {}
  unset multiplot
)",
                                    gains, phases)});
}

}  // namespace

bool attention_patterns(Report& report, nn::HybridAttentionLayer& layer) {
  report.section("Attention pattern analysis", "patterns");
  NoGradGuard guard;
  layer.eval();
  const Tensor x = randn({1, kLength, kModelSize}, {.device = layer.W_o.weight.device()});
  const std::vector<Heads> groups = run_heads(layer, x);
  report.text(
      "The layer of section 1 in eval mode: the module of each head type on its own q, k and v. "
      "Spectral heads take their q alone and add it to what they make of it, which is why their "
      "outputs are larger; softmax over so many near-equal scores averages.");
  report.facts({{"Input shape", "input_shape", shape_cell(x)}});
  statistics(report, groups);
  report.text(
      "Whom the heads hear: for softmax heads their weights, for spectral heads the matrix of "
      "their filter over time (what W_v before it and W_o behind it do to channels is not in it, "
      "nor what they add of their input).");
  maps(report, layer, groups);
  auto* spectral =
      dynamic_cast<nn::SpectralHeads*>(layer.attention_modules.at(nn::HeadType::spectral).get());
  response(report, spectral->spectral_attn);
  return true;
}

}  // namespace triad::examples
