// Whole files in and out. What goes wrong is a FileError that names the file and the reason.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace triad::nn {

std::string read_file(const std::filesystem::path& path);

// A file as memory, for as long as `data` lives: nothing is read before it is used, and writing to
// it changes neither the file nor another mapping.
struct MappedFile {
  std::shared_ptr<char> data = {};
  std::size_t size = 0;
};
MappedFile map_file(const std::filesystem::path& path);

// Replaces the file by the parts, one after the other. The bytes go to a temporary file beside it,
// which takes its name once they are safely on the disk: a full disk, a crash or a loss of power
// leaves the old file whole. Anything but a regular file (a folder, a device) is left alone.
void write_file_atomically(const std::filesystem::path& path,
                           std::span<const std::string_view> parts);
inline void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  write_file_atomically(path, std::span(&text, 1));
}

}  // namespace triad::nn
