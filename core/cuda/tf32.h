// How exact products of f32 are on CUDA.
#pragma once

#include <atomic>

namespace triad {

inline std::atomic<bool> tf32_is_allowed = false;

// From here on, products of f32 (matmul, linear and what is made of them) may round their operands
// to 11 bits, TF32, on a GPU whose tensor cores take that: several times as fast, right to some
// 1e-3 instead of 1e-7. Off unless asked for; attention stays exact. PyTorch's
// torch.backends.cuda.matmul.allow_tf32.
inline void allow_tf32(bool allowed = true) { tf32_is_allowed = allowed; }

}  // namespace triad
