#include <triad/examples/hybrid_demo/report.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include <triad/examples/common/gnuplot.h>
#include <triad/examples/common/program.h>
#include <triad/nn/files.h>

namespace triad::examples {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

constexpr const char* kHead = R"(<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>triad: the hybrid attention layer</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: right;
         font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; }
</style>
)";

std::string escaped(const std::string& text) {
  std::string html;
  for (char c : text) {
    if (c == '&') html += "&amp;";
    else if (c == '<') html += "&lt;";
    else if (c == '>') html += "&gt;";
    else if (c == '"') html += "&quot;";
    else html += c;
  }
  return html;
}

std::string base64(const std::string& bytes) {
  constexpr const char* kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 3; ++j)
      word = word << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j)
      text += i + j <= bytes.size() ? kDigits[word >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

// On screens with twice the pixels a PNG of the nominal size would be blurred.
std::string script_of(const Chart& chart) {
  return fmt::format(R"(# gnuplot {0}.gnuplot draws {0}.svg and {0}.png from {0}.dat
do for [format in "svg png"] {{
  if (format eq "svg") {{
    set terminal svg size {1},{2} font "sans-serif,14" background "white"
  }} else {{
    set terminal pngcairo size {3},{4} font "sans-serif,14" fontscale 1.5 linewidth 2 pointscale 2
  }}
  set output "{0}.".format
{5}  unset output
}}
)",
                     chart.name, chart.width, chart.height, 2 * chart.width, 2 * chart.height,
                     chart.plot);
}

// Columns padded to their widest entry, the first to the left, the others to the right.
std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> width(rows[0].size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line += i == 0 ? fmt::format("{:<{}}", row[i], width[i])
                     : fmt::format("  {:>{}}", row[i], width[i]);
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace

Cell::Cell(std::int64_t count) : text(std::to_string(count)), value(count) {
  const std::int64_t sign = count < 0;
  for (auto at = std::int64_t(text.size()) - 3; at > sign; at -= 3)
    text.insert(std::size_t(at), ",");
}

Cell::Cell(double value, const char* format)
    : text(fmt::format(fmt::runtime(format), value)), value(value) {}

Report::Report(const fs::path& folder) : folder_(folder) {
  std::error_code error;
  fs::create_directories(folder_ / "charts", error);
  if (error)
    throw FileError(folder_.string() +
                    ": cannot make this folder for the report: " + error.message());
}

void Report::section(const char* title, const char* key) {
  key_ = key;
  ++sections_;
  results_[key_] = ordered_json::object();
  say(fmt::format("\n==== {}. {}\n\n", sections_, title));
  html_ += fmt::format("<h2>{}. {}</h2>\n", sections_, escaped(title));
}

void Report::text(const std::string& paragraph) {
  std::string line, wrapped;
  for (std::size_t at = 0; at < paragraph.size();) {
    const std::size_t end = std::min(paragraph.find(' ', at), paragraph.size());
    if (!line.empty() && line.size() + 1 + end - at > 90) wrapped += std::exchange(line, "") + "\n";
    line += (line.empty() ? "" : " ") + paragraph.substr(at, end - at);
    at = end + 1;
  }
  say(wrapped + line + "\n\n");
  html_ += "<p>" + escaped(paragraph) + "</p>\n";
}

void Report::facts(const std::vector<Fact>& facts) {
  html_ += "<table>\n";
  for (const Fact& fact : facts) {
    results_[key_][fact.key] = fact.cell.value;
    say(fmt::format("{}: {}\n", fact.title, fact.cell.text));
    html_ += fmt::format("<tr><td>{}<td>{}\n", escaped(fact.title), escaped(fact.cell.text));
  }
  say("\n");
  html_ += "</table>\n";
}

void Report::table(const Table& table) {
  std::vector<std::vector<std::string>> texts(1);
  ordered_json entries = ordered_json::array();
  html_ += "<table>\n<tr>";
  for (const auto& [title, key] : table.columns) {
    texts[0].push_back(title);
    html_ += "<th>" + escaped(title);
  }
  for (const std::vector<Cell>& row : table.rows) {
    texts.emplace_back();
    html_ += "\n<tr>";
    ordered_json entry;
    for (std::size_t i = 0; i < row.size(); ++i) {
      texts.back().push_back(row[i].text);
      entry[table.columns[i].second] = row[i].value;
      html_ += "<td>" + escaped(row[i].text);
    }
    entries.push_back(std::move(entry));
  }
  html_ += "\n</table>\n";
  results_[key_][table.key] = std::move(entries);
  say(aligned(texts) + "\n");
}

void Report::chart(const Chart& chart) {
  const fs::path folder = folder_ / "charts";
  std::error_code ignored;  // an earlier picture must not pass for this one
  for (const char* extension : {".svg", ".png"})
    fs::remove(folder / (chart.name + std::string(extension)), ignored);
  const std::string problem = draw_chart(folder, chart.name, chart.data, script_of(chart));
  html_ += "<figure>";
  if (problem.empty()) {
    const std::string file = std::string(chart.name) + ".svg";
    say(fmt::format("chart: {}\n\n", (folder / file).string()));
    html_ += fmt::format(
        "<img width=\"{}\" height=\"{}\" alt=\"{}\" src=\"data:image/svg+xml;base64,{}\">",
        chart.width, chart.height, escaped(chart.title), base64(nn::read_file(folder / file)));
  } else {
    say(problem + "\n\n");
    html_ += "<p>" + escaped(problem) + "</p>";
  }
  html_ += fmt::format("\n<figcaption>{}</figcaption></figure>\n", escaped(chart.title));
}

void Report::write() {
  nn::write_file_atomically(folder_ / "results.json", results_.dump(2) + "\n");
  nn::write_file_atomically(
      folder_ / "report.html",
      kHead + ("<h1>The hybrid attention layer</h1>\n" + html_ + "</html>\n"));
}

}  // namespace triad::examples
