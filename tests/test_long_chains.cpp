// History of any length needs no deep stack: chains of a million ops, on a thread whose stack is
// 256 KiB.
#include <pthread.h>
#include <triad/tests/module_checks.h>

#include <exception>

using namespace triad;

namespace {

constexpr int kOps = kSanitized ? 100'000 : 1'000'000;
// A mul keeps both of its inputs; fewer of them need as much memory.
constexpr int kProducts = kSanitized ? 50'000 : 300'000;
constexpr std::size_t kStack = 256 * 1024;

// Runs f on a thread with a small stack, and throws here what it throws.
void on_small_stack(const std::function<void()>& f) {
  struct Call {
    const std::function<void()>& f;
    std::exception_ptr error;
  } call{f, nullptr};
  pthread_attr_t attributes;
  pthread_t thread;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, kStack) == 0);
  const auto run = [](void* data) -> void* {
    auto& call = *static_cast<Call*>(data);
    try {
      call.f();
    } catch (...) {
      call.error = std::current_exception();
    }
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, &call) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  if (call.error) std::rethrow_exception(call.error);
}

Tensor sums(Tensor x, int ops) {
  for (int i = 0; i < ops; ++i) x = x + 1.0;
  return x;
}

// x times a factor, again and again; the rule of each keeps the value before it and the factor.
Tensor products(Tensor x, const Tensor& factor, int ops) {
  for (int i = 0; i < ops; ++i) x = x * factor;
  return x;
}

}  // namespace

TEST_CASE("forward, backward and destruction of a million sums") {
  const std::int64_t before = memory_stats().live_blocks;
  on_small_stack([] {
    Tensor x = from_vector<double>({0.5, -2}, {2}, true);
    Tensor y = sums(x, kOps);
    y.backward(from_vector<double>({3, 5}));
    CHECK(values(y) == std::vector<double>{0.5 + kOps, -2.0 + kOps});
    CHECK(values(x.grad()) == std::vector<double>{3, 5});
  });
  CHECK(memory_stats().live_blocks == before);
}

TEST_CASE("destruction without backward") {
  const std::int64_t before = memory_stats().live_blocks;
  on_small_stack([] {
    Tensor y = sums(scalar(1, {.requires_grad = true}), kOps);
    CHECK(y.requires_grad());
  });
  CHECK(memory_stats().live_blocks == before);
}

TEST_CASE("rules that keep the values before them") {
  const std::int64_t before = memory_stats().live_blocks;
  on_small_stack([] {
    Tensor x = scalar(1, {.dtype = f64, .requires_grad = true});
    Tensor factor = scalar(1, {.dtype = f64, .requires_grad = true});
    Tensor y = products(x, factor, kProducts);
    y.backward();
    CHECK(x.grad().item<double>() == 1);
    CHECK(factor.grad().item<double>() == kProducts);
  });
  CHECK(memory_stats().live_blocks == before);
  on_small_stack([] {
    Tensor x = scalar(1, {.requires_grad = true});
    CHECK(products(x, x, kProducts).requires_grad());
  });
  CHECK(memory_stats().live_blocks == before);
}

TEST_CASE("a history that is kept, and one that is differentiated again") {
  const std::int64_t before = memory_stats().live_blocks;
  on_small_stack([] {
    Tensor x = scalar(1, {.dtype = f64, .requires_grad = true});
    Tensor y = products(x, x, kProducts / 10);  // x^(n + 1)
    y.backward({.retain_graph = true});
    CHECK(x.grad().item<double>() == kProducts / 10 + 1);
    Tensor slope = grad({y}, {x}, {}, {.create_graph = true})[0];
    Tensor curve = grad({slope}, {x})[0];
    CHECK(curve.item<double>() == (kProducts / 10 + 1.0) * (kProducts / 10));
  });
  CHECK(memory_stats().live_blocks == before);
}

TEST_CASE("an error half way down a chain leaves nothing behind") {
  const std::int64_t before = memory_stats().live_blocks;
  on_small_stack([] {
    Tensor x = scalar(1, {.requires_grad = true});
    Tensor broken = record("broken", x.detach().clone(), {x},
                           [](const Tensor&) -> Tensors { throw ValueError("broken"); });
    Tensor y = sums(broken, kOps / 10);
    CHECK(message_of<ValueError>([&] { y.backward(); }) == "broken");
    CHECK(!x.grad().defined());
  });
  CHECK(memory_stats().live_blocks == before);
}
