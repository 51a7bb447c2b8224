// GraphedStep: a training step captured once and replayed.
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

#include <thread>

using namespace triad;
using enum nn::HeadType;

TEST_CASE("a captured step: the same losses and weights, bit for bit, and all is given back") {
  const MemoryStats before = memory_stats(kCuda);
  {
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
  CHECK(memory_stats(kCuda).live_bytes == before.live_bytes);
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

  // To skip a step is decided on the CPU.
  nn::GradScaler scaler;
  nn::GraphedStep scaled(optimizer,
                         [&](const Tensors& batch) { return scaler.scale(sum(w * batch[0])); }, {});
  scaled(batch);
  CHECK(message_of<Error>([&] { scaled(batch); }) ==
        "GradScaler: a captured step cannot be skipped: use bf16 there");
  const auto before = values(w);
  optimizer.zero_grad();
  scaler.scale(sum(w * full({3}, INFINITY, {.device = kCuda}))).backward();
  CHECK(!scaler.step(optimizer));
  scaler.update();
  CHECK(values(w) == before);
  CHECK(scaler.get_scale() == 32768);

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
