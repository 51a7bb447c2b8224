#include <triad/examples/common/text_data.h>

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include <triad/autograd/creation.h>
#include <triad/core/error.h>
#include <triad/nn/files.h>

namespace triad::examples {
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kParts = 10, kHeldOutShare = 10;
constexpr std::size_t kHeldOutWindows = 128;

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::end(it); ++it) {
    if (is_hidden(it->path())) {
      it.disable_recursion_pending();
    } else if (it->is_regular_file()) {
      files.push_back(it->path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

Text read_text(const std::vector<std::string>& paths) {
  Text text;
  auto append = [&text](const fs::path& file) {
    text.bytes += nn::read_file(file);
    ++text.files;
  };
  for (const std::string& path : paths) {
    try {
      if (fs::is_directory(path)) {
        for (const fs::path& file : files_below(path)) append(file);
      } else {
        append(path);
      }
    } catch (const fs::filesystem_error& error) {
      throw FileError(path + ": cannot read all of it: " + error.code().message());
    }
  }
  return text;
}

const char* const kDefaultData = TRIAD_HEADERS;

Text read_data(std::vector<std::string> paths) {
  if (paths.empty()) paths = {kDefaultData};
  try {
    return read_text(paths);
  } catch (const FileError& error) {
    throw FileError(
        fmt::format("--data needs files and folders that can be read: {}", error.what()));
  }
}

TextData::TextData(std::string bytes, std::int64_t seq) : bytes_(std::move(bytes)), seq_(seq) {
  const auto size = std::int64_t(bytes_.size()), smallest = kHeldOutShare * (seq + 1);
  if (size < smallest)
    throw ValueError(
        fmt::format("the text has {} bytes; windows of {} need at least {}: give more --data or a "
                    "shorter window",
                    size, seq, smallest));
  const std::int64_t parts = std::min(kParts, size / smallest);
  std::vector<std::int64_t> starts;
  for (std::int64_t i = 0; i < parts; ++i) {
    const std::int64_t begin = size * i / parts, end = size * (i + 1) / parts;
    const std::int64_t cut = end - (end - begin) / kHeldOutShare;
    training_.push_back({begin, cut});
    for (std::int64_t start = cut; start + seq < end; start += seq) starts.push_back(start);
  }
  const std::size_t kept = std::min(starts.size(), kHeldOutWindows);
  for (std::size_t i = 0; i < kept; ++i) held_out_.push_back(starts[i * starts.size() / kept]);
}

Batch TextData::sample(std::int64_t batch) const {
  std::int64_t count = 0;
  for (const Stretch& s : training_) count += s.end - s.begin - seq_;
  std::vector<std::int64_t> starts = randint(0, count, {batch}).to_vector<std::int64_t>();
  for (std::int64_t& start : starts) {
    auto stretch = training_.begin();
    for (; start >= stretch->end - stretch->begin - seq_; ++stretch)
      start -= stretch->end - stretch->begin - seq_;
    start += stretch->begin;
  }
  return windows(starts);
}

Batch TextData::held_out(std::int64_t first, std::int64_t count) const {
  return windows({held_out_.begin() + first, held_out_.begin() + first + count});
}

Batch TextData::windows(const std::vector<std::int64_t>& starts) const {
  std::vector<std::int64_t> ids;
  ids.reserve(starts.size() * std::size_t(seq_ + 1));
  for (std::int64_t start : starts)
    for (std::int64_t t = start; t <= start + seq_; ++t)
      ids.push_back(static_cast<unsigned char>(bytes_[std::size_t(t)]));
  const Tensor all = from_vector(ids, {std::int64_t(starts.size()), seq_ + 1});
  return {all.slice(1, 0, seq_).contiguous(), all.slice(1, 1).contiguous()};
}

}  // namespace triad::examples
