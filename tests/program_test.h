// Runs the example programs as a user does, and keeps what they print.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include <triad/nn/files.h>
#include <triad/tests/temporary_folder.h>

using Words = std::vector<std::string>;

inline const std::string kBin = TRIAD_BINARY_DIR "/bin/";

struct Result {
  int code;
  std::string out, err;
  bool one_line() const {
    return std::count(err.begin(), err.end(), '\n') == 1 && err.back() == '\n';
  }
};

// A program that runs, its output going to files.
class Running {
 public:
  Running(const TemporaryFolder& folder, Words words, const std::string& out = "")
      : out_(out.empty() ? (folder / "out").string() : out), err_((folder / "err").string()) {
    setenv("OMP_NUM_THREADS", "1", 1);  // the models are tiny
    words[0] = kBin + words[0];
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    const int flags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out_.c_str(), flags, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err_.c_str(), flags, 0600);
    REQUIRE(posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  void signal(int number) const { kill(pid_, number); }
  // The exit code; minus the signal's number where a signal ended it.
  Result wait() const {
    int status = 0;
    REQUIRE(waitpid(pid_, &status, 0) == pid_);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
            std::filesystem::is_regular_file(out_) ? triad::nn::read_file(out_) : "",
            triad::nn::read_file(err_)};
  }

 private:
  std::string out_, err_;
  pid_t pid_ = 0;
};

// Writes a text to train on.
inline void write_text(const std::filesystem::path& path) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i * i) + " of the text\n";
  triad::nn::write_file_atomically(path, text);
}

// The lines of a run's metrics.jsonl.
inline std::vector<nlohmann::json> read_metrics(const std::filesystem::path& run) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(triad::nn::read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

inline const bool has_gnuplot = std::system("command -v gnuplot >/dev/null 2>&1") == 0;
