#include <triad/nn/files.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <system_error>

#include <triad/core/error.h>

namespace triad::nn {
namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& path, const char* action, int error) {
  throw FileError(path.string() + ": cannot " + action + ": " +
                  std::generic_category().message(error));
}

// The file while it is being written. Unless it was renamed, it leaves nothing behind.
class TemporaryFile {
 public:
  // The id of the process keeps two programs, writing the same file at once, out of each other's
  // way. open() and not mkstemp(), which would make the file private to its user.
  explicit TemporaryFile(const fs::path& target)
      : target_(target), path_(target.string() + ".tmp" + std::to_string(getpid())) {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) fail(target_, "write", errno);
  }
  ~TemporaryFile() {
    if (fd_ >= 0) close(fd_);
    if (!renamed_) unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;  // a signal, Ctrl-C perhaps
      if (written < 0) fail(target_, "write", errno);
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }

  // Disks and network file systems may report only here that a write did not fit.
  void rename_to_target() {
    if (fsync(fd_) != 0) fail(target_, "write", errno);
    const int closed = close(fd_);
    fd_ = -1;
    if (closed != 0) fail(target_, "write", errno);
    if (std::rename(path_.c_str(), target_.c_str()) != 0) fail(target_, "write", errno);
    renamed_ = true;
  }

 private:
  fs::path target_, path_;
  int fd_ = -1;
  bool renamed_ = false;
};

}  // namespace

std::string read_file(const fs::path& path) {
  std::error_code error;
  const fs::file_type type = fs::status(path, error).type();
  if (type == fs::file_type::directory) fail(path, "read", EISDIR);
  // A pipe may never end, nor may a device.
  if (type != fs::file_type::regular && type != fs::file_type::not_found && !error)
    throw FileError(path.string() + ": cannot read: it is not a regular file");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path, "read", errno ? errno : EIO);
  try {
    return std::string((std::istreambuf_iterator<char>(file)), {});
  } catch (const std::ios_base::failure&) {
    fail(path, "read", EIO);
  }
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
  TemporaryFile file(target);
  for (std::string_view part : parts) file.write(part);
  file.rename_to_target();
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  write_file_atomically(path, std::span(&text, 1));
}

}  // namespace triad::nn
