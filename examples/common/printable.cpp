#include <triad/examples/common/printable.h>

#include <fmt/format.h>

#include <algorithm>

namespace triad::examples {
namespace {

// Of the character that starts with this byte; 0 where none does.
std::size_t utf8_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;
  if (first < 0xE0) return 2;
  if (first < 0xF0) return 3;
  return first < 0xF5 ? 4 : 0;
}

// Whether a complete sequence stands for a character, in its shortest form, that only prints.
bool is_shown(std::string_view bytes) {
  static constexpr unsigned kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  unsigned code = static_cast<unsigned char>(bytes[0]);
  if (bytes.size() == 1) return (code >= 0x20 && code < 0x7F) || code == '\n' || code == '\t';
  code &= 0x7Fu >> bytes.size();
  for (char byte : bytes.substr(1)) code = code << 6 | (static_cast<unsigned char>(byte) & 0x3Fu);
  const bool control = code < 0xA0;  // U+0080 to U+009F steer terminals, too
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code >= kSmallest[bytes.size()] && code <= 0x10FFFF && !control && !surrogate;
}

std::string escaped(std::string_view bytes) {
  std::string text;
  for (char byte : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return text;
}

}  // namespace

std::string PrintableText::push(unsigned char byte) {
  const bool continues = (byte & 0xC0) == 0x80;
  std::string text;
  if (pending_.empty() || !continues) {
    text = finish();
    length_ = utf8_length(byte);
  }
  pending_ += static_cast<char>(byte);
  if (length_ == 0) return text + finish();
  if (pending_.size() < length_) return text;
  text += is_shown(pending_) ? pending_ : escaped(pending_);
  pending_.clear();
  return text;
}

std::string PrintableText::finish() {
  std::string text = escaped(pending_);
  pending_.clear();
  return text;
}

std::string printable(std::string_view bytes) {
  PrintableText text;
  std::string shown;
  for (char byte : bytes) shown += text.push(static_cast<unsigned char>(byte));
  return shown + text.finish();
}

std::string one_line(std::string_view bytes) {
  std::string text = printable(bytes);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return text;
}

}  // namespace triad::examples
