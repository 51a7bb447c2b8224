#include <triad/nn/graphed_step.h>

#include <triad/autograd/ops.h>
#include <triad/core/format.h>

#ifdef TRIAD_CUDA
#include <triad/backends/cuda/replay.h>
#include <triad/backends/cuda/runtime.h>
#endif

namespace triad::nn {

#ifdef TRIAD_CUDA
struct GraphedStep::Captured {
  Device device;
  PrivatePool pool{device};
  std::vector<Tensor> batch = {};  // where every replay reads it
  Tensor loss = {};
  RandomStream random = random_state();  // before the capture
  std::uint64_t streams = 0;             // that a step draws from
  std::int64_t replays = 0;
  std::shared_ptr<Storage> state = {};
  std::unique_ptr<cuda::Graph> graph = {};
};
#else
struct GraphedStep::Captured {};
#endif

GraphedStep::GraphedStep(Adam& optimizer, Function<Tensor(const std::vector<Tensor>&)> loss,
                         const Options& options)
    : optimizer_(optimizer), loss_(std::move(loss)), options_(options) {}
GraphedStep::~GraphedStep() = default;

Tensor GraphedStep::run(const std::vector<Tensor>& batch) {
  optimizer_.zero_grad();
  Tensor loss = loss_(batch);
  loss.backward();
  std::vector<Tensor> leaves;
  for (const auto& p : optimizer_.parameters_) leaves.push_back(p.leaf);
  if (options_.max_norm > 0) clip_grad_norm(leaves, options_.max_norm);
  optimizer_.step();
  return loss.detach();
}

Tensor GraphedStep::operator()(const std::vector<Tensor>& batch) {
  const bool on_cpu = batch.empty() || batch[0].device() == Device::cpu();
  if (on_cpu || !std::exchange(has_run_, true)) return run(batch);
#ifdef TRIAD_CUDA
  if (!captured_) capture(batch);
  else optimizer_.count_steps(1);
  Captured& own = *captured_;
  for (std::size_t i = 0; i < own.batch.size(); ++i) {
    if (i >= batch.size() || batch[i].shape() != own.batch[i].shape())
      throw_error<ShapeError>("GraphedStep: tensor {} of the batch was {}, got {}", i,
                              own.batch[i].shape(), i < batch.size() ? batch[i].shape() : Shape());
    own.batch[i].copy_(batch[i]);
  }
  RandomStream random = random_state();
  const cuda::ReplayState state{random.stream - own.random.stream, own.replays++, optimizer_.lr()};
  copy_bytes(own.state->data(), own.device, &state, Device::cpu(), sizeof state);
  own.graph->replay();
  random.stream += own.streams;
  set_random_state(random);
  return own.loss;
#endif
}

void GraphedStep::capture([[maybe_unused]] const std::vector<Tensor>& batch) {
#ifdef TRIAD_CUDA
  std::unique_ptr<Captured> own(new Captured{batch[0].device()});
  const PrivatePool::Use use(own->pool);
  const Cuda device{own->device.index};
  for (const Tensor& x : batch) own->batch.push_back(x.detach().clone());
  own->state = Storage::allocate(sizeof(cuda::ReplayState), own->device);
  const double lr = optimizer_.lr();
  optimizer_.set_lr(1);  // which every replay multiplies by its own
  cuda::set_replay_state(device, reinterpret_cast<cuda::ReplayState*>(own->state->data()));
  cuda::begin_capture(device);
  std::exception_ptr error;
  try {
    own->loss = run(own->batch);
  } catch (...) {
    error = std::current_exception();
  }
  own->graph = cuda::end_capture(device);
  cuda::set_replay_state(device, nullptr);
  optimizer_.set_lr(lr);
  own->streams = random_state().stream - own->random.stream;
  set_random_state(own->random);
  if (error) std::rethrow_exception(error);
  if (!own->graph) throw Error("GraphedStep: CUDA could not capture the step");
  captured_ = std::move(own);
#endif
}

}  // namespace triad::nn
