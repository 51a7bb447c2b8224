// Tensors by name in a file, in the safetensors format, which PyTorch and many others read and
// write (https://huggingface.co/docs/safetensors):
//
//   8 bytes   n, little endian
//   n bytes   JSON: {"name": {"dtype": "F32", "shape": [2,3], "data_offsets": [0,24]}, ...}, which
//             may hold texts under "__metadata__", and spaces after it
//   the rest  the elements, row-major and little endian; offsets count from here
#pragma once

#include <map>

#include <triad/core/tensor.h>

namespace triad::nn {

// Replaces the file only when everything has been written; see write_file_atomically. A name that
// is not UTF-8, an undefined tensor and a failing disk are errors, and the old file stays.
void save_safetensors(const std::string& path, const std::map<std::string, Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

// The tensors see the file itself, mapped into memory: nothing is read before it is used, and
// writing to them changes neither the file nor other tensors. F32, F64, BF16, F16, C64, I32, I64
// and BOOL are read; another dtype, or damage anywhere in the structure, is a FileError that names
// it. (Nothing guards against a file that is shortened while it is mapped. Replacing it is safe.)
std::map<std::string, Tensor> load_safetensors(
    const std::string& path, std::map<std::string, std::string>* metadata = nullptr);

}  // namespace triad::nn
