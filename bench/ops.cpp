#include <triad/bench/ops.h>

#include <algorithm>

#include <fmt/format.h>

#include <triad/tests/op_cases.h>

namespace triad::bench {
namespace {

// Numbers that both sides can make: the fractions of multiples of the golden ratio, times 4 less 2.
Tensor spread(std::int64_t n, double offset) {
  Tensor x = arange(double(n), {.dtype = f64}) * 0.6180339887498949 + offset;
  return ((x - floor(x)) * 4.0 - 2.0).to(f32);
}

Workload workload(const char* name, const char* expression, const std::string& size,
                  nlohmann::json request, std::function<Tensor()> compute) {
  request["op"] = "expression";
  request["code"] = expression;
  Workload w{.name = name, .size = size, .modes = {"forward"}, .request = request};
  w.run = [compute](const std::string&) { compute(); };
  w.outputs = [compute](const std::string&) {
    const Tensor y = compute().to(f32);
    return nn::StateDict{{"output", y}};
  };
  return w;
}

}  // namespace

std::vector<OpWorkload> ops(std::int64_t n) {
  const Tensor x = spread(n, 0.1), y = abs(spread(n, 0.7)) + 0.01;
  std::vector<OpWorkload> all;
  for (const op_cases::Case& c : op_cases::table()) {
    if (!c.bench) continue;
    const op_cases::Bench& op = *c.bench;
    all.push_back({workload(op.name, op.expression, fmt::format("{}", n), {{"n", n}},
                            [x, y, run = op.run] { return no_grad([&] { return run(x, y); }); }),
                   4 * op.moved * double(n)});
  }
  // Those that memory sets the pace of come first.
  std::stable_partition(all.begin(), all.end(), [](const OpWorkload& w) { return w.bytes > 0; });
  return all;
}

std::vector<OpWorkload> transforms(std::int64_t n) {
  const Tensor x = spread(64 * n, 0.1).reshape({64, n}), z = complex(x, x * 0.5);
  const std::string size = fmt::format("64 x {}", n);
  return {{workload("rfft", "torch.fft.rfft(x).abs()", size, {{"n", 64 * n}, {"rows", 64}},
                    [x] { return abs(rfft(x)); })},
          {workload("fft", "torch.fft.fft(z).abs()", size, {{"n", 64 * n}, {"rows", 64}},
                    [z] { return abs(fft(z)); })},
          {workload("ifft", "torch.fft.ifft(z).abs()", size, {{"n", 64 * n}, {"rows", 64}},
                    [z] { return abs(ifft(z)); })}};
}

}  // namespace triad::bench
