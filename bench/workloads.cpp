#include <triad/bench/workloads.h>

#include <fmt/format.h>

#include <triad/nn/optimizer.h>
#include <triad/nn/transformer.h>

namespace triad::bench {

Workload hybrid(const std::string& name, const std::string& heads, std::int64_t B, std::int64_t T,
                Device device, std::int64_t M) {
  manual_seed(42);
  auto layer = std::make_shared<nn::HybridAttentionLayer>(nn::HybridAttentionLayer::Options{
      .d_model = M, .head_types = nn::heads(heads), .max_seq_len = T});
  layer->to(device);
  Tensor x = randn({B, T, M}, {.device = device, .requires_grad = true});
  Tensor cotangent = randn({B, T, M}, {.device = device});

  Workload w{
      .name = name, .size = fmt::format("({},{})", B, T), .modes = {"forward", "forward_backward"}};
  std::vector<std::string> types;
  for (nn::HeadType type : layer->head_types) types.push_back(nn::name(type));
  w.request = {{"op", "hybrid"}, {"head_types", types}, {"d_model", M}};
  w.data = {{"input.x", x.detach()}, {"cotangent", cotangent}};
  for (auto& [key, p] : layer->state_dict()) w.data["param." + key] = p;

  auto step = [=](const std::string& mode) {
    if (mode == "forward") return no_grad([&] { return (*layer)(x); });
    layer->zero_grad();
    x.set_grad({});
    Tensor y = (*layer)(x);
    y.backward(cotangent);
    return y.detach();
  };
  w.run = [step](const std::string& mode) { step(mode); };
  w.outputs = [step, layer, x](const std::string& mode) {
    nn::StateDict outputs{{"output", step(mode)}};
    if (mode == "forward") return outputs;
    outputs["grad.x"] = x.grad();
    for (auto& [key, p] : layer->named_parameters()) outputs["grad." + key] = p.grad();
    return outputs;
  };
  return w;
}

Workload gpt() {
  constexpr std::int64_t B = 16, T = 256, V = 256;
  manual_seed(42);
  auto model = std::make_shared<nn::TransformerLM>(
      nn::TransformerLM::Options{.vocab_size = V,
                                 .d_model = 384,
                                 .layers = 6,
                                 .head_types = nn::heads("standard*6"),
                                 .max_seq_len = T});
  auto adamw = std::make_shared<nn::AdamW>(model->named_parameters(),
                                           nn::AdamWOptions{.lr = 1e-3, .weight_decay = 0.1});
  Tensor ids = randint(0, V, {B, T}), targets = randint(0, V, {B, T});

  Workload w{.name = "GPT 10.9M",
             .size = fmt::format("({},{})", B, T),
             .modes = {"forward", "train_step"}};
  w.request = {{"op", "gpt"}};
  w.data = {{"input.ids", ids}, {"input.targets", targets}};
  for (auto& [key, p] : model->state_dict()) w.data["param." + key] = p.clone();

  auto loss = [=] { return cross_entropy((*model)(ids), targets); };
  auto step = [=](const std::string& mode) {
    if (mode == "forward") return no_grad(loss);
    adamw->zero_grad();
    Tensor value = loss();
    value.backward();
    adamw->step();
    return value.detach();
  };
  w.run = [step](const std::string& mode) { step(mode); };
  w.outputs = [step](const std::string& mode) { return nn::StateDict{{"loss", step(mode)}}; };
  return w;
}

}  // namespace triad::bench
