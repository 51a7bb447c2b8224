// Where a tensor's memory is. A kernel is chosen by overload on the device's tag: on(device, f)
// calls f(Cpu{}), and a kernel that a device lacks is a link error with its signature in it.
#pragma once

#include <triad/core/error.h>

namespace triad {

struct Cpu {};  // the tag of kernels that run on the CPU

struct Device {
  enum class Kind : unsigned char { cpu };
  Kind kind = Kind::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  bool operator==(const Device&) const = default;
};

template <class F>
auto on(Device, F&& f) {
  return f(Cpu{});
}

}  // namespace triad
