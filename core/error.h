// What triad finds wrong is an exception with one line: the op, what it needs, and what came.
#pragma once

#include <stdexcept>

namespace triad {

// clang-format off
struct Error : std::runtime_error { using std::runtime_error::runtime_error; };
struct ShapeError : Error { using Error::Error; };     // sizes that do not fit together
struct DTypeError : Error { using Error::Error; };     // the wrong element type
struct DeviceError : Error { using Error::Error; };    // the wrong device, or one that is not there
struct ValueError : Error { using Error::Error; };     // an argument outside what is allowed
struct IndexError : Error { using Error::Error; };     // an axis or an index out of range
struct AutogradError : Error { using Error::Error; };  // a use of history that cannot work
struct OutOfMemory : Error { using Error::Error; };    // more memory than the device has left
struct FileError : Error { using Error::Error; };      // a file that is missing, damaged or foreign
// clang-format on

}  // namespace triad
