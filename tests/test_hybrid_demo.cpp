// The hybrid demo as a user meets it: its report, its numbers, its pictures, and what it does
// without gnuplot, with bad flags and after Ctrl-C.
#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include <triad/examples/common/statistics.h>
#include <triad/nn/attention.h>
#include <triad/tests/program_test.h>

namespace fs = std::filesystem;
using namespace triad;
using nlohmann::json;

namespace {

const char* const kCharts[] = {"speed",    "sweep",     "outputs", "maps",
                               "response", "gradients", "training"};

struct Demo {
  Demo() { write_text(folder / "text"); }
  Words tiny() const {
    return {"hybrid_demo", "--data", path("text"), "--out",     path("report"), "--steps",
            "3",           "--runs", "2",          "--max-seq", "128"};
  }
  std::string path(const char* name) const { return (folder / name).string(); }
  json results() const { return json::parse(nn::read_file(folder / "report/results.json")); }
  std::string page() const { return nn::read_file(folder / "report/report.html"); }

  TemporaryFolder folder;
};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// No number may be missing: JSON writes NaN and infinities as null.
void check_no_nulls(const json& value, const std::string& path) {
  if (value.is_null()) CHECK_MESSAGE(path.find("/by_type/0/") != path.npos, path, " is null");
  if (!value.is_structured()) return;
  for (const auto& [key, entry] : value.items()) check_no_nulls(entry, path + "/" + key);
}

void check_numbers(const json& r) {
  nn::HybridAttentionLayer layer(
      {.d_model = 512, .head_types = nn::heads("standard*4, spectral*2, holonomy*2")});
  const json& basic = r.at("basic_usage");
  CHECK(basic.at("total_heads") == 8);
  CHECK(basic.at("d_head") == 64);
  CHECK(basic.at("head_types").size() == 8);
  CHECK(basic.at("parameters") == layer.parameter_count());
  std::int64_t sum = 0;
  for (const json& part : basic.at("parameters_by_part")) {
    const std::string prefix = part.at("part").get<std::string>() + ".";
    std::int64_t own = 0;
    for (const auto& [name, p] : layer.named_parameters())
      if (name.starts_with(prefix)) own += p.numel();
    CHECK_MESSAGE(part.at("parameters") == own, prefix);
    sum += own;
  }
  CHECK(sum == layer.parameter_count());

  const json& forward = r.at("forward_pass");
  CHECK(forward.at("input_shape") == json{4, 128, 512});
  CHECK(forward.at("output_shape") == json{4, 128, 512});
  CHECK(forward.at("std").get<double>() == doctest::Approx(1).epsilon(0.2));
  CHECK(forward.at("min") < forward.at("mean"));
  CHECK(forward.at("mean") < forward.at("max"));
  CHECK(forward.at("contains_nan") == false);
  CHECK(forward.at("contains_inf") == false);

  const json& speed = r.at("performance");
  REQUIRE(speed.at("B2_T64").size() == 5);
  REQUIRE(speed.at("sweep_forward").size() == 5);
  for (const json& row : speed.at("sweep_both"))
    for (const char* T : {"T=64", "T=128"}) {
      CHECK(row.at(T).at("quartiles")[0] <= row.at(T).at("median"));
      CHECK(row.at(T).at("median").get<double>() > 0);
    }

  const json& outputs = r.at("patterns").at("outputs");
  CHECK(outputs[0].at("shape") == json{1, 4, 32, 64});
  CHECK(outputs[1].at("shape") == json{1, 2, 32, 64});
  CHECK(outputs[2].at("type") == "holonomy");
  CHECK(r.at("patterns").at("filters")[1].at("gain_0").get<double>() ==
        doctest::Approx(std::exp(0.05)).epsilon(0.05));

  const json& gradients = r.at("gradients");
  CHECK(gradients.at("parameters").size() == layer.named_parameters().size());
  CHECK(gradients.at("input_norm").get<double>() > 0);
  CHECK(gradients.at("by_type")[0].at("tensors") == 0);
  CHECK(gradients.at("by_type")[1].at("tensors") == 6);
  CHECK(gradients.at("slices")[1].at("k") == 0);
  for (const json& row : gradients.at("parameters"))  // of the sum of 2 x 16 outputs, 512 each
    if (row.at("name") == "W_o.bias")
      CHECK(row.at("norm").get<double>() == doctest::Approx(32 * std::sqrt(512.0)).epsilon(1e-5));
  for (const char* part : {"q", "k", "v"}) CHECK(gradients.at("slices")[2].at(part) > 0);

  const json& examples = r.at("configuration_examples").at("examples");
  REQUIRE(examples.size() == 4);
  CHECK(examples[0].at("head_counts") == json{{"standard", 3}, {"spectral", 3}, {"holonomy", 2}});
  for (const json& example : examples) {
    CHECK(example.at("output_shape") == json{1, 16, 512});
    CHECK(example.at("finite") == true);
  }

  const json& models = r.at("training").at("models");
  REQUIRE(models.size() == 5);
  std::set<std::int64_t> sizes;
  for (const json& model : models) {
    CHECK(model.at("loss_before").get<double>() == doctest::Approx(std::log(256)).epsilon(0.05));
    CHECK(model.at("loss_after") < model.at("loss_before"));
    CHECK(model.at("reached").at("reached") == model.at("reached").at("tensors"));
    sizes.insert(model.at("parameters").get<std::int64_t>());
  }
  CHECK(sizes.size() == 5);
}

// Eight maps of 32 x 32: rows of softmax weights add up to 1, those of a filter to its gain at 0,
// and each filter's row is the one before it, moved on by one.
void check_maps(const std::string& data, const json& filters) {
  std::istringstream lines(data);
  std::vector<double> values;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream numbers(line);
    for (double value; numbers >> value;) values.push_back(value);
  }
  REQUIRE(values.size() == 8 * 32 * 32);
  for (std::size_t map = 0; map < 8; ++map)
    for (std::size_t t = 0; t < 32; ++t) {
      const double* row = &values[(map * 32 + t) * 32];
      double sum = 0;
      for (std::size_t s = 0; s < 32; ++s) sum += row[s];
      const bool filter = map == 4 || map == 5;
      CHECK(
          sum ==
          doctest::Approx(filter ? filters[map - 4].at("gain_0").get<double>() : 1).epsilon(2e-3));
      for (std::size_t s = 1; filter && t > 0 && s < 32; ++s)
        CHECK(std::abs(row[s] - row[s - 33]) < 1e-5);
    }
}

}  // namespace

TEST_CASE("the report of a tiny demo") {
  Demo demo;
  const Result result = Running(demo.folder, demo.tiny()).wait();
  CHECK(result.err == "");
  REQUIRE(result.code == 0);
  const json results = demo.results();
  check_no_nulls(results, "");
  check_numbers(results);
  check_maps(nn::read_file(demo.folder / "report/charts/maps.dat"),
             results.at("patterns").at("filters"));
  CHECK(result.out.find("Number of parameters: 1,126,916\n") != std::string::npos);
  CHECK(result.out.find("timing B=2 T=64  warming up") != std::string::npos);
  CHECK(result.out.find("All standard (8)  step 1/3") != std::string::npos);

  const std::string page = demo.page();
  CHECK(page.starts_with("<!DOCTYPE html>"));
  for (const char* title : {"1. Basic usage", "2. Forward pass", "3. Performance comparison",
                            "4. Attention pattern analysis", "5. Gradient flow analysis",
                            "6. Configuration examples", "7. Training"})
    CHECK_MESSAGE(page.find("<h2>" + std::string(title) + "</h2>") != page.npos, title);
  CHECK(count(page, "<figcaption>") == std::size(kCharts));
  CHECK(page.find("<script") == page.npos);
  CHECK(page.find("src=\"http") == page.npos);
  CHECK(page.find("href=") == page.npos);
  CHECK(page.find("url(") == page.npos);
  for (const char* chart : kCharts)
    for (const char* extension : {".dat", ".gnuplot", ".svg", ".png"}) {
      const fs::path file = demo.folder / "report/charts" / (std::string(chart) + extension);
      const bool picture = std::string(extension) == ".svg" || std::string(extension) == ".png";
      if (picture && !has_gnuplot) continue;
      CHECK_MESSAGE((fs::exists(file) && fs::file_size(file) > 50), file.string());
      if (std::string(extension) == ".svg")
        CHECK(nn::read_file(file).find("</svg>") != std::string::npos);
    }
  if (has_gnuplot) CHECK(count(page, "<img ") == std::size(kCharts));

  // In a browser, where there is one.
  if (std::system("command -v chromium >/dev/null 2>&1") != 0 || !has_gnuplot) {
    MESSAGE("skipped: there is no chromium, or no gnuplot, to see the report with its pictures");
    return;
  }
  const auto screenshot_size = [&](const std::string& name, const std::string& text) {
    nn::write_file_atomically(demo.folder / (name + ".html"), text);
    const std::string command = "cd " + (demo.folder / "").string() +
                                " && HOME=$PWD timeout 60 chromium --headless --no-sandbox "
                                "--disable-gpu --user-data-dir=$PWD/profile "
                                "--window-size=1000,8000 --screenshot=" +
                                name + ".png " + name + ".html >browser 2>&1";
    REQUIRE(std::system(command.c_str()) == 0);
    return fs::file_size(demo.folder / (name + ".png"));
  };
  std::string bare = page;  // the browser shows the pictures: without them it shows less
  for (std::size_t at = 0; (at = bare.find("<img ", at)) != bare.npos;)
    bare.erase(at, bare.find('>', at) - at + 1);
  CHECK(screenshot_size("whole", page) > 1.2 * double(screenshot_size("bare", bare)));
}

TEST_CASE("without gnuplot the demo says so and keeps data and scripts") {
  Demo demo;
  const std::string path = std::getenv("PATH");
  setenv("PATH", "/nowhere", 1);
  Words words = demo.tiny();
  words.insert(words.end(), {"--threads", "1"});
  const Result result = Running(demo.folder, words).wait();
  setenv("PATH", path.c_str(), 1);
  REQUIRE(result.code == 0);
  CHECK(result.err == "");
  CHECK(count(result.out, "there is no gnuplot to draw ") == std::size(kCharts));
  CHECK(count(demo.page(), "there is no gnuplot to draw ") == std::size(kCharts));
  CHECK(count(demo.page(), "<img ") == 0);
  for (const char* chart : kCharts) {
    const std::string name = std::string("report/charts/") + chart;
    CHECK(fs::file_size(demo.folder / (name + ".dat")) > 0);
    CHECK(fs::file_size(demo.folder / (name + ".gnuplot")) > 0);
    CHECK(!fs::exists(demo.folder / (name + ".svg")));
  }
}

TEST_CASE("a bad flag is one line and exit code 2") {
  Demo demo;
  nn::write_file_atomically(demo.folder / "short", "too short");
  const std::vector<Words> bad = {{"--steps", "0"},
                                  {"--steps", "many"},
                                  {"--max-seq", "63"},
                                  {"--runs", "nan"},
                                  {"--no-such-flag"},
                                  {"stray"},
                                  {"--data", demo.path("missing")},
                                  {"--data", demo.path("short")},
                                  {"--out", "/dev/null/report"},
                                  {"--out", ""}};
  for (const Words& flags : bad) {
    Words words = {"hybrid_demo"};
    words.insert(words.end(), flags.begin(), flags.end());
    if (flags[0] != "--out") words.insert(words.end(), {"--out", demo.path("report")});
    const Result result = Running(demo.folder, words).wait();
    CHECK_MESSAGE(result.code == 2, flags[0], ": ", result.code);
    CHECK_MESSAGE(result.one_line(), flags[0], ": ", result.err);
    CHECK(result.err.starts_with("hybrid_demo: "));
    CHECK(!fs::exists(demo.folder / "report"));
  }
}

TEST_CASE("Ctrl-C keeps the finished sections") {
  Demo demo;
  Words words = demo.tiny();
  words[6] = "1000000";  // steps: it would train for days
  const Running running(demo.folder, words);
  for (int i = 0; i < 6000; ++i) {
    const fs::path file = demo.folder / "report/results.json";
    if (fs::exists(file) && demo.results().contains("configuration_examples")) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  running.signal(SIGINT);
  const Result result = running.wait();
  CHECK(result.code == 130);
  CHECK(result.err == "");
  CHECK(demo.results().contains("gradients"));
  CHECK(!demo.results().contains("training"));
  CHECK(demo.page().find("</html>") != std::string::npos);
}

TEST_CASE("a signal at any moment of the timings is noted, and other files in the folder stay") {
  for (int milliseconds : {300, 500, 700, 900}) {
    Demo demo;
    fs::create_directories(demo.folder / "report/charts");
    nn::write_file_atomically(demo.folder / "report/charts/mine", "kept");
    Words words = demo.tiny();
    words[8] = "10000";  // runs
    const Running running(demo.folder, words);
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    running.signal(SIGTERM);
    const int code = running.wait().code;  // before the signal is noted it ends the program
    CHECK_MESSAGE((code == 128 + SIGTERM || code == -SIGTERM), milliseconds, ": ", code);
    CHECK(nn::read_file(demo.folder / "report/charts/mine") == "kept");
  }
}

TEST_CASE("medians and quartiles") {
  using examples::median, examples::quantile;
  CHECK(median({}) == 0);
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 3, 2}) == 2.5);
  CHECK(quantile({1, 2, 3, 4, 5}, 0.25) == 2);
  CHECK(quantile({5, 1}, 0.75) == 4);
}
