// Embedding, its gradient, and the optimizers' steps.
#include <triad/tests/kernel_checks.h>

using namespace kernel_checks;
using triad::Cpu;
using triad::DType;

namespace {

// Ids in 0..V-1, some of them far more frequent than others.
Tensor random_ids(std::int64_t n, std::int64_t V, unsigned seed) {
  std::mt19937 engine(seed);
  const Tensor ids = triad::empty({n}, triad::i64);
  for (std::int64_t i = 0; i < n; ++i) {
    const double u = double(engine()) / 4294967296.0;
    ids.first<std::int64_t>()[i] = std::int64_t(u * u * u * double(V));
  }
  return ids;
}

}  // namespace

TEST_CASE("embedding picks rows, and its gradient adds them up") {
  for (DType dtype : {triad::f32, triad::f64})
    for (std::int64_t n : {0, 1, 7, 500})
      for (Shape shape : {Shape{1, 3}, Shape{13, 1}, Shape{100, 67}, Shape{5, 1500}, Shape{3, 0}}) {
        const std::size_t C = std::size_t(shape[1]);
        const Tensor weight = random_tensor(shape, dtype, 1), ids = random_ids(n, shape[0], 2);
        const Tensor y = triad::empty({n, shape[1]}, dtype),
                     dy = random_tensor(y.shape(), dtype, 3);
        const auto id = ids.to_vector<std::int64_t>();
        const auto w = values(weight), g = values(dy);
        reference::Values want(g.size()), dweight(w.size());
        for (std::size_t i = 0; i < g.size(); ++i) {
          const std::size_t at = std::size_t(id[i / C]) * C + i % C;
          want[i] = w[at];
          dweight[at] += g[i];
        }
        triad::kernels::embedding(Cpu{}, weight, ids, y);
        check_close(y, want, 0, "embedding");
        const Tensor dw = random_tensor(shape, dtype, 4);
        for (std::size_t i = 0; i < w.size(); ++i) dweight[i] += values(dw)[i];
        triad::kernels::embedding_backward(Cpu{}, dy, ids, dw);
        check_close(dw, dweight, dtype == triad::f32 ? 1e-7 : 1e-14, "embedding_backward");
      }
}

TEST_CASE("Adam, AdamW and L2: ten steps as torch.optim takes them") {
  for (DType dtype : {triad::f32, triad::f64})
    for (std::int64_t n : {0, 1, 17, 5003})
      for (double decay : {0.0, 0.1})
        for (double l2 : {0.0, 0.05}) {
          const Tensor p = random_tensor({n}, dtype, 1);
          const Tensor m = tensor(reference::Values(std::size_t(n)), {n}, dtype),
                       v = tensor(reference::Values(std::size_t(n)), {n}, dtype);
          std::vector<reference::AdamElement> twin;
          for (double value : values(p)) twin.push_back({value, 0, 0});
          for (int t = 1; t <= 10; ++t) {
            const Tensor g = random_tensor({n}, dtype, unsigned(10 + t));
            const auto gradient = values(g);
            triad::kernels::adam_step(Cpu{}, {{{.lr = 1e-2,
                                                .beta1 = 0.9,
                                                .beta2 = 0.999,
                                                .eps = 1e-8,
                                                .weight_decay = decay,
                                                .l2 = l2,
                                                .step = t},
                                               g,
                                               p,
                                               m,
                                               v}});
            for (std::size_t i = 0; i < twin.size(); ++i)
              twin[i].step(gradient[i], 1e-2, 0.9, 0.999, 1e-8, decay, l2, t);
          }
          reference::Values wp, wm, wv;
          for (const auto& e : twin) wp.push_back(e.p), wm.push_back(e.m), wv.push_back(e.v);
          const double bound = dtype == triad::f32 ? 1e-6 : 1e-14;
          check_close(p, wp, bound, "p");
          check_close(m, wm, bound, "m", 0.1);
          check_close(v, wv, dtype == triad::f32 ? 1e-5 : 1e-12, "v", 1e-3);  // 1 - 0.999 in f32
        }
}

TEST_CASE("the same bits at any number of threads") {
  const Tensor ids = random_ids(3000, 50, 1), dy = random_tensor({3000, 131}, triad::f32, 2);
  check_threads("embedding_backward", [&] {
    const Tensor dweight = random_tensor({50, 131}, triad::f32, 3);
    triad::kernels::embedding_backward(Cpu{}, dy, ids, dweight);
    return dweight;
  });
  check_threads("adam_step", [&] {
    const Tensor p = random_tensor({100'003}, triad::f32, 1),
                 g = random_tensor(p.shape(), triad::f32, 2),
                 m = random_tensor(p.shape(), triad::f32, 3),
                 v = random_tensor(p.shape(), triad::f32, 4);
    triad::kernels::fill(Cpu{}, 0, v);
    triad::kernels::adam_step(Cpu{}, {{{.lr = 1e-2,
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .eps = 1e-8,
                                        .weight_decay = 0.1,
                                        .l2 = 0,
                                        .step = 3},
                                       g,
                                       p,
                                       m,
                                       v}});
    return p;
  });
}
