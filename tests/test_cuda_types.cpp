// Kernels in every type that they take, in vectors and one by one: the CPU's numbers, and the same
// bits under every schedule.
#include <triad/tests/kernel_checks.h>
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

#include <random>

#include <triad/backends/kernels.h>

#ifdef TRIAD_CUDA_ON_CPU
#include <triad/backends/cuda/elements.h>
#endif

using namespace triad;

namespace {

constexpr DType kTypes[] = {boolean, i32, i64, f32, f64, bf16, f16, c64, c128};

// Small whole numbers, which every type has, and whose sums no order can change.
Tensor numbers(const Shape& shape, DType dtype, Device device) {
  manual_seed(5);
  return randint(-3, 4, shape).to(dtype).to(device);
}
Tensor indices(const Shape& shape, std::int64_t count, Device device) {
  manual_seed(6);
  return randint(0, count, shape).to(device);
}

// An output [...] that f(device tag, output) writes.
template <class F> Tensor output(const Shape& shape, DType dtype, Device device, F f) {
  const Tensor y = zeros(shape, {.dtype = dtype, .device = device});
  on(device, [&](auto tag) { f(tag, y); });
  return y;
}

// f(device), some tensors. bound: of a difference, in parts of the largest number; 0: none.
template <class F> void check(F f, double bound = 0) {
  const Tensors here = f(Device::cpu()), there = f(kCuda);
  for (std::size_t i = 0; i < here.size(); ++i) {
    CAPTURE(i);
    if (bound == 0) CHECK(kernel_checks::same_bits(there[i], here[i]));
    else {
      CHECK(there[i].dtype() == here[i].dtype());
      CHECK(largest_difference(there[i].to(f64), here[i].to(f64)) <=
            bound * largest(here[i].to(f64)));
    }
  }
  for_schedules([&] {
    const Tensors again = f(kCuda);
    for (std::size_t i = 0; i < there.size(); ++i)
      CHECK(kernel_checks::same_bits(again[i], there[i]));
  });
}

}  // namespace

TEST_CASE("copies and casts between all types, and sums into what is there") {
  for (DType from : kTypes)
    for (DType to : kTypes) {
      CAPTURE(std::string(name(from)));
      CAPTURE(std::string(name(to)));
      check([=](Device device) {
        const Tensor x = numbers({8, 18}, from, device);
        Tensors all;
        for (const Tensor& view : {x, x.slice(1, 1, 18, 2), x.transpose(0, 1)})
          all.push_back(output(view.shape(), to, device,
                               [&](auto tag, auto& y) { kernels::copy(tag, view, y); }));
        if (from != to || to == boolean) return all;
        for (const Tensor& view : {x, x.slice(1, 1, 18, 2)})
          all.push_back(output(view.shape(), to, device, [&](auto tag, auto& y) {
            kernels::copy(tag, view, y);
            kernels::add_into(tag, view, y);
          }));
        return all;
      });
    }
}

TEST_CASE("fills, ranges, picks and places in all types") {
  for (DType dtype : kTypes) {
    CAPTURE(std::string(name(dtype)));
    check([=](Device device) {
      const Tensor x = numbers({4, 9}, dtype, device), ids = indices({7}, 4, device);
      const Tensor at = indices({4, 5}, 9, device);
      const auto make = [&](const Shape& shape, auto f) { return output(shape, dtype, device, f); };
      Tensors all{make({13}, [](auto tag, auto& y) { kernels::fill(tag, 1, y); }),
                  make({13}, [](auto tag, auto& y) { kernels::arange(tag, 0, 1, y); }),
                  make({7, 9}, [&](auto tag, auto& y) { kernels::embedding(tag, x, ids, y); }),
                  make({4, 5}, [&](auto tag, auto& y) { kernels::gather_last(tag, x, at, y); }),
                  make({4, 9}, [&](auto tag, auto& y) {
                    kernels::where(tag, x == flip(x, {1}), x, x, y);
                  })};
      all.push_back(make({4, 9}, [&](auto tag, auto& y) {
        kernels::scatter_add_last(tag, x.slice(1, 0, 5), at, y);
      }));
      if (is_floating_point(dtype) && !is_narrow(dtype))
        all.push_back(make({4, 9}, [&](auto tag, auto& y) {
          kernels::embedding_backward(tag, x.slice(0, 0, 1).expand({7, 9}).contiguous(), ids, y);
        }));
      return all;
    });
  }
}

TEST_CASE("sums of all types, along rows in pieces, along columns, along both") {
  for (DType dtype : {boolean, i64, f32, f64, bf16, f16}) {
    CAPTURE(std::string(name(dtype)));
    check([=](Device device) {
      const Tensor rows = numbers({3, 4100}, dtype, device);
      const Tensor cube = numbers({2, 3, 40, 7}, dtype, device);
      return Tensors{sum(rows, {1}), sum(rows.slice(1, 0, 9), {0}), sum(cube, {0, 2})};
    });
  }
  for (DType dtype : {boolean, i64, f32, f64}) {
    CAPTURE(std::string(name(dtype)));
    check([=](Device device) {
      const Tensor x = numbers({5, 70}, dtype, device);
      const auto first = [&](bool largest) {
        return output({5, 3}, i64, device,
                      [&](auto tag, auto& y) { kernels::topk_last(tag, x, largest, y); });
      };
      Tensors all{first(true), first(false)};
      all.push_back(output({5}, dtype, device, [&](auto tag, auto& y) {
        all.push_back(zeros({5}, {.dtype = i64, .device = device}));
        kernels::max_last(tag, x, true, y, all.back());
      }));
      return all;
    });
  }
}

TEST_CASE("elementwise ops of types that seldom meet") {
  check([](Device device) {
    const Tensor whole = numbers({37}, i32, device), x = numbers({37}, f32, device);
    const Tensor z = numbers({37}, c128, device), h = numbers({37}, f16, device);
    return Tensors{
        -whole,    abs(whole),   sign(whole.to(i64)), square(z), square(numbers({37}, c64, device)),
        pow(h, h), x + h.to(f32)};
  });
  for (DType narrow : {bf16, f16})
    check([=](Device device) {
      const Autocast guard(narrow);
      return Tensors{numbers({37}, f32, device) + numbers({37}, narrow, device)};
    });
  check([](Device device) { return Tensors{exp(numbers({37}, c128, device))}; }, 1e-14);
}

TEST_CASE("random numbers in both precisions") {
  for (DType dtype : {f32, f64})
    check([=](Device device) {
      manual_seed(9);
      return Tensors{rand({37}, {.dtype = dtype, .device = device}),
                     output({37}, i64, device, [](auto tag, auto& y) {
                       kernels::random_integers(tag, {9, 1}, -5, 100, y);
                     })};
    });
  for (DType dtype : {f32, f64})
    check(
        [=](Device device) {
          manual_seed(9);
          return Tensors{randn({37}, {.dtype = dtype, .device = device})};
        },
        1e-6);
}

TEST_CASE("rows in all types, in vectors and one by one") {
  for (DType dtype : {f32, f64, bf16, f16})
    for (std::int64_t C : {33, 64}) {
      CAPTURE(std::string(name(dtype)));
      CAPTURE(C);
      check(
          [=](Device device) {
            manual_seed(11);
            const auto leaf = [&](const Shape& shape) {
              return randn(shape).to(dtype).to(device).detach().requires_grad_();
            };
            const Tensor x = leaf({5, C}), weight = leaf({C}), bias = leaf({C});
            const Tensor target = indices({5}, C, device);
            const Tensors ys{softmax(x, 1), layer_norm(x, weight, bias), rms_norm(x, weight),
                             cross_entropy(x, target)};
            Tensors all;
            for (const Tensor& y : ys) {
              all.push_back(y.detach());
              for (const Tensor& g :
                   grad({sum(y * y.detach())}, {x, weight, bias}, {}, {.allow_unused = true}))
                if (g.defined()) all.push_back(g);
            }
            all.push_back(output({5, C}, dtype, device, [&](auto tag, auto& y) {
              if constexpr (std::is_same_v<decltype(tag), Cpu>) y.copy_(log_softmax(x.detach(), 1));
              else kernels::log_softmax(tag, x.detach(), y);
            }));
            return all;
          },
          is_narrow(dtype) ? 0.02 : 4e-6);
    }
}

TEST_CASE("norms in f32 whose results, and gradients, are narrow") {
  for (DType narrow : {bf16, f16})
    for (std::int64_t C : {33, 64})
      check(
          [=](Device device) {
            const Autocast guard(narrow);
            manual_seed(12);
            const auto leaf = [&](const Shape& shape) {
              return randn(shape).to(device).detach().requires_grad_();
            };
            const Tensor x = leaf({300, C}), weight = leaf({C}), bias = leaf({C});
            const Tensor y = layer_norm(x, weight, bias, 1e-5, true);
            Tensors all = grad({y}, {x, weight, bias}, {y.detach()});
            all.push_back(y.detach());
            return all;
          },
          0.02);
}

TEST_CASE("Adam in f64") {
  check(
      [](Device device) {
        manual_seed(13);
        Tensor w = randn({50}, {.dtype = f64}).to(device).detach().requires_grad_();
        nn::Adam optimizer(nn::NamedTensors{{"w", w}});
        for (int i = 0; i < 3; ++i) {
          optimizer.zero_grad();
          sum(square(w)).backward();
          nn::clip_grad_norm({w}, 0.5);
          optimizer.step();
        }
        return Tensors{w.detach()};
      },
      1e-14);
}

#ifdef TRIAD_CUDA_ON_CPU
TEST_CASE("where elements lie of more than 2^31") {
  const Shape sizes{3, std::int64_t(1) << 29, 5, 7}, strides{2, 1024, 0, 128};
  const cuda::Axes<1> axes(sizes, {&strides});
  CHECK(!axes.small);
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t element = std::int64_t(random() % std::uint64_t(axes.count));
    std::int64_t rest = element, at = 0;
    for (int axis = 3; axis >= 0; rest /= sizes[axis--]) at += rest % sizes[axis] * strides[axis];
    CHECK(axes.place(element, 0) == at);
  }
}
#endif
