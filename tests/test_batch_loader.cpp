// BatchLoader: its order, whatever the number of workers, resuming, errors and ending early.
#include <triad/tests/module_checks.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <set>
#include <thread>

using namespace triad;

namespace {

using Indices = std::vector<std::int64_t>;
using Options = nn::BatchLoader::Options;

void sleep_for_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// A batch is its indices; making one takes now longer, now shorter, so that workers overtake.
Tensors make(const Indices& indices) {
  std::this_thread::sleep_for(std::chrono::microseconds(indices[0] * 7919 % 700));
  return {from_vector(indices), scalar(double(indices.size()))};
}

Indices indices_of(const Tensors& batch) { return batch[0].to_vector<std::int64_t>(); }

// The batches of so many epochs; an empty one marks the end of each.
std::vector<Indices> read(nn::BatchLoader& loader, int epochs) {
  std::vector<Indices> batches;
  while (epochs > 0) {
    const auto batch = loader.next();
    batches.push_back(batch ? indices_of(*batch) : Indices());
    epochs -= !batch;
  }
  return batches;
}

Indices sorted(const std::vector<Indices>& batches) {
  Indices all;
  for (const Indices& batch : batches) all.insert(all.end(), batch.begin(), batch.end());
  std::sort(all.begin(), all.end());
  return all;
}

Indices counting(std::int64_t n) {
  Indices all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace

TEST_CASE("without shuffling: in order, the last batch shorter or dropped") {
  for (int workers : {0, 1, 3}) {
    CAPTURE(workers);
    nn::BatchLoader loader(7, make, {.batch_size = 3, .workers = workers});
    CHECK(read(loader, 2) ==
          std::vector<Indices>{{0, 1, 2}, {3, 4, 5}, {6}, {}, {0, 1, 2}, {3, 4, 5}, {6}, {}});
    nn::BatchLoader dropping(7, make, {.batch_size = 3, .drop_last = true, .workers = workers});
    CHECK(read(dropping, 2) ==
          std::vector<Indices>{{0, 1, 2}, {3, 4, 5}, {}, {0, 1, 2}, {3, 4, 5}, {}});
    nn::BatchLoader even(6, make, {.batch_size = 3, .workers = workers});
    CHECK(read(even, 1) == std::vector<Indices>{{0, 1, 2}, {3, 4, 5}, {}});
    nn::BatchLoader large(2, make, {.batch_size = 3, .workers = workers});
    CHECK(read(large, 1) == std::vector<Indices>{{0, 1}, {}});
  }
}

TEST_CASE("shuffled: every index once in each epoch, the same order with any number of workers") {
  const Options options{.batch_size = 5, .shuffle = true, .seed = 3};
  nn::BatchLoader plain(101, make, options);
  const std::vector<Indices> expected = read(plain, 3);
  REQUIRE(expected.size() == 3 * 22);
  std::set<Indices> orders;
  for (int epoch = 0; epoch < 3; ++epoch) {
    const auto begin = expected.begin() + epoch * 22;
    CHECK(sorted({begin, begin + 22}) == counting(101));
    Indices order;
    for (auto batch = begin; batch != begin + 22; ++batch)
      order.insert(order.end(), batch->begin(), batch->end());
    CHECK(order != counting(101));
    orders.insert(order);
  }
  CHECK(orders.size() == 3);  // another one in each epoch
  for (int workers : {1, 3}) {
    for (int prefetch : {1, 4}) {
      CAPTURE(workers);
      CAPTURE(prefetch);
      Options other = options;
      other.workers = workers, other.prefetch = prefetch;
      nn::BatchLoader loader(101, make, other);
      CHECK(read(loader, 3) == expected);
    }
  }
  Options other = options;
  other.seed = 4;
  nn::BatchLoader another(101, make, other);
  CHECK(read(another, 1)[0] != expected[0]);
}

TEST_CASE("every order of four is as likely as another") {
  std::map<Indices, int> seen;
  nn::BatchLoader loader(4, [](const Indices& i) { return Tensors{from_vector(i)}; },
                         {.batch_size = 4, .shuffle = true});
  for (const Indices& batch : read(loader, 4800)) seen[batch] += !batch.empty();
  seen.erase(Indices());
  CHECK(seen.size() == 24);
  for (const auto& [order, count] : seen) {
    CHECK(count > 200 - 5 * 14);
    CHECK(count < 200 + 5 * 14);
  }
}

TEST_CASE("the generator of randn is left alone, and is not what shuffles") {
  manual_seed(7);
  const RandomStream before = random_state();
  nn::BatchLoader loader(50, make, {.batch_size = 8, .shuffle = true, .seed = 7, .workers = 2});
  const std::vector<Indices> first = read(loader, 1);
  CHECK(random_state().seed == before.seed);
  CHECK(random_state().stream == before.stream);
  manual_seed(8);
  nn::BatchLoader again(50, make, {.batch_size = 8, .shuffle = true, .seed = 7});
  CHECK(read(again, 1) == first);
}

TEST_CASE("from a position all continues exactly, with other workers too") {
  const Options options{.batch_size = 4, .shuffle = true, .seed = 5};
  nn::BatchLoader plain(30, make, options);
  const std::vector<Indices> expected = read(plain, 4);  // 8 batches and an end in each epoch
  for (int workers : {0, 3}) {
    for (std::size_t done : {0, 1, 5, 8, 9, 20, 26}) {
      CAPTURE(workers);
      CAPTURE(done);
      Options other = options;
      other.workers = workers;
      nn::BatchLoader first(30, make, other);
      for (std::size_t i = 0; i < done; ++i) first.next();
      const nn::BatchLoader::Position position = first.position();
      CHECK(position.epoch == std::int64_t(done / 9));
      CHECK(position.batch == std::int64_t(done % 9));
      other.workers = 3 - workers;
      nn::BatchLoader second(30, make, other);
      second.next();  // workers are at other batches now
      second.set_position(position);
      CHECK(read(second, 4 - int(done / 9)) ==
            std::vector<Indices>(expected.begin() + std::ptrdiff_t(done), expected.end()));
    }
  }
  nn::BatchLoader loader(30, make, {.batch_size = 4, .shuffle = true, .seed = 5, .workers = 2});
  for (int i = 0; i < 40; ++i) {  // back and forth
    loader.set_position({.epoch = i % 3, .batch = i % 8});
    CHECK(indices_of(*loader.next()) == expected[std::size_t(i % 3 * 9 + i % 8)]);
  }
}

TEST_CASE("an exception comes out of next() in the place of its batch") {
  for (int workers : {0, 1, 3}) {
    CAPTURE(workers);
    nn::BatchLoader loader(10,
                           [](const Indices& indices) {
                             if (indices[0] == 4) throw FileError("cannot read 4");
                             return make(indices);
                           },
                           {.batch_size = 2, .workers = workers});
    CHECK(indices_of(*loader.next()) == Indices{0, 1});
    CHECK(indices_of(*loader.next()) == Indices{2, 3});
    CHECK(message_of<FileError>([&] { loader.next(); }) == "cannot read 4");
    CHECK(loader.position().batch == 3);
    CHECK(indices_of(*loader.next()) == Indices{6, 7});
  }
}

TEST_CASE("workers run ahead as far as prefetch says, at the same time, with one thread each") {
  std::atomic<int> made = 0, running = 0, most = 0;
  nn::BatchLoader loader(1000,
                         [&](const Indices& indices) {
                           most = std::max(most.load(), ++running);
                           CHECK(get_num_threads() == 1);
                           sleep_for_ms(2);
                           --running, ++made;
                           return make(indices);
                         },
                         {.workers = 3, .prefetch = 2});
  for (int given = 0; given < 4; ++given) {
    for (int i = 0; i < 500 && made < given + 6; ++i) sleep_for_ms(2);
    sleep_for_ms(10);
    CHECK(made == given + 6);
    loader.next();
  }
  CHECK(most > 1);
}

TEST_CASE("a loader may end in the middle of an epoch") {
  std::atomic<int> running = 0;
  for (int given : {0, 1, 5}) {
    {
      nn::BatchLoader loader(1000,
                             [&](const Indices& indices) {
                               ++running;
                               sleep_for_ms(3);
                               --running;
                               return make(indices);
                             },
                             {.shuffle = true, .workers = 3});
      for (int i = 0; i < given; ++i) loader.next();
    }
    CHECK(running == 0);
  }
}

TEST_CASE("a loader that ends makes no further batches") {
  std::atomic<int> made = 0;
  {
    nn::BatchLoader loader(1000,
                           [&](const std::vector<std::int64_t>& indices) {
                             ++made;
                             std::this_thread::sleep_for(std::chrono::milliseconds(5));
                             return make(indices);
                           },
                           {.workers = 1, .prefetch = 1000});
    loader.next();
  }
  CHECK(made < 100);
}

TEST_CASE("what a loader refuses") {
  auto message = [](std::int64_t size, const Options& options) {
    return message_of<ValueError>([&] { nn::BatchLoader(size, make, options); });
  };
  const std::string needs =
      "BatchLoader: needs batch_size, prefetch >= 1, workers >= 0 and a batch, got ";
  CHECK(message(9, {.batch_size = 0}) == needs + "0, 2, 0 of 9");
  CHECK(message(0, {}) == needs + "1, 2, 0 of 0");
  CHECK(message(3, {.batch_size = 4, .drop_last = true}) == needs + "4, 2, 0 of 3");
  CHECK(message(9, {.workers = -1}) == needs + "1, 2, -1 of 9");
  CHECK(message(9, {.prefetch = 0}) == needs + "1, 0, 0 of 9");
  CHECK(message_of<ValueError>([] { nn::BatchLoader(9, {}, {}); }).starts_with("BatchLoader: "));
  nn::BatchLoader loader(9, make, {.batch_size = 2});
  auto at = [&](std::int64_t epoch, std::int64_t batch) {
    return message_of<ValueError>([&] { loader.set_position({epoch, batch}); });
  };
  CHECK(at(0, 6) == "set_position: needs batch 0..5 of an epoch, got 6 of 0");
  CHECK(at(0, -1) == "set_position: needs batch 0..5 of an epoch, got -1 of 0");
  CHECK(at(-1, 0) == "set_position: needs batch 0..5 of an epoch, got 0 of -1");
  CHECK(at(3, 5) == "no error");
  CHECK(!loader.next());
  CHECK(loader.position().epoch == 4);
}
