#include <triad/examples/common/loss_chart.h>

#include <fmt/format.h>

#include <triad/examples/common/gnuplot.h>

namespace triad::examples {
namespace {

constexpr const char* kScript = R"(# gnuplot loss.gnuplot draws loss.svg from loss.dat
set terminal svg size 800,450 font "sans-serif,14" background "white"
set output "loss.svg"
set xlabel "step"
set ylabel "loss, nats per byte"
set link y2 via y/log(2) inverse y*log(2)
set ytics nomirror
set y2tics 0, 0.5
set y2label "bits per byte"
set grid
plot "loss.dat" index 0 with lines linecolor "#9ecae1" title "training batch", \
     "loss.dat" index 1 with linespoints linecolor "#d94801" linewidth 2 pointtype 7 pointsize 0.5 \
       title "held out"
)";

// Two blocks, which gnuplot calls index 0 and 1.
std::string data_text(const std::vector<Metrics>& metrics) {
  std::string text = "# step, loss of the training batch (nats per byte)\n";
  for (const Metrics& m : metrics) text += fmt::format("{} {:.6g}\n", m.step, m.loss);
  text += "\n\n# step, held-out loss\n";
  for (const Metrics& m : metrics)
    if (m.val_loss) text += fmt::format("{} {:.6g}\n", m.step, *m.val_loss);
  return text;
}

}  // namespace

std::string draw_loss_chart(const RunFolder& folder, const std::vector<Metrics>& metrics) {
  return draw_chart(folder / "", "loss", data_text(metrics), kScript);
}

}  // namespace triad::examples
