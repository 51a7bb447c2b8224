// For ops: the argument checks that several of them make, and what broadcasting does to a gradient.
#pragma once

#include <triad/core/tensor.h>

namespace triad {

void check_defined(const char* op, const Tensor& x);
void check_float(const char* op, const Tensor& x);   // f32 or f64
void check_number(const char* op, const Tensor& x);  // anything but bool
void check_bool(const char* op, const Tensor& x);
void check_same_type(const char* op, const Tensor& a, const Tensor& b);  // and device

// The gradient of an input of sizes `shape` that was broadcast to g's: sums over the repeated axes.
Tensor sum_to(const Tensor& g, const Shape& shape);

}  // namespace triad
