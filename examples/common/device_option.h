// --device, the same for every program: where the model and its batches lie.
#pragma once

#include <CLI/CLI.hpp>

#include <triad/core/device.h>

namespace triad::examples {

// --device cpu, cuda (the first one) or cuda:N. Another text is a ValueError, and a device that is
// not there a DeviceError, when the command line is parsed.
void add_device_option(CLI::App& app, Device& device);

// Returns once all that was launched on the device is done: for clocks.
void wait_for(Device device);

}  // namespace triad::examples
