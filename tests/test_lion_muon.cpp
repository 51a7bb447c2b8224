// Lion and Muon against their definitions written out in fp64.
#include <triad/tests/module_checks.h>
#include <triad/tests/temporary_folder.h>

using namespace triad;

namespace {

using Values = std::vector<double>;

Values combine(double a, const Values& x, double b, const Values& y) {
  Values z;
  for (std::size_t i = 0; i < x.size(); ++i) z.push_back(a * x[i] + b * y[i]);
  return z;
}

struct LionTwin {
  double lr, beta1, beta2, weight_decay;
  Values m = {};

  void step(Values& p, const Values& g, const Shape&) {
    m.resize(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double c = beta1 * m[i] + (1 - beta1) * g[i];
      p[i] -= lr * ((c > 0 ? 1 : c < 0 ? -1 : 0) + weight_decay * p[i]);
      m[i] = beta2 * m[i] + (1 - beta2) * g[i];
    }
  }
};

// a [n,k] b [k,m]
Values product(const Values& a, const Values& b, std::size_t n, std::size_t k, std::size_t m) {
  Values c(n * m);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < m; ++j)
      for (std::size_t l = 0; l < k; ++l) c[i * m + j] += a[i * k + l] * b[l * m + j];
  return c;
}

struct MuonTwin {
  double lr, weight_decay, momentum;
  bool nesterov;
  Values b = {};

  void step(Values& p, const Values& g, const Shape& shape) {
    const std::size_t rows = std::size_t(shape[0]), columns = std::size_t(shape[1]);
    b.resize(p.size());
    b = combine(momentum, b, 1 - momentum, g);
    Values x = nesterov ? combine(momentum, b, 1 - momentum, g) : b;
    const double length = std::max(norm_of(x), 1e-7);
    for (double& v : x) v /= length;
    for (int i = 0; i < 5; ++i) {  // always with x x^T, which of the two Gram matrices is the same
      Values t(x.size());
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) t[c * rows + r] = x[r * columns + c];
      const Values a = product(x, t, rows, columns, rows), aa = product(a, a, rows, rows, rows);
      const Values change = product(combine(-4.7750, a, 2.0315, aa), x, rows, rows, columns);
      x = combine(3.4445, x, 1, change);
    }
    const double scale = std::sqrt(std::max(1.0, double(rows) / double(columns)));
    for (std::size_t i = 0; i < p.size(); ++i)
      p[i] = p[i] * (1 - lr * weight_decay) - lr * scale * x[i];
  }
};

nn::NamedTensors matrices(DType dtype) {
  manual_seed(1);
  nn::NamedTensors parameters;
  for (const Shape& shape : {Shape{7, 5}, Shape{5, 7}, Shape{3, 3}, Shape{1, 6}})
    parameters.emplace_back(shape.str(), nn::parameter(randn(shape, {.dtype = dtype})));
  return parameters;
}

void new_gradients(const nn::NamedTensors& parameters) {
  for (const auto& [name, p] : parameters) p.set_grad(randn(p.shape(), {.dtype = p.dtype()}));
}

template <class Twin>
void check_against_twin(const nn::NamedTensors& parameters, nn::Optimizer& optimizer,
                        const std::vector<Twin>& twin_of_each, double tolerance) {
  std::vector<Twin> twins = twin_of_each;
  std::vector<Values> expected;
  for (const auto& [name, p] : parameters) expected.push_back(values(p));
  for (int n = 0; n < 6; ++n) {
    new_gradients(parameters);
    optimizer.step();
    for (std::size_t i = 0; i < twins.size(); ++i) {
      const Tensor& p = parameters[i].second;
      const Values before = expected[i];
      twins[i].step(expected[i], values(p.grad()), p.shape());
      const Values actual = values(p);
      CHECK(norm_of(combine(1, actual, -1, expected[i])) < tolerance);
      CHECK(norm_of(combine(1, before, -1, expected[i])) > 1e3 * tolerance);
    }
  }
}

std::vector<nn::ParameterGroup> two_groups(const nn::NamedTensors& p) {
  return {{.parameters = {p[0], p[1]}, .weight_decay = 0.3},
          {.parameters = {p[2], p[3]}, .lr_factor = 0.5}};
}

}  // namespace

TEST_CASE("Lion is the paper's") {
  for (DType dtype : {f64, f32}) {
    CAPTURE(name(dtype));
    const double tolerance = dtype == f64 ? 1e-13 : 1e-7;
    {
      const nn::NamedTensors p = matrices(dtype);
      nn::Lion optimizer(p, {.lr = 1e-3});
      check_against_twin<LionTwin>(p, optimizer, {4, {1e-3, 0.9, 0.99, 0}}, 10 * tolerance);
    }
    const nn::NamedTensors p = matrices(dtype);
    nn::Lion optimizer(two_groups(p), {.lr = 0.1, .betas = {0.7, 0.8}, .weight_decay = 0.2});
    const LionTwin first{0.1, 0.7, 0.8, 0.3}, second{0.05, 0.7, 0.8, 0.2};
    check_against_twin<LionTwin>(p, optimizer, {first, first, second, second}, 30 * tolerance);
  }
}

TEST_CASE("Muon is its definition, for wide and tall matrices") {
  for (DType dtype : {f64, f32}) {
    CAPTURE(name(dtype));
    const double tolerance = dtype == f64 ? 1e-12 : 2e-5;
    for (bool nesterov : {true, false}) {
      const nn::NamedTensors p = matrices(dtype);
      nn::Muon optimizer(p, {.lr = 0.2, .nesterov = nesterov});
      check_against_twin<MuonTwin>(p, optimizer, {4, {0.2, 0.1, 0.95, nesterov}}, tolerance);
    }
    const nn::NamedTensors p = matrices(dtype);
    nn::Muon optimizer(two_groups(p), {.lr = 7, .weight_decay = 0.2, .momentum = 0.5});
    optimizer.set_lr(0.4);
    const MuonTwin first{0.4, 0.3, 0.5, true}, second{0.2, 0.2, 0.5, true};
    check_against_twin<MuonTwin>(p, optimizer, {first, first, second, second}, tolerance);
  }
}

TEST_CASE("a step of Muon has singular values near 1, and none for no gradient") {
  manual_seed(2);
  const Tensor p = nn::parameter(zeros({40, 60}, {.dtype = f64}));
  nn::Muon optimizer(nn::NamedTensors{{"p", p}}, {.lr = 1, .weight_decay = 0});
  p.set_grad(randn({40, 60}, {.dtype = f64}));
  optimizer.step();
  const Tensor gram = matmul(p.detach(), p.detach().transpose(0, 1));
  Tensor squares = sum(gram * eye(40, {.dtype = f64}));  // of the singular values
  CHECK(squares.item<double>() / 40 > 0.6);
  CHECK(squares.item<double>() / 40 < 1.3);
  const Tensor before = p.detach().clone();
  nn::Muon fresh(nn::NamedTensors{{"p", p}}, {.lr = 1, .weight_decay = 0});
  p.set_grad(zeros({40, 60}, {.dtype = f64}));
  fresh.step();
  CHECK(same_bits(p, before));
}

TEST_CASE("a quadratic is minimised by both") {
  manual_seed(3);
  const Tensor target = randn({6, 5});
  auto distance = [&](auto make) {
    const Tensor x = nn::parameter(zeros({6, 5}));
    auto optimizer = make(nn::NamedTensors{{"x", x}});
    for (int i = 0; i < 400; ++i) {
      optimizer.zero_grad();
      optimizer.set_lr(0.05 * (1 - i / 400.0));
      sum(square(x - target)).backward();
      optimizer.step();
    }
    return largest(x.detach() - target);
  };
  CHECK(distance([](auto p) { return nn::Lion(p); }) < 1e-2);
  CHECK(distance([](auto p) { return nn::Muon(p, {.weight_decay = 0}); }) < 1e-2);
}

TEST_CASE("their state goes on through a file bit for bit, in bf16 too") {
  TemporaryFolder folder;
  auto run = [&](auto make, DType dtype, const std::string& one_entry) {
    const nn::NamedTensors p = matrices(dtype), copy = matrices(dtype);
    auto optimizer = make(p);
    for (int i = 0; i < 3; ++i) new_gradients(p), optimizer.step();
    auto resumed = make(copy);
    nn::save_safetensors(folder / "state", optimizer.state_dict());
    resumed.load_state_dict(nn::load_safetensors(folder / "state"));
    CHECK(optimizer.state_dict().at(one_entry).dtype() == (dtype == bf16 ? f32 : dtype));
    for (std::size_t i = 0; i < p.size(); ++i) copy[i].second.detach().copy_(p[i].second.detach());
    for (int i = 0; i < 3; ++i) {
      new_gradients(p);
      for (std::size_t j = 0; j < p.size(); ++j) copy[j].second.set_grad(p[j].second.grad());
      optimizer.step();
      resumed.step();
    }
    for (std::size_t i = 0; i < p.size(); ++i) CHECK(same_bits(p[i].second, copy[i].second));
  };
  for (DType dtype : {f32, bf16}) {
    run([](auto& p) { return nn::Lion(p, {.lr = 0.1}); }, dtype, "[7,5].exp_avg");
    run([](auto& p) { return nn::Muon(p, {.lr = 0.1}); }, dtype, "[7,5].momentum_buffer");
  }
}

TEST_CASE("what they refuse") {
  nn::NamedTensors p = matrices(f32);
  CHECK(message_of<ValueError>([&] {
          nn::Lion(p, {.betas = {0.9, 1}});
        }) == "Lion: needs betas >= 0 and < 1, got 1");
  CHECK(message_of<ValueError>([&] {
          nn::Lion(p, {.betas = {-1, 0.9}});
        }) == "Lion: needs betas >= 0 and < 1, got -1");
  CHECK(message_of<ValueError>([&] { nn::Muon(p, {.momentum = 1}); }) ==
        "Muon: needs momentum >= 0 and < 1, got 1");
  CHECK(message_of<ValueError>([&] { nn::Muon(p, {.lr = -1}); }) ==
        "Muon: needs lr >= 0 and < inf, got -1");
  p.emplace_back("bias", nn::parameter(zeros({3})));
  CHECK(message_of<ValueError>([&] { nn::Muon{p}; }) ==
        "Muon: needs matrices, bias is [3]: put it into a group of AdamW");
  p.back().second.requires_grad_(false);
  CHECK(nn::Muon(p).state_dict().size() == 8);  // the frozen one is left out
}
