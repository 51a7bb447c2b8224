// A text as a stream of bytes, cut into a part to train on and a part held out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <triad/core/tensor.h>

namespace triad::examples {

struct Text {
  std::string bytes;
  std::size_t files = 0;
};
// The bytes of files, one after the other. Folders stand for all files below them, in the order of
// their names, without those whose name, or whose folder's, starts with a dot. What cannot be read
// is a FileError.
Text read_text(const std::vector<std::string>& paths);

// Where the compiler that builds the examples keeps the headers of the C++ standard library: text
// that is there on every machine that can build them.
extern const char* const kDefaultData;
// What --data names, kDefaultData where it names nothing; errors say that it was --data.
Text read_data(std::vector<std::string> paths);

struct Batch {
  Tensor ids, targets;  // i64 [B,T]; targets[b,t] is the byte after ids[b,t]
  Batch to(Device device) const { return {ids.to(device), targets.to(device)}; }
};

class TextData {
 public:
  // Windows of `seq` bytes and the one after. Held out is the last tenth of each tenth of the text,
  // so that both parts see all of it; a short text is cut into fewer parts. Too short a one is a
  // ValueError.
  TextData(std::string bytes, std::int64_t seq);

  // `batch` windows of the training part at random, from the generator of manual_seed.
  Batch sample(std::int64_t batch) const;

  // Windows of the held-out part that do not overlap, at most 128 of them and always the same.
  std::int64_t held_out_windows() const { return std::int64_t(held_out_.size()); }
  Batch held_out(std::int64_t first, std::int64_t count) const;

 private:
  struct Stretch {
    std::int64_t begin, end;
  };
  Batch windows(const std::vector<std::int64_t>& starts) const;

  std::string bytes_;
  std::int64_t seq_;
  std::vector<Stretch> training_;
  std::vector<std::int64_t> held_out_;  // where windows start
};

}  // namespace triad::examples
