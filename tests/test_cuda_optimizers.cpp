// Kernels of optimizers, which take all parameters at once.
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

#include <triad/backends/kernels.h>

using namespace triad;

namespace {

// What a list must stand: nothing, less than a vector, chunks and a rest, an address that no vector
// begins at, and more tensors than one launch takes.
std::vector<Tensor> make_list(DType dtype, Device device) {
  std::vector<Tensor> list;
  for (std::int64_t n : {4096, 0, 3, 4097, 1, 12'290, 0})
    list.push_back(randn({n}, {.dtype = dtype}).to(device));
  list.push_back(randn({5001}, {.dtype = dtype}).to(device).slice(0, 1));
  for (int i = 0; i < 300; ++i) list.push_back(randn({i % 7}, {.dtype = dtype}).to(device));
  list.push_back(randn({0}, {.dtype = dtype}).to(device));
  return list;
}

}  // namespace

TEST_CASE("Adam of a list: the numbers of the CPU") {
  for (DType dtype : {f32, f64}) {
    const auto step = [&](Device device) {
      manual_seed(1);
      const auto p = make_list(dtype, device), m = make_list(dtype, device);
      std::vector<kernels::AdamUpdate> updates;
      for (std::size_t i = 0; i < p.size(); ++i) {
        const double one = double(i % 3);
        const kernels::AdamArgs args{.lr = 0.01 + one,
                                     .beta1 = 0.9,
                                     .beta2 = 0.99,
                                     .eps = 1e-8,
                                     .weight_decay = 0.1 * one,
                                     .l2 = 0.01 * one,
                                     .step = std::int64_t(1 + i % 5)};
        const Tensor v = square(m[i]), g = randn({p[i].numel() + 1}, {.dtype = dtype}).to(device);
        updates.push_back(  // of one gradient alone the address is no vector's
            {args, i == 3 ? g.slice(0, 1) : g.slice(0, 0, p[i].numel()), p[i], m[i], v});
      }
      on(device, [&](auto tag) { kernels::adam_step(tag, updates); });
      std::vector<Tensor> results;
      for (const auto& u : updates)
        for (const Tensor& x : {u.p, u.m, u.v}) results.push_back(x.to(Device::cpu()));
      return results;
    };
    const auto here = step(Device::cpu()), there = step(kCuda);
    for (std::size_t i = 0; i < here.size(); ++i)
      CHECK_MESSAGE(largest_difference(here[i], there[i]) <=
                        (dtype == f32 ? 1e-6 : 1e-14) * (1e-3 + largest(here[i])),
                    "tensor ", i / 3, ", ", i % 3);
    if (dtype == f64) continue;
    for_schedules([&] {
      const auto again = step(kCuda);
      for (std::size_t i = 0; i < there.size(); ++i) CHECK(same_bits(there[i], again[i]));
    });
  }
}

TEST_CASE("the norm of a list, and clipping by it: the numbers of the CPU") {
  for (DType dtype : {f32, f64}) {
    const auto run = [&](Device device, double max_norm) {
      manual_seed(2);
      const auto list = make_list(dtype, device);
      const Tensor squares = empty({}, f64, device);
      on(device, [&](auto tag) {
        kernels::sum_of_squares(tag, list, squares);
        kernels::clip(tag, squares, max_norm, list);
      });
      return std::pair(squares.item<double>(), list);
    };
    const double norm = std::sqrt(run(Device::cpu(), 1).first);
    for (double max_norm : {0.5, 1.5 * norm, 1e9}) {
      const auto [squares, here] = run(Device::cpu(), max_norm);
      const auto [theirs, there] = run(kCuda, max_norm);
      CHECK(theirs == doctest::Approx(squares).epsilon(1e-13));
      for (std::size_t i = 0; i < here.size(); ++i)
        CHECK_MESSAGE(largest_difference(here[i], there[i]) <=
                          (dtype == f32 ? 1e-7 : 1e-15) * largest(here[i]),
                      i);
      if (max_norm > 1) continue;
      for_schedules([&, &theirs = theirs, &there = there] {
        const auto [again, lists] = run(kCuda, max_norm);
        CHECK(again == theirs);
        for (std::size_t i = 0; i < there.size(); ++i) CHECK(same_bits(there[i], lists[i]));
      });
    }
    const Tensor x = full({3}, 5, {.dtype = dtype, .device = kCuda});
    on(kCuda, [&](auto device) {
      kernels::clip(device, full({}, INFINITY, {.dtype = f64, .device = kCuda}), 1, {x});
    });
    CHECK(values(x)[2] == 5);
  }
}

TEST_CASE("parameters of several types and devices in one optimizer") {
  std::vector<Tensor> parameters;
  nn::NamedTensors named;
  for (Device device : {Device::cpu(), kCuda})
    for (DType dtype : {f32, f64, bf16}) {
      const TensorOptions options{.dtype = dtype, .device = device};
      parameters.push_back(nn::parameter(full({2, 3}, 2, options)));
      named.emplace_back(std::to_string(named.size()), parameters.back());
      parameters.back().set_grad(full({3, 2}, 3, options).transpose(0, 1));
    }
  const Tensor norm = nn::clip_grad_norm(parameters, 9);
  CHECK(norm.item<double>() == doctest::Approx(18));  // 36 elements of 3
  for (const Tensor& p : parameters)
    CHECK(values(p.grad())[5] == doctest::Approx(1.5).epsilon(0.01));
  nn::AdamW(named, {.lr = 0.5}).step();
  nn::SGD(named, {.lr = 1}).step();
  for (const Tensor& p : parameters) CHECK(values(p)[5] == doctest::Approx(-0.01).epsilon(0.01));
}
