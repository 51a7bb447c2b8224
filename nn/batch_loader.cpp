#include <triad/nn/batch_loader.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <thread>

#include <triad/core/format.h>
#include <triad/core/random.h>

namespace triad::nn {

struct BatchLoader::State {
  std::int64_t size, batches;
  Make make;
  Options options;
  std::size_t limit = std::size_t(options.workers) * std::size_t(options.prefetch);  // of the queue
  Position position = {}, taken = {};           // next to be given, and to be begun
  std::deque<std::future<Tensors>> queue = {};  // what lies between
  std::vector<std::int64_t> order = {};         // of ordered_epoch
  std::int64_t ordered_epoch = -1;
  std::mutex mutex = {};
  std::condition_variable_any changed = {};
  std::vector<std::jthread> workers = {};  // last: they end before what they use

  std::vector<std::int64_t> take() {
    if (taken.batch == batches) taken = {taken.epoch + 1, 0};
    if (std::exchange(ordered_epoch, taken.epoch) != taken.epoch) order.clear();
    // Fisher & Yates. The generator, which may have this seed, takes streams from the other end.
    for (std::uint64_t i = order.size(); i < std::uint64_t(size); ++i) {
      order.push_back(std::int64_t(i));
      const auto [bits] = philox(options.seed, ~std::uint64_t(taken.epoch), i);
      if (options.shuffle)
        std::swap(order[i], order[(std::uint64_t(bits[0]) << 32 | bits[1]) % (i + 1)]);
    }
    const auto begin = order.begin() + options.batch_size * taken.batch++;
    return {begin, begin + std::min(options.batch_size, order.end() - begin)};
  }

  void work(const std::stop_token& stop) {
    set_num_threads(1);
    std::unique_lock lock(mutex);
    while (changed.wait(lock, stop, [&] { return queue.size() < limit; }) &&
           !stop.stop_requested()) {
      std::packaged_task<Tensors()> task([this, indices = take()] { return make(indices); });
      queue.push_back(task.get_future());
      lock.unlock();
      changed.notify_all();
      task();
      lock.lock();
    }
  }
};

BatchLoader::BatchLoader(std::int64_t size, Make make, const Options& options) {
  const auto [b, shuffle, drop_last, seed, workers, prefetch] = options;
  if (!make || b < 1 || size < (drop_last ? b : 1) || workers < 0 || prefetch < 1)
    throw_error<ValueError>(
        "BatchLoader: needs batch_size, prefetch >= 1, workers >= 0 and a batch, got {}, {}, "
        "{} of {}",
        b, prefetch, workers, size);
  const std::int64_t batches = size / b + (!drop_last && size % b != 0);
  state_.reset(new State{size, batches, std::move(make), options});
  for (int i = 0; i < workers; ++i)
    state_->workers.emplace_back([s = state_.get()](std::stop_token stop) { s->work(stop); });
}

BatchLoader::~BatchLoader() {
  for (std::jthread& worker : state_->workers) worker.request_stop();
}
BatchLoader::Position BatchLoader::position() const { return state_->position; }

void BatchLoader::set_position(const Position& p) {
  State& s = *state_;
  if (p.epoch < 0 || p.batch < 0 || p.batch > s.batches)
    throw_error<ValueError>("set_position: needs batch 0..{} of an epoch, got {} of {}", s.batches,
                            p.batch, p.epoch);
  std::lock_guard lock(s.mutex);
  s.position = s.taken = p;
  s.queue.clear();
  s.changed.notify_all();
}

std::optional<Tensors> BatchLoader::next() {
  State& s = *state_;
  if (s.position.batch == s.batches) {
    s.position = {s.position.epoch + 1, 0};
    return {};
  }
  ++s.position.batch;
  if (s.workers.empty()) return s.make(s.take());
  std::unique_lock lock(s.mutex);
  s.changed.wait(lock, [&] { return !s.queue.empty(); });
  std::future<Tensors> batch = std::move(s.queue.front());
  s.queue.pop_front();
  lock.unlock();
  s.changed.notify_all();
  return batch.get();
}

}  // namespace triad::nn
