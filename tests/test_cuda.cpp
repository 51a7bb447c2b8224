// What is the device's own: memory, transfers, random numbers, errors, training beside the CPU. The
// ops and modules are tested on it by the programs that test them on the CPU.
#include <triad/tests/module_checks.h>
#include <triad/tests/temporary_folder.h>
#include <triad/tests/test_device.h>

#include <thread>

#include <triad/backends/kernels.h>
#include <triad/nn/safetensors.h>

using namespace triad;
using enum nn::HeadType;

namespace {

nn::TransformerLM make_model() {
  return nn::TransformerLM({.vocab_size = 17,
                            .d_model = 32,
                            .layers = 1,
                            .head_types = {standard, spectral, holonomy, spectral},
                            .max_seq_len = 12,
                            .dropout = 0.1});
}

// Losses of some steps of AdamW on random tokens.
std::vector<double> train(nn::TransformerLM& model, Device device, int steps) {
  nn::AdamW optimizer(nn::decay_groups(model, 0.1), {.lr = 1e-2});
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    const Tensor ids = randint(0, 17, {2, 13}).to(device);
    optimizer.zero_grad();
    Tensor loss = cross_entropy(model(ids.slice(1, 0, 12)), ids.slice(1, 1));
    loss.backward();
    nn::clip_grad_norm(model.parameters(), 1);
    optimizer.step();
    losses.push_back(loss.item<double>());
  }
  return losses;
}

}  // namespace

TEST_CASE("a thread's first work on a CUDA device may be any op") {
  const auto there = [](const Shape& shape, DType dtype) {
    return randn(shape).to(dtype).to(kCuda);
  };
  const Tensor q = there({1, 2, 64, 64}, bf16), m = there({8, 8}, f32), row = there({30}, f32);
  const Function<Tensor()> ops[] = {[&] { return scaled_dot_product_attention(q, q, q); },
                                    [&] { return matmul(m, m); }, [&] { return rfft(row); },
                                    [&] { return m + m; }};
  for (const Function<Tensor()>& op : ops) {
    const Tensor want = op();
    Tensor got;
    std::thread([&] { got = op(); }).join();
    CHECK(same_bits(got.contiguous(), want.contiguous()));
  }
}

TEST_CASE("tensors go to the device and come back") {
  for (DType dtype : {f32, f64, bf16, f16, c64, c128, i32, i64, boolean}) {
    const Tensor x = (randn({5, 7}) * 3.0).to(dtype), y = x.to(kCuda);
    CHECK(y.device() == kCuda);
    CHECK(same_bits(y.to(Device::cpu()).to(c128).to(f64), x.to(c128).to(f64)));
    const Tensor odd = y.transpose(0, 1).slice(0, 1, kEnd, 2);
    CHECK(same_bits(odd.to(Device::cpu()).to(f64), x.transpose(0, 1).slice(0, 1, kEnd, 2).to(f64)));
  }
  Tensor x = randn({3}).requires_grad_();
  sum(square(x.to(kCuda))).backward();
  CHECK(x.grad().device() == Device::cpu());
  CHECK(same_bits(x.grad(), x.detach() * 2.0));
  Tensor to = zeros({2, 3}, {.device = kCuda});
  to.copy_(x.detach());
  CHECK(values(to)[4] == values(x)[1]);
  CHECK(to.str() == to.to(Device::cpu()).str());
}

TEST_CASE("what is larger than the buffers that copies go by") {
  // Of its bytes no two pieces as long as a buffer, 4 MiB, are the same.
  const std::int64_t n = (9 << 20) / 4 + 3;
  Tensor x = arange(double(n), {.dtype = i32});
  const Tensor there = x.to(kCuda);
  x.fill_(7);  // what was copied is no longer read
  const Tensor back = there.to(Device::cpu());
  CHECK(same_bits(back, arange(double(n), {.dtype = i32})));
}

TEST_CASE("random numbers are those of the CPU") {
  for (std::int64_t n : {1, 2, 3, 4, 5, 1027, 120'001}) {
    for (DType dtype : {f32, f64}) {
      const auto draw = [&](Device device) {
        manual_seed(5);
        const TensorOptions options{.dtype = dtype, .device = device};
        return std::pair(rand({n}, options), randn({n}, options));
      };
      const auto [uniform, normal] = draw(Device::cpu());
      const auto [their_uniform, their_normal] = draw(kCuda);
      CHECK(same_bits(uniform, their_uniform.to(Device::cpu())));
      CHECK(largest_difference(normal, their_normal) < (dtype == f32 ? 2e-6 : 4e-15));
    }
    const Tensor whole = empty({n}, i64), theirs = empty({n}, i64, kCuda);
    kernels::random_integers(Cpu(), {7, 8}, -5, std::int64_t(1) << 40, whole);
    on(kCuda, [&](auto device) {
      kernels::random_integers(device, {7, 8}, -5, std::int64_t(1) << 40, theirs);
    });
    CHECK(same_bits(whole, theirs));
    const Tensor x = randn({n});
    manual_seed(6);
    const Tensor y = dropout(x, 0.3);
    manual_seed(6);
    CHECK(same_bits(y, dropout(x.to(kCuda), 0.3)));
  }
  // An element whose uniform is just p stays.
  const Tensor draw = empty({9}, f32), y = empty({9}, f32, kCuda);
  kernels::uniform(Cpu(), {7, 9}, draw);
  for (std::int64_t i = 0; i < 9; ++i) {
    on(kCuda, [&](auto device) {
      kernels::dropout(device, {7, 9}, values(draw)[i], ones({9}, {.device = kCuda}), y);
    });
    CHECK(values(y)[i] > 1);
  }
}

TEST_CASE("more elements than threads: every thread goes round") {
  const std::int64_t n = 120'001;
  const Tensor x = randn({n}), y = randn({n}), flags = x > 0.0, index = randint(0, 50, {400, 300});
  const auto compute = [&](Device device) {
    const Tensor a = x.to(device), b = y.to(device), c = flags.to(device), i = index.to(device);
    const Tensor m = a.slice(0, 0, 120'000).reshape({400, 300});
    return std::vector<Tensor>{a + b,
                               a.slice(0, 1, kEnd, 2) * b.slice(0, 1, kEnd, 2),
                               where(c, a, b),
                               a.to(f64),
                               m.transpose(0, 1).contiguous(),
                               m.slice(1, 0, kEnd, 2).clone(),
                               full({n}, 3, {.device = device}),
                               arange(double(n), {.device = device}),
                               sum(m, {0}),
                               sum(m, {1}),
                               gather(m, 1, i),
                               max(m, 1).first,
                               cumsum(m, 1)};
  };
  const auto here = compute(Device::cpu()), there = compute(kCuda);
  for (std::size_t i = 0; i < here.size(); ++i)
    CHECK_MESSAGE(largest_difference(here[i], there[i]) <= 2e-6 * largest(here[i]), "op ", i);
}

TEST_CASE("training goes as on the CPU, and a model saved on one loads on the other") {
  manual_seed(1);
  nn::TransformerLM here = make_model(), there = make_model();
  there.load_state_dict(here.state_dict());
  there.to(kCuda);
  manual_seed(2);
  const std::vector<double> losses = train(here, Device::cpu(), 5);
  manual_seed(2);
  const std::vector<double> theirs = train(there, kCuda, 5);
  for (std::size_t i = 0; i < losses.size(); ++i)
    CHECK(theirs[i] == doctest::Approx(losses[i]).epsilon(1e-4));

  TemporaryFolder folder;
  nn::save_safetensors(folder / "there.safetensors", there.state_dict());
  here.load_state_dict(nn::load_safetensors(folder / "there.safetensors"));
  for (const auto& [name, value] : there.state_dict())
    CHECK_MESSAGE(same_bits(value, here.state_dict().at(name)), name);
  nn::TransformerLM again = make_model();
  again.to(kCuda);
  again.load_state_dict(here.state_dict());
  for (const auto& [name, value] : again.state_dict()) {
    CHECK(value.device() == kCuda);
    CHECK_MESSAGE(same_bits(value, here.state_dict().at(name)), name);
  }
}

TEST_CASE("the other optimizers, means of weights, and decoding step by step") {
  manual_seed(3);
  nn::TransformerLM model = make_model();
  model.to(kCuda);
  model.eval();
  nn::DecodeCache cache;
  const Tensor ids = randint(0, 17, {2, 6}).to(kCuda), all = model(ids);
  for (std::int64_t t = 0; t < 6; ++t)
    CHECK(largest_difference(model.step(ids.slice(1, t, t + 1), cache).select(1, 0),
                             all.detach().select(1, t)) < 1e-4);
  nn::check_causal(model);

  nn::NamedTensors matrices;
  for (const auto& [name, p] : model.named_parameters())
    if (p.dim() == 2) matrices.push_back({name, p});
  nn::SGD sgd(model.named_parameters(), {.lr = 0.1, .momentum = 0.9, .nesterov = true});
  nn::Lion lion(model.named_parameters());
  nn::Muon muon(matrices);
  nn::EMA mean(model, 0.9);
  cross_entropy(model(ids), ids).backward();
  const double before = cross_entropy(model(ids), ids).item<double>();
  sgd.step(), lion.step(), muon.step();
  mean.update();
  CHECK(cross_entropy(model(ids), ids).item<double>() < before);
}

TEST_CASE("memory is counted, given back and used again") {
  const MemoryStats before = memory_stats(kCuda);
  {
    const Tensor x = empty({1000}, f32, kCuda), y = empty({10}, f64, kCuda);
    CHECK(memory_stats(kCuda).live_blocks == before.live_blocks + 2);
    CHECK(memory_stats(kCuda).live_bytes == before.live_bytes + 4080);
  }
  CHECK(memory_stats(kCuda).live_bytes == before.live_bytes);
  empty_cache();
  CHECK(memory_stats(kCuda).cached_bytes == 0);
  std::string text;
  try {
    empty({1ll << 44}, f64, kCuda);
  } catch (const Error& error) {
    text = error.what();
  }
  CHECK(text.find(": out of memory on cuda:0: asked for 140737488355328 bytes") != text.npos);
  const Tensor x = ones({3}, {.device = kCuda});  // all goes on
  CHECK(values(x)[2] == 1);
}

TEST_CASE("errors are those of the CPU, in its words") {
  const Tensor x = ones({2, 3}, {.device = kCuda}), y = ones({2, 3});
  CHECK(message_of<DeviceError>([&] { x + y; }) == "add: the tensors are on different devices");
  CHECK(message_of<DeviceError>([&] { matmul(x, y.transpose(0, 1)); }) ==
        "matmul: the tensors are on different devices");
  CHECK(message_of<DeviceError>([&] { x.data<float>(); }) ==
        "data: the tensor is on cuda:0; write x.to(Device::cpu())");
  CHECK(message_of<DeviceError>([] {
          empty({1}, f32, Device::cuda(99));
        }).starts_with("cuda:99 is not there: this machine has "));
  for (Device device : {Device::cpu(), kCuda}) {
    const Tensor table = ones({5, 2}, {.device = device});
    CHECK(message_of<IndexError>([&] {
            embedding(from_vector<std::int64_t>({5}).to(device), table);
          }).find("5") != std::string::npos);
    const DetectAnomaly guard;
    CHECK(message_of<ValueError>([&] { log(zeros({2}, {.device = device}) - 1.0); }).find("log") !=
          std::string::npos);
  }
}
