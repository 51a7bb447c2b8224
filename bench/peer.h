// The peer: PyTorch in a process of its own that answers requests, bench/peers.py.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

namespace triad::bench {

class Peer {
 public:
  explicit Peer(const std::string& python);  // starts it and waits for its greeting
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // Sends one request and waits for the answer; an answer with "error" is thrown.
  nlohmann::json ask(const nlohmann::json& request);
  const std::string& version() const { return version_; }

 private:
  nlohmann::json read_line();

  pid_t process_ = -1;
  std::FILE *to_ = nullptr, *from_ = nullptr;
  std::string version_;
};

}  // namespace triad::bench
