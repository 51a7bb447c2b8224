// Copies, casts and fills from and to memory that lies in every way.
#include <triad/tests/kernel_checks.h>

using namespace kernel_checks;
using triad::Cpu;
using triad::DType;

namespace {

constexpr DType kTypes[] = {triad::f32, triad::f64, triad::i64, triad::boolean};

Tensor permuted(const Tensor& x, const Shape& order) {
  return x.with_layout(triad::permuted(x.layout(), order));
}

}  // namespace

TEST_CASE("copy between any two layouts and types") {
  for (Shape shape : {Shape{}, Shape{1, 1}, Shape{3, 5, 37}, Shape{300, 7}, Shape{2, 3, 4, 5, 6}})
    for (DType from : kTypes)
      for (DType to : kTypes)
        for (Lie lie_x : kLies)
          for (Lie lie_y : kLies) {
            const Tensor x = laid(lie_x, random_tensor(shape, from, 1, 10));
            reference::Values want = values(x);
            for (double& v : want) {
              if (to == triad::i64) v = std::trunc(v);
              if (to == triad::boolean) v = v != 0;
            }
            const Tensor y = lying(lie_y, shape, to);
            triad::kernels::copy(Cpu{}, x, y);
            check_close(y, want, to == triad::f32 ? 1e-7 : 0, "copy", 0);
          }
}

TEST_CASE("copy permutes, large and small, odd and even") {
  for (Shape shape :
       {Shape{2, 33, 4, 64}, Shape{3, 17, 5, 7}, Shape{1, 128, 2, 1}, Shape{64, 65, 1, 3}})
    for (Shape order : {Shape{0, 2, 1, 3}, Shape{0, 2, 3, 1}, Shape{3, 1, 0, 2}, Shape{3, 2, 1, 0},
                        Shape{1, 3, 0, 2}})
      for (DType dtype : kTypes) {
        const Tensor x = permuted(random_tensor(shape, dtype, 1), order);
        const Tensor y = triad::empty(x.shape(), dtype);
        triad::kernels::copy(Cpu{}, x, y);
        check_close(y, values(x), 0, "permute");
        const Tensor back = permuted(triad::empty(shape, dtype), order);  // into a permuted view
        triad::kernels::copy(Cpu{}, y, back);
        check_close(back, values(x), 0, "permute back");
      }
}

TEST_CASE("copy repeats an expanded tensor, and leaves alone what lies between") {
  const Tensor x = random_tensor({3, 1, 5}, triad::f32, 1), wide = expand(x, {2, 3, 40, 5});
  const Tensor y = triad::empty({2, 3, 40, 5});
  triad::kernels::copy(Cpu{}, wide, y);
  check_close(y, values(wide), 0, "expand");

  Tensor base = tensor(reference::Values(60, -7), {6, 10});
  const Tensor inside =
      base.with_layout(triad::sliced(triad::sliced(base.layout(), 0, 1, 5, 2), 1, 3, 8, 1));
  triad::kernels::copy(Cpu{}, random_tensor({2, 5}, triad::f32, 2), inside);
  int untouched = 0;
  for (double v : values(base)) untouched += v == -7;
  CHECK(untouched == 50);
}

TEST_CASE("casts keep NaN and infinities, and round as the machine does") {
  const Tensor x = tensor({kNan, kInf, -kInf, 1e300, 0.1}, {5}, triad::f64);
  const Tensor y = triad::empty({5}), b = triad::empty({5}, triad::boolean);
  triad::kernels::copy(Cpu{}, x, y);
  check_close(y, {kNan, kInf, -kInf, kInf, double(0.1f)}, 0, "f64 to f32");
  triad::kernels::copy(Cpu{}, x, b);
  check_close(b, {1, 1, 1, 1, 1}, 0, "f64 to bool");
}

TEST_CASE("add_into adds, whatever the layouts") {
  for (Shape shape : {Shape{}, Shape{7, 300}, Shape{4, 5, 6}})
    for (DType dtype : {triad::f32, triad::f64, triad::i64})
      for (Lie lie_x : kLies)
        for (Lie lie_y : kLies) {
          const Tensor x = laid(lie_x, random_tensor(shape, dtype, 1)),
                       y = laid(lie_y, random_tensor(shape, dtype, 2));
          reference::Values want = values(x), before = values(y);
          for (std::size_t i = 0; i < want.size(); ++i) want[i] += before[i];
          triad::kernels::add_into(Cpu{}, x, y);
          check_close(y, want, dtype == triad::f32 ? 1e-7 : 0, "add_into", 0);
        }
}

TEST_CASE("fill and arange") {
  for (DType dtype : kTypes)
    for (Lie lie : kLies) {
      const Tensor y = lying(lie, {3, 1000, 7}, dtype);
      triad::kernels::fill(Cpu{}, 3, y);
      check_close(y, reference::Values(21000, dtype == triad::boolean ? 1 : 3), 0, "fill");
    }
  for (DType dtype : {triad::f32, triad::f64, triad::i64}) {
    const Tensor y = triad::empty({70001}, dtype);
    triad::kernels::arange(Cpu{}, 3, 2, y);
    reference::Values want;
    for (int i = 0; i < 70001; ++i) want.push_back(3 + 2 * i);
    check_close(y, want, 0, "arange");
  }
}

TEST_CASE("empty tensors are copied, added and filled without harm") {
  const Tensor x = triad::empty({3, 0, 5});
  triad::kernels::copy(Cpu{}, permuted(x, {2, 0, 1}), triad::empty({5, 3, 0}));
  triad::kernels::add_into(Cpu{}, x, triad::empty({3, 0, 5}));
  triad::kernels::fill(Cpu{}, 1, x);
}

TEST_CASE("the same bits at any number of threads") {
  const Tensor x = random_tensor({3, 211, 307}, triad::f32, 1);
  for (Shape order : {Shape{0, 2, 1}, Shape{2, 1, 0}, Shape{1, 0, 2}})
    check_threads("copy", [&] {
      const Tensor from = permuted(x, order), y = triad::empty(from.shape());
      triad::kernels::copy(Cpu{}, from, y);
      return y;
    });
}
