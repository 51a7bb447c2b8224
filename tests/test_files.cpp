// Files are replaced whole or not at all, and every failure names the file.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <string>

#include <triad/core/error.h>
#include <triad/nn/files.h>
#include <triad/tests/temporary_folder.h>

namespace fs = std::filesystem;
using namespace triad;
using nn::read_file;
using nn::write_file_atomically;

namespace {

// Lets no file grow past a size while it lives, as a full disk would.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit smaller{bytes, limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &smaller);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &limit_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit limit_;
  sighandler_t handler_;
};

std::string failure(auto action) {
  try {
    action();
  } catch (const FileError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("a file is read as it was written") {
  TemporaryFolder folder;
  const std::string text("a\0b\r\n\xff", 6);
  write_file_atomically(folder / "x", text);
  CHECK(read_file(folder / "x") == text);
  write_file_atomically(folder / "x", "");
  CHECK(read_file(folder / "x").empty());
  const std::string_view parts[] = {"one ", "", "two"};
  write_file_atomically(folder / "x", parts);
  CHECK(read_file(folder / "x") == "one two");
  CHECK(folder.files() == 1);
  CHECK((fs::status(folder / "x").permissions() & fs::perms::owner_read) != fs::perms::none);
}

TEST_CASE("a write that fails leaves the old file and nothing else") {
  TemporaryFolder folder;
  write_file_atomically(folder / "x", "old");
  {
    FileSizeLimit limit(1000);
    const std::string large(5000, 'x');
    CHECK(failure([&] { write_file_atomically(folder / "x", large); }) ==
          (folder / "x").string() + ": cannot write: File too large");
  }
  CHECK(read_file(folder / "x") == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("what is not a regular file is not replaced") {
  TemporaryFolder folder;
  fs::create_directory(folder / "sub");
  for (const fs::path& path : {folder / "sub", fs::path("/dev/null")}) {
    CHECK(failure([&] { write_file_atomically(path, "new"); }) ==
          path.string() + ": cannot write: it is there and is not a regular file");
  }
  CHECK(fs::is_directory(folder / "sub"));
  CHECK(fs::is_character_file("/dev/null"));
}

TEST_CASE("a link stays a link") {
  TemporaryFolder folder;
  write_file_atomically(folder / "x", "old");
  fs::create_symlink("x", folder / "link");
  write_file_atomically(folder / "link", "new");
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(read_file(folder / "x") == "new");
}

TEST_CASE("files that cannot be opened are named") {
  TemporaryFolder folder;
  const std::string missing = (folder / "no/x").string();
  CHECK(failure([&] { read_file(missing); }) ==
        missing + ": cannot read: No such file or directory");
  CHECK(failure([&] { write_file_atomically(missing, "x"); }) ==
        missing + ": cannot write: No such file or directory");
  CHECK(failure([&] { read_file(folder / "."); }).ends_with(": cannot read: Is a directory"));
  write_file_atomically(folder / "secret", "x");
  fs::permissions(folder / "secret", fs::perms::none);
  if (access((folder / "secret").c_str(), R_OK) != 0)  // root reads everything
    CHECK(failure([&] {
            read_file(folder / "secret");
          }).ends_with("secret: cannot read: Permission denied"));
}
