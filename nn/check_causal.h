// Does a language model see the future? One that does copies the answer it is trained to predict,
// and its loss looks splendid.
#pragma once

#include <cstdint>

#include <triad/core/function.h>
#include <triad/nn/transformer.h>

namespace triad::nn {

// Changes the ids from several positions on and compares the logits before them. They may differ by
// what rounding explains (an FFT mixes all positions); more is a ValueError that says where and by
// how much. `logits` maps ids [B,T], 0 <= id < vocab_size, to [B,T,C]. Random state is left alone.
void check_causal(const Function<Tensor(const Tensor& ids)>& logits, std::int64_t vocab_size,
                  std::int64_t T);

// The same of a model, over all its positions, with dropout off.
void check_causal(TransformerLM& model);

}  // namespace triad::nn
