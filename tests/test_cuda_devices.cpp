// Two CUDA devices: each has its own memory, stream and graphs, and neither sees the other's.
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

#include <thread>

#ifdef TRIAD_CUDA_ON_CPU
#include <triad/backends/cuda/runtime.h>
#endif

using namespace triad;
using enum nn::HeadType;

namespace {

const Device kDevices[] = {Device::cuda(0), Device::cuda(1)};

// Losses of some steps, the last ones captured, and what is left of the weights.
std::vector<double> train(Device device) {
  nn::TransformerLM model({.vocab_size = 11,
                           .d_model = 16,
                           .layers = 1,
                           .head_types = {standard, spectral, holonomy, spectral},
                           .max_seq_len = 12});
  for (const auto& [name, value] : model.named_parameters())
    value.detach().copy_(sin(arange(double(value.numel())).reshape(value.shape())) * 0.3);
  model.to(device);
  nn::AdamW optimizer(model.named_parameters(), {.lr = 1e-2});
  nn::GraphedStep step(
      optimizer, [&](const Tensors& batch) { return cross_entropy(model(batch[0]), batch[1]); },
      {});
  std::vector<double> results;
  for (int i = 0; i < 4; ++i) {
    const Tensor ids = (arange(26) * (i + 3.0)).to(i64).reshape({2, 13}).to(f64);
    const Tensor tokens = (ids - floor(ids / 11.0) * 11.0).to(i64).to(device);
    results.push_back(step({tokens.slice(1, 0, 12), tokens.slice(1, 1)}).item<double>());
  }
  for (const Tensor& p : model.parameters())
    for (double value : values(p)) results.push_back(value);
  return results;
}

}  // namespace

TEST_CASE("both devices compute the same, one after the other and at once") {
  const std::vector<double> results = train(kDevices[0]);
  CHECK(train(kDevices[1]) == results);
  std::vector<double> theirs[2];
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) threads.emplace_back([&, i] { theirs[i] = train(kDevices[i]); });
  }
  CHECK(theirs[0] == results);
  CHECK(theirs[1] == results);
}

TEST_CASE("ops that take turns between two devices") {
  Tensor x[2];
  for (int i = 0; i < 2; ++i) x[i] = randn({8, 8}).to(kDevices[i]);
  const Tensor start[2] = {x[0].to(Device::cpu()), x[1].to(Device::cpu())};
  for (int round = 0; round < 2; ++round)
    for (Tensor& each : x) each = irfft(rfft(matmul(each, each) * 0.1), {8});
  for (int i = 0; i < 2; ++i) {
    const Tensor once = matmul(start[i], start[i]) * 0.1;
    CHECK(largest_difference(x[i], matmul(once, once) * 0.1) < 1e-4);
  }
}

TEST_CASE("tensors go from one device to the other, and their gradients back") {
  const Tensor here = randn({5, 7}).to(kDevices[0]);
  const Tensor there = here.transpose(0, 1).to(kDevices[1]);
  CHECK(there.device() == kDevices[1]);
  CHECK(same_bits(there.to(Device::cpu()), here.to(Device::cpu()).transpose(0, 1).contiguous()));
  Tensor leaf = here.detach().requires_grad_();
  sum(square(leaf.to(kDevices[1]))).backward();
  CHECK(leaf.grad().device() == kDevices[0]);
  CHECK(same_bits(leaf.grad(), here * 2.0));
  Tensor to = zeros({7, 5}, {.device = kDevices[0]});
  to.copy_(there);
  CHECK(same_bits(to, here.transpose(0, 1).contiguous()));
}

TEST_CASE("an op on tensors of two devices is an error, and what both hold is counted apart") {
  const Tensor here = ones({2, 3}, {.device = kDevices[0]});
  const MemoryStats before[2] = {memory_stats(kDevices[0]), memory_stats(kDevices[1])};
  const Tensor there = ones({2, 3}, {.device = kDevices[1]});
  CHECK(memory_stats(kDevices[0]).live_bytes == before[0].live_bytes);
  CHECK(memory_stats(kDevices[1]).live_bytes == before[1].live_bytes + 24);
  CHECK(message_of<DeviceError>([&] { here + there; }) ==
        "add: the tensors are on different devices");
  CHECK(message_of<DeviceError>([&] { linear(there, here); }) ==
        "linear: the tensors are on different devices");
}

#ifdef TRIAD_CUDA_ON_CPU
TEST_CASE("a call that finds no memory is tried once more, on its device and without the cache") {
  const CachedBlocks guard;
  { const Tensor unused = zeros({5}, {.device = kDevices[1]}); }
  CHECK(memory_stats(kDevices[1]).cached_bytes > 0);
  int calls = 0, device = -1;
  const auto call = [&](int first, int second) {
    calls = 0;
    return cuda::with_memory(Cuda{0}, "a test", {-1, -2}, [&] {
      cudaGetDevice(&device);
      return ++calls == 1 ? first : second;
    });
  };
  CHECK(call(4, 5) == 4);
  CHECK(calls == 1);
  CHECK(memory_stats(kDevices[1]).cached_bytes > 0);
  CHECK(call(-1, 5) == 5);
  CHECK(calls == 2);
  CHECK(device == 0);
  CHECK(memory_stats(kDevices[1]).cached_bytes == 0);
  for (int first : {-1, -2}) {
    CHECK(message_of<OutOfMemory>([&] { call(first, -1); }) ==
          "CUDA: out of memory on cuda:0: asked for a test");
    CHECK(calls == 2);
    CHECK(call(first, -2) == -2);  // which may have other reasons
    CHECK(calls == 2);
  }
}

TEST_CASE("memory that is short at first, while the other device's is in the cache") {
  // The first that is asked for is refused once, or the second, ...: of what tensors, kernels,
  // which are loaded, and cuFFT ask for.
  int refused = 0;
  for (int blocks = 0; blocks < 12; ++blocks) {
    const CachedBlocks guard;
    empty_cache();
    const Tensor x = randn({6, 6}).to(kDevices[0]), y = x.to(Device::cpu());
    { const Tensor unused = zeros({5}, {.device = kDevices[1]}); }
    cuda::blocks_left = blocks, cuda::refusals_left = 1;
    const std::int64_t n = 30 + blocks;  // a plan that nobody has made yet
    const Tensor z = matmul(x, x), f = irfft(rfft(x.slice(1, 0, 5), n), n);
    refused += cuda::refusals_left == 0;
    cuda::blocks_left = -1, cuda::refusals_left = INT_MAX;
    CHECK(largest_difference(z, matmul(y, y)) < 1e-5);
    CHECK(largest_difference(f.slice(1, 0, 5), y.slice(1, 0, 5)) < 1e-5);
  }
  CHECK(refused > 5);
}
#endif

TEST_CASE("while a step of one device is captured, the other one works") {
  Tensor w = ones({3}, {.device = kDevices[0]}).requires_grad_(), theirs;
  nn::Adam optimizer(nn::NamedTensors{{"w", w}});
  nn::GraphedStep step(optimizer,
                       [&](const Tensors& batch) {
                         theirs = full({5}, 2, {.device = kDevices[1]}) * 3.0;
                         return sum(square(w * batch[0]));
                       },
                       {});
  const Tensors batch{ones({3}, {.device = kDevices[0]})};
  const double first = step(batch).item<double>(), second = step(batch).item<double>();
  CHECK(values(theirs) == std::vector<double>(5, 6.0));
  theirs.copy_(zeros({5}));
  CHECK(step(batch).item<double>() < second);
  CHECK(second < first);
  CHECK(values(theirs) == std::vector<double>(5, 0.0));  // no replay has written there
}
