#include <triad/bench/peer.h>

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include <triad/core/error.h>

namespace triad::bench {

Peer::Peer(const std::string& python) {
  int down[2], up[2];  // pipes to the process and from it
  if (pipe(down) != 0 || pipe(up) != 0) throw Error("peer: cannot make a pipe");
  process_ = fork();
  if (process_ < 0) throw Error("peer: cannot start a process");
  if (process_ == 0) {
    dup2(down[0], STDIN_FILENO);
    dup2(up[1], STDOUT_FILENO);
    for (int end : {down[0], down[1], up[0], up[1]}) close(end);
    execlp(python.c_str(), python.c_str(), TRIAD_SOURCE_DIR "/bench/peers.py",
           static_cast<char*>(nullptr));
    _exit(127);
  }
  close(down[0]);
  close(up[1]);
  std::signal(SIGPIPE, SIG_IGN);  // a peer that died shows as an error when its answer is read
  to_ = fdopen(down[1], "w");
  from_ = fdopen(up[0], "r");
  version_ = read_line().at("torch");
}

Peer::~Peer() {
  if (to_) std::fclose(to_);  // the end of its input ends it
  if (from_) std::fclose(from_);
  if (process_ > 0) waitpid(process_, nullptr, 0);
}

nlohmann::json Peer::ask(const nlohmann::json& request) {
  std::fprintf(to_, "%s\n", request.dump().c_str());
  std::fflush(to_);
  nlohmann::json answer = read_line();
  if (answer.contains("error")) throw Error("peer: " + answer["error"].get<std::string>());
  return answer;
}

nlohmann::json Peer::read_line() {
  char* line = nullptr;
  std::size_t size = 0;
  const ssize_t length = getline(&line, &size, from_);
  std::string text(line ? line : "", length > 0 ? std::size_t(length) : 0);
  std::free(line);
  if (length <= 0) throw Error("peer: PyTorch ended without an answer");
  return nlohmann::json::parse(text);
}

}  // namespace triad::bench
