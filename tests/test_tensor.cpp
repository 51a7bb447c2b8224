// Tensor without its history: reading, writing, creating, printing, and the memory behind it.
#include <triad/tests/op_test.h>

#include <complex>
#include <vector>

using namespace op_test;

#if defined(__SANITIZE_ADDRESS__)
// Too large an allocation is a null pointer here as elsewhere, not the end of the program.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
inline constexpr bool kCached = false;
#else
inline constexpr bool kCached = true;
#endif

using Floats = std::vector<float>;
using Doubles = std::vector<double>;
using Integers = std::vector<std::int64_t>;

TEST_CASE("elements are read in row-major order, by their own type") {
  const Tensor x = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(x.transpose(0, 1).to_vector<float>() == Floats{1, 4, 2, 5, 3, 6});
  CHECK(x.slice(1, 0, kEnd, 2).to_vector<float>() == Floats{1, 3, 4, 6});
  CHECK(x.select(0, 1).expand({2, 3}).to_vector<float>() == Floats{4, 5, 6, 4, 5, 6});
  CHECK(x.slice(0, 1).data<float>()[0] == 4);
  CHECK(zeros({0, 3}).to_vector<float>().empty());
  CHECK(from_vector<bool>({true, false}, {2}).to_vector<bool>() == std::vector<bool>{true, false});
  check_error<DTypeError>([&] { x.data<double>(); }, "data: the tensor is f32, not f64");
  check_error<ValueError>([&] { x.transpose(0, 1).data<float>(); },
                          "data: [3,2] with strides [1,3] is not contiguous; write x.contiguous()");
  check_error<ValueError>([&] { x.slice(1, 0, 2).data<float>(); }, "is not contiguous");
  CHECK(x.transpose(0, 1).first<float>()[3] == 4);
  check_error<DTypeError>([&] { x.to_vector<std::int64_t>(); }, "the tensor is f32, not i64");
}

TEST_CASE("item converts the one element there is") {
  CHECK(from_vector<double>({2.75}, {1, 1}).item<float>() == 2.75f);
  CHECK(from_vector<std::int64_t>({-7}, {1}).item<double>() == -7);
  CHECK(from_vector<bool>({true}, {}).item<bool>());
  CHECK(arange(5).select(0, 3).item<int>() == 3);
  check_error<ShapeError>([] { zeros({2}).item<float>(); },
                          "item: needs a tensor with one element, got [2]");
  check_error<ShapeError>([] { zeros({0}).item<float>(); }, "got [0]");
}

TEST_CASE("sizes, strides and negative axes") {
  const Tensor x = zeros({2, 3, 5}, {.dtype = f64});
  CHECK(x.size(-1) == 5);
  CHECK(x.size(0) == 2);
  CHECK(x.dim() == 3);
  CHECK(x.numel() == 30);
  CHECK(x.strides() == Shape{15, 5, 1});
  CHECK(x.device() == Device::cpu());
  CHECK(x.to(Device::cpu()).storage() == x.storage());
  CHECK(scalar(1).dim() == 0);
  check_error<IndexError>([&] { x.size(3); }, "size: axis 3 is out of range");
  CHECK(std::uintptr_t(x.data<double>()) % 64 == 0);
}

TEST_CASE("an undefined tensor says so") {
  const Tensor none;
  CHECK(!none.defined());
  CHECK(none.str() == "undefined tensor");
  CHECK(!none.requires_grad());
  CHECK(!none.grad().defined());
  check_error<Error>([&] { none.item<float>(); }, "item: the tensor is undefined");
  check_error<Error>([&] { none.data<float>(); }, "data: the tensor is undefined");
  check_error<Error>([&] { none.to_vector<float>(); }, "undefined");
  check_error<AutogradError>([&] { none.backward(); }, "backward: ");
  check_error<AutogradError>([&] { Tensor(none).requires_grad_(); }, "undefined");
}

TEST_CASE("printing") {
  CHECK(scalar(1.5).str() == "f32[] 1.5");
  CHECK(from_vector<std::int64_t>({1, -2, 3}, {3}).str() == "i64[3] [1, -2, 3]");
  CHECK(from_vector<bool>({true, false}, {2}).str() == "bool[2] [true, false]");
  CHECK(zeros({0}).str() == "f32[0] []");
  CHECK(zeros({2, 0}, {.dtype = f64}).str().starts_with("f64[2,0] [[]"));
  CHECK(arange(6, {.dtype = i64}).reshape({2, 3}).str() ==
        "i64[2,3] [[0, 1, 2],\n          [3, 4, 5]]");
  const std::string large = arange(1000, {.dtype = i64}).str();
  CHECK(large == "i64[1000] [0, 1, 2, ..., 997, 998, 999]");
  CHECK(arange(7, {.dtype = i64}).str() == "i64[7] [0, 1, 2, ..., 4, 5, 6]");
  CHECK(zeros({100, 100}).str().size() < 500);
  CHECK(from_vector<double>({1, -22.5, 3, 0.25}, {2, 2}).str() ==
        "f64[2,2] [[    1, -22.5],\n          [    3,  0.25]]");
  CHECK(from_vector<std::complex<float>>({{1, -2}, {0, 0.5}}, {2}).str() ==
        "c64[2] [1-2i, 0+0.5i]");
  CHECK(from_vector<std::int32_t>({7}, {1}).to(bf16).str() == "bf16[1] [7]");
  CHECK(from_vector<std::int64_t>({INT64_MAX}, {1}).str() == "i64[1] [9223372036854775807]");
}

TEST_CASE("creation") {
  CHECK(full({2}, 2.5, {.dtype = f64}).to_vector<double>() == Doubles{2.5, 2.5});
  CHECK(ones({2}, {.dtype = i64}).to_vector<std::int64_t>() == Integers{1, 1});
  CHECK(ones({2}, {.dtype = boolean}).to_vector<bool>() == std::vector<bool>{true, true});
  CHECK(arange(2, 8, 2.5).to_vector<float>() == Floats{2, 4.5, 7});
  CHECK(arange(3, 0, -1, {.dtype = i64}).to_vector<std::int64_t>() == Integers{3, 2, 1});
  CHECK(arange(0).shape() == Shape{0});
  CHECK(from_vector<float>({1, 2}).shape() == Shape{2});
  CHECK(from_vector<float>({}, {0, 4}).shape() == Shape{0, 4});
  CHECK(from_vector<float>({1}, {}, true).requires_grad());
  CHECK(zeros({1}, {.requires_grad = true}).is_leaf());
  const Tensor below = tril_mask(2, 3, 1);
  CHECK(below.to_vector<bool>() == std::vector<bool>{true, true, false, true, true, true});
  CHECK(tril_mask(2, 3).to_vector<bool>() ==
        std::vector<bool>{true, false, false, true, true, false});

  check_error<ShapeError>(
      [] {
        from_vector<float>({1, 2, 3}, {2});
      },
      "from_vector: 3 values do not fill [2]");
  check_error<DTypeError>([] { zeros({1}, {.dtype = i64, .requires_grad = true}); },
                          "needs a floating or complex type, got i64");
  for (double end : {5., -5., 0., kNan, kInf})
    check_error<ValueError>([&] { arange(0, end, end == 5 ? -1 : end == -5 ? 1 : 0); }, "arange: ");
  check_error<ValueError>([] { arange(1e300); }, "arange: no steps of 1 lead from 0 to 1e+300");
  check_error<ValueError>([] { tril_mask(-1, 2); }, "arange");
}

TEST_CASE("clone, contiguous and casts") {
  const Tensor x = from_vector<double>({1.7, -1.7, 0, 3}, {2, 2}), t = x.transpose(0, 1);
  CHECK(t.clone().storage() != x.storage());
  CHECK(t.clone().is_contiguous());
  CHECK(same_bits(t.contiguous(), from_vector<double>({1.7, 0, -1.7, 3}, {2, 2})));
  CHECK(x.contiguous().storage() == x.storage());
  CHECK(x.to(f64).storage() == x.storage());
  CHECK(t.to(f32).to_vector<float>() == Floats{1.7f, 0, -1.7f, 3});
  CHECK(x.to(i64).to_vector<std::int64_t>() == Integers{1, -1, 0, 3});
  CHECK(x.to(boolean).to_vector<bool>() == std::vector<bool>{true, true, false, true});
  CHECK(x.to(boolean).to(f32).to_vector<float>() == Floats{1, 1, 0, 1});
  const std::int64_t big = (std::int64_t(1) << 53) + 1;
  CHECK(from_vector<std::int64_t>({big}, {1}).clone().item<std::int64_t>() == big);
}

TEST_CASE("copy_ and fill_ write through views, and never to what has a history") {
  Tensor x = zeros({2, 3});
  x.slice(1, 0, kEnd, 2).copy_(from_vector<double>({7, 8}, {2, 1}));  // broadcasts and casts
  CHECK(x.to_vector<float>() == Floats{7, 0, 7, 8, 0, 8});
  x.select(0, 1).fill_(1);
  CHECK(x.to_vector<float>() == Floats{7, 0, 7, 1, 1, 1});
  check_error<ShapeError>([&] { x.copy_(zeros({4})); }, "copy_: [2,3] and [4] do not broadcast");

  const Tensor leaf = zeros({2}, {.requires_grad = true}), result = leaf * 2.0;
  check_error<AutogradError>([&] { leaf.fill_(1); }, "fill_: the tensor has a history (leaf)");
  check_error<AutogradError>([&] { leaf.copy_(ones({2})); }, "copy_: the tensor has a history");
  {
    NoGradGuard guard;
    leaf.copy_(from_vector<float>({3, 4}));
    check_error<AutogradError>([&] { result.fill_(1); }, "fill_: the tensor has a history (mul)");
    check_error<AutogradError>([&] { result.copy_(leaf); }, "(mul)");
  }
  CHECK(leaf.to_vector<float>() == Floats{3, 4});
  CHECK(result.to_vector<float>() == Floats{0, 0});
  check_error<ValueError>([&] { Tensor().fill_(0); }, "fill_: got an undefined tensor");
  check_error<ValueError>([&] { Tensor().copy_(x); }, "copy_: got an undefined tensor");
  check_error<ValueError>([&] { x.copy_(Tensor()); }, "copy_: got an undefined tensor");
}

TEST_CASE("memory is counted, kept for the next tensor, and given back") {
  empty_cache();
  const MemoryStats before = memory_stats();
  CHECK(before.cached_bytes == 0);
  const std::byte* place = nullptr;
  {
    const Tensor x = empty({1000}, f64), view = x.slice(0, 3), copy = x;
    CHECK(memory_stats().live_blocks == before.live_blocks + 1);
    CHECK(memory_stats().live_bytes == before.live_bytes + 8000);
    CHECK(memory_stats().peak_bytes >= before.live_bytes + 8000);
    place = x.storage()->data();
  }
  CHECK(memory_stats().live_blocks == before.live_blocks);
  CHECK(memory_stats().live_bytes == before.live_bytes);
  if (kCached) {
    CHECK(memory_stats().cached_bytes >= 8000);
    CHECK(empty({999}, f64).storage()->data() == place);
  }
  empty_cache();
  CHECK(memory_stats().cached_bytes == 0);
}

TEST_CASE("borrowed memory lives as long as a tensor needs it") {
  auto owner = std::make_shared<std::vector<float>>(Floats{1, 2, 3});
  const std::weak_ptr<void> watch = owner;
  Tensor x(Storage::borrow(owner->data(), 12, owner), contiguous_layout({3}), f32);
  owner = nullptr;
  CHECK(x.to_vector<float>() == Floats{1, 2, 3});
  Tensor view = x.slice(0, 1);
  x = Tensor();
  CHECK(!watch.expired());
  CHECK(view.to_vector<float>() == Floats{2, 3});
  view = Tensor();
  CHECK(watch.expired());
}

TEST_CASE("more memory than there is: an error, and everything goes on") {
  const std::int64_t exbi = std::int64_t(1) << 60;
  const MemoryStats before = memory_stats();
  check_error<OutOfMemory>([&] { empty({exbi}, boolean); },
                           "out of memory on cpu: asked for 11529215046068");
  check_error<OutOfMemory>([&] { zeros({std::int64_t(1) << 59}); }, "while tensors hold ");
  check_error<OutOfMemory>([] { empty({INT64_MAX}, boolean); }, "out of memory");
  CHECK(memory_stats().live_blocks == before.live_blocks);
  CHECK(memory_stats().live_bytes == before.live_bytes);
  CHECK(sum(ones({10})).item<float>() == 10);
}

TEST_CASE("the number of threads") {
  const int before = get_num_threads();
  CHECK(before >= 1);
  set_num_threads(2);
  CHECK(get_num_threads() == 2);
  set_num_threads(before);
  check_error<ValueError>([] { set_num_threads(0); }, "set_num_threads: needs at least 1, got 0");
}

TEST_CASE("more ways to make a tensor") {
  CHECK(values(triad::tensor({{1, 2}, {3, 4}})) == Values{1, 2, 3, 4});
  CHECK(triad::tensor({{1, 2}, {3, 4}}).shape() == Shape{2, 2});
  CHECK(triad::tensor({{{1}}, {{2}}}, {.dtype = i64}).shape() == Shape{2, 1, 1});
  CHECK(triad::tensor({3.5}, {.dtype = f64, .requires_grad = true}).requires_grad());
  check_error<ShapeError>(
      [] {
        triad::tensor({{1, 2}, {3}});
      },
      "tensor: the lists at depth 1 are uneven");
  check_error<ShapeError>([] { triad::tensor({{1, 2}, 3}); }, "uneven");

  CHECK(values(linspace(0, 1, 5)) == Values{0, 0.25, 0.5, 0.75, 1});
  CHECK(values(linspace(3, -3, 2)) == Values{3, -3});
  CHECK(values(linspace(2, 9, 1)) == Values{2});
  CHECK(linspace(0, 1, 0).shape() == Shape{0});
  CHECK(values(linspace(0, 0.7, 1001, {.dtype = f64})).back() == 0.7);
  CHECK(values(eye(2, {.dtype = c64}).to(f32)) == Values{1, 0, 0, 1});
  const Tensor x = triad::tensor({{1, 2, 3}, {4, 5, 6}});
  CHECK(values(tril(x)) == Values{1, 0, 0, 4, 5, 0});
  CHECK(values(triu(x, 1)) == Values{0, 2, 3, 0, 0, 6});
  CHECK(values(tril(x, -1)) == Values{0, 0, 0, 4, 0, 0});
  CHECK(zeros_like(x.to(bf16)).dtype() == bf16);
  CHECK(values(full_like(x, 7)) == Values(6, 7.0));
  CHECK(randn_like(x).shape() == x.shape());

  float memory[] = {1, 2, 3, 4};
  bool deleted = false;
  {
    const Tensor seen = from_blob(memory, {2, 2}, [&](float*) { deleted = true; });
    memory[3] = 9;
    CHECK(values(seen) == Values{1, 2, 3, 9});
    CHECK(!deleted);
  }
  CHECK(deleted);
}
