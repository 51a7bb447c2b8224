// What runs: modules, ops, the backward of each. NVIDIA's profilers show it, as ranges of NVTX, if
// somebody asks for that; errors about the memory that a kernel needs name its op. And whether
// what is launched runs, or is captured to run later.
#pragma once

#include <concepts>
#include <cstdlib>
#include <string>
#include <string_view>

namespace triad {

#ifdef TRIAD_CUDA

namespace cuda {
void push_range(const std::string& name);  // backends/cuda/runtime.cpp
void pop_range();
bool is_capturing();
}  // namespace cuda

// Are launches recorded, to be replayed, instead of run (nn/cuda/graphed_step.h)? Then no value can
// be read, and what depends on values cannot be checked.
inline bool is_capturing() { return cuda::is_capturing(); }

class Range {
 public:
  explicit Range(const char* op) {
    if (std::string_view(op) == "operator()") return;  // of a rule: "backward of" its op is open
    op_ = op;
    if (shown()) open(op);
  }
  // What is no op, by a function that gives its name and is called where that is shown.
  template <std::invocable Name> explicit Range(Name name) {
    if (shown()) open(name());
  }
  ~Range() {
    op_ = before_;
    if (is_open_) cuda::pop_range();
  }
  Range(const Range&) = delete;

  static const char* op_or(const char* other) { return op_ ? op_ : other; }  // that runs
  static bool& shown() {
    static bool is = [](const char* asked) { return asked && *asked == '1'; }(getenv("TRIAD_NVTX"));
    return is;
  }

 private:
  void open(const std::string& name) {
    cuda::push_range(name);
    is_open_ = true;
  }

  static inline thread_local const char* op_ = nullptr;
  const char* before_ = op_;
  bool is_open_ = false;
};

// Shows ranges from here on, as the environment variable TRIAD_NVTX=1 does from the start.
inline void nvtx_ranges(bool on = true) { Range::shown() = on; }

#else

struct Range {
  explicit Range(const auto&) {}
  static const char* op_or(const char* other) { return other; }
};
inline void nvtx_ranges(bool = true) {}
inline bool is_capturing() { return false; }

#endif

}  // namespace triad
