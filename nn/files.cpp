#include <triad/nn/files.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include <triad/core/error.h>

namespace triad::nn {
namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& path, const char* action, int error = errno) {
  throw FileError(path.string() + ": cannot " + action + ": " +
                  std::generic_category().message(error));
}

struct OpenFile {
  int descriptor;              // negative: none
  std::string temporary = {};  // the path of a file that is to go unless it was renamed
  ~OpenFile() {
    close();
    if (!temporary.empty()) unlink(temporary.c_str());
  }
  int close() { return descriptor < 0 ? 0 : ::close(std::exchange(descriptor, -1)); }
};

}  // namespace

std::string read_file(const fs::path& path) {
  const MappedFile file = map_file(path);
  return {file.data.get(), file.size};
}

MappedFile map_file(const fs::path& path) {
  // A pipe would make open() wait for someone to write.
  const OpenFile file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat info;
  if (file.descriptor < 0 || fstat(file.descriptor, &info) != 0) fail(path, "read");
  if (S_ISDIR(info.st_mode)) fail(path, "read", EISDIR);
  if (!S_ISREG(info.st_mode))  // a pipe or a device may never end
    throw FileError(path.string() + ": cannot read: it is not a regular file");
  const auto size = std::size_t(info.st_size);
  if (size == 0) return {};  // an empty file cannot be mapped
  // Writable and private: a write makes a copy of the page.
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.descriptor, 0);
  if (data == MAP_FAILED) fail(path, "read");
  return {{static_cast<char*>(data), [size](char* p) { munmap(p, size); }}, size};
}

void write_file_atomically(const fs::path& path, std::span<const std::string_view> parts) {
  std::error_code error;
  fs::path target = path;
  if (fs::is_symlink(path, error)) {  // renaming would replace the link, not what it leads to
    target = fs::weakly_canonical(path, error);
    if (error) fail(path, "write", error.value());
  }
  const fs::file_type type = fs::status(target, error).type();
  if (type == fs::file_type::none) fail(path, "write", error.value());
  if (type != fs::file_type::not_found && type != fs::file_type::regular)
    throw FileError(path.string() + ": cannot write: it is there and is not a regular file");

  // The id of the process keeps two programs, writing the same file at once, out of each other's
  // way. open() and not mkstemp(), which would make the file private to its user.
  const std::string name = target.string() + ".tmp" + std::to_string(getpid());
  OpenFile file{open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (file.descriptor < 0) fail(target, "write");
  file.temporary = name;
  for (std::string_view part : parts)
    while (!part.empty()) {
      const ssize_t written = write(file.descriptor, part.data(), part.size());
      if (written >= 0) part.remove_prefix(std::size_t(written));
      else if (errno != EINTR) fail(target, "write");  // EINTR: a signal, Ctrl-C perhaps
    }
  // Disks and network file systems may report only here that a write did not fit.
  if (fsync(file.descriptor) != 0 || file.close() != 0) fail(target, "write");
  if (std::rename(name.c_str(), target.c_str()) != 0) fail(target, "write");
  file.temporary.clear();
}

}  // namespace triad::nn
