#include <triad/bench/report.h>

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include <triad/core/device.h>
#include <triad/examples/common/statistics.h>

namespace triad::bench {

using examples::median;

namespace {

std::string milliseconds(const std::vector<double>& seconds) {
  const auto [low, high] = std::minmax_element(seconds.begin(), seconds.end());
  return fmt::format("{:.4g} ({:.4g} to {:.4g})", 1e3 * median(seconds), 1e3 * *low, 1e3 * *high);
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

std::string widest_vectors() {
#if defined(__AVX512F__)
  return "AVX-512";
#elif defined(__AVX2__)
  return "AVX2";
#else
  return "baseline";
#endif
}

// Every number, or of very many the minimum, the quartiles and the maximum.
void add_times(nlohmann::json& entry, const std::string& whose, const std::vector<double>& times) {
  if (times.size() <= 100) entry[whose + "_seconds"] = times;
  else
    for (double share : {0.0, 0.25, 0.5, 0.75, 1.0})
      entry[whose + "_quartiles"].push_back(examples::quantile(times, share));
  entry[whose + "_median"] = median(times);
}

}  // namespace

std::string table_head(bool with_peer, bool with_share) {
  std::string head = fmt::format("| {:18} | {:8} | {:16} | {:28} |", with_share ? "op" : "model",
                                 with_share ? "elements" : "(B,T)", "what", "triad, ms");
  std::string rule = fmt::format("| {:-<18} | {:-<8} | {:-<16} | {:-<28} |", "", "", "", "");
  if (with_peer) {
    head += fmt::format(" {:28} | {:>6} |", "PyTorch eager, ms", "ratio");
    rule += fmt::format(" {:-<28} | {:->5}: |", "", "");
  }
  if (with_share) head += " of copy |", rule += " ------: |";
  return head + "\n" + rule;
}

std::string table_line(const Row& row, bool with_share) {
  std::string line = fmt::format("| {:18} | {:8} | {:16} | {:28} |", row.name, row.size, row.mode,
                                 milliseconds(row.ours));
  if (!row.theirs.empty())
    line += fmt::format(" {:28} | {:6.2f} |", milliseconds(row.theirs), median(row.ratios));
  if (with_share)
    line += row.share_of_copy ? fmt::format(" {:5.0f} % |", 100 * *row.share_of_copy)
                              : fmt::format(" {:7} |", "");
  return line;
}

nlohmann::json to_json(const std::vector<Row>& rows, const std::string& torch_version) {
  nlohmann::json result{
      {"cpu", cpu_name()}, {"vectors", widest_vectors()}, {"threads", get_num_threads()}};
  if (!torch_version.empty()) result["torch"] = torch_version;
  for (const Row& row : rows) {
    nlohmann::json entry{{"name", row.name}, {"size", row.size}, {"mode", row.mode}};
    add_times(entry, "triad", row.ours);
    if (!row.theirs.empty()) {
      add_times(entry, "torch", row.theirs);
      entry["ratios"] = row.ratios;
      entry["ratio_median"] = median(row.ratios);
    }
    if (row.share_of_copy) entry["share_of_copy_bandwidth"] = *row.share_of_copy;
    if (row.difference) entry["output_difference"] = *row.difference;
    result["rows"].push_back(entry);
  }
  return result;
}

}  // namespace triad::bench
