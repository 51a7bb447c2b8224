// Batches of a data set, made ahead of training by threads: while (auto batch = loader.next()) ...
#pragma once

#include <triad/autograd/autograd.h>

namespace triad::nn {

class BatchLoader {
 public:
  struct Options {
    std::int64_t batch_size = 1;
    bool shuffle = false, drop_last = false;  // drop_last: no shorter batch ends an epoch
    std::uint64_t seed = 0;  // the order follows from it and the epoch, whatever `workers` is
    int workers = 0;         // without any, next() makes the batch
    int prefetch = 2;        // batches that each worker is ahead
  };
  struct Position {
    std::int64_t epoch = 0, batch = 0;
  };
  // Makes a batch of some of the indices 0..size-1. Workers call it at the same time, each with one
  // thread for its ops; random numbers from randn() and the like come in no certain order there.
  using Make = Function<Tensors(const std::vector<std::int64_t>& indices)>;

  BatchLoader(std::int64_t size, Make make, const Options& options);
  ~BatchLoader();  // waits for the batches that are being made
  // Nothing at the end of an epoch, then the next one; in place of a batch, what make() threw.
  std::optional<Tensors> next();
  Position position() const;  // of what next() will give: set later, all continues there
  void set_position(const Position& position);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triad::nn
