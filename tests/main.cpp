#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <triad/core/device.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#ifdef TRIAD_CUDA_ON_CPU
#include <cuda_runtime.h>
#endif

// A program that needs a CUDA device (TRIAD_TEST_DEVICE=cuda, or its name is test_cuda*) and finds
// none prints "skipped" and how many tests it has.
int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const char* device = std::getenv("TRIAD_TEST_DEVICE");
  const bool on_cuda = (device && device == std::string_view("cuda")) ||
                       std::string_view(argv[0]).find("/test_cuda") != std::string_view::npos;
  const bool needs_two = std::string_view(argv[0]).ends_with("/test_cuda_devices");
  if (on_cuda && triad::cuda_device_count() < 1 + needs_two) {
    std::printf("skipped: there is no %sCUDA device\n", needs_two ? "second " : "");
    const char* count[] = {argv[0], "--count"};
    context.applyCommandLine(2, count);
  }
  const int failed = context.run();
#ifdef TRIAD_CUDA_ON_CPU
  if (const std::string wrong = simt::finish(); !wrong.empty()) {
    std::printf("after the last test: %s\n", wrong.c_str());
    return 1;
  }
#endif
  return failed;
}
