// A callable of any type: std::function, whose header would make <triad/triad.h> a quarter slower
// to compile. Copies share the callable; an empty one must not be called.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace triad {

template <class Signature> class Function;

template <class Result, class... Args> class Function<Result(Args...)> {
 public:
  Function() = default;
  template <class F>
  requires(!std::is_same_v<F, Function> && std::is_invocable_r_v<Result, F&, Args...>) Function(F f)
      : callable_(std::make_shared<F>(std::move(f))),
        holds_objects_(!std::is_trivially_copyable_v<F>), call_([](void* callable, Args... args) {
          return static_cast<Result>((*static_cast<F*>(callable))(std::forward<Args>(args)...));
        }) {}

  Result operator()(Args... args) const {
    return call_(callable_.get(), std::forward<Args>(args)...);
  }
  explicit operator bool() const { return callable_ != nullptr; }
  bool holds_objects() const { return holds_objects_; }  // more than plain numbers: tensors, say

 private:
  std::shared_ptr<void> callable_;
  bool holds_objects_ = false;
  Result (*call_)(void* callable, Args... args) = nullptr;
};

}  // namespace triad
