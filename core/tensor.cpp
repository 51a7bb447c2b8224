#include <triad/core/tensor.h>

#include <triad/core/format.h>
#include <triad/core/visit.h>

namespace triad {

const char* name(DType dtype) {
  constexpr const char* kNames[] = {"f32",  "f64", "bf16", "f16", "c64",
                                    "c128", "i32", "i64",  "bool"};
  return kNames[int(dtype)];
}

std::size_t item_size(DType dtype) {
  return visit_any(dtype, [](auto zero) { return sizeof zero; });
}

Tensor empty(const Shape& shape, DType dtype, Device device, const char* op) {
  for (std::int64_t size : shape)
    if (size < 0) throw_error<ShapeError>("empty: sizes must not be negative, got {}", shape);
  std::int64_t bytes;
  if (__builtin_mul_overflow(shape.numel(), std::int64_t(item_size(dtype)), &bytes))
    throw_error<ShapeError>("empty: {} has too many elements", shape);
  return {Storage::allocate(std::size_t(bytes), device, op), contiguous_layout(shape), dtype};
}

void Tensor::check_dtype(DType asked) const {
  if (!defined()) throw_error<Error>("data: the tensor is undefined");
  if (asked != dtype_) throw_error<DTypeError>("data: the tensor is {}, not {}", dtype_, asked);
  if (device() != Device::cpu())
    throw_error<DeviceError>("data: the tensor is on {}; write x.to(Device::cpu())",
                             name(device()));
}
void Tensor::check_contiguous() const {
  if (!is_contiguous())
    throw_error<ValueError>("data: {} with strides {} is not contiguous; write x.contiguous()",
                            shape(), strides());
}
void Tensor::check_single() const {
  if (!defined()) throw_error<Error>("item: the tensor is undefined");
  if (numel() != 1)
    throw_error<ShapeError>("item: needs a tensor with one element, got {}", shape());
}

constexpr std::int64_t kShown = 6;  // entries of an axis that are shown; of longer ones both ends

static std::string element(const Tensor& x) {
  return visit_any(x.dtype(), [&]<class T>(T) {
    const T value = *x.data<T>();
    if constexpr (is_complex_v<T>) return fmt::format("{:.4g}{:+.4g}i", value.real(), value.imag());
    else if constexpr (std::is_integral_v<T>) return fmt::format("{}", value);  // bool too
    else return fmt::format("{:.4g}", double(value));
  });
}

// x with its lines `indent` to the right, each element at least `width` wide; notes the longest.
static std::string print(const Tensor& x, std::size_t indent, std::size_t width,
                         std::size_t& widest) {
  if (x.dim() == 0) {
    const std::string text = element(x);
    widest = std::max(widest, text.size());
    return fmt::format("{:>{}}", text, width);
  }
  const std::int64_t size = x.shape()[0];
  std::string text = "[";
  for (std::int64_t i = 0; i < size; ++i) {
    if (i > 0) text += x.dim() == 1 ? ", " : ",\n" + std::string(indent + 1, ' ');
    if (size > kShown && i == kShown / 2) {
      text += "..., ";
      i = size - kShown / 2;
    }
    text += print(x.with_layout(selected(x.layout(), 0, i)), indent + 1, width, widest);
  }
  return text + ']';
}

std::string Tensor::str() const {
  if (!defined()) return "undefined tensor";
  const std::string head = fmt::format("{}{} ", name(dtype_), shape());
  std::size_t widest = 0;
  const Tensor x = detach().to(Device::cpu());
  std::string text = print(x, head.size(), 0, widest);
  if (dim() > 1) text = print(x, head.size(), widest, widest);  // with columns aligned
  return head + text;
}

}  // namespace triad
