#include <triad/nn/check_causal.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <triad/core/format.h>
#include <triad/core/random.h>

namespace triad::nn {
namespace {

// Of the largest change of any logit. Rounding of f32 reaches about 1e-6 of it in a few layers; a
// circular filter moves the position before a change by some hundredths.
constexpr double kTolerance = 1e-4;

// [B,T]: rows that agree with the first one before their cut and differ from it everywhere after.
Tensor ids_with_other_futures(const std::vector<std::int64_t>& cuts, std::int64_t vocab_size,
                              std::int64_t T) {
  std::vector<std::int64_t> ids(cuts.size() * std::size_t(T));
  for (std::size_t row = 0; row < cuts.size(); ++row) {
    for (std::int64_t t = 0; t < T; ++t) {
      const Philox4 bits = philox(0, 0, std::uint64_t(t));
      const std::int64_t first = bits.lane[0] % vocab_size;
      const std::int64_t shift = t < cuts[row] ? 0 : 1 + bits.lane[1] % (vocab_size - 1);
      ids[row * std::size_t(T) + std::size_t(t)] = (first + shift) % vocab_size;
    }
  }
  return from_vector(ids, {std::int64_t(cuts.size()), T});
}

}  // namespace

void check_causal(const Function<Tensor(const Tensor& ids)>& logits, std::int64_t vocab_size,
                  std::int64_t T) {
  if (vocab_size < 2 || T < 2) return;  // there is no other future
  // The first row is whole. The last cut comes first because it says most about a leak.
  const std::vector<std::int64_t> cuts = {T, T - 1, (T + 1) / 2, 1};
  NoGradGuard guard;
  const Tensor out = logits(ids_with_other_futures(cuts, vocab_size, T));
  if (out.dim() != 3 || out.size(0) != std::int64_t(cuts.size()) || out.size(1) != T)
    throw_error<ShapeError>("check_causal: needs logits [{},{},C], got {}", cuts.size(), T,
                            out.shape());
  if (!all_finite(out)) throw ValueError("check_causal: the logits are not finite");

  const Tensor changes = max(abs(out - out.slice(0, 0, 1)), -1).first;  // [B,T]
  const double largest = max(changes).item<double>();
  for (std::size_t row = 1; row < cuts.size(); ++row) {
    const Tensor past = changes.select(0, std::int64_t(row)).slice(0, 0, cuts[row]);
    const double change = max(past).item<double>();
    if (change > kTolerance * largest)
      throw_error<ValueError>(
          "check_causal: the model sees the future: other ids from position {} on change the "
          "logits "
          "at position {} by {:.3g}",
          cuts[row], argmax(past, 0).item<std::int64_t>(), change);
  }
}

void check_causal(TransformerLM& model) {
  struct Eval {
    TransformerLM& model;
    bool before = model.training();
    explicit Eval(TransformerLM& m) : model(m) { model.eval(); }
    ~Eval() { model.train(before); }
  } eval(model);
  check_causal([&](const Tensor& ids) { return model(ids); }, model.options.vocab_size,
               model.options.max_seq_len);
}

}  // namespace triad::nn
