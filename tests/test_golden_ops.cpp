// Some 3,500 calls of ops against what PyTorch makes of the same numbers
// (golden/ops/generate.py): every type, random sizes and axes, infinities, NaN, -0 and denormals
// among the inputs. Where triad means to differ, docs/differences.md says so and the call is not
// made.
#include <triad/tests/op_test.h>

#include <map>
#include <set>
#include <sstream>

using namespace op_test;

namespace {

// The options of a call, "axis=1 keep=0".
class Options {
 public:
  explicit Options(std::istream& words) {
    for (std::string word; words >> word;) {
      const std::size_t at = word.find('=');
      texts_[word.substr(0, at)] = word.substr(at + 1);
    }
  }
  bool has(const std::string& key) const { return texts_.contains(key); }
  const std::string& text(const std::string& key) const { return texts_.at(key); }
  double number(const std::string& key) const { return std::stod(text(key)); }
  std::int64_t whole(const std::string& key) const { return std::stoll(text(key)); }
  std::vector<std::int64_t> list(const std::string& key) const {
    std::vector<std::int64_t> values;
    std::istringstream parts(text(key));
    for (std::string part; std::getline(parts, part, ',');) values.push_back(std::stoll(part));
    return values;
  }
  Shape shape(const std::string& key) const {
    const auto values = list(key);
    return {values.begin(), values.end()};
  }
  std::int64_t axis() const { return whole("axis"); }
  bool keep() const { return whole("keep") != 0; }
  Norm norm() const {
    return text("norm") == "ortho"     ? Norm::ortho
           : text("norm") == "forward" ? Norm::forward
                                       : Norm::backward;
  }
  Reduction reduction() const {
    return text("reduction") == "none"  ? Reduction::none
           : text("reduction") == "sum" ? Reduction::sum
                                        : Reduction::mean;
  }

 private:
  std::map<std::string, std::string> texts_;
};

using Call = std::function<Tensor(const Tensors&, const Options&)>;

std::map<std::string, Call> calls() {
  std::map<std::string, Call> all;
  const std::pair<const char*, Tensor (*)(const Tensor&)> unary[] = {{"neg", operator- },
                                                                      {"abs", abs},
                                                                      {"sign", sign},
                                                                      {"exp", exp},
                                                                      {"expm1", expm1},
                                                                      {"log", log},
                                                                      {"log1p", log1p},
                                                                      {"sqrt", sqrt},
                                                                      {"rsqrt", rsqrt},
                                                                      {"square", square},
                                                                      {"reciprocal", reciprocal},
                                                                      {"sin", sin},
                                                                      {"cos", cos},
                                                                      {"tanh", tanh},
                                                                      {"sigmoid", sigmoid},
                                                                      {"softplus", softplus},
                                                                      {"erf", erf},
                                                                      {"relu", relu},
                                                                      {"gelu", gelu},
                                                                      {"silu", silu},
                                                                      {"floor", floor},
                                                                      {"round", round},
                                                                      {"isnan", isnan},
                                                                      {"isinf", isinf},
                                                                      {"isfinite", isfinite},
                                                                      {"real", real},
                                                                      {"imag", imag},
                                                                      {"conj", conj}};
  for (const auto& [name, f] : unary)
    all[name] = [f = f](const Tensors& x, const Options&) { return f(x[0]); };
  const std::pair<const char*, Tensor (*)(const Tensor&, const Tensor&)> binary[] = {
      {"add", operator+ },
       {"sub", operator- },
        {"mul", operator* },
         {"div", operator/ }, {"maximum", maximum}, {"minimum", minimum}, {"pow", pow},
          {"eq", operator== },
           {"ne", operator!= },
            {"lt", operator<},
             {"le", operator<= },
              {"gt", operator> }, {"ge", operator>= }, {"matmul", matmul}, {"polar", polar}};
  for (const auto& [name, f] : binary)
    all[name] = [f = f](const Tensors& x, const Options&) { return f(x[0], x[1]); };
  using O = const Options&;
  using X = const Tensors&;
  all["gelu_tanh"] = [](X x, O) { return gelu(x[0], Gelu::tanh); };
  all["clamp"] = [](X x, O o) { return clamp(x[0], o.number("low"), o.number("high")); };
  all["pow_number"] = [](X x, O o) { return pow(x[0], o.number("p")); };
  all["where"] = [](X x, O) { return where(x[0], x[1], x[2]); };
  all["sum"] = [](X x, O o) { return sum(x[0], o.list("axes"), o.keep()); };
  all["mean"] = [](X x, O o) { return mean(x[0], o.list("axes"), o.keep()); };
  all["var"] = [](X x, O o) { return var(x[0], o.list("axes"), o.keep()); };
  all["stddev"] = [](X x, O o) { return stddev(x[0], o.list("axes"), o.keep()); };
  all["logsumexp"] = [](X x, O o) { return logsumexp(x[0], o.list("axes"), o.keep()); };
  all["norm"] = [](X x, O o) { return norm(x[0], o.list("axes"), o.keep()); };
  all["any"] = [](X x, O o) { return any(x[0], o.list("axes"), o.keep()); };
  all["all"] = [](X x, O o) { return triad::all(x[0], o.list("axes"), o.keep()); };
  all["max"] = [](X x, O o) { return max(x[0], o.axis(), o.keep()).first; };
  all["min"] = [](X x, O o) { return min(x[0], o.axis(), o.keep()).first; };
  all["argmax"] = [](X x, O o) { return argmax(x[0], o.axis(), o.keep()); };
  all["argmin"] = [](X x, O o) { return argmin(x[0], o.axis(), o.keep()); };
  all["cumsum"] = [](X x, O o) { return cumsum(x[0], o.axis()); };
  all["einsum"] = [](X x, O o) { return einsum(o.text("equation"), x); };
  all["fft"] = [](X x, O o) { return fft(x[0], o.whole("n"), o.axis(), o.norm()); };
  all["ifft"] = [](X x, O o) { return ifft(x[0], o.whole("n"), o.axis(), o.norm()); };
  all["rfft"] = [](X x, O o) { return rfft(x[0], o.whole("n"), o.axis(), o.norm()); };
  all["irfft"] = [](X x, O o) { return irfft(x[0], o.whole("n"), o.axis(), o.norm()); };
  all["dct"] = [](X x, O o) { return dct(x[0], o.axis()); };
  all["idct"] = [](X x, O o) { return idct(x[0], o.axis()); };
  all["flip"] = [](X x, O o) { return flip(x[0], o.axis()); };
  all["roll"] = [](X x, O o) { return roll(x[0], o.whole("shift"), o.axis()); };
  all["repeat"] = [](X x, O o) { return repeat(x[0], o.shape("times")); };
  all["pad"] = [](X x, O o) { return pad(x[0], o.shape("widths"), 1); };
  all["index_select"] = [](X x, O o) { return index_select(x[0], o.axis(), x[1]); };
  all["gather"] = [](X x, O o) { return gather(x[0], o.axis(), x[1]); };
  all["scatter_add"] = [](X x, O o) { return scatter_add(x[0], o.axis(), x[1], x[2]); };
  all["tril"] = [](X x, O o) { return tril(x[0], o.whole("offset")); };
  all["triu"] = [](X x, O o) { return triu(x[0], o.whole("offset")); };
  all["topk"] = [](X x, O o) {
    return topk(x[0], o.whole("k"), -1, o.whole("largest") != 0).second;
  };
  all["linspace"] = [](X, O o) {
    return linspace(o.number("start"), o.number("end"), o.whole("steps"), {.dtype = f64});
  };
  all["arange"] = [](X, O o) {
    return arange(o.number("start"), o.number("end"), o.number("step"), {.dtype = f64});
  };
  all["softmax"] = [](X x, O o) { return softmax(x[0], o.axis()); };
  all["log_softmax"] = [](X x, O o) { return log_softmax(x[0], o.axis()); };
  all["layer_norm"] = [](X x, O) { return layer_norm(x[0], x[1], x[2]); };
  all["rms_norm"] = [](X x, O) { return rms_norm(x[0], x[1]); };
  all["mse"] = [](X x, O o) { return mse_loss(x[0], x[1], o.reduction()); };
  all["huber"] = [](X x, O o) { return huber_loss(x[0], x[1], o.number("delta"), o.reduction()); };
  all["kl_div"] = [](X x, O o) { return kl_div(x[0], x[1], o.reduction()); };
  all["cross_entropy"] = [](X x, O o) {
    return cross_entropy(x[0], x[1], kIgnoreIndex, o.number("smoothing"));
  };
  all["embedding"] = [](X x, O) { return embedding(x[0], x[1]); };
  all["linear"] = [](X x, O) { return linear(x[0], x[1], x[2]); };
  all["attention"] = [](X x, O) {
    return scaled_dot_product_attention(x[0], x[1], x[2],
                                        {.attn_mask = x.size() > 3 ? x[3] : Tensor()});
  };
  all["causal_conv1d"] = [](X x, O) { return causal_conv1d(x[0], x[1], x[2]); };
  return all;
}

// The tensor under a name; pairs of a complex one are put together.
Tensor find(const std::map<std::string, Tensor>& file, const std::string& name) {
  if (auto it = file.find(name); it != file.end()) return it->second;
  auto it = file.find(name + "c");
  return it == file.end() ? Tensor() : view_as_complex(it->second);
}

// Calls that docs/differences.md explains.
bool differs_on_purpose(const std::string& op, const Tensors& inputs) {
  if (op == "sign") return any(isnan(inputs[0])).item<bool>();
  if (op == "gelu") return any(logical_and(isinf(inputs[0]), inputs[0] < 0.0)).item<bool>();
  if (op == "sigmoid" || op == "silu" || op == "softplus")
    return any(logical_and(isfinite(inputs[0]), inputs[0] < -87.0)).item<bool>();
  return false;
}

Values parts(const Tensor& x) { return values(is_complex(x.dtype()) ? view_as_real(x) : x); }

// Of the finite elements.
double largest_of(const Tensor& x) {
  double largest = 0;
  for (double v : parts(x))
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  return largest;
}

// What the error of an op scales with beside its result: its inputs, where their sum cancels. The
// tanh form of gelu cancels in PyTorch.
double scale_of(const std::string& op, const Tensors& inputs) {
  if (op == "gelu_tanh") return 1;
  if (op != "einsum" && op != "sum" && op != "mean" && op != "matmul") return 0;
  return largest_of(inputs[0]);
}

double bound(DType dtype) {
  if (dtype == bf16) return 8e-3;  // PyTorch rounds some sums on the way: a unit in the last place
  return real_type(dtype) == f32 ? 4e-6 : 2e-14;
}

// Relative to the element and to the largest one; infinities and NaN where they are wanted.
std::string compare(const Tensor& got, const Tensor& want, double scale) {
  if (got.dtype() != want.dtype())
    return std::string("type ") + name(got.dtype()) + ", PyTorch " + name(want.dtype());
  if (got.shape() != want.shape())
    return "sizes " + got.shape().str() + ", PyTorch " + want.shape().str();
  const Values a = parts(got), b = parts(want);
  const double largest = std::max(scale, largest_of(want));
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool same = a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])) ||
                      std::abs(a[i] - b[i]) <= bound(want.dtype()) * (std::abs(b[i]) + largest / 8);
    if (!same)
      return "element " + std::to_string(i) + " is " + std::to_string(a[i]) + ", PyTorch's " +
             std::to_string(b[i]);
  }
  return "";
}

}  // namespace

TEST_CASE("ops give what PyTorch gives") {
  std::map<std::string, std::string> texts;
  const auto file =
      nn::load_safetensors(TRIAD_SOURCE_DIR "/tests/golden/ops/calls.safetensors", &texts);
  const auto known = calls();
  std::set<std::string> seen;
  CHECK(texts.size() > 3500);
  for (const auto& [number, text] : texts) {
    std::istringstream words(text);
    std::string op;
    words >> op;
    const Options options(words);
    Tensors inputs;
    for (int i = 0;; ++i) {
      const Tensor x = find(file, number + "." + std::to_string(i));
      if (!x.defined()) break;
      inputs.push_back(x);
    }
    REQUIRE_MESSAGE((op == "to" || known.contains(op)), op);
    seen.insert(op);
    const Tensor want = find(file, number + ".y");
    if (differs_on_purpose(op, inputs)) continue;
    std::string problem;
    try {
      problem = compare(op == "to" ? inputs[0].to(want.dtype()) : known.at(op)(inputs, options),
                        want, scale_of(op, inputs));
    } catch (const Error& error) {
      problem = error.what();
    }
    const std::string input = inputs.empty() ? "" : inputs[0].str().substr(0, 300);
    CHECK_MESSAGE(problem == "", text, " of ", input, ": ", problem);
  }
  CHECK(seen.size() == known.size() + 1);
}
