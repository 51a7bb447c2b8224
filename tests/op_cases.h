// The table of ops: for each op of the public headers what it takes, what it gives, and its
// definition, written down naively in complex numbers of doubles. test_op_cases.cpp runs every case
// in every way that it can be run, and the benchmark takes its list of ops from here. An op without
// a case fails the tests.
#pragma once

#include <complex>
#include <optional>
#include <string>
#include <typeinfo>
#include <vector>

#include <triad/autograd/ops.h>
#include <triad/core/function.h>

namespace op_cases {

using triad::DType;
using triad::Shape;
using triad::Tensor;
using triad::Tensors;

// ---------------------------------------------------------------------- what twins are written in

using C = std::complex<double>;
using Numbers = std::vector<C>;

// In row-major order; numbers of any dtype, true as 1.
struct Array {
  Shape shape;
  Numbers values;

  C operator[](const Shape& index) const;
  std::int64_t size(std::int64_t axis) const;  // negative axes count from the end
};
using Arrays = std::vector<Array>;

Array build(const Shape& shape, const triad::Function<C(const Shape& index)>& element);
Array map(const Array& x, const triad::Function<C(C)>& f);
Array repeated(const Array& x, const Shape& shape);  // NumPy's broadcasting
Shape broadcast(const Shape& a, const Shape& b);
Array zip(const Array& a, const Array& b, const triad::Function<C(C, C)>& f);  // broadcast
// f of all elements that the reduction over `axes` puts together, in row-major order.
Array reduced(const Array& x, const std::vector<std::int64_t>& axes, bool keepdim,
              const triad::Function<C(const Numbers&)>& f);
// f of each line along an axis; the lines of the result may have another length.
Array along(const Array& x, std::int64_t axis, const triad::Function<Numbers(const Numbers&)>& f);
Array transposed(const Array& x, std::int64_t a, std::int64_t b);
Array reshaped(const Array& x, const Shape& shape);
Array product(const Array& a, const Array& b);  // of matrices [...,M,K] and [...,K,N]
Shape without(Shape shape, std::int64_t axis);
Shape with(Shape shape, std::int64_t axis, std::int64_t size);  // that size at the axis

// ---------------------------------------------------------------------- a case

using Types = std::vector<DType>;
inline const Types kFloats{triad::f32, triad::f64, triad::bf16, triad::f16};
inline const Types kTransformed{triad::f32, triad::f64, triad::c64, triad::c128};
inline const Types kInexact{triad::f32, triad::f64, triad::bf16,
                            triad::f16, triad::c64, triad::c128};
inline const Types kOrdered{triad::f32, triad::f64, triad::bf16,
                            triad::f16, triad::i32, triad::i64};
inline const Types kNumbers{triad::f32, triad::f64,  triad::bf16, triad::f16,
                            triad::c64, triad::c128, triad::i32,  triad::i64};
inline const Types kAll{triad::f32,  triad::f64, triad::bf16, triad::f16,    triad::c64,
                        triad::c128, triad::i32, triad::i64,  triad::boolean};
inline const Types kBool{triad::boolean};

// One input: its numbers, and the parts of complex ones, lie in low <= x < high.
struct Input {
  Shape shape;
  double low = -2, high = 2;
  bool whole = false;               // whole numbers, so that some are equal
  bool special = false;             // infinities and NaN among those of floating types
  bool optional = false;            // may be undefined
  std::optional<DType> dtype = {};  // one that stays where the case's type changes: an index
};
using Inputs = std::vector<Input>;
Input index_below(std::int64_t count, const Shape& shape);
Input flags(const Shape& shape);
Input like();  // of ops that make tensors: of the type to be made

// The type of a result: that of the inputs; its real or complex one; i64 in place of i32 and bool.
enum class Gives { same, boolean, i64, c128, real, complex, counted };

// A value without history; the gradient zero; one that the op's name refuses to differentiate
// again; one of ops.
enum class Gradient { none, zero, once, twice };

enum class Memory { own, view, either };  // of a result: never, always or perhaps an input's

struct Wrong {
  const std::type_info* type;
  void (*call)();
  const char* part;  // of the message
};
template <class E> Wrong wrong(void (*call)(), const char* part) {
  return {&typeid(E), call, part};
}

// What the benchmark runs ops on, n elements each where nothing else is said.
struct BenchInputs {
  Tensor x, y;        // f32 [n], y > 0
  Tensor m, w;        // the same as rows [R,C], C up to 1000
  Tensor z, h, k;     // x + i y; x and y in bf16
  Tensor b, c;        // x > 0 and y > 1
  Tensor g, t, r;     // indices: [R,C] and [R] below C, [R] below R
  Tensor q, s, u, v;  // heads [*,1,T,D]; square matrices, real and complex; taps [C,4]
};
struct Bench {
  const char* expression;  // for PyTorch
  Tensor (*run)(const BenchInputs&);
  double moved;  // f32 numbers read and written for each element; 0: memory does not set the pace
  bool random = false;  // there is nothing to compare
};

struct Case {
  const char* name = "";    // as in the public headers, "Tensor::slice" for methods
  const char* detail = "";  // which use of the op
  // The sizes to try. Gradients are taken of the first; where there are two inputs or more, of all
  // that are small.
  std::vector<Inputs> inputs = {};
  triad::Function<Tensors(const Tensors&)> call = {};
  triad::Function<Arrays(const Arrays&)> twin = {};
  Types types = kFloats;
  std::vector<Gives> results = {Gives::same};
  Gradient gradient = Gradient::twice;
  Memory memory = Memory::own;
  double bound = 1;  // of the error, in units of the bound of each type
  std::vector<const char*> said =
      {};             // the names in its messages, if not its own: of what it calls
  Inputs large = {};  // for the comparison of threads; else the largest of `inputs`
  std::vector<Wrong> errors = {};
  std::vector<Bench> benches = {};  // in the first case of each op: from op_cases_bench.cpp

  std::string title() const { return *detail ? std::string(name) + ", " + detail : name; }
};
using Cases = std::vector<Case>;

const Cases& table();  // by subject, in the order of the benchmark
std::vector<Bench> benches_of(std::string_view op);

Cases view_cases();
Cases arithmetic_cases();
Cases choice_cases();
Cases function_cases();
Cases reduction_cases();
Cases creation_cases();
Cases indexing_cases();
Cases product_cases();
Cases neural_cases();
Cases fourier_cases();
Cases spectral_cases();

// For tables: what calls and twins are given.
using X = const Tensors&;
using A = const Arrays&;

}  // namespace op_cases
