#include <triad/bench/ops.h>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <triad/tests/op_cases.h>

namespace triad::bench {
namespace {

// Numbers that both sides can make: the fractions of multiples of the golden ratio, times 4 less 2.
Tensor spread(std::int64_t n, double offset) {
  Tensor x = arange(double(n), {.dtype = f64}) * 0.6180339887498949 + offset;
  return ((x - floor(x)) * 4.0 - 2.0).to(f32);
}

// 0, 7919, 2 * 7919, ... modulo `count`.
Tensor indices(std::int64_t n, std::int64_t count) {
  Tensor i = arange(double(n), {.dtype = f64}) * 7919.0;
  return (i - floor(i / double(count)) * double(count)).to(i64);
}

op_cases::BenchInputs inputs(std::int64_t n) {
  const std::int64_t C = std::min<std::int64_t>(n, 1000), R = n / C;
  const std::int64_t D = std::min<std::int64_t>(n, 50), T = std::min<std::int64_t>(n / D, 200);
  const auto side = std::min(std::int64_t(std::sqrt(double(n))), std::int64_t(1000));
  op_cases::BenchInputs i;
  i.x = spread(n, 0.1), i.y = abs(spread(n, 0.7)) + 0.01;
  i.m = i.x.reshape({R, C}), i.w = i.y.reshape({R, C}), i.z = complex(i.x, i.y);
  i.h = i.x.to(bf16), i.k = i.y.to(bf16), i.b = i.x > 0.0, i.c = i.y > 1.0;
  i.g = indices(n, C).reshape({R, C}), i.t = indices(R, C), i.r = indices(R, R);
  i.q = i.x.reshape({-1, 1, T, D}), i.s = spread(side * side, 0.1).reshape({side, side});
  i.u = complex(i.s, i.s.transpose(0, 1)), i.v = spread(4 * C, 0.3).reshape({C, 4});
  return i;
}

Workload workload(const std::string& expression, const std::string& size, nlohmann::json request,
                  std::function<Tensor()> compute, bool random = false) {
  request["op"] = "expression";
  request["code"] = expression;
  Workload w{.name = expression, .size = size, .modes = {"forward"}, .request = request};
  w.run = [compute](const std::string&) { no_grad(compute); };
  if (random) return w;
  w.outputs = [compute](const std::string&) {
    const Tensor y = compute().detach();
    return nn::StateDict{{"output", is_complex(y.dtype()) ? view_as_real(y) : y.to(f32)}};
  };
  if (expression.find("bfloat16") != std::string::npos) w.agree = 1e-2;
  if (expression.find("norm()") != std::string::npos) w.agree = 1e-2;  // PyTorch's adds up in f32
  return w;
}

}  // namespace

std::vector<OpWorkload> ops(std::int64_t n) {
  const op_cases::BenchInputs in = inputs(n);
  op_cases::BenchInputs leaves = in;
  for (Tensor* x : {&leaves.x, &leaves.y, &leaves.m, &leaves.w, &leaves.z, &leaves.h, &leaves.k,
                    &leaves.q, &leaves.s, &leaves.u, &leaves.v})
    x->requires_grad_();
  std::vector<OpWorkload> all;
  for (const op_cases::Case& c : op_cases::table())
    for (const op_cases::Bench& op : c.benches) {
      Workload w = workload(
          op.expression, fmt::format("{}", n), {{"n", n}}, [in, run = op.run] { return run(in); },
          op.random);
      if (n == 1) {
        w.modes.push_back("history");
        w.run = [in, leaves, run = op.run](const std::string& mode) {
          if (mode == "history") run(leaves);
          else no_grad([&] { return run(in); });
        };
      }
      all.push_back({w, 4 * op.moved * double(n)});
    }
  return all;
}

std::vector<OpWorkload> transforms(std::int64_t n) {
  const Tensor x = spread(64 * n, 0.1).reshape({64, n});
  const Tensor z = complex(x, abs(spread(64 * n, 0.7)).reshape({64, n}) + 0.01);
  const Tensor half = rfft(x);
  const std::string size = fmt::format("64 x {}", n);
  const nlohmann::json request{{"n", 64 * n}, {"rows", 64}};
  return {{workload("torch.fft.rfft(x)", size, request, [x] { return rfft(x); })},
          {workload("torch.fft.irfft(f, n)", size, request, [=] { return irfft(half, n); })},
          {workload("torch.fft.fft(z)", size, request, [z] { return fft(z); })},
          {workload("torch.fft.ifft(z)", size, request, [z] { return ifft(z); })}};
}

}  // namespace triad::bench
