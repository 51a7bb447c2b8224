// Tables and rows on the device, where its kernels have edges: what indices may be, and lengths at
// which vectors, turns and blocks end.
#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

#include <triad/backends/kernels.h>

using namespace triad;

TEST_CASE("tables: indices outside, as in a captured step, repeated ones, and many columns") {
  const Tensor table = randn({300, 1030}), dy = randn({170, 1030});
  Tensor ids = randint(0, 300, {170});
  ids.first<std::int64_t>()[3] = 300, ids.first<std::int64_t>()[160] = -1;
  ids.first<std::int64_t>()[5] = ids.first<std::int64_t>()[169] = 299;
  const Tensor y = empty({170, 1030}, f32, kCuda), dtable = ones({300, 1030}, {.device = kCuda});
  on(kCuda, [&](auto device) {
    kernels::embedding(device, table.to(kCuda), ids.to(kCuda), y);
    kernels::embedding_backward(device, dy.to(kCuda), ids.to(kCuda), dtable);
  });
  Tensor want = ones({300, 1030});
  for (std::int64_t row = 0; row < 170; ++row) {
    const std::int64_t id = ids.first<std::int64_t>()[row];
    const bool is_outside = id < 0 || id == 300;
    CHECK(all(isnan(y.select(0, row))).item<bool>() == is_outside);
    if (is_outside) continue;
    CHECK(largest_difference(y.select(0, row), table.select(0, id)) == 0);
    want.select(0, id).copy_(want.select(0, id) + dy.select(0, row));
  }
  CHECK(largest_difference(dtable, want) <= 1e-6);

  const Tensor x = randn({2, 5}), at = tensor({{4, 5, -1, 0}, {1, 1, 5, -7}}, {.dtype = i64});
  const Tensor picked = empty({2, 4}, f32, kCuda), added = zeros({2, 5}, {.device = kCuda});
  on(kCuda, [&](auto device) {
    kernels::gather_last(device, x.to(kCuda), at.to(kCuda), picked);
    kernels::scatter_add_last(device, x.slice(1, 0, 4).to(kCuda), at.to(kCuda), added);
  });
  const auto from = values(x), got = values(picked), sums = values(added);
  CHECK(got[0] == from[4]);
  CHECK(got[3] == from[0]);
  CHECK(got[4] == from[6]);
  for (std::size_t i : {1, 2, 6, 7}) CHECK(std::isnan(got[i]));
  CHECK(sums == std::vector<double>{from[3], 0, 0, 0, from[0], 0,
                                    double(float(from[5]) + float(from[6])), 0, 0, 0});
}

TEST_CASE("a slice into a slice, of steps that other axes could have") {
  const Tensor from = randn({2, 5, 5}).to(kCuda), to = zeros({2, 5, 5}, {.device = kCuda});
  to.slice(1, 0, 3).copy_(from.slice(1, 0, 3));
  CHECK(same_bits(to.slice(1, 0, 3).contiguous(), from.slice(1, 0, 3).contiguous()));
  CHECK(largest(to.slice(1, 3)) == 0);
}

TEST_CASE("rows as long as the turns of a block, and of several") {
  for (std::int64_t C : {512, 1536, 4100, 16'384}) {
    const Tensor x = randn({3, C}), g = randn({3, C}), weight = randn({C}), bias = randn({C});
    for (DType dtype : {f32, bf16}) {
      const auto compute = [&](Device device) {
        std::vector<Tensor> results;
        const auto run = [&](auto op) {
          Tensor in = x.to(dtype).to(device).detach();
          in.requires_grad_();
          const Tensor y = op(in);
          sum(y * (y.dim() == 2 ? g.to(device).to(y.dtype()) : y.detach())).backward();
          results.push_back(y.detach().to(f32).to(Device::cpu()));
          results.push_back(in.grad().to(f32).to(Device::cpu()));
        };
        Tensor w = weight.to(dtype).to(device).detach(), b = bias.to(dtype).to(device).detach();
        w.requires_grad_(), b.requires_grad_();
        const Tensor target = from_vector<std::int64_t>({C - 1, -100, 6}).to(device);
        run([](auto& in) { return softmax(in, -1); });
        run([](auto& in) { return log_softmax(in, -1); });
        run([&](auto& in) { return layer_norm(in, w, b); });
        run([&](auto& in) { return layer_norm(in, w); });
        run([&](auto& in) { return layer_norm(in, {}, b); });
        run([&](auto& in) { return rms_norm(in, w); });
        for (const Tensor& x : {w, b}) results.push_back(x.grad().to(f32).to(Device::cpu()));
        run([&](auto& in) { return cross_entropy(in, target); });
        return results;
      };
      CAPTURE(C);
      CAPTURE(dtype);
      const auto here = compute(Device::cpu()), there = compute(kCuda);
      if (C == 1536)
        for_schedules([&] {
          const auto again = compute(kCuda);
          for (std::size_t i = 0; i < again.size(); ++i) CHECK(same_bits(again[i], there[i]));
        });
      for (std::size_t i = 0; i < here.size(); ++i) {
        CAPTURE(i);
        CHECK(largest_difference(here[i], there[i]) <=
              (dtype == f32 ? 4e-6 : 0.01) * largest(here[i]));
      }
    }
  }
}

TEST_CASE("the gradient of layer_norm, added to one that came before") {
  const Tensor x = randn({5, 40}).to(kCuda), dy = randn({5, 40}).to(kCuda);
  const Tensor before = randn({5, 40}).to(kCuda), dx = empty({5, 40}, f32, kCuda), sum = dx.clone();
  const Tensor mean = triad::mean(x, {1}), rstd = 1.0 / sqrt(var(x, {1}) + 1.0);
  on(kCuda, [&](auto device) {
    kernels::layer_norm_backward(device, dy, x, {}, mean, rstd, dx, {}, {});
    kernels::layer_norm_backward(device, dy, x, {}, mean, rstd, sum, {}, {}, before);
  });
  CHECK(largest_difference(sum, dx + before) <= 1e-6);
}

TEST_CASE("sums of rows that are cut into pieces, more rows than blocks") {
  const Tensor x = randn({101, 8200}), there = x.to(kCuda);
  CHECK(largest_difference(sum(there, {1}), sum(x, {1})) <= 1e-4);
  CHECK(largest_difference(sum(there), sum(x)) <= 1e-3);
  const Tensor first = sum(there, {1});
  for_schedules([&] { CHECK(same_bits(sum(there, {1}), first)); });
}

TEST_CASE("sums of columns that are cut into pieces, which are not of one length") {
  for (std::int64_t rows : {512, 601, 1031}) {
    const Tensor x = randn({2, rows, 35}), there = x.to(kCuda), scale = randn({35}),
                 dy = randn({35});
    CHECK(largest_difference(sum(there, {1}), sum(x, {1})) <= 1e-4);
    const Tensor first = sum(there, {1});
    for_schedules([&] { CHECK(same_bits(sum(there, {1}), first)); });
    const auto gradient = [&](Device device) {
      Tensor weight = scale.to(device).requires_grad_();
      sum(layer_norm(x.select(0, 0).to(device), weight, {}) * dy.to(device)).backward();
      return weight.grad();
    };
    CHECK(largest_difference(gradient(kCuda), gradient(Device::cpu())) <= 1e-3);
  }
}

TEST_CASE("targets outside the classes, as in a captured step, give NaN, or nothing") {
  const Tensor logits = randn({4, 5}).to(kCuda), target = tensor({4, 5, -1, -7}, {.dtype = i64});
  const Tensor losses = empty({4}, f32, kCuda), logsumexp = empty({4}, f32, kCuda);
  on(kCuda, [&](auto device) {
    kernels::cross_entropy(device, logits, target.to(kCuda), -7, losses, logsumexp);
  });
  const auto got = values(losses);
  CHECK(std::isfinite(got[0]));
  CHECK(std::isnan(got[1]));
  CHECK(std::isnan(got[2]));
  CHECK(got[3] == 0);
  CHECK(values(logsumexp)[3] == 0);
  for (std::size_t row : {0, 1, 2}) CHECK(std::isfinite(values(logsumexp)[row]));
}
