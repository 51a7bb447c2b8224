#include <triad/examples/common/device_option.h>

#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include <triad/core/tensor.h>

namespace triad::examples {
namespace {

Device device_named(std::string_view text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda();
  constexpr std::string_view kPrefix = "cuda:";
  if (text.starts_with(kPrefix)) {
    int index = -1;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + kPrefix.size(), end, index);
    if (error == std::errc() && stop == end && index >= 0) return Device::cuda(index);
  }
  throw ValueError(fmt::format("--device: needs cpu, cuda or cuda:N, got {}", text));
}

}  // namespace

void add_device_option(CLI::App& app, Device& device) {
  app.add_option_function<std::string>(
         "--device",
         [&device](const std::string& text) {
           device = device_named(text);
           empty({1}, f32, device);  // whether it is there, in the library's words
         },
         "where to compute: cpu, cuda or cuda:N")
      ->type_name("DEVICE")
      ->default_str(name(device));
}

// A device works in the order of launches, and a copy to the CPU has happened on return.
void wait_for(Device device) {
  if (device != Device::cpu()) empty({1}, f32, device).to(Device::cpu());
}

}  // namespace triad::examples
