#include <triad/examples/common/gnuplot.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include <triad/nn/files.h>

namespace triad::examples {
namespace {

// Runs gnuplot in the folder, with nothing to read and nowhere to complain. 0, or an error number,
// or EIO where it ran and failed.
int run_gnuplot(const std::filesystem::path& folder, std::string script) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  char name[] = "gnuplot";
  char* arguments[] = {name, script.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, name, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return error;
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return errno;
  return status == 0 ? 0 : EIO;
}

}  // namespace

std::string draw_chart(const std::filesystem::path& folder, const std::string& name,
                       const std::string& data, const std::string& script) {
  const std::string file = name + ".gnuplot";
  nn::write_file_atomically(folder / (name + ".dat"), data);
  nn::write_file_atomically(folder / file, script);
  switch (run_gnuplot(folder, file)) {
    case 0: return "";
    case ENOENT:
      return fmt::format("there is no gnuplot to draw {}: install it, then in {}: gnuplot {}", name,
                         folder.string(), file);
    default:
      return fmt::format("gnuplot could not draw {}; to see why, in {}: gnuplot {}", name,
                         folder.string(), file);
  }
}

}  // namespace triad::examples
