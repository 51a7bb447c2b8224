#include <triad/examples/common/loss_chart.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include <triad/nn/files.h>

namespace triad::examples {
namespace {

constexpr const char* kScript = R"(# gnuplot loss.gnuplot draws loss.svg from loss.dat
set terminal svg size 800,450 font "sans-serif,14" background "white"
set output "loss.svg"
set xlabel "step"
set ylabel "loss, nats per byte"
set link y2 via y/log(2) inverse y*log(2)
set ytics nomirror
set y2tics 0, 0.5
set y2label "bits per byte"
set grid
plot "loss.dat" index 0 with lines linecolor "#9ecae1" title "training batch", \
     "loss.dat" index 1 with linespoints linecolor "#d94801" linewidth 2 pointtype 7 pointsize 0.5 \
       title "held out"
)";

// Two blocks, which gnuplot calls index 0 and 1.
std::string data_text(const std::vector<Metrics>& metrics) {
  std::string text = "# step, loss of the training batch (nats per byte)\n";
  for (const Metrics& m : metrics) text += fmt::format("{} {:.6g}\n", m.step, m.loss);
  text += "\n\n# step, held-out loss\n";
  for (const Metrics& m : metrics)
    if (m.val_loss) text += fmt::format("{} {:.6g}\n", m.step, *m.val_loss);
  return text;
}

// Runs gnuplot in the folder, with nothing to read and nowhere to complain. 0, or an error number,
// or EIO where it ran and failed.
int run_gnuplot(const std::filesystem::path& folder) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  char name[] = "gnuplot", script[] = "loss.gnuplot";
  char* arguments[] = {name, script, nullptr};
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

std::string draw_loss_chart(const RunFolder& folder, const std::vector<Metrics>& metrics) {
  nn::write_file_atomically(folder / "loss.dat", data_text(metrics));
  nn::write_file_atomically(folder / "loss.gnuplot", kScript);
  const std::string path = (folder / "").string();
  switch (run_gnuplot(path)) {
    case 0: return "";
    case ENOENT:
      return fmt::format(
          "there is no gnuplot to draw loss.svg: install it, then in {}: gnuplot loss.gnuplot",
          path);
    default:
      return fmt::format("gnuplot could not draw loss.svg; to see why, in {}: gnuplot loss.gnuplot",
                         path);
  }
}

}  // namespace triad::examples
