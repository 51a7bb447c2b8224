// One file of tests/golden: a module's options, its parameters and inputs, and what PyTorch made of
// them. tests/golden/README.md says what a file holds and gives the bounds.
#pragma once

#include <triad/nn/safetensors.h>

#include <filesystem>

#include <triad/tests/module_checks.h>
#include <triad/tests/test_device.h>

class GoldenCase {
 public:
  explicit GoldenCase(const std::filesystem::path& path) : name_(path.stem()) {
    tensors_ = triad::nn::load_safetensors(path, &options_);
  }

  const std::string& name() const { return name_; }

  // ---- options
  const std::string& text(const std::string& key) const {
    auto it = options_.find(key);
    REQUIRE_MESSAGE(it != options_.end(), name_, " has no option ", key);
    return it->second;
  }
  std::int64_t integer(const std::string& key) const { return std::stoll(text(key)); }
  double number(const std::string& key) const { return std::stod(text(key)); }
  bool flag(const std::string& key) const {
    REQUIRE((text(key) == "true" || text(key) == "false"));
    return text(key) == "true";
  }

  // ---- tensors
  bool has(const std::string& key) const { return tensors_.contains(key); }
  triad::Tensor tensor(const std::string& key) const {
    REQUIRE_MESSAGE(has(key), name_, " has no tensor ", key);
    return tensors_.at(key).to(test_device());
  }
  triad::Tensor tensor_or_none(const std::string& key) const {
    return has(key) ? tensor(key) : triad::Tensor();
  }
  // Those whose name starts with `prefix`, without it.
  triad::nn::StateDict part(const std::string& prefix) const {
    triad::nn::StateDict found;
    for (const auto& [key, value] : tensors_)
      if (key.starts_with(prefix)) found[key.substr(prefix.size())] = value;
    return found;
  }

  // ---- comparisons: `scale` is 1 for f32 and smaller for f64, where only the file's rounding is
  // left

  void check_value(const std::string& key, const triad::Tensor& ours, double scale = 1) const {
    const triad::Tensor theirs = tensor(key);
    const double error = largest_difference(ours, theirs), bound = 1e-5 * scale * largest(theirs);
    CHECK_MESSAGE(error <= bound, name_, ": ", key, " is off by ", error, ", the bound is ", bound);
  }

  // An undefined gradient counts as zero.
  void check_gradient(const std::string& key, const triad::Tensor& ours, double scale = 1) const {
    const std::vector<double> theirs = values(tensor("grad." + key));
    std::vector<double> difference = theirs;
    if (ours.defined()) {
      REQUIRE_MESSAGE(ours.shape() == tensor("grad." + key).shape(), name_, ": grad.", key);
      const std::vector<double> own = values(ours);
      for (std::size_t i = 0; i < own.size(); ++i) difference[i] = own[i] - theirs[i];
    }
    const double error = norm_of(difference), size = norm_of(theirs);
    const double bound = scale * (size > 0 ? 2e-5 * size : 1e-6 * largest_gradient());
    CHECK_MESSAGE(error <= bound, name_, ": grad.", key, " is off by ", error, ", the bound is ",
                  bound);
  }

  // Every gradient of the file against the module's: none may be missing on either side.
  void check_gradients(const triad::nn::Module& module, double scale = 1) const {
    std::set<std::string> expected;
    for (const auto& [key, value] : part("grad."))
      if (key != "x") expected.insert(key);
    std::set<std::string> own;
    for (const auto& [key, p] : module.named_parameters()) {
      own.insert(key);
      check_gradient(key, p.grad(), scale);
    }
    CHECK_MESSAGE(own == expected, name_, ": the names of the parameters differ");
  }

 private:
  double largest_gradient() const {
    double most = 0;
    for (const auto& [key, value] : part("grad.")) most = std::max(most, norm_of(values(value)));
    return most;
  }

  std::string name_;
  std::map<std::string, std::string> options_;
  std::map<std::string, triad::Tensor> tensors_;
};

// The files of one kind, or of all when `kind` is empty, in the order of their names.
inline std::vector<std::filesystem::path> golden_files(const std::string& kind = "") {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(TRIAD_SOURCE_DIR "/tests/golden"))
    if (entry.path().extension() == ".safetensors" &&
        !(is_simulated() && entry.file_size() > 500'000) &&
        (kind.empty() || GoldenCase(entry.path()).text("kind") == kind))
      found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}
