// What goes wrong on the device: memory that runs out in the middle of things, NaN, the wrong
// device. It is an error that names the op, nothing is lost, and all goes on.
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

#ifdef TRIAD_CUDA_ON_CPU
#include <simulated_device.h>
#include <triad/backends/cuda/launch.h>
#endif

using namespace triad;
using enum nn::HeadType;

namespace {

struct Training {
  explicit Training(double max_norm = 1) : max_norm(max_norm) { model.to(kCuda); }
  Tensor loss(const Tensor& ids) {
    return cross_entropy(model(ids.slice(1, 0, ids.size(1) - 1)), ids.slice(1, 1));
  }
  void step() {
    optimizer().zero_grad();
    loss(ids).backward();
    nn::clip_grad_norm(model.parameters(), max_norm);
    optimizer().step();
  }
  nn::AdamW& optimizer() {
    if (!own) own = std::make_unique<nn::AdamW>(model.named_parameters());
    return *own;
  }

  nn::TransformerLM model{{.vocab_size = 11,
                           .d_model = 16,
                           .layers = 1,
                           .head_types = {standard, spectral},
                           .max_seq_len = 8}};
  double max_norm;
  std::unique_ptr<nn::AdamW> own = nullptr;
  Tensor ids = randint(0, 11, {2, 9}).to(kCuda);
};

}  // namespace

#ifdef TRIAD_CUDA_ON_CPU

namespace {

// The text of the OutOfMemory that f throws while the device gives so many blocks; else empty.
template <class F> std::string with_blocks(int count, F f) {
  empty_cache();
  cuda::blocks_left = count;
  std::string text;
  try {
    f();
  } catch (const OutOfMemory& error) {
    text = error.what();
  }
  cuda::blocks_left = -1;
  return text;
}

const std::string kMissing = "out of memory on cuda:0: asked for ";

}  // namespace

TEST_CASE("memory that runs out: which op asked for it") {
  const Tensor x = randn({2, 3}, {.device = kCuda}), w = randn({4, 3}, {.device = kCuda});
  Tensor leaf = x.detach().requires_grad_();
  const auto missing = [&](auto f, int blocks = 0) {
    const std::string text = with_blocks(blocks, f);
    const auto at = text.find(kMissing);
    return at == text.npos ? text : text.substr(0, at);
  };
  CHECK(missing([&] { linear(x, w); }) == "linear: ");
  CHECK(missing([&] { matmul(x, w.transpose(0, 1)); }) == "matmul: ");
  CHECK(missing([&] { x + x; }) == "add: ");
  CHECK(missing([&] { x * 2.0; }) == "mul: ");
  CHECK(missing([&] { exp(x); }) == "exp: ");
  CHECK(missing([&] { softmax(x, -1); }) == "softmax: ");
  CHECK(missing([&] { x.to(f64); }) == "to: ");
  CHECK(missing([&] { x.transpose(0, 1).reshape({6}); }) == "reshape: ");
  CHECK(missing([&] { max(x, 0); }) == "max: ");
  CHECK(missing([&] { rand({3}, {.device = kCuda}); }) == "rand: ");
  CHECK(missing([&] { zeros({3}, {.device = kCuda}); }) == "full: ");
  // What a kernel needs beside the result.
  const Tensor large = zeros({5000}, {.device = kCuda});
  CHECK(missing([&] { sum(large); }, 1) == "sum: ");
  const Tensor y = softmax(leaf, -1), g = ones_like(y);
  CHECK(missing([&] { y.backward(g, {.retain_graph = true}); }) == "backward of softmax: ");
  const Tensor product = linear(leaf, w);
  CHECK(missing([&] { product.backward(ones_like(product)); }, 1) ==
        "backward of linear: matmul: ");
}

TEST_CASE("memory of tensors that are no more is the device's again") {
  const auto count = [] {
    CHECK(simt::finish() == "");
    return simt::live_blocks(0);
  };
  const std::size_t before = count();
  {
    const Tensor x = ones({3}, {.device = kCuda}), y = x + x;
    CHECK(count() == before + 2);
  }
  CHECK(count() == before);
}

TEST_CASE("memory that runs out somewhere in a training step: nothing is lost, and all goes on") {
  manual_seed(1);
  Training training;
  training.step();
  training.optimizer().zero_grad();
  const MemoryStats before = memory_stats(kCuda);
  int failures = 0;
  for (int blocks = 0;; blocks += 1 + blocks / 4, ++failures) {
    const std::string text = with_blocks(blocks, [&] { training.step(); });
    training.optimizer().zero_grad();
    CHECK(memory_stats(kCuda).live_blocks == before.live_blocks);
    CHECK(memory_stats(kCuda).live_bytes == before.live_bytes);
    if (text.empty()) break;
    CAPTURE(text);
    CHECK(text.find(": " + kMissing) != text.npos);
  }
  CHECK(failures > 5);
  // A smaller step fits where a larger one does not.
  training.ids = training.ids.slice(0, 0, 1).slice(1, 0, 5);
  const double loss = training.loss(training.ids).item<double>();
  for (int i = 0; i < 3; ++i) training.step();
  CHECK(training.loss(training.ids).item<double>() < loss);
}

TEST_CASE("memory that runs out while a step is captured") {
  const MemoryStats before = memory_stats(kCuda);
  int failures = 0;
  {
    Training training;
    const auto loss = [&](const Tensors& batch) { return training.loss(batch[0]); };
    nn::GraphedStep step(training.optimizer(), loss, {.max_norm = 1});
    double last = step({training.ids}).item<double>();
    for (int blocks = 0;; blocks += 1 + blocks / 2, ++failures) {
      const RandomStream random = random_state();
      const std::string text = with_blocks(blocks, [&] { step({training.ids}); });
      CHECK(!is_capturing());
      if (text.empty()) break;
      CAPTURE(text);
      CHECK(text.find(kMissing) != text.npos);
      CHECK(random_state().stream == random.stream);
    }
    for (int i = 0; i < 3; ++i) {
      const double next = step({training.ids}).item<double>();
      CHECK(next < last);
      last = next;
    }
    for (const auto& [name, value] : training.optimizer().state_dict())
      if (name.ends_with(".step")) CHECK(value.item<std::int64_t>() == 5);
  }
  CHECK(failures > 5);
  CHECK(memory_stats(kCuda).live_bytes == before.live_bytes);
}

namespace {

void break_down() { simt::fail("a fault"); }

}  // namespace

TEST_CASE(
    "a kernel that breaks its device: an error wherever something waits for it, or is asked") {
  const Tensor x = ones({3}, {.device = kCuda});
  cuda::launch({Cuda{0}, dim3(1), dim3(1)}, break_down);
  const auto is_told = [&](auto f) {
    return message_of<DeviceError>(f).starts_with("CUDA: a fault, block 0");
  };
  CHECK(is_told([&] { values(x); }));
  CHECK(is_told([&] { x + x; }));                // memory
  CHECK(is_told([&] { x.fill_(2); }));           // a kernel
  CHECK(is_told([&] { x.copy_(zeros({3})); }));  // a copy
  CHECK(simt::finish().starts_with("a fault"));
  CHECK(values(x + x) == std::vector<double>(3, 2.0));
}

TEST_CASE("ranges for profilers: modules, ops and their backward") {
  Training training;
  const auto seen = [&] { return std::exchange(cuda::ranges_seen, ""); };
  seen();
  training.loss(training.ids);
  CHECK(seen() == "");
  nvtx_ranges();
  Tensor loss = training.loss(training.ids);
  const std::string forward = seen();
  loss.backward();
  training.step();
  nvtx_ranges(false);
  const std::string backward = seen();
  for (const char* part : {"TransformerLM(Embedding(", "TransformerBlock(LayerNorm(layer_norm())",
                           "Linear(linear())", "HybridAttentionLayer(", "cross_entropy()"})
    CHECK_MESSAGE(forward.find(part) != forward.npos, part, " in ", forward);
  for (const char* part : {"backward of linear(matmul()", "backward of cross_entropy(",
                           "clip_grad_norm()", "adam_step()"})
    CHECK_MESSAGE(backward.find(part) != backward.npos, part, " in ", backward);
  CHECK(std::ranges::count(forward + backward, '(') == std::ranges::count(forward + backward, ')'));
  CHECK((forward + backward).find("operator") == std::string::npos);
}

#endif

TEST_CASE("DetectAnomaly names the op on the device, too") {
  const Tensor x = from_vector<float>({-1, 4}).to(kCuda);
  Tensor zero = zeros({1}, {.device = kCuda}).requires_grad_();
  const DetectAnomaly guard;
  CHECK(message_of<ValueError>([&] { sqrt(x); }) == "sqrt: the result is NaN");
  CHECK(message_of<ValueError>([&] { sum(sqrt(zero) * 0.0).backward(); }) ==
        "backward of sqrt: the gradient of input 0 is NaN");
}

TEST_CASE("tensors on different devices, and devices that are not there") {
  const Tensor here = ones({2, 3}), there = here.to(kCuda), ids = zeros({2}, {.dtype = i64});
  const auto differ = [](const std::string& op) {
    return op + ": the tensors are on different devices";
  };
  CHECK(message_of<DeviceError>([&] { linear(there, here); }) == differ("linear"));
  CHECK(message_of<DeviceError>([&] { cat({here, there}); }) == differ("cat"));
  CHECK(message_of<DeviceError>([&] { where(here > 0.0, there, there); }) == differ("where"));
  CHECK(message_of<DeviceError>([&] { embedding(ids, there); }) == differ("embedding"));
  CHECK(message_of<DeviceError>([&] { cross_entropy(there, ids); }) == differ("cross_entropy"));
  CHECK(message_of<DeviceError>([&] { cat({there}, 0, here.clone()); }) == differ("cat"));
  const Tensor q = randn({1, 1, 2, 4}), mask = ones({2, 2}) > 0.0;
  for (const auto& [x, m] : {std::pair(q, mask.to(kCuda)), std::pair(q.to(kCuda), mask)})
    for (const AttentionOptions& options :
         {AttentionOptions{.attn_mask = m}, AttentionOptions{.token_mask = m.slice(0, 0, 1)}})
      CHECK(message_of<DeviceError>([&] { scaled_dot_product_attention(x, x, x, options); }) ==
            differ("scaled_dot_product_attention"));
  Tensor leaf = there.detach().requires_grad_();
  CHECK(message_of<DeviceError>([&] { (leaf * 2.0).backward(here); }) == differ("backward"));
  CHECK(message_of<DeviceError>([&] { leaf.set_grad(here); }) == differ("set_grad"));
  nn::Linear layer(3, 4);
  CHECK(message_of<DeviceError>([&] { layer(there); }) == differ("linear"));
  for (int index : {-1, 99}) {
    const Device missing = Device::cuda(index);
    const std::string text = name(missing) + " is not there: this machine has ";
    CHECK(message_of<DeviceError>([&] { here.to(missing); }).starts_with(text));
    CHECK(message_of<DeviceError>([&] { rand({2}, {.device = missing}); }).starts_with(text));
    CHECK(message_of<DeviceError>([&] { layer.to(missing); }).starts_with(text));
    CHECK(message_of<DeviceError>([&] { memory_stats(missing); }).starts_with(text));
  }
  CHECK(layer.weight.device() == Device::cpu());
  layer.to(kCuda);
  CHECK(layer(there).device() == kCuda);
}
