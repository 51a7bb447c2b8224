// What the demo has to say, said once: to the terminal as it goes, and into
//
//   report.html    one page with its pictures in it, which any browser shows
//   results.json   every number of its tables, by section
//   charts/        the pictures as SVG and PNG, with the data and the gnuplot script of each
//
// The first two are written anew after each section, so that a demo that was stopped leaves those
// it had finished.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace triad::examples {

// A value as people read it and as programs do.
struct Cell {
  std::string text;
  nlohmann::ordered_json value;

  Cell(const char* text) : text(text), value(text) {}
  Cell(std::string text) : text(text), value(std::move(text)) {}
  Cell(bool yes) : text(yes ? "yes" : "no"), value(yes) {}
  Cell(std::int64_t count);                // 1,843,200
  Cell(double value, const char* format);  // of fmt, as "{:.3f}"
  Cell(std::string text, nlohmann::ordered_json value)
      : text(std::move(text)), value(std::move(value)) {}
};

struct Fact {
  const char *title, *key;  // for people; for programs
  Cell cell;
};

struct Table {
  const char* key;
  std::vector<std::pair<const char*, const char*>> columns;  // title, key
  std::vector<std::vector<Cell>> rows = {};
};

struct Chart {
  const char *name, *title;
  int width, height;  // of the picture, in pixels of a screen
  std::string data;   // NAME.dat
  std::string plot;   // gnuplot commands, run once for each format
};

class Report {
 public:
  // Makes the folder. Files of an earlier report are replaced one by one, others stay.
  explicit Report(const std::filesystem::path& folder);

  void section(const char* title, const char* key);
  void text(const std::string& paragraph);
  void facts(const std::vector<Fact>& facts);
  void table(const Table& table);
  void chart(const Chart& chart);  // where gnuplot is missing: says so, and keeps data and script
  void write();

 private:
  std::filesystem::path folder_;
  std::string html_;
  nlohmann::ordered_json results_;
  std::string key_;  // of the section
  int sections_ = 0;
};

}  // namespace triad::examples
