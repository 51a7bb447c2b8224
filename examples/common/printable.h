// Bytes that a model wrote, or that stand in a file, as text that a terminal can be trusted with.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace triad::examples {

// Valid UTF-8, line feeds and tabs pass; every other byte, such as those that steer terminals,
// appears as \x1b. One byte at a time, because a character may be still on its way.
class PrintableText {
 public:
  std::string push(unsigned char byte);  // what can be shown now
  std::string finish();                  // what is left: half a character

 private:
  std::string pending_;  // the start of a character of `length_` bytes
  std::size_t length_ = 0;
};

std::string printable(std::string_view bytes);
std::string one_line(std::string_view bytes);  // with line feeds and tabs as blanks

}  // namespace triad::examples
