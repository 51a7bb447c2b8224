// For the sources of ops: all that they include, and the checks and few steps that they share.
#pragma once

#include <triad/autograd/autograd.h>
#include <triad/autograd/ops.h>
#include <triad/backends/kernels.h>
#include <triad/core/format.h>

namespace triad {

const Tensor& check_defined(const char* op, const Tensor& x);  // x
void check_float(const char* op, const Tensor& x);             // f32, f64 or bf16
void check_precise(const char* op, const Tensor& x);           // f32 or f64
void check_complex(const char* op, const Tensor& x);           // c64 or c128
void check_inexact(const char* op, const Tensor& x);           // any of these
void check_number(const char* op, const Tensor& x);            // anything but bool
void check_ordered(const char* op, const Tensor& x);           // anything but bool and complex
void check_bool(const char* op, const Tensor& x);
void check_same_type(const char* op, const Tensor& a, const Tensor& b);  // and device
void check_same_device(const char* op, const Tensor& a, const Tensor& b);
// Under Autocast: is one of a product's operands to be narrowed? Do a sum's types differ by it?
bool narrows(const Tensor& a, const Tensor& b);
bool mixes(const Tensor& a, const Tensor& b);
// What was computed in f32 for a bf16 input: rounded, but for under Autocast.
inline Tensor as_bf16(const Tensor& y) { return autocast_enabled() ? y : y.to(bf16); }
// Integer indices into x as i64, after a check that they lie in 0..count-1.
Tensor checked_indices(const char* op, const Tensor& x, const Tensor& indices, std::int64_t count);

// record() for an op of one input, by a function from the gradient of `out` to that of x.
template <class Gradient>
Tensor record_unary(const char* name, Tensor out, const Tensor& x, Gradient dx) {
  return record(name, std::move(out), {x},
                [dx = std::move(dx)](const Tensor& g) { return Tensors{dx(g)}; });
}

// What a rule allocates for the gradient of x; undefined where none is wanted.
Tensor empty_gradient(const Tensor& x);
// x without history, for kernels that want stride 1 along the last axis; a copy where it is not.
Tensor with_packed_rows(const Tensor& x);
// Of optional arguments, which may be undefined: in a type; contiguous and without history.
inline Tensor in_f32(const Tensor& x) { return x.defined() ? x.to(f32) : x; }
inline Tensor in_bf16(const Tensor& x) { return x.defined() ? x.to(bf16) : x; }
inline Tensor packed(const Tensor& x) { return x.defined() ? x.detach().contiguous() : x; }
// A 0-d tensor of x's dtype, on x's device.
Tensor scalar_like(double value, const Tensor& x);

// The gradient of an input of sizes `shape` that was broadcast to g's: sums over the repeated axes.
Tensor sum_to(const Tensor& g, const Shape& shape);

}  // namespace triad
