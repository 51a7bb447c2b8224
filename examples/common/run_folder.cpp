#include <triad/examples/common/run_folder.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include <triad/core/error.h>
#include <triad/nn/files.h>
#include <triad/nn/safetensors.h>

namespace triad::examples {
namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kModel = "model.safetensors";

[[noreturn]] void fail(const fs::path& path, const std::string& reason) {
  throw FileError(path.string() + ": " + reason);
}

[[noreturn]] void fail_to_write(const fs::path& path, int error) {
  fail(path, "cannot write: " + std::generic_category().message(error));
}

std::string config_text(const TrainingOptions& o) {
  const nn::TransformerLM::Options m = o.model();
  ordered_json config = {{"program", "train_lm"},
                         {"vocabulary", "bytes"},
                         {"model",
                          {{"type", "TransformerLM"},
                           {"vocab_size", m.vocab_size},
                           {"d_model", m.d_model},
                           {"layers", m.layers},
                           {"heads", nn::heads_text(m.head_types)},
                           {"max_seq_len", m.max_seq_len},
                           {"dropout", m.dropout},
                           {"tie_weights", m.tie_weights}}},
                         {"training",
                          {{"data", o.data},
                           {"seq", o.seq},
                           {"batch", o.batch},
                           {"steps", o.steps},
                           {"lr", o.lr},
                           {"seed", o.seed},
                           {"eval_every", o.eval_every},
                           {"sample", o.sample},
                           {"threads", o.threads},
                           {"device", name(o.device)}}}};
  // Names of files need not be UTF-8.
  return config.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// Reads values out of a parsed config.json, each with its check.
class ConfigReader {
 public:
  explicit ConfigReader(const fs::path& path) : path_(path) {
    root_ = json::parse(nn::read_file(path), nullptr, false);
    if (root_.is_discarded()) fail(path_, "is not JSON");
  }

  const json& at(const std::string& pointer) const {
    const json::json_pointer place(pointer);
    if (!root_.is_object() || !root_.contains(place))
      fail(path_, fmt::format("has no {}: train_lm did not write it", pointer));
    return root_.at(place);
  }
  std::string text(const std::string& pointer) const {
    if (!at(pointer).is_string()) reject(pointer, "a text");
    return at(pointer).get<std::string>();
  }
  std::int64_t whole(const std::string& pointer, std::int64_t low, std::int64_t high) const {
    const json& value = at(pointer);
    const bool fits = value.is_number_integer() && value >= low && value <= high;
    if (!fits) reject(pointer, fmt::format("a whole number from {} to {}", low, high));
    return value.get<std::int64_t>();
  }
  double fraction(const std::string& pointer) const {
    const json& value = at(pointer);
    if (!value.is_number() || !(value >= 0.0 && value < 1.0)) reject(pointer, "a number in [0, 1)");
    return value.get<double>();
  }
  bool truth(const std::string& pointer) const {
    if (!at(pointer).is_boolean()) reject(pointer, "true or false");
    return at(pointer).get<bool>();
  }

  [[noreturn]] void reject(const std::string& pointer, const std::string& needed) const {
    std::string got = at(pointer).dump(-1, ' ', true, json::error_handler_t::replace);
    if (got.size() > 40) got = got.substr(0, 37) + "...";
    fail(path_, fmt::format("{} needs {}, got {}", pointer, needed, got));
  }

 private:
  fs::path path_;
  json root_;
};

nn::TransformerLM::Options read_config(const fs::path& path) {
  const ConfigReader config(path);
  if (config.text("/vocabulary") != "bytes") config.reject("/vocabulary", "\"bytes\"");
  nn::TransformerLM::Options options{
      .vocab_size = config.whole("/model/vocab_size", 256, 256),
      .d_model = config.whole("/model/d_model", 1, 1 << 16),
      .layers = config.whole("/model/layers", 1, 1 << 16),
      .head_types = {},
      .max_seq_len = config.whole("/model/max_seq_len", 1, 1 << 20),
      .dropout = config.fraction("/model/dropout"),
      .tie_weights = config.truth("/model/tie_weights"),
  };
  try {
    options.head_types = nn::heads(config.text("/model/heads"));
  } catch (const ValueError& error) {
    fail(path, error.what());
  }
  return options;
}

// Refuses sizes that the parameters at hand cannot fill, before memory is taken for them: a block
// holds 12 M^2 elements at the least, W_qkv, W_o and the MLP.
void check_sizes(const fs::path& config, const nn::TransformerLM::Options& o,
                 const nn::StateDict& state) {
  std::int64_t there = 0;
  for (const auto& [name, tensor] : state) there += tensor.numel();
  const double needed = double(o.d_model) * (12.0 * double(o.layers) * double(o.d_model) +
                                             double(o.max_seq_len + o.vocab_size));
  if (needed > double(there))
    fail(config,
         fmt::format("describes a model of more than {:.0f} parameters, but {} beside it has {}",
                     needed, kModel, there));
}

}  // namespace

nn::TransformerLM::Options TrainingOptions::model() const {
  return {.vocab_size = 256,
          .d_model = d_model,
          .layers = layers,
          .head_types = nn::heads(heads),
          .max_seq_len = seq,
          .dropout = dropout};
}

RunFolder::RunFolder(const TrainingOptions& options) : path_(options.out) {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) fail(path_, "cannot make this folder for the run: " + error.message());
  nn::write_file_atomically(path_ / kConfig, config_text(options));
  metrics_ = open((path_ / kMetrics).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (metrics_ < 0) fail_to_write(path_ / kMetrics, errno);
}

RunFolder::~RunFolder() {
  if (metrics_ >= 0) close(metrics_);
}

void RunFolder::append(const Metrics& m) {
  const std::string val_loss = m.val_loss ? fmt::format("\"val_loss\":{:.6g},", *m.val_loss) : "";
  const std::string line = fmt::format(
      "{{\"step\":{},\"loss\":{:.6g},{}\"lr\":{:.6g},\"tokens_per_s\":{:.1f},\"seconds\":{:.3f}}}"
      "\n",
      m.step, m.loss, val_loss, m.lr, m.tokens_per_s, m.seconds);
  const off_t begin = lseek(metrics_, 0, SEEK_CUR);
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t written = write(metrics_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int error = errno;
      // A line cut in two would make the whole file unreadable. Should this fail as well, there is
      // nothing left to try.
      if (begin >= 0 && ftruncate(metrics_, begin) != 0) errno = error;
      fail_to_write(path_ / kMetrics, error);
    }
    rest.remove_prefix(std::size_t(written));
  }
}

void RunFolder::save(const nn::TransformerLM& model) const {
  nn::save_safetensors(path_ / kModel, model.state_dict());
}

nn::TransformerLM load_model(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) fail(folder, "is not the folder of a run");
  const nn::TransformerLM::Options options = read_config(folder / kConfig);
  const nn::StateDict state = nn::load_safetensors(folder / kModel);
  check_sizes(folder / kConfig, options, state);
  try {
    nn::TransformerLM model(options);
    model.load_state_dict(state);
    model.eval();
    return model;
  } catch (const Error& error) {
    fail(folder,
         fmt::format("{} and {} do not belong together: {}", kConfig, kModel, error.what()));
  }
}

}  // namespace triad::examples
