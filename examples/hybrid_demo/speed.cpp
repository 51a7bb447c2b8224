// Section 3: how long a layer takes, at B=2, T=64 and over T.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>

#include <triad/core/device.h>
#include <triad/examples/common/configurations.h>
#include <triad/examples/common/device_option.h>
#include <triad/examples/common/progress.h>
#include <triad/examples/common/statistics.h>
#include <triad/examples/common/stop_signal.h>
#include <triad/examples/hybrid_demo/palette.h>
#include <triad/examples/hybrid_demo/sections.h>

namespace triad::examples {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_of(const std::function<void()>& f) {
  const auto start = Clock::now();
  f();
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Milliseconds of one configuration at one size.
struct Times {
  std::vector<double> forward, both;  // both: forward and backward
};

struct Timed {
  std::shared_ptr<nn::HybridAttentionLayer> layer;
  Tensor x, cotangent;
  Times times = {};

  void run() {
    times.forward.push_back(milliseconds_of([&] {
      no_grad([&] { return (*layer)(x); });
      wait_for(x.device());
    }));
    times.both.push_back(milliseconds_of([&] {
      layer->zero_grad();
      x.set_grad({});
      (*layer)(x).backward(cotangent);
      wait_for(x.device());
    }));
  }
};

// Configurations take turns, round by round, so that a machine that slows down does so for all.
constexpr double kSecondsPerSize = 6;
constexpr std::int64_t kFewestRounds = 3;

std::int64_t rounds_of(double seconds_per_round, std::int64_t most) {
  const auto affordable = std::int64_t(kSecondsPerSize / seconds_per_round);
  return std::clamp(affordable, std::min(kFewestRounds, most), most);
}

// Of the sizes still to come, where each round takes about three times as long as one of half T.
double seconds_left(double seconds_per_round, std::int64_t T, const DemoOptions& o) {
  double left = 0;
  for (T *= 2; T <= o.max_seq; T *= 2) {
    seconds_per_round *= 3;
    left += seconds_per_round * double(2 + rounds_of(seconds_per_round, o.runs));  // 2 to warm up
  }
  return left;
}

// The times of all configurations on x [B,T,512]; fewer after a stop signal.
std::vector<Times> measure(std::int64_t B, std::int64_t T, const DemoOptions& o, bool sweep,
                           ProgressLine& line) {
  std::vector<Timed> timed;
  for (const Configuration& c : kConfigurations) {
    timed.push_back({std::make_shared<nn::HybridAttentionLayer>(make_layer(c.heads, o.device)),
                     randn({B, T, kModelSize}, {.device = o.device, .requires_grad = true}),
                     randn({B, T, kModelSize}, {.device = o.device})});
    timed.back().layer->eval();
  }
  const auto round = [&] {
    return milliseconds_of([&] {
             for (Timed& t : timed)
               if (stop_signal() == 0) t.run();
           }) /
           1e3;
  };
  line.show(fmt::format("timing B={} T={}  warming up", B, T));
  round();  // the first ones are slow
  const double seconds = round();
  for (Timed& t : timed) t.times = {};
  const std::int64_t rounds = rounds_of(seconds, o.runs);
  for (std::int64_t i = 0; i < rounds && stop_signal() == 0; ++i) {
    const double left = double(rounds - i) * seconds + (sweep ? seconds_left(seconds, T, o) : 0);
    line.show(fmt::format("timing B={} T={}  round {}/{}  {:.2g} s a round  {} left", B, T, i + 1,
                          rounds, seconds, time_text(left)));
    round();
  }
  std::vector<Times> times;
  for (const Timed& t : timed) times.push_back(t.times);
  return times;
}

Cell spread(const std::vector<double>& ms) {
  const double low = quantile(ms, 0.25), middle = median(ms), high = quantile(ms, 0.75);
  const auto digits = [](double ms) {
    return ms < 100 ? fmt::format("{:.3g}", ms) : fmt::format("{:.0f}", ms);
  };
  return {fmt::format("{} ({} to {})", digits(middle), digits(low), digits(high)),
          {{"median", middle}, {"quartiles", {low, high}}, {"runs", ms.size()}}};
}

std::string columns(const std::vector<double>& ms) {
  return fmt::format(" {:.6g} {:.6g} {:.6g}", median(ms), quantile(ms, 0.25), quantile(ms, 0.75));
}

void bar_chart(Report& report, const std::vector<Times>& times) {
  std::string data = "# name, forward, then forward+backward: ms median, quartiles; color\n";
  for (std::size_t i = 0; i < times.size(); ++i)
    data += fmt::format("\"{}\"{}{} {}\n", kConfigurations[i].name, columns(times[i].forward),
                        columns(times[i].both), color_number(kStyles[i]));
  report.chart({.name = "speed",
                .title = "Milliseconds of the five configurations at B=2, T=64, d_model 512: bars "
                         "are medians, whiskers the quartiles.",
                .width = 900,
                .height = 420,
                .data = data,
                .plot = R"(  set multiplot layout 1,2
  set style fill solid 0.9 border -1
  set boxwidth 0.7
  set xtics rotate by 35 right nomirror
  set ytics nomirror
  set border 3
  set yrange [0:*]
  set offsets 0.5,0.5,graph 0.12,0
  unset key
  do for [first in "2 5"] {
    at = int(first)
    set title (at == 2 ? "forward, ms" : "forward + backward, ms")
    plot "speed.dat" using 0:at:at+1:at+2:(0.7):8:xtic(1) with boxerrorbars linecolor rgb variable, \
         "" using 0:at+2:(sprintf("%.2f", column(at))) with labels offset 0,0.8
  }
  unset multiplot
)"});
}

void sweep_chart(Report& report, const std::vector<std::int64_t>& sizes,
                 const std::vector<std::vector<Times>>& sweep) {
  std::string data = "# T, forward, then forward+backward: ms median, quartiles\n", lines;
  for (std::size_t i = 0; i < kConfigurations.size(); ++i) {
    data += fmt::format("{}# {}\n", i == 0 ? "" : "\n\n", kConfigurations[i].name);
    for (std::size_t k = 0; k < sizes.size(); ++k)
      data += fmt::format("{}{}{}\n", sizes[k], columns(sweep[k][i].forward),
                          columns(sweep[k][i].both));
    lines += fmt::format(
        R"("sweep.dat" index {} using 1:at:at+1:at+2 with yerrorlines linecolor rgb "{}" linewidth 2 pointtype {} dashtype {} title "{}", )",
        i, kStyles[i].color, kStyles[i].point, kStyles[i].dash, kConfigurations[i].name);
    lines += "\\\n         ";
  }
  const double last = double(sizes.back());
  double fastest = HUGE_VAL;
  for (const Times& times : sweep.front())
    fastest = std::min(fastest, quantile(times.forward, 0.25));
  report.chart(
      {.name = "sweep",
       .title = "Milliseconds over the length of the sequence, B=1, d_model 512: medians with "
                "quartiles. Grey: what grows with T^2 and with T log T, through the last points of "
                "the standard and the spectral layer.",
       .width = 900,
       .height = 460,
       .data = data,
       .plot = fmt::format(R"(  set multiplot layout 1,2
  set logscale xy
  set xlabel "T"
  set xrange [{0}*0.8:{1}*1.25]
  set xtics (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) font ",11"
  set grid
  set key top left reverse Left samplen 2 font ",11"
  set yrange [{7:.3g}:*]
  do for [first in "2 5"] {{
    at = int(first)
    set title (at == 2 ? "forward, ms" : "forward + backward, ms")
    square = (at == 2 ? {2:.6g} : {3:.6g})
    slow = (at == 2 ? {4:.6g} : {5:.6g})
    plot {6}square * (x / {1})**2 with lines linecolor "#999999" dashtype 3 title "T^2", \
         slow * x * log(x) / ({1} * log({1})) with lines linecolor "#999999" dashtype 2 title "T log T"
  }}
  unset multiplot
)",
                           double(sizes.front()), last, median(sweep.back()[0].forward),
                           median(sweep.back()[0].both), median(sweep.back()[1].forward),
                           median(sweep.back()[1].both), lines, fastest / 2)});
}

}  // namespace

bool performance_comparison(Report& report, const DemoOptions& options) {
  report.section("Performance comparison", "performance");
  ProgressLine line;
  const std::vector<Times> small = measure(2, 64, options, false, line);
  std::vector<std::int64_t> sizes;
  std::vector<std::vector<Times>> sweep;
  for (std::int64_t T = 64; T <= options.max_seq && stop_signal() == 0; T *= 2) {
    sizes.push_back(T);
    sweep.push_back(measure(1, T, options, true, line));
  }
  line.end();
  if (stop_signal() != 0) return false;

  report.text(
      "The five configurations in eval mode, without dropout, in f32. They take turns, and each "
      "time is the median in milliseconds with the quartiles.");
  report.facts({{"Model dimension", "d_model", kModelSize},
                {"Batch of the sweep over T", "sweep_batch", std::int64_t(1)},
                {"Device", "device", name(options.device)},
                {"Threads", "threads", std::int64_t(get_num_threads())}});
  Table table{"B2_T64",
              {{"B=2, T=64", "name"}, {"forward", "forward"}, {"forward + backward", "both"}}};
  for (std::size_t i = 0; i < small.size(); ++i)
    table.rows.push_back(
        {kConfigurations[i].name, spread(small[i].forward), spread(small[i].both)});
  report.table(table);
  bar_chart(report, small);

  report.text(
      "The cost of softmax heads grows with T^2, that of spectral heads with T log T. At short T "
      "the projections, which grow with T, hide the difference; mixtures have the smallest ones, "
      "as their spectral heads need no keys and values.");
  for (const bool backward : {false, true}) {
    Table over_T{backward ? "sweep_both" : "sweep_forward",
                 {{backward ? "forward + backward, B=1" : "forward, B=1", "name"}}};
    std::vector<std::string> titles;
    for (std::int64_t T : sizes) titles.push_back(fmt::format("T={}", T));
    for (const std::string& title : titles)
      over_T.columns.emplace_back(title.c_str(), title.c_str());
    for (std::size_t i = 0; i < kConfigurations.size(); ++i) {
      over_T.rows.push_back({kConfigurations[i].name});
      for (const auto& times : sweep)
        over_T.rows.back().push_back(spread(backward ? times[i].both : times[i].forward));
    }
    report.table(over_T);
  }
  sweep_chart(report, sizes, sweep);
  return true;
}

}  // namespace triad::examples
