#include <triad/nn/heads.h>

#include <charconv>
#include <string_view>

#include <triad/core/format.h>

namespace triad::nn {
namespace {

constexpr const char* kHeadNames[] = {"standard", "spectral", "holonomy"};
constexpr int kMaxHeads = 1024;  // of one entry: a mistyped count should not fill the memory

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == text.npos ? std::string_view() : text.substr(first, last - first + 1);
}

HeadType head_type(std::string_view word, std::string_view text) {
  for (HeadType type : {HeadType::standard, HeadType::spectral, HeadType::holonomy})
    if (word == name(type)) return type;
  throw_error<ValueError>(
      "heads: unknown head type '{}' in '{}'; allowed are standard, spectral, holonomy", word,
      text);
}

int head_count(std::string_view digits, std::string_view text) {
  const char* last = digits.data() + digits.size();
  int count = 0;
  const auto [end, error] = std::from_chars(digits.data(), last, count);
  if (error != std::errc() || end != last || count < 1 || count > kMaxHeads)
    throw_error<ValueError>("heads: needs a count of 1 to {} after '*', got '{}' in '{}'",
                            kMaxHeads, digits, text);
  return count;
}

}  // namespace

const char* name(HeadType type) { return kHeadNames[int(type)]; }

std::vector<HeadType> heads(const std::string& text) {
  std::vector<HeadType> types;
  for (std::size_t begin = 0, end = 0; end != text.npos; begin = end + 1) {
    end = text.find(',', begin);
    const std::string_view entry = std::string_view(text).substr(begin, end - begin);
    const auto star = entry.find('*');
    const int count = star == entry.npos ? 1 : head_count(trimmed(entry.substr(star + 1)), text);
    types.insert(types.end(), std::size_t(count), head_type(trimmed(entry.substr(0, star)), text));
  }
  return types;
}

std::string heads_text(const std::vector<HeadType>& types) {
  std::string text;
  for (std::size_t i = 0, end = 0; i < types.size(); i = end) {
    while (end < types.size() && types[end] == types[i]) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", name(types[i]));
    if (end - i > 1) text += fmt::format("*{}", end - i);
  }
  return text;
}

}  // namespace triad::nn
