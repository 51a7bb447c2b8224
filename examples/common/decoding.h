// Writing with a language model, one token after the other.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include <triad/nn/transformer.h>

namespace triad::examples {

// How a token is drawn from logits: softmax(logits / temperature) over the top_k largest; 0 means
// all of them. Temperature 0 takes the largest.
struct Sampling {
  double temperature = 0.8;
  std::int64_t top_k = 0;
};
// Draws from the generator of manual_seed. Logits that are not finite are a ValueError.
std::int64_t draw(const std::vector<float>& logits, const Sampling& sampling);

// Feeds tokens to a model, which it puts in eval mode. While they fit the position table, each
// costs one step with caches; after that the last max_seq_len tokens are the context of a full
// pass.
class Decoder {
 public:
  explicit Decoder(nn::TransformerLM& model);
  void push(std::int64_t id);
  std::vector<float> logits();  // of the token after the last one pushed

 private:
  Tensor on_its_device(const std::vector<std::int64_t>& ids) const;  // [1,T], the model's

  nn::TransformerLM& model_;
  nn::DecodeCache cache_;
  std::deque<std::int64_t> context_;  // at most max_seq_len
  Tensor logits_;                     // undefined: to be computed by a full pass
};

}  // namespace triad::examples
