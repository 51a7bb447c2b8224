// Every op of the public headers, as its case in op_cases.h says: values against the fp64 twin in
// every type and however the inputs lie, sizes of zero, memory and threads.
#include <triad/tests/op_case_inputs.h>

#ifdef TRIAD_CUDA_ON_CPU
#include <simt.h>
#endif

#include <cctype>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

using namespace op_test;

namespace {

// ---------------------------------------------------------------------- values

DType type_of(Gives gives, DType dtype) {
  switch (gives) {
    case Gives::same: return dtype;
    case Gives::boolean: return boolean;
    case Gives::i64: return i64;
    case Gives::c128: return c128;
    case Gives::real: return real_type(dtype);
    case Gives::complex: return complex_type(dtype);
    case Gives::counted: return dtype == i32 || dtype == boolean ? i64 : dtype;
  }
  return dtype;
}

// Of an error relative to the element and to 1: a few units in the last place.
double bound_of(DType dtype) {
  if (is_narrow(dtype)) return dtype == bf16 ? 0x1p-7 : 0x1p-10;
  return real_type(dtype) == f32 ? 2e-6 : real_type(dtype) == f64 ? 1e-14 : 0;
}

bool is_close(double got, double want, double bound) {
  return got == want || (std::isnan(got) && std::isnan(want)) ||
         std::abs(got - want) <= bound * (std::abs(want) + 1);
}

void compare(const std::string& what, const Tensor& got, const Array& want, double bound) {
  CHECK_MESSAGE(got.shape() == want.shape, what, ": sizes ", got.shape().str(), ", should be ",
                want.shape.str());
  if (got.shape() != want.shape) return;
  const Numbers have = numbers(got).values;
  for (std::size_t i = 0; i < have.size(); ++i) {
    const C wanted = want.values[i];
    const bool same = is_close(have[i].real(), wanted.real(), bound) &&
                      (!is_complex(got.dtype()) || is_close(have[i].imag(), wanted.imag(), bound));
    if (same) continue;
    CHECK_MESSAGE(same, what, ": element ", i, " of ", got.shape().str(), " is ", have[i].real(),
                  " + ", have[i].imag(), "i, should be ", wanted.real(), " + ", wanted.imag(), "i");
    return;
  }
}

// Of what type they must be, and whether they may share the memory of an input.
void check_results(const std::string& what, const Case& c, DType dtype, const Tensors& inputs,
                   const Tensors& results) {
  for (std::size_t i = 0; i < results.size(); ++i) {
    const DType wanted = type_of(c.results[i], dtype);
    CHECK_MESSAGE(results[i].dtype() == wanted, what, ": result ", i, " is ",
                  type_name(results[i].dtype()), ", should be ", type_name(wanted));
    CHECK_MESSAGE(!results[i].requires_grad(), what, ": a history under a NoGradGuard");
    if (results[i].numel() == 0) continue;
    bool shared = false;
    for (const Tensor& x : inputs) shared |= x.storage() == results[i].storage();
    if (c.memory == Memory::own) CHECK_MESSAGE(!shared, what, ": result ", i, " is an input");
    if (c.memory == Memory::view) CHECK_MESSAGE(shared, what, ": result ", i, " is no view");
    for (std::size_t j = 0; j < i && c.memory == Memory::own; ++j)
      CHECK_MESSAGE(results[i].storage() != results[j].storage(), what, ": results share memory");
  }
}

// On a GPU: what is given out next is full of NaN, as on the simulated device it always is.
void spoil_free_memory() {
  if (test_device() == Device::cpu() || is_simulated()) return;
  Tensors held;
  for (std::int64_t n = 64; n <= 1 << 14; n *= 2)
    for (int i = 0; i < 4; ++i) held.push_back(full({n}, NAN, {.device = test_device()}));
}

void check_values(const Case& c, const Inputs& sizes, DType dtype, unsigned seed) {
  const NoGradGuard guard;
  const std::string what = c.title() + " of " + name(dtype);
  const Tensors plain = make(sizes, dtype, seed);
  const Arrays want = c.twin(numbers(plain));
  REQUIRE_MESSAGE(want.size() == c.results.size(), what);
  auto check = [&](const Tensors& inputs, const Arrays& wanted, const std::string& lie) {
    spoil_free_memory();
    const Tensors got = c.call(inputs);
    REQUIRE_MESSAGE(got.size() == wanted.size(), what);
    check_results(what + lie, c, dtype, inputs, got);
    for (std::size_t i = 0; i < got.size(); ++i)
      compare(what + lie, got[i], wanted[i],
              c.bound * std::max(bound_of(dtype), bound_of(got[i].dtype())));
  };
  for (Lie lie : kLies) {
    Tensors lying;
    for (const Tensor& x : plain) lying.push_back(laid(lie, x));
    check(lying, want, ", lie " + std::to_string(int(lie)));
  }
  Tensors repeated;
  for (const Tensor& x : plain) repeated.push_back(expanded_rows(x));
  check(repeated, c.twin(numbers(repeated)), ", expanded");
}

// ---------------------------------------------------------------------- threads

const Inputs& largest(const Case& c) {
  if (!c.large.empty()) return c.large;
  return *std::max_element(c.inputs.begin(), c.inputs.end(),
                           [](const Inputs& a, const Inputs& b) { return count(a) < count(b); });
}

// The results, and with a history the gradients.
Tensors everything(const Case& c, const Tensors& inputs, const Inputs& sizes) {
  Tensors given, leaves;
  const bool differentiated = c.gradient >= Gradient::once;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    given.push_back(inputs[i].detach());
    const bool fits = is_floating_point(inputs[i].dtype()) || is_complex(inputs[i].dtype());
    if (differentiated && fits && !sizes[i].dtype) leaves.push_back(given.back().requires_grad_());
  }
  Tensors all = c.call(given);
  if (!leaves.empty()) {
    const Tensor y = joined(all);
    for (const Tensor& g :
         grad({y}, leaves, {random_tensor(y.shape(), y.dtype(), 7)}, {.allow_unused = true}))
      if (g.defined()) all.push_back(g);
  }
  for (Tensor& x : all) x = x.detach().contiguous();
  return all;
}

// ---------------------------------------------------------------------- headers

// The names of all functions, or methods of Tensor, that a header declares to give tensors.
std::set<std::string> ops_of(const std::string& path, const std::string& prefix) {
  std::ifstream file(TRIAD_SOURCE_DIR "/" + path);
  REQUIRE_MESSAGE(file.good(), path);
  std::string text;
  for (std::string line; std::getline(file, line);) text += line.substr(0, line.find("//")) + " ";
  auto skip_spaces = [&](std::size_t at) {
    return std::min(text.find_first_not_of(' ', at), text.size());
  };
  auto begins_declaration = [&](std::size_t at) {  // and is no parameter or part of another type
    const std::size_t before = at == 0 ? at : text.find_last_not_of(' ', at - 1);
    return at == 0 || std::string(";{}>:").find(text[before]) != std::string::npos ||
           (before >= 5 && text.substr(before - 5, 6) == "inline");
  };
  std::set<std::string> names;
  for (const std::string result :
       {"Tensor ", "Tensors ", "std::vector<Tensor> ", "std::pair<Tensor, Tensor> "})
    for (std::size_t at = text.find(result); at != std::string::npos;
         at = text.find(result, at + 1)) {
      if (!begins_declaration(at)) continue;
      std::size_t from = skip_spaces(at + result.size());
      while (true) {  // several functions may share one result type
        std::size_t to = from;
        while (to < text.size() && (std::isalnum(text[to]) || text[to] == '_')) ++to;
        if (text.substr(from, to - from) == "operator") to = text.find('(', to);
        if (to == from || text[to] != '(') break;
        names.insert(prefix + text.substr(from, to - from));
        int depth = 1;
        for (++to; depth > 0 && to < text.size(); ++to)
          depth += (text[to] == '(') - (text[to] == ')');
        to = skip_spaces(to);
        if (text.substr(to, 5) == "const") to = skip_spaces(to + 5);
        if (text[to] != ',') break;
        from = skip_spaces(to + 1);
      }
    }
  return names;
}

// Ops without a case, and where they are tested.
const std::map<std::string, std::string> kElsewhere{
    {"rand", "draws random numbers: test_random"},
    {"randn", "draws random numbers: test_random"},
    {"rand_like", "draws random numbers: test_random"},
    {"randn_like", "draws random numbers: test_random"},
    {"randint", "draws random numbers: test_random"},
    {"randperm", "draws random numbers: test_random"},
    {"bernoulli", "draws random numbers: test_random"},
    {"multinomial", "draws random numbers: test_random"},
    {"Tensor::with_layout", "what views are made of, with no history: test_tensor"},
    {"Tensor::grad", "no op: test_autograd"},
    {"Tensor::detach", "no op: test_autograd"},
};

}  // namespace

TEST_CASE("every op of the public headers has a case, and every case an op") {
  std::set<std::string> in_headers = ops_of("core/tensor.h", "Tensor::"), in_table;
  std::ifstream all_ops(TRIAD_SOURCE_DIR "/autograd/ops.h");  // includes the header of every op
  for (std::string line; std::getline(all_ops, line);)
    if (const std::size_t at = line.find("autograd/"); line.starts_with("#include <triad/"))
      in_headers.merge(ops_of(line.substr(at, line.find('>') - at), ""));
  in_headers.erase("Tensor::empty");  // stands outside the class
  in_headers.insert("empty");
  CHECK(in_headers.size() > 140);  // the headers were understood
  for (const Case& c : cases()) in_table.insert(c.name);
  for (const std::string& op : in_headers)
    CHECK_MESSAGE(in_table.contains(op) != kElsewhere.contains(op), op,
                  " is neither in tests/op_cases nor named as tested elsewhere, or both");
  for (const std::string& op : in_table)
    CHECK_MESSAGE(in_headers.contains(op), op, " has a case and is in no public header");
  for (const auto& [op, reason] : kElsewhere)
    CHECK_MESSAGE(in_headers.contains(op), op, " is in no public header");
}

TEST_CASE("every op that computes is in the benchmark") {
  const std::set<std::string> absent{
      // views
      "Tensor::reshape", "Tensor::view", "Tensor::flatten", "Tensor::permute", "Tensor::transpose",
      "Tensor::expand", "Tensor::operator[]", "Tensor::select", "Tensor::slice", "Tensor::split",
      "Tensor::squeeze", "Tensor::unsqueeze", "chunk", "imag", "real", "view_as_complex",
      "view_as_real", "window",
      // new tensors: zeros, full_like and arange stand for all
      "empty", "empty_like", "eye", "from_blob", "from_vector", "full", "linspace", "ones",
      "ones_like", "scalar", "tensor", "tril_mask", "zeros_like",
      // transforms: bench/ops.cpp has them at lengths of their own
      "fft", "ifft", "rfft", "irfft",
      // PyTorch has none
      "at_bins", "causal_convolution", "causal_taps", "dct", "idct", "spectral_filter"};
  std::map<std::string, std::size_t> benches;
  for (const Case& c : cases()) benches[c.name] += c.benches.size();
  for (const auto& [op, count] : benches)
    CHECK_MESSAGE((count > 0) != absent.contains(op), op,
                  " has no line in tests/op_cases_bench.cpp, and is not named as absent; or both");
}

TEST_CASE("values, of every type and however inputs lie") {
  unsigned seed = 1;
  for_each_case([&](const Case& c) {
    for (const Inputs& sizes : c.inputs)
      for (DType dtype : c.types) check_values(c, sizes, dtype, seed += 10);
  });
}

namespace {

// All results and gradients are the same at each setting, from `first` to `last`, of `set`: on the
// simulated device of every type.
void check_same_bits(void (*set)(int), int first, int last) {
  for_each_case([=](const Case& c) {
    for (std::size_t type = 0; type < (is_simulated() ? c.types.size() : 1); ++type) {
      const Inputs& sizes = is_simulated() ? c.inputs[type % c.inputs.size()] : largest(c);
      const Tensors inputs = make(sizes, c.types[type], 4);
      set(first);
      const Tensors one = everything(c, inputs, sizes);
      for (int setting = first + 1; setting <= last; ++setting) {
        set(setting);
        const Tensors other = everything(c, inputs, sizes);
        for (std::size_t i = 0; i < one.size(); ++i)
          CHECK_MESSAGE(same_bits(one[i], other[i]), c.title(), " of ", name(c.types[type]),
                        ": result or gradient ", i, " differs at ", setting);
      }
    }
  });
}

}  // namespace

#ifdef TRIAD_CUDA_ON_CPU
TEST_CASE("the same bits under four schedules of the threads of a block") {
  check_same_bits([](int schedule) { simt::schedule = schedule; }, 0, 3);
  simt::schedule = 0;
}
#endif

TEST_CASE("the same bits at one thread and at two" * doctest::skip(is_simulated())) {
  const int before = get_num_threads();
  check_same_bits(set_num_threads, 1, 2);
  set_num_threads(before);
}
