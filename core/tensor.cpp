#include <triad/core/tensor.h>

#include <triad/core/format.h>
#include <triad/core/visit.h>

namespace triad {

const char* name(DType dtype) {
  constexpr const char* kNames[] = {"f32", "f64", "bf16", "c64", "c128", "i32", "i64", "bool"};
  return kNames[int(dtype)];
}

std::size_t item_size(DType dtype) {
  return visit_any(dtype, [](auto zero) { return sizeof zero; });
}

Tensor empty(const Shape& shape, DType dtype, Device device) {
  for (std::int64_t size : shape)
    if (size < 0) throw_error<ShapeError>("empty: sizes must not be negative, got {}", shape);
  std::int64_t bytes;
  if (__builtin_mul_overflow(shape.numel(), std::int64_t(item_size(dtype)), &bytes))
    throw_error<ShapeError>("empty: {} has too many elements", shape);
  return {Storage::allocate(std::size_t(bytes), device), contiguous_layout(shape), dtype};
}

std::int64_t Tensor::size(std::int64_t axis) const {
  return shape()[normalize_axis("size", axis, dim())];
}

Device Tensor::device() const { return storage_ ? storage_->device() : Device::cpu(); }

void Tensor::check_dtype(DType asked) const {
  if (!defined()) throw_error<Error>("data: the tensor is undefined");
  if (asked != dtype_) throw_error<DTypeError>("data: the tensor is {}, not {}", dtype_, asked);
}

template <class T> T Tensor::item() const {
  if (!defined()) throw_error<Error>("item: the tensor is undefined");
  if (numel() != 1)
    throw_error<ShapeError>("item: needs a tensor with one element, got {}", shape());
  return visit_any(dtype_, [&](auto zero) { return converted<T>(*data<decltype(zero)>()); });
}
template float Tensor::item() const;
template double Tensor::item() const;
template bfloat16 Tensor::item() const;
template std::complex<float> Tensor::item() const;
template std::complex<double> Tensor::item() const;
template std::int32_t Tensor::item() const;
template std::int64_t Tensor::item() const;
template bool Tensor::item() const;

namespace {

constexpr std::int64_t kShown = 6;  // entries of an axis that are shown; of longer ones both ends

std::string element(const Tensor& x) {
  return visit_any(x.dtype(), [&]<class T>(T) {
    const T value = *x.data<T>();
    if constexpr (is_complex_v<T>) return fmt::format("{:.4g}{:+.4g}i", value.real(), value.imag());
    else if constexpr (std::is_integral_v<T>) return fmt::format("{}", value);  // bool too
    else return fmt::format("{:.4g}", double(value));
  });
}

// Appends x to `out`, each element `width` wide, and notes the longest of them.
void print(const Tensor& x, int depth, std::size_t width, std::string& out, std::size_t& widest) {
  if (x.dim() == 0) {
    const std::string text = element(x);
    widest = std::max(widest, text.size());
    out += fmt::format("{:>{}}", text, width);
    return;
  }
  out += '[';
  const std::int64_t size = x.shape()[0];
  for (std::int64_t i = 0; i < size; ++i) {
    if (i > 0) out += x.dim() == 1 ? ", " : ",\n" + std::string(std::size_t(depth) + 1, ' ');
    if (size > kShown && i == kShown / 2) {
      out += "..., ";
      i = size - kShown / 2;
    }
    print(x.with_layout(selected(x.layout(), 0, i)), depth + 1, width, out, widest);
  }
  out += ']';
}

}  // namespace

std::string Tensor::str() const {
  if (!defined()) return "undefined tensor";
  const std::string head = fmt::format("{}{} ", name(dtype_), shape());
  std::string text;
  std::size_t widest = 0, unused = 0;
  print(*this, int(head.size()), 0, text, widest);
  if (dim() < 2) return head + text;
  text.clear();  // once more, with columns aligned
  print(*this, int(head.size()), widest, text, unused);
  return head + text;
}

}  // namespace triad
