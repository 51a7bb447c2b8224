#include <triad/backends/cuda/replay.h>

#include <exception>

namespace triad::cuda {

static thread_local const ReplayState* captured_state = nullptr;

const ReplayState* replay_state() { return captured_state; }

CapturedStep::CapturedStep(Cuda device, const Function<void()>& step)
    : device_(device), pool_(Device::cuda(device.index)) {
  const PrivatePool::Use use(pool_);
  state_ = Storage::allocate(sizeof(ReplayState), Device::cuda(device.index));
  const RandomStream before = random_state();
  first_stream_ = before.stream;
  begin_capture(device);
  captured_state = reinterpret_cast<const ReplayState*>(state_->data());
  std::exception_ptr error;
  const auto attempt = [&](const auto& f) {
    try {
      f();
    } catch (...) {
      if (!error) error = std::current_exception();
    }
  };
  attempt(step);
  captured_state = nullptr;
  streams_ = random_state().stream - first_stream_;
  set_random_state(before);
  attempt([&] { graph_ = end_capture(); });
  if (error) std::rethrow_exception(error);
  if (!graph_) throw Error("CUDA could not capture the step");
}

void CapturedStep::replay(double lr, std::int64_t steps) {
  RandomStream random = random_state();
  const ReplayState state{random.seed, random.stream - first_stream_, steps, lr};
  copy_to_device(device_.index, state_->data(), &state, sizeof state);
  graph_();
  random.stream += streams_;
  set_random_state(random);
}

}  // namespace triad::cuda
