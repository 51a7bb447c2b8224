#include <triad/bench/cuda_rows.h>

#include <fmt/format.h>

#include <memory>

#include <triad/backends/cuda/replay.h>
#include <triad/bench/workloads.h>
#include <triad/examples/common/configurations.h>
#include <triad/nn/cuda/graphed_step.h>
#include <triad/nn/transformer.h>

namespace triad::bench {
namespace {

using Of = Goal::Of;

constexpr double kShareOfCopy = 0.85;

Tensor random(const Shape& shape, DType dtype, Device device) {
  return randn(shape, {.device = device}).to(dtype);
}

CudaRow product(std::int64_t n, DType dtype, Device device) {
  const Tensor a = random({n, n}, dtype, device), b = random({n, n}, dtype, device);
  return {.name = kProduct,
          .size = fmt::format("{} {} x {} x {}", name(dtype), n, n, n),
          .flops = 2 * double(n) * double(n) * double(n),
          .product = name(dtype),
          .run = [=] { matmul(a, b); }};
}

// ---------------------------------------------------------------------- what memory sets the pace
// of

// An op on [R,C] that reads x, and where it has `reads` 2 all of y, and writes as much.
struct MovingOp {
  const char* name;
  int reads;
  Tensor (*f)(const Tensor& x, const Tensor& y);
};
constexpr MovingOp kMoving[] = {
    {kCopy, 1, [](const Tensor& x, const Tensor&) { return x.clone(); }},
    {"add", 2, [](const Tensor& x, const Tensor& y) { return x + y; }},
    {"gelu", 1, [](const Tensor& x, const Tensor&) { return gelu(x); }},
    {"softmax", 1, [](const Tensor& x, const Tensor&) { return softmax(x, -1); }},
    {"layer_norm", 1,
     [](const Tensor& x, const Tensor& y) {
       return layer_norm(x, y.select(0, 0), y.select(0, 1));
     }},
};

CudaRow moving(const MovingOp& op, std::int64_t R, std::int64_t C, DType dtype, Device device) {
  const Tensor x = random({R, C}, dtype, device), y = random({R, C}, dtype, device);
  return {.name = op.name,
          .size = fmt::format("{} {} x {}", name(dtype), R, C),
          .bytes = (op.reads + 1) * double(x.numel()) * double(item_size(dtype)),
          .goal = Goal{Of::copy, kShareOfCopy},
          .run = [x, y, f = op.f] { f(x, y); }};
}

CudaRow adamw(std::int64_t n, Device device) {
  const Tensor p = random({n}, f32, device).requires_grad_();
  p.set_grad(random({n}, f32, device));
  const auto optimizer = std::make_shared<nn::AdamW>(nn::NamedTensors{{"p", p}});
  return {.name = "AdamW",
          .size = fmt::format("f32 {}", n),
          .bytes = 7 * 4 * double(n),  // p, m and v both ways, the gradient
          .goal = Goal{Of::copy, kShareOfCopy},
          .run = [=] { optimizer->step(); }};
}

// The filters of H heads over x [B,T,H,D]: a causal one of T taps, or a circular one.
CudaRow filter(bool causal, std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t D,
               DType dtype, Device device) {
  const Tensor x = random({B, T, H, D}, dtype, device);
  const auto weights = [&](std::int64_t n) { return (randn({H, n}) * 0.1).to(device).to(dtype); };
  const Tensor taps = weights(T), gain = weights(T / 2 + 1), phase = weights(T / 2 + 1);
  CudaRow row{.name = causal ? "causal filter" : "circular filter",
              .size = fmt::format("{} B={} T={} {} channels", name(dtype), B, T, H * D),
              .bytes = 2 * double(x.numel()) * double(item_size(dtype))};
  if (causal) row.run = [=] { causal_convolution(x, taps); };
  else row.run = [=] { spectral_filter(x, gain, phase); };
  if (causal && dtype == bf16) row.goal = {Of::milliseconds, 0.34};
  return row;
}

// ---------------------------------------------------------------------- what arithmetic does

struct AttentionSize {
  std::int64_t B, H, T, D;
  bool causal;
  // Two products forward; backward five, as it makes the weights anew. Half of it where causal.
  double flops(bool backward) const {
    const double product = 2 * double(B * H) * double(T) * double(T) * double(D);
    return (backward ? 5 : 2) * product / (causal ? 2 : 1);
  }
};

CudaRow attention(const AttentionSize& s, bool backward, DType dtype, Device device,
                  std::optional<Goal> goal = {}) {
  const auto heads = [&] {  // as a projection hands them out
    return random({s.B, s.T, s.H, s.D}, dtype, device).transpose(1, 2);
  };
  Tensor q = heads(), k = heads(), v = heads(), g = heads();
  CudaRow row{.name = backward ? "attention backward" : "attention",
              .size = fmt::format("{} {} D={} T={} B={} H={}", name(dtype),
                                  s.causal ? "causal" : "full", s.D, s.T, s.B, s.H),
              .flops = s.flops(backward),
              .product = name(dtype),
              .goal = goal};
  const AttentionOptions options{.is_causal = s.causal};
  if (!backward) {
    row.run = [=] { scaled_dot_product_attention(q, k, v, options); };
    return row;
  }
  for (Tensor* x : {&q, &k, &v}) x->requires_grad_();
  const Tensor y = scaled_dot_product_attention(q, k, v, options);
  row.run = [=] { grad({y}, {q, k, v}, {g}, {.retain_graph = true}); };
  return row;
}

// Products of the layer's parts that act, without the transforms of spectral heads.
double hybrid_flops(const std::string& heads, std::int64_t B, std::int64_t T, std::int64_t M,
                    bool backward) {
  const std::vector<nn::HeadType> types = nn::heads(heads);
  const std::int64_t D = M / std::int64_t(types.size());
  const double tokens = double(B) * double(T);
  double products = 2 * tokens * double(M) * double(M), softmax = 0, spectral = 0;  // W_o
  for (nn::HeadType type : types) {
    const bool filters = type == nn::HeadType::spectral;
    products += 2 * tokens * double(M) * double(D) * (filters ? 1 : 3);
    spectral += filters ? double(D) : 0;
    if (!filters) softmax += AttentionSize{B, 1, T, D, false}.flops(false);
    if (type == nn::HeadType::holonomy) products += 2 * tokens * double(D) * double(D);
  }
  products += 2 * 2 * tokens * spectral * spectral;  // W_v and W_o of their own
  return backward ? 3 * products + 3.5 * softmax : products + softmax;
}

// Launched op by op, or replayed as one graph.
CudaRow layer(const examples::Configuration& c, std::int64_t B, std::int64_t T, std::int64_t M,
              bool backward, bool graphed, Device device) {
  const Workload w = hybrid(c.name, c.heads, B, T, device, M);
  CudaRow row{
      .name = c.name,
      .size = fmt::format("f32 ({},{}) {}{}", B, T, backward ? "forward + backward" : "forward",
                          graphed ? ", graph" : ""),
      .flops = hybrid_flops(c.heads, B, T, M, backward),
      .product = "f32",
      .run = [w, mode = w.modes[backward]] { w.run(mode); }};
  if (!graphed) return row;
  row.run();  // makes plans, which a capture cannot
  const auto step = std::make_shared<cuda::CapturedStep>(Cuda{device.index}, row.run);
  row.run = [step, w] { step->replay(1, 0); };  // which reads the memory of w
  return row;
}

struct GptSize {
  std::int64_t layers, channels, heads, vocabulary, B, T;
};

// A training step of a GPT-2 with tied embeddings: products in bf16, parameters and sums in f32;
// launched op by op, or replayed as one graph.
CudaRow gpt2(const GptSize& s, bool graphed, Device device) {
  manual_seed(42);
  auto model = std::make_shared<nn::TransformerLM>(nn::TransformerLM::Options{
      .vocab_size = s.vocabulary,
      .d_model = s.channels,
      .layers = s.layers,
      .head_types = std::vector(std::size_t(s.heads), nn::HeadType::standard),
      .max_seq_len = s.T,
      .tie_weights = true,
      .gelu = Gelu::tanh});
  model->to(device);
  auto optimizer =
      std::make_shared<nn::AdamW>(nn::decay_groups(*model, 0.1), nn::AdamWOptions{.lr = 1e-4});
  const auto loss = [model](const Tensors& batch) {
    const Autocast guard;
    return cross_entropy((*model)(batch[0]), batch[1]);
  };
  const Tensor ids = randint(0, s.vocabulary, {s.B, s.T + 1}).to(device);
  const Tensors batch{ids.slice(1, 0, s.T).contiguous(), ids.slice(1, 1).contiguous()};

  // 12 C^2 weights a layer and the logits', one product forward and two backward; and attention.
  const double tokens = double(s.B) * double(s.T), C = double(s.channels);
  const double weights = 12 * double(s.layers) * C * C + C * double(s.vocabulary);
  const AttentionSize heads{s.B, s.heads, s.T, s.channels / s.heads, true};
  CudaRow row{.name = fmt::format("GPT-2 {:.0f}M step", double(model->parameter_count()) / 1e6),
              .size = fmt::format("bf16 ({},{}) {}", s.B, s.T, graphed ? "in a graph" : "op by op"),
              .flops = 6 * tokens * weights + double(s.layers) * 3 * heads.flops(false),
              .goal = Goal{Of::product, 0.5}};
  if (graphed) {
    auto step = std::make_shared<nn::GraphedStep>(*optimizer, loss, nn::GraphedStep::Options{});
    row.run = [optimizer, step, batch] { (*step)(batch); };
  } else {
    row.run = [=] {
      optimizer->zero_grad();
      loss(batch).backward();
      optimizer->step();
    };
  }
  return row;
}

}  // namespace

std::vector<std::function<CudaRow()>> cuda_rows(Device device, bool quick) {
  std::vector<std::function<CudaRow()>> rows;
  const auto add = [&](auto make) { rows.emplace_back(make); };
  // 256 MiB in f32: far more than the second-level cache holds.
  const std::int64_t R = quick ? 16 : 65536, C = quick ? 64 : 1024, n = quick ? 64 : 4096;
  for (DType dtype : {f32, bf16}) {
    for (const MovingOp& op : kMoving) add([=] { return moving(op, R, C, dtype, device); });
    add([=] { return product(n, dtype, device); });
  }
  add([=] { return adamw(R * C, device); });

  const std::int64_t B = quick ? 2 : 64, T = quick ? 64 : 4096, H = quick ? 2 : 12;
  const std::int64_t D = quick ? 8 : 64;
  for (bool causal : {true, false})
    for (DType dtype : {bf16, f32}) add([=] { return filter(causal, B, T, H, D, dtype, device); });

  // 16,384 tokens of 2,048 channels.
  const AttentionSize narrow =
      quick ? AttentionSize{1, 2, 64, 64, true} : AttentionSize{4, 32, 4096, 64, true};
  const AttentionSize wide =
      quick ? AttentionSize{1, 1, 64, 128, false} : AttentionSize{2, 16, 8192, 128, false};
  add([=] { return attention(narrow, false, bf16, device, Goal{Of::tflops, 420}); });
  add([=] { return attention(wide, false, bf16, device, Goal{Of::tflops, 600}); });
  add([=] { return attention(narrow, true, bf16, device); });
  add([=] { return attention(wide, true, bf16, device, Goal{Of::tflops, 500}); });
  for (bool backward : {false, true}) add([=] { return attention(narrow, backward, f32, device); });

  using Sizes = std::vector<std::pair<std::int64_t, std::int64_t>>;
  const std::int64_t M = quick ? 64 : 512;
  for (auto [b, t] : quick ? Sizes{{1, 16}} : Sizes{{2, 64}, {8, 256}, {4, 1024}, {1, 4096}})
    for (const examples::Configuration& c : examples::kConfigurations)
      for (bool backward : {false, true})
        for (bool graphed : {false, true})
          add([=, b = b, t = t] { return layer(c, b, t, M, backward, graphed, device); });

  const GptSize gpt = quick ? GptSize{1, 64, 2, 128, 1, 16} : GptSize{12, 768, 12, 50304, 16, 1024};
  for (bool graphed : {false, true}) add([=] { return gpt2(gpt, graphed, device); });
  return rows;
}

}  // namespace triad::bench
