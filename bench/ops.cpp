#include <triad/bench/ops.h>

#include <fmt/format.h>

namespace triad::bench {
namespace {

struct Op {
  const char *name, *expression;
  Tensor (*run)(const Tensor& x, const Tensor& y);
  double moved;  // numbers read and written for each element
};

const Op kOps[] = {
    {"copy", "x.clone()", [](const Tensor& x, const Tensor&) { return x.clone(); }, 2},
    {"add", "x + y", [](const Tensor& x, const Tensor& y) { return x + y; }, 3},
    {"mul number", "x * 1.5", [](const Tensor& x, const Tensor&) { return x * 1.5; }, 2},
    {"div", "x / y", [](const Tensor& x, const Tensor& y) { return x / y; }, 3},
    {"maximum", "torch.maximum(x, y)",
     [](const Tensor& x, const Tensor& y) { return maximum(x, y); }, 3},
    {"lt", "x < y", [](const Tensor& x, const Tensor& y) { return x < y; }, 2.25},
    {"where", "torch.where(x > 0, x, y)",
     [](const Tensor& x, const Tensor& y) { return where(x > 0.0, x, y); }, 5.5},
    {"pow", "torch.pow(x, 3)", [](const Tensor& x, const Tensor&) { return pow(x, 3); }, 2},
    {"sqrt", "torch.sqrt(y)", [](const Tensor&, const Tensor& y) { return sqrt(y); }, 2},
    {"exp", "torch.exp(x)", [](const Tensor& x, const Tensor&) { return exp(x); }, 2},
    {"log", "torch.log(y)", [](const Tensor&, const Tensor& y) { return log(y); }, 2},
    {"sin", "torch.sin(x)", [](const Tensor& x, const Tensor&) { return sin(x); }, 2},
    {"tanh", "torch.tanh(x)", [](const Tensor& x, const Tensor&) { return tanh(x); }, 2},
    {"erf", "torch.erf(x)", [](const Tensor& x, const Tensor&) { return erf(x); }, 2},
    {"sigmoid", "torch.sigmoid(x)", [](const Tensor& x, const Tensor&) { return sigmoid(x); }, 2},
    {"gelu", "F.gelu(x)", [](const Tensor& x, const Tensor&) { return gelu(x); }, 2},
    {"sum", "y.sum()", [](const Tensor&, const Tensor& y) { return sum(y); }, 1},
    {"max", "x.max()", [](const Tensor& x, const Tensor&) { return max(x); }, 1},
    {"norm", "x.norm()", [](const Tensor& x, const Tensor&) { return norm(x); }, 1},
    {"cumsum", "x[: len(x) // 1000 * 1000].view(-1, 1000).cumsum(1)",
     [](const Tensor& x, const Tensor&) {
       return cumsum(x.slice(0, 0, x.numel() / 1000 * 1000).reshape({-1, 1000}), 1);
     },
     2},
    {"bf16 add", "x.bfloat16() + y.bfloat16()",
     [](const Tensor& x, const Tensor& y) { return x.to(bf16) + y.to(bf16); }, 0},
};

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
  for (const Op& op : kOps)
    all.push_back({workload(op.name, op.expression, fmt::format("{}", n), {{"n", n}},
                            [x, y, run = op.run] { return no_grad([&] { return run(x, y); }); }),
                   4 * op.moved * double(n)});
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
