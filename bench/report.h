// What was measured: a table to read, and a JSON file with every number.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace triad::bench {

struct Row {
  std::string name, size, mode;
  std::vector<double> ours = {}, theirs = {};  // seconds of every run that counts
  // Of each round: the peer's median over ours, above 1 when ours is faster.
  std::vector<double> ratios = {};
  std::optional<double> difference = {};     // of the outputs, relative to the largest
  std::optional<double> share_of_copy = {};  // of the bandwidth that a copy of that size reaches
};

std::string table_head(bool with_peer, bool with_share);
std::string table_line(const Row& row, bool with_share);
nlohmann::json to_json(const std::vector<Row>& rows, const std::string& torch_version);

}  // namespace triad::bench
