// Tensor: a handle to shared storage, seen through an immutable layout, with its history beside it.
//
// Copying a Tensor copies the handle, not the data. The history (see autograd/autograd.h) belongs
// to the handle. Methods that compute are ops with a gradient, defined with the other ops.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <triad/core/device.h>
#include <triad/core/dtype.h>
#include <triad/core/function.h>
#include <triad/core/layout.h>

namespace triad {

struct Node;  // autograd/autograd.h

struct BackwardOptions {
  bool retain_graph = false;  // keep what backward needs, to run it again
  // Gives the gradients a history of their own, and implies retain_graph. In backward() a leaf then
  // holds a gradient whose history holds the leaf: memory that only set_grad({}) or zero_grad()
  // frees. grad() has no such cycle.
  bool create_graph = false;
  bool allow_unused = false;  // of grad(): an input that no output depends on is no error
};

inline constexpr std::int64_t kEnd = INT64_MAX;  // as the end of a slice: everything that is left

// One entry of x[{...}]: an index, a Slice(start, end, step), None (a new axis) or Ellipsis.
struct At {
  enum class Kind { index, slice, none, ellipsis } kind = Kind::index;
  std::int64_t start = 0, end = kEnd, step = 1;

  template <std::integral I> At(I index) : start(index) {}
  constexpr At(Kind kind, std::int64_t start = 0, std::int64_t end = kEnd, std::int64_t step = 1)
      : kind(kind), start(start), end(end), step(step) {}
};
inline constexpr At None{At::Kind::none}, Ellipsis{At::Kind::ellipsis};
inline At Slice(std::int64_t start = 0, std::int64_t end = kEnd, std::int64_t step = 1) {
  return {At::Kind::slice, start, end, step};
}

class Tensor {
 public:
  Tensor() = default;  // undefined: no storage; ops refuse it
  Tensor(std::shared_ptr<Storage> storage, Layout layout, DType dtype)
      : storage_(std::move(storage)), layout_(std::move(layout)), dtype_(dtype) {}

  bool defined() const { return storage_ != nullptr; }

  const Shape& shape() const { return layout_.shape; }
  const Shape& strides() const { return layout_.strides; }
  const Layout& layout() const { return layout_; }
  int dim() const { return layout_.shape.rank(); }
  std::int64_t size(std::int64_t axis) const {  // negative axes count from the end
    return shape()[normalize_axis("size", axis, dim())];
  }
  std::int64_t numel() const { return layout_.shape.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : Device::cpu(); }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  bool is_contiguous() const { return triad::is_contiguous(layout_); }

  // The elements of a contiguous tensor (else a ValueError) on the CPU (a DeviceError); T must be
  // its dtype (a DTypeError).
  template <class T> T* data() const {
    check_contiguous();
    return first<T>();
  }
  // For kernels of the CPU: the first element, however the others lie.
  template <class T> T* first() const {
    check_dtype(dtype_of<T>());
    return reinterpret_cast<T*>(storage_->data()) + layout_.offset;
  }
  std::byte* first_byte() const {
    return storage_->data() + layout_.offset * std::int64_t(item_size(dtype_));
  }
  // The value of a tensor with one element, converted as .to() would; T is the C++ type of a dtype.
  template <class T> T item() const {
    check_single();
    return *detach().to(dtype_of<T>()).to(Device::cpu()).template data<T>();
  }
  // All elements in row-major order; T must be the dtype.
  template <class T> std::vector<T> to_vector() const {
    const Tensor x = defined() ? detach().to(Device::cpu()).contiguous() : *this;
    return std::vector<T>(x.data<T>(), x.data<T>() + x.numel());
  }

  // The same storage through another layout, without history: what view ops are made of.
  Tensor with_layout(Layout layout) const { return {storage_, std::move(layout), dtype_}; }

  // ---- autograd (defined in autograd/)
  bool requires_grad() const { return node_ != nullptr; }
  Tensor& requires_grad_(bool on = true);  // makes this handle, and later copies of it, a leaf
  bool is_leaf() const;
  Tensor grad() const;  // of a leaf; undefined before backward
  void set_grad(Tensor grad) const;
  // Called in backward with the gradient of this tensor once it is complete; what it returns,
  // unless undefined, takes its place. On every handle that shares this history.
  void register_hook(Function<Tensor(const Tensor&)> hook) const;
  // Adds to every leaf's grad().
  void backward(const Tensor& gradient, BackwardOptions options = {}) const;
  void backward(BackwardOptions options = {}) const { backward(Tensor(), options); }  // of a scalar
  Tensor detach() const { return {storage_, layout_, dtype_}; }
  const std::shared_ptr<Node>& node() const { return node_; }
  void set_node(std::shared_ptr<Node> node) { node_ = std::move(node); }

  // ---- views and copies (defined in autograd/views.cpp): PyTorch's names and rules
  Tensor reshape(const Shape& shape) const;  // a view where strides allow it, else a copy
  Tensor view(const Shape& shape) const;     // a view, or a ShapeError
  Tensor flatten(std::int64_t start = 0, std::int64_t end = -1) const;
  Tensor permute(const Shape& order) const;
  Tensor transpose(std::int64_t a, std::int64_t b) const;
  Tensor slice(std::int64_t axis, std::int64_t start, std::int64_t end = kEnd,
               std::int64_t step = 1) const;
  Tensor select(std::int64_t axis, std::int64_t index) const;
  Tensor operator[](const std::vector<At>& entries) const;  // x[{Slice(0, 8), None, Ellipsis, -1}]
  Tensor expand(const Shape& shape) const;
  Tensor unsqueeze(std::int64_t axis) const;
  Tensor squeeze(std::int64_t axis) const;
  std::vector<Tensor> split(std::int64_t size, std::int64_t axis = 0) const;
  std::vector<Tensor> split(const std::vector<std::int64_t>& sizes, std::int64_t axis = 0) const;
  Tensor contiguous() const;  // itself when it is already
  Tensor clone() const;
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;

  // ---- writing in place: an AutogradError where this has history, or where backward() may need
  // the old values (a write through data() goes unnoticed). An expanded tensor is refused.
  void copy_(const Tensor& source) const;  // broadcasts and casts; source gets no gradient
  void fill_(double value) const;

  std::string str() const;  // shape, type and the values, long axes summarised

 private:
  void check_dtype(DType asked) const;
  void check_contiguous() const;
  void check_single() const;

  std::shared_ptr<Storage> storage_;
  Layout layout_;
  DType dtype_ = f32;
  std::shared_ptr<Node> node_;
};

// Uninitialised and contiguous, without history, for an op, which errors about memory name. Other
// ways to make one: autograd/creation.h.
Tensor empty(const Shape& shape, DType dtype = f32, Device device = {},
             const char* op = __builtin_FUNCTION());

}  // namespace triad
