#include <triad/examples/common/decoding.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <triad/autograd/ops.h>

namespace triad::examples {

std::int64_t draw(const std::vector<float>& logits, const Sampling& sampling) {
  for (float value : logits)
    if (!std::isfinite(value))
      throw ValueError("the model gives logits that are not finite: its weights are damaged");

  std::vector<std::size_t> order(logits.size());  // largest first, equal ones by number
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (sampling.temperature == 0) return std::int64_t(order[0]);
  if (sampling.top_k > 0 && sampling.top_k < std::int64_t(order.size()))
    order.resize(std::size_t(sampling.top_k));

  std::vector<double> running;  // sums of exp(logit / temperature), relative to the largest
  double sum = 0;
  for (std::size_t id : order) {
    sum += std::exp((double(logits[id]) - double(logits[order[0]])) / sampling.temperature);
    running.push_back(sum);
  }
  const double at = rand({}, {.dtype = f64}).item<double>() * sum;
  const auto found = std::upper_bound(running.begin(), running.end(), at) - running.begin();
  return std::int64_t(order[std::min(std::size_t(found), order.size() - 1)]);
}

Decoder::Decoder(nn::TransformerLM& model) : model_(model) { model.eval(); }

Tensor Decoder::on_its_device(const std::vector<std::int64_t>& ids) const {
  return from_vector(ids, {1, std::int64_t(ids.size())}).to(model_.tok.weight.device());
}

void Decoder::push(std::int64_t id) {
  context_.push_back(id);
  logits_ = {};
  if (std::int64_t(context_.size()) > model_.options.max_seq_len) context_.pop_front();
  else if (cache_.length + 1 == std::int64_t(context_.size()))
    logits_ = model_.step(on_its_device({id}), cache_);
}

std::vector<float> Decoder::logits() {
  if (!logits_.defined()) {
    NoGradGuard guard;
    logits_ = model_(on_its_device({context_.begin(), context_.end()})).slice(1, -1);
  }
  return logits_.reshape({-1}).to_vector<float>();
}

}  // namespace triad::examples
