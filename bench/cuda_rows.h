// What cuda_bench measures: ops, layers and a training step on a CUDA device, by public functions
// alone.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <triad/core/device.h>

namespace triad::bench {

// What is wanted on an H100.
struct Goal {
  enum class Of { tflops, milliseconds, copy, product } of;
  double value;  // milliseconds at most, else at least; of copy and product a share
};

// One run of something, and what it cannot do without.
struct CudaRow {
  std::string name, size;
  double bytes = 0;              // to be read and written: memory sets the pace
  double flops = 0;              // else arithmetic does, that of products in `product`
  const char* product = "bf16";  // or "f32"
  std::optional<Goal> goal = {};
  std::function<void()> run = {};
};

// What others are compared with; a row of the type comes before any that is.
inline constexpr const char *kCopy = "copy", *kProduct = "matrix product";

// To be made one at a time, because each holds its tensors. `quick`: at tiny sizes.
std::vector<std::function<CudaRow()>> cuda_rows(Device device, bool quick);

}  // namespace triad::bench
