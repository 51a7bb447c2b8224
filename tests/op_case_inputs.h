// What the tests that run the table of ops share: the inputs of a case, and its results as numbers.
#pragma once

#include <triad/tests/op_cases.h>
#include <triad/tests/op_test.h>

#include <algorithm>
#include <cstdlib>
#include <random>

namespace op_test {

using op_cases::Array;
using op_cases::Arrays;
using op_cases::C;
using op_cases::Case;
using op_cases::Gives;
using op_cases::Gradient;
using op_cases::Input;
using op_cases::Inputs;
using op_cases::Memory;
using op_cases::Numbers;

inline constexpr DType kInexactTypes[] = {f32, f64, bf16, f16, c64, c128};

inline std::string type_name(DType dtype) { return name(dtype); }  // which doctest prints as text

inline bool is_whole(DType dtype) { return dtype == i32 || dtype == i64; }

// The numbers that `input` describes, others for every seed.
inline Tensor make(const Input& input, DType dtype, unsigned seed) {
  if (input.dtype) dtype = *input.dtype;
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> any(input.low, input.high);
  const bool whole = input.whole || is_whole(dtype);
  auto draw = [&] { return whole ? std::floor(any(engine)) : any(engine); };
  Tensor x = empty(input.shape, dtype);
  visit_any(dtype, [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      C value(draw(), draw());
      if (input.special && !is_whole(dtype) && i % 4 > 0)
        value = {i % 4 == 1 ? kNan : i % 4 == 2 ? kInf : -kInf, 0};
      if (dtype == boolean) value = i < 2 ? double(i) : double(engine() % 2);  // some of both
      x.first<T>()[i] = converted<T>(value);
    }
  });
  return kernel_checks::placed(x);
}

inline Tensors make(const Inputs& inputs, DType dtype, unsigned seed) {
  Tensors all;
  for (const Input& input : inputs) all.push_back(make(input, dtype, seed++));
  return all;
}

// The same numbers for all along the first axis, which does not step in memory.
inline Tensor expanded_rows(const Tensor& x) {
  return x.dim() == 0 || x.size(0) == 0 ? x : x.slice(0, 0, 1).expand(x.shape());
}

inline Array numbers(const Tensor& x) {
  Array result{x.shape(), {}};
  visit_any(x.dtype(), [&](auto zero) {
    for (auto value : x.to_vector<decltype(zero)>())
      result.values.push_back(converted<C>(decltype(zero)(value)));
  });
  return result;
}

inline Arrays numbers(const Tensors& all) {
  Arrays result;
  for (const Tensor& x : all) result.push_back(numbers(x));
  return result;
}

inline std::int64_t count(const Inputs& inputs) {
  std::int64_t total = 0;
  for (const Input& input : inputs) total += input.shape.numel();
  return total;
}

inline bool has_nothing(const Inputs& inputs) {
  return std::any_of(inputs.begin(), inputs.end(),
                     [](const Input& input) { return input.shape.numel() == 0; });
}

// What is differentiated: all results with a history, as one tensor of real numbers.
inline Tensor joined(const Tensors& results) {
  Tensors parts;
  for (const Tensor& y : results)
    if (y.requires_grad())
      parts.push_back((is_complex(y.dtype()) ? view_as_real(y) : y).reshape({-1}));
  REQUIRE(!parts.empty());
  return parts.size() == 1 ? parts[0] : cat(parts);
}

inline bool takes(const Case& c, DType dtype) {
  return std::find(c.types.begin(), c.types.end(), dtype) != c.types.end();
}

// A case whose messages are its own has its name in them.
inline const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> named = op_cases::table();
    for (Case& c : named)
      if (c.said.empty()) c.said = {c.name};
    return named;
  }();
  return all;
}

// Whether TRIAD_TEST_OPS, a list like "softmax,Tensor::to", has this op; without it, all are.
inline bool is_asked_for(const std::string& op) {
  const char* list = std::getenv("TRIAD_TEST_OPS");
  const std::string all = list ? list : "";
  return all.empty() || ("," + all + ",").find("," + op + ",") != std::string::npos;
}

// Calls f with every case; what it throws counts against that case alone.
template <class F> void for_each_case(F f) {
  for (const Case& c : cases()) try {
      if (!is_asked_for(c.name)) continue;
      f(c);
    } catch (const std::exception& error) {
      CHECK_MESSAGE(false, c.title(), " threw: ", std::string(error.what()));
    }
}

}  // namespace op_test
