// GraphedStep: a training step captured once and replayed.
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

#include <thread>

using namespace triad;
using enum nn::HeadType;

namespace {

// Trains one model step by step, and another by captured steps.
void check_training() {
  manual_seed(7);
  const nn::TransformerLM::Options options{.vocab_size = 17,
                                           .d_model = 32,
                                           .layers = 1,
                                           .head_types = {standard, spectral, holonomy, spectral},
                                           .max_seq_len = 12,
                                           .dropout = 0.1};
  nn::TransformerLM eager(options), graphed(options);
  graphed.load_state_dict(eager.state_dict());
  const auto train = [](nn::TransformerLM& model, bool capture) {
    model.to(kCuda);
    nn::AdamW optimizer(nn::decay_groups(model, 0.1), {.lr = 1});
    const auto loss = [&](const Tensors& batch) {
      return cross_entropy(model(batch[0]), batch[1]);
    };
    nn::GraphedStep step(optimizer, loss, {.max_norm = 0.5});
    manual_seed(8);
    std::vector<double> losses;
    for (int i = 0; i < 5; ++i) {
      const Tensor ids = randint(0, 17, {2, 13}).to(kCuda);
      const Tensors batch{ids.slice(1, 0, 12), ids.slice(1, 1)};
      optimizer.set_lr(0.01 / (1 + i));
      if (i == 3) manual_seed(21);
      if (capture) losses.push_back(step(batch).item<double>());
      else {
        optimizer.zero_grad();
        Tensor value = loss(batch);
        value.backward();
        nn::clip_grad_norm(model.parameters(), 0.5);
        optimizer.step();
        losses.push_back(value.item<double>());
      }
    }
    losses.push_back(double(random_state().stream));
    for (const auto& [name, value] : optimizer.state_dict())
      if (name.ends_with(".step")) losses.push_back(value.item<double>());
    return losses;
  };
  CHECK(train(eager, false) == train(graphed, true));
  const nn::StateDict weights = eager.state_dict();
  for (const auto& [name, value] : graphed.state_dict())
    CHECK_MESSAGE(same_bits(value, weights.at(name)), name);
}

}  // namespace

TEST_CASE("a captured step: the same losses and weights, bit for bit, and all is given back") {
  for (bool cached : {false, true}) {
    const auto guard = cached ? std::make_unique<CachedBlocks>() : nullptr;
    const MemoryStats before = memory_stats(kCuda);
    check_training();
    CHECK(memory_stats(kCuda).live_bytes == before.live_bytes);
  }
}

TEST_CASE("a captured step in f16: scales, skips and steps as one by one, bit for bit") {
  const auto train = [](bool capture, DType dtype, DType of_loss) {
    manual_seed(7);
    nn::Linear up(6, 32), down(32, 1);
    for (nn::Linear* layer : {&up, &down}) layer->to(dtype), layer->to(kCuda);
    const nn::NamedTensors parameters{
        {"up", up.weight}, {"up.bias", up.bias}, {"down", down.weight}, {"down.bias", down.bias}};
    nn::AdamW optimizer(parameters, {.lr = 0.01});
    nn::GradScaler scaler({.init_scale = 0x1p22, .growth_interval = 2});
    const auto loss = [&](const Tensors& batch) {
      const Autocast guard(f16);
      const Tensor y = down(dropout(gelu(up(batch[0])), 0.1)).to(of_loss);
      return mean(square(y - batch[1]));
    };
    nn::GraphedStep step(optimizer, loss, {.max_norm = 0.5, .scaler = &scaler});
    std::vector<double> seen;
    int skipped = 0;
    for (int i = 0; i < 24; ++i) {
      const Tensors batch{
          randn({8, 6}).to(kCuda).to(dtype),
          full({8, 1}, i == 12 ? INFINITY : i, {.dtype = of_loss, .device = kCuda})};
      const std::vector<double> before = values(up.weight);
      if (i == 18) {  // a step by hand: one of the parameters is further than the other
        optimizer.zero_grad();
        sum(square(up.bias)).backward();
        optimizer.step();
      }
      if (capture) seen.push_back(step(batch).item<double>());
      else {
        optimizer.zero_grad();
        const Tensor value = loss(batch);
        scaler.scale(value).backward();
        scaler.unscale_(optimizer);
        nn::clip_grad_norm({up.weight, up.bias, down.weight, down.bias}, 0.5);
        scaler.step(optimizer);
        scaler.update();
        seen.push_back(value.item<double>());
      }
      skipped += values(up.weight) == before;
      seen.push_back(scaler.get_scale());
    }
    CHECK(skipped > (dtype == f64 ? 0 : 2));
    CHECK(skipped < 20);
    seen[2 * 12] = 0;  // infinite
    for (const auto& [name, p] : parameters)
      for (double x : values(p)) seen.push_back(x);
    for (const auto& [name, x] : optimizer.state_dict())
      for (double value : values(x)) seen.push_back(value);
    seen.push_back(double(random_state().stream));
    return seen;
  };
  for (bool cached : {false, true}) {
    const auto guard = cached ? std::make_unique<CachedBlocks>() : nullptr;
    const MemoryStats before = memory_stats(kCuda);
    for (auto [dtype, of_loss] : {std::pair(f32, f32), {f32, f16}, {bf16, f32}, {f64, f64}})
      CHECK_MESSAGE(train(true, dtype, of_loss) == train(false, dtype, of_loss),
                    std::string(name(dtype)));
    CHECK(memory_stats(kCuda).live_bytes == before.live_bytes);
  }
}

TEST_CASE("a captured step reads a batch on the CPU anew") {
  Tensor w = ones({3}, {.device = kCuda}).requires_grad_();
  nn::Adam optimizer(nn::NamedTensors{{"w", w}}, {.lr = 0});
  const auto loss = [&](const Tensors& batch) { return sum(w * batch[0].to(kCuda)); };
  nn::GraphedStep step(optimizer, loss, {});
  for (int i = 0; i < 4; ++i) CHECK(step({full({3}, i)}).item<double>() == 3 * i);
}

TEST_CASE("a captured step adds to no gradient from before it") {
  Tensor w = ones({3}, {.device = kCuda}).requires_grad_();
  Tensor other = ones({3}, {.device = kCuda}).requires_grad_();
  nn::Adam optimizer(nn::NamedTensors{{"w", w}});
  nn::GraphedStep step(optimizer, [&](const Tensors&) { return sum(w * other); }, {});
  step({});
  CHECK(message_of<AutogradError>([&] { step({}); }) ==
        "backward: a captured step cannot add to a gradient from before it");
  CHECK(!w.grad().defined());  // which nothing has computed
  other.set_grad({});
  CHECK(step({}).item<double>() < 3);
}

TEST_CASE("a captured step with a scaler: what it cannot do is an error, and all goes on") {
  Tensor w = ones({3}, {.device = kCuda}).requires_grad_();
  nn::Adam optimizer(nn::NamedTensors{{"w", w}}, {.lr = 0.125});
  nn::GradScaler scaler;
  const auto loss = [&](const Tensors& batch) { return sum(square(w * batch[0])); };
  nn::GraphedStep step(optimizer, loss, {.max_norm = 1, .scaler = &scaler});
  const Tensors batch{ones({3}, {.device = kCuda})}, bad{full({3}, NAN, {.device = kCuda})};
#ifdef TRIAD_CUDA_ON_CPU
  for (bool first : {true, false}) {
    int refused = 0;
    for (int blocks = 0; blocks < 60; ++blocks) {
      cuda::blocks_left = blocks;
      const std::string text = message_of<OutOfMemory>([&] { step(batch); });
      cuda::blocks_left = -1;
      if (text == "no error") break;
      ++refused;
    }
    CHECK_MESSAGE(refused > 5, first);
    CHECK(refused < 60);
  }
#else
  step(batch), step(batch);
#endif
  CHECK(values(w) == std::vector<double>(3, 0.75));  // two steps were done
  const double third = step(batch).item<double>();
  optimizer.zero_grad();
  scaler.scale(loss(bad)).backward();
  CHECK(!scaler.step(optimizer));
  CHECK(message_of<ValueError>([&] { step(batch); }) ==
        "GraphedStep: comes after the scaler's update, not between unscale_ and it");
  scaler.update();
  CHECK(scaler.get_scale() == 32768);
  const std::vector<double> before = values(w);
  CHECK(std::isnan(step(bad).item<double>()));
  CHECK(values(w) == before);
  CHECK(scaler.get_scale() == 16384);
  CHECK(step(batch).item<double>() < third);
  CHECK(scaler.state_dict().at("_growth_tracker").item<std::int64_t>() == 1);

  nn::Adam narrow(nn::NamedTensors{{"n", w.detach().to(f16).requires_grad_()}});
  CHECK(message_of<DTypeError>([&] { nn::GraphedStep(narrow, loss, {.scaler = &scaler}); }) ==
        "GraphedStep: a scaler needs parameters in f32, n is f16");
}

TEST_CASE("a captured step: what it cannot do is an error, and all goes on") {
  Tensor w = ones({3}, {.device = kCuda}).requires_grad_();
  nn::Adam optimizer(nn::NamedTensors{{"w", w}});
  bool read = true;
  nn::GraphedStep step(optimizer,
                       [&](const Tensors& batch) {
                         Tensor loss = sum(square(w * batch[0]));
                         if (read) loss.item<double>();
                         return loss;
                       },
                       {});
  const Tensors batch{ones({3}, {.device = kCuda})};
  CHECK(step(batch).item<double>() == 3);
  std::string text;
  try {
    step(batch);
  } catch (const Error& error) {
    text = error.what();
  }
  CHECK(text == "no value can be read while a step is captured");
  CHECK(!is_capturing());
  read = false;
  const double second = step(batch).item<double>();
  CHECK(second < 3);
  CHECK(step(batch).item<double>() < second);
  CHECK(message_of<ShapeError>([&] { step({ones({4}, {.device = kCuda})}); }) ==
        "GraphedStep: tensor 0 of the batch was [3], got [4]");
  CHECK(step(batch).item<double>() < second);

  nn::GradScaler scaler;
  nn::GraphedStep scaled(optimizer,
                         [&](const Tensors& batch) { return scaler.scale(sum(w * batch[0])); }, {});
  scaled(batch);
  CHECK(message_of<Error>([&] { scaled(batch); }) ==
        "GradScaler: a captured step is scaled by an option of GraphedStep");
  const auto before = values(w);
  optimizer.zero_grad();
  scaler.scale(sum(w * full({3}, INFINITY, {.device = kCuda}))).backward();
  CHECK(!scaler.step(optimizer));
  scaler.update();
  CHECK(values(w) == before);
  CHECK(scaler.get_scale() == 32768);

  CHECK(message_of<DTypeError>([&] { step({ones({3}, {.dtype = f64, .device = kCuda})}); }) ==
        "GraphedStep: tensor 0 of the batch was f32, got f64");
  CHECK(message_of<ValueError>([&] {
          nn::GraphedStep(optimizer, [&](const Tensors&) { return w; }, {.max_norm = -1});
        }) == "GraphedStep: needs max_norm >= 0, got -1");

  Tensor inner = ones({3}, {.device = kCuda}).requires_grad_();
  nn::Adam of_inner(nn::NamedTensors{{"inner", inner}});
  nn::GraphedStep within(of_inner, [&](const Tensors& x) { return sum(inner * x[0]); }, {});
  nn::GraphedStep around(optimizer, [&](const Tensors& x) { return within(x) + sum(w * x[0]); },
                         {});
  around(batch);
  for (int i = 0; i < 2; ++i) {
    CHECK(message_of<Error>([&] { around(batch); }) ==
          "GraphedStep: a captured step cannot contain another");
    within(batch);  // a replay within a capture is no better
  }

  // An index that nobody could check.
  Tensor table = ones({5, 2}, {.device = kCuda}).requires_grad_();
  nn::Adam other(nn::NamedTensors{{"table", table}});
  nn::GraphedStep lookup(other, [&](const Tensors& ids) { return sum(embedding(ids[0], table)); },
                         {});
  const auto ids = [](std::int64_t id) {
    return Tensors{from_vector<std::int64_t>({id}).to(kCuda)};
  };
  lookup(ids(1)), lookup(ids(2));
  CHECK(std::isnan(lookup(ids(5)).item<double>()));
}

TEST_CASE("a captured step: what other threads do meanwhile is no part of it") {
  Tensor w = ones({3}, {.device = kCuda}).requires_grad_(), theirs;
  nn::Adam optimizer(nn::NamedTensors{{"w", w}});
  double sum_of_theirs = 0;
  nn::GraphedStep step(optimizer,
                       [&](const Tensors& batch) {
                         if (is_capturing())
                           std::thread([&] {
                             theirs = full({5}, 2).to(kCuda) * 3.0;
                             sum_of_theirs = sum(theirs).item<double>();
                           }).join();
                         return sum(square(w * batch[0]));
                       },
                       {});
  const Tensors batch{ones({3}, {.device = kCuda})};
  const double first = step(batch).item<double>(), second = step(batch).item<double>();
  CHECK(sum_of_theirs == 30);
  theirs.copy_(zeros({5}));
  CHECK(step(batch).item<double>() < second);
  CHECK(second < first);
  CHECK(values(theirs) == std::vector<double>(5, 0.0));
}

TEST_CASE("a captured step that goes before its last replay has run") {
  Tensor w = ones({3}, {.device = kCuda}).requires_grad_(), loss;
  nn::Adam optimizer(nn::NamedTensors{{"w", w}});
  {
    nn::GraphedStep step(
        optimizer,
        [&](const Tensors& batch) {
          return sum(w.detach() * 0.0 + batch[0] * full({3}, 2).to(kCuda) + w * 0.0);
        },
        {});
    const Tensors batch{ones({3}, {.device = kCuda})};
    for (int i = 0; i < 3; ++i) loss = step(batch);
  }
  CHECK(loss.item<double>() == 6);
}

TEST_CASE("a captured step keeps its plans of transforms, however many others are made") {
  Tensor w = ones({11}, {.device = kCuda}).requires_grad_();
  nn::Adam optimizer(nn::NamedTensors{{"w", w}});
  nn::GraphedStep step(
      optimizer,
      [&](const Tensors& batch) { return sum(square(irfft(rfft(w * batch[0]) * 2.0, 11))); }, {});
  const Tensors batch{ones({11}, {.device = kCuda})};
  step(batch);
  const double before = step(batch).item<double>();
  for (std::int64_t n = 12; n < 80; ++n) rfft(ones({n}, {.device = kCuda}));
  CHECK(step(batch).item<double>() < before);
}

TEST_CASE("a captured step counts steps as the optimizer does, whoever else takes some") {
  const auto train = [](bool graphed) {
    Tensor w = ones({3}, {.device = kCuda}).requires_grad_();
    Tensor v = ones({3}, {.device = kCuda}).requires_grad_();
    Tensor once = ones({3}, {.device = kCuda}).requires_grad_();
    nn::Adam optimizer(nn::NamedTensors{{"w", w}, {"v", v}, {"once", once}}, {.lr = 0.1});
    const auto loss = [&](const Tensors& batch) { return sum(square(w * v * batch[0] - 0.3)); };
    nn::GraphedStep graph(optimizer, loss, {}), wider(optimizer, loss, {});
    const auto alone = [&](const Tensor& x) {
      optimizer.zero_grad();
      loss({x}).backward();
      optimizer.step();
    };
    const auto batch = [](double x, const Shape& shape) {
      return full(shape, x, {.device = kCuda});
    };
    const auto steps = [&](int count, nn::GraphedStep& step, const Shape& shape) {
      for (int i = 0; i < count; ++i) {
        const Tensor x = batch(1 + 0.1 * i, shape);
        if (graphed) step({x});
        else alone(x);
      }
    };
    sum(once).backward();
    alone(batch(1, {3}));
    steps(4, graph, {3});
    nn::StateDict state;
    for (const auto& [name, value] : optimizer.state_dict()) state[name] = value.clone();
    alone(batch(1.3, {3}));
    steps(3, graph, {3});
    steps(3, wider, {2, 3});
    steps(2, graph, {3});
    optimizer.load_state_dict(state);
    steps(3, graph, {3});
    state["v.step"].fill_(40);  // from here on not as many as of w
    optimizer.load_state_dict(state);
    steps(3, graph, {3});
    std::vector<double> results = values(w);
    for (double x : values(v)) results.push_back(x);
    for (const auto& [name, value] : optimizer.state_dict())
      if (name.ends_with(".step")) results.push_back(value.item<double>());
    return results;
  };
  CHECK(train(true) == train(false));
}

#ifdef TRIAD_CUDA_ON_CPU
TEST_CASE("a captured step whose memory came at the second attempt writes to its own alone") {
  int refused = 0;
  for (int blocks = 0; blocks < 12; ++blocks) {
    Tensor w = ones({300}, {.device = kCuda}).requires_grad_();
    nn::Adam optimizer(nn::NamedTensors{{"w", w}});
    nn::GraphedStep step(optimizer,
                         [&](const Tensors& batch) {
                           Tensor x = batch[0];
                           for (std::int64_t n : {500, 700, 900})
                             x = x + mean(zeros({n}).to(kCuda));
                           return sum(square(w * x));
                         },
                         {});
    const Tensors batch{ones({300}, {.device = kCuda})};
    step(batch);
    empty_cache();
    cuda::blocks_left = blocks, cuda::refusals_left = 1;
    step(batch);
    refused += cuda::refusals_left == 0;
    cuda::blocks_left = -1, cuda::refusals_left = INT_MAX;
    Tensors others;
    for (std::int64_t n : {300, 500, 700, 900, 300, 500, 700, 900, 1, 1, 1})
      others.push_back(full({n}, 42, {.device = kCuda}));
    step(batch);
    for (const Tensor& other : others)
      CHECK(values(other) == std::vector<double>(std::size_t(other.numel()), 42));
  }
  CHECK(refused > 3);
}
#endif
