// What the example programs are made of: text as data, bytes made printable, decoding, and the
// folder of a run, which may have been damaged.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include <triad/core/error.h>
#include <triad/examples/common/decoding.h>
#include <triad/examples/common/printable.h>
#include <triad/examples/common/run_folder.h>
#include <triad/examples/common/text_data.h>
#include <triad/nn/files.h>
#include <triad/nn/safetensors.h>
#include <triad/tests/module_checks.h>
#include <triad/tests/temporary_folder.h>

namespace fs = std::filesystem;
using namespace triad;
using namespace triad::examples;

// ---------------------------------------------------------------------- printable text

TEST_CASE("text passes, what steers a terminal does not") {
  CHECK(printable("a\tb\nc") == "a\tb\nc");
  CHECK(printable("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80") ==
        "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
  CHECK(printable("\x1b[2J\r\x7f") == "\\x1b[2J\\x0d\\x7f");
  CHECK(printable(std::string_view("\0", 1)) == "\\x00");
  CHECK(printable("\xc2\x9b") == "\\xc2\\x9b");  // U+009B, as ESC [
  CHECK(printable("\xff\x80") == "\\xff\\x80");  // no start, a lone continuation
  CHECK(printable("\xc0\xaf\xe0\x80\xaf") == "\\xc0\\xaf\\xe0\\x80\\xaf");  // longer than needed
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");             // half of a surrogate pair
  CHECK(printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");    // beyond U+10FFFF
  CHECK(printable("\xe2\x82x\xe2\x82") == "\\xe2\\x82x\\xe2\\x82");  // cut off
  CHECK(one_line("a\nb\tc\x1b") == "a b c\\x1b");
}

TEST_CASE("a character appears with its last byte") {
  PrintableText text;
  CHECK(text.push(0xe2) == "");
  CHECK(text.push(0x82) == "");
  CHECK(text.push(0xac) == "\xe2\x82\xac");
  CHECK(text.push(0xe2) == "");
  CHECK(text.finish() == "\\xe2");
  CHECK(text.finish() == "");
}

// ---------------------------------------------------------------------- text data

TEST_CASE("files and folders, in order, without hidden ones") {
  TemporaryFolder folder;
  fs::create_directories(folder / "d/sub");
  fs::create_directories(folder / "d/.git");
  for (const char* name : {"a", "d/z", "d/b", "d/sub/c", "d/.git/no", "d/.no"})
    nn::write_file_atomically(folder / name, std::string(name) + ";");
  fs::create_symlink("nowhere", folder / "d/broken");
  const Text text = read_text({(folder / "d").string(), (folder / "a").string()});
  CHECK(text.bytes == "d/b;d/sub/c;d/z;a;");
  CHECK(text.files == 4);
  const std::string missing = (folder / "missing").string();
  CHECK(message_of<FileError>([&] { read_text({missing}); }) ==
        missing + ": cannot read: No such file or directory");
  CHECK(message_of<FileError>([&] { read_text({"/dev/zero"}); }) ==
        "/dev/zero: cannot read: it is not a regular file");
}

namespace {

// A text whose every four bytes tell where they stand.
std::string numbered(std::int64_t size) {
  std::string bytes;
  for (std::int64_t i = 0; std::int64_t(bytes.size()) < size; ++i)
    for (int shift : {0, 6, 12, 18}) bytes += char(shift * 8 + ((i >> shift) & 63));
  return bytes.substr(0, std::size_t(size));
}

// The position of every byte of the windows, checking that they are what the text has there.
std::set<std::size_t> positions(const std::string& text, const Batch& batch) {
  std::set<std::size_t> found;
  const auto ids = batch.ids.to_vector<std::int64_t>(),
             targets = batch.targets.to_vector<std::int64_t>();
  const std::int64_t T = batch.ids.size(1);
  for (std::int64_t b = 0; b < batch.ids.size(0); ++b) {
    std::string window;
    for (std::int64_t t = 0; t < T; ++t) window += char(ids[std::size_t(b * T + t)]);
    window += char(targets[std::size_t((b + 1) * T - 1)]);
    for (std::int64_t t = 1; t < T; ++t)
      CHECK(targets[std::size_t(b * T + t - 1)] == ids[std::size_t(b * T + t)]);
    const std::size_t at = text.find(window);
    REQUIRE(at != text.npos);
    for (std::size_t i = 0; i < window.size(); ++i) found.insert(at + i);
  }
  return found;
}

}  // namespace

TEST_CASE("held-out bytes are never trained on") {
  manual_seed(1);
  for (std::int64_t size : {90, 180, 500, 4000, 20000}) {
    CAPTURE(size);
    const std::string text = numbered(size);
    const TextData data(text, 8);
    REQUIRE(data.held_out_windows() > 0);
    CHECK(data.held_out_windows() <= 128);
    const std::set<std::size_t> held_out =
        positions(text, data.held_out(0, data.held_out_windows()));
    const std::set<std::size_t> trained = positions(text, data.sample(3000));
    for (std::size_t at : held_out) CHECK_FALSE(trained.contains(at));
    if (size <= 4000)
      CHECK(double(trained.size()) == doctest::Approx(0.9 * double(size)).epsilon(0.02));
  }
}

TEST_CASE("batches follow the seed, and a text that is too short says how much is needed") {
  const TextData data(numbered(1000), 8);
  auto ids = [&](std::uint64_t seed) {
    manual_seed(seed);
    return data.sample(4).ids.to_vector<std::int64_t>();
  };
  CHECK(ids(1) == ids(1));
  CHECK(ids(1) != ids(2));
  CHECK(
      message_of<ValueError>([] { TextData(numbered(89), 8); }) ==
      "the text has 89 bytes; windows of 8 need at least 90: give more --data or a shorter window");
  CHECK(message_of<ValueError>([] { TextData("", 8); }).starts_with("the text has 0 bytes;"));
}

// ---------------------------------------------------------------------- drawing

TEST_CASE("temperature 0 takes the largest, top_k the largest few, the rest follows softmax") {
  const std::vector<float> logits = {1, 3, 2, 3, -1};
  CHECK(draw(logits, {.temperature = 0}) == 1);
  CHECK(draw(logits, {.temperature = 1e-300}) <= 3);
  manual_seed(4);
  std::vector<double> counts(5), few(5);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    counts[std::size_t(draw(logits, {.temperature = 2}))] += 1.0 / kDraws;
    few[std::size_t(draw(logits, {.temperature = 2, .top_k = 3}))] += 1.0 / kDraws;
  }
  double all = 0, largest_three = 0;
  for (float l : logits) all += std::exp(l / 2);
  for (int i : {1, 2, 3}) largest_three += std::exp(logits[std::size_t(i)] / 2);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(std::abs(counts[i] - std::exp(logits[i] / 2) / all) < 0.015);
    const bool in = i >= 1 && i <= 3;
    CHECK(std::abs(few[i] - (in ? std::exp(logits[i] / 2) / largest_three : 0)) < 0.015);
  }
  CHECK(message_of<ValueError>([] {
          draw({1, NAN}, {});
        }) == "the model gives logits that are not finite: its weights are damaged");
}

TEST_CASE("decoding equals full passes, within the position table and past it") {
  manual_seed(8);
  nn::TransformerLM model({.vocab_size = 16,
                           .d_model = 16,
                           .layers = 2,
                           .head_types = nn::heads("standard*2, spectral, holonomy"),
                           .max_seq_len = 9});
  randomise(model);
  Decoder decoder(model);
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < 20; ++i) {
    ids.push_back(i * 7 % 16);
    decoder.push(ids.back());
    const std::vector<std::int64_t> context(ids.end() - std::min<std::int64_t>(9, i + 1),
                                            ids.end());
    const Tensor full = no_grad([&] {
      return model(from_vector(context, {1, std::int64_t(context.size())})).select(1, -1);
    });
    const Tensor actual = from_vector(decoder.logits(), {1, 16});
    CHECK(largest_difference(actual, full) < 1e-4 * largest(full));
  }
}

// ---------------------------------------------------------------------- the folder of a run

namespace {

TrainingOptions small_run(const TemporaryFolder& folder) {
  return {.data = {"some\xff text"},
          .heads = "standard*2, spectral, holonomy",
          .d_model = 8,
          .layers = 2,
          .seq = 8,
          .dropout = 0.1,
          .out = (folder / "run").string()};
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != text.npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("a model comes back from its folder") {
  TemporaryFolder folder;
  const TrainingOptions options = small_run(folder);
  manual_seed(1);
  nn::TransformerLM model(options.model());
  RunFolder run(options);
  run.save(model);
  run.append({.step = 1, .loss = 2.5, .lr = 1e-3, .tokens_per_s = 10, .seconds = 0.5});
  run.append(
      {.step = 2, .loss = 2, .val_loss = 2.25, .lr = 1e-3, .tokens_per_s = 10, .seconds = 1});
  CHECK(nn::read_file(run / "metrics.jsonl") ==
        "{\"step\":1,\"loss\":2.5,\"lr\":0.001,\"tokens_per_s\":10.0,\"seconds\":0.500}\n"
        "{\"step\":2,\"loss\":2,\"val_loss\":2.25,\"lr\":0.001,\"tokens_per_s\":10.0,\"seconds\":1."
        "000}\n");
  nn::TransformerLM loaded = load_model(options.out);
  CHECK_FALSE(loaded.training());
  for (auto& [name, p] : model.state_dict()) CHECK(same_bits(loaded.state_dict().at(name), p));
}

TEST_CASE("what is wrong with a folder is one line of text") {
  TemporaryFolder folder;
  const TrainingOptions options = small_run(folder);
  RunFolder run(options);
  run.save(nn::TransformerLM(options.model()));
  const fs::path config = run / "config.json", weights = run / "model.safetensors";
  const std::string good = nn::read_file(config);
  auto failure = [&] { return message_of<FileError>([&] { load_model(options.out); }); };
  auto with = [&](const std::string& from, const std::string& to) {
    nn::write_file_atomically(config, replaced(good, from, to));
    const std::string text = failure();
    REQUIRE(text.starts_with(config.string() + ": "));
    return text.substr(config.string().size() + 2);
  };
  CHECK(failure() == "no error");
  CHECK(with("{", "") == "is not JSON");
  CHECK(with(good, "[1, 2]") == "has no /vocabulary: train_lm did not write it");
  CHECK(with("\"bytes\"", "\"words\"") == "/vocabulary needs \"bytes\", got \"words\"");
  CHECK(with("\"d_model\"", "\"other\"") == "has no /model/d_model: train_lm did not write it");
  CHECK(with("\"d_model\": 8", "\"d_model\": \"8\"") ==
        "/model/d_model needs a whole number from 1 to 65536, got \"8\"");
  CHECK(with("\"d_model\": 8", "\"d_model\": 8.5").ends_with("got 8.5"));
  CHECK(with("\"d_model\": 8", "\"d_model\": -8").ends_with("got -8"));
  CHECK(with("\"d_model\": 8", "\"d_model\": 18446744073709551615").ends_with("5"));
  CHECK(with("\"layers\": 2", "\"layers\": null").ends_with("got null"));
  CHECK(with("\"dropout\": 0.1", "\"dropout\": 1") ==
        "/model/dropout needs a number in [0, 1), got 1");
  CHECK(
      with("\"tie_weights\": false", "\"tie_weights\": 0").ends_with("needs true or false, got 0"));
  CHECK(with("standard*2", "standart*2").starts_with("heads: unknown head type 'standart'"));
  CHECK(with("\"vocab_size\": 256", "\"vocab_size\": 99999").ends_with("got 99999"));
  // Sizes that would fill the memory, were they believed.
  CHECK(with("\"d_model\": 8", "\"d_model\": 65536").find("describes a model of more than") == 0);
  CHECK(with("\"layers\": 2", "\"layers\": 60000").find("describes a model of more than") == 0);
  CHECK(with("\"max_seq_len\": 8", "\"max_seq_len\": 1000000").find("describes a model") == 0);

  // Sizes that are possible and are not those of the file.
  for (auto [from, to] :
       {std::pair{"\"layers\": 2", "\"layers\": 1"},
        std::pair{"\"max_seq_len\": 8", "\"max_seq_len\": 9"},
        std::pair{"standard*2, ", "standard*3, "}, std::pair{"standard*2, ", "standard*4, "}}) {
    nn::write_file_atomically(config, replaced(good, from, to));
    CHECK(failure().starts_with(options.out +
                                ": config.json and model.safetensors do not belong together: "));
  }
  nn::write_file_atomically(config, good);
  nn::save_safetensors(weights, {{"other", zeros({100000})}});
  CHECK(failure().find("do not belong together") != std::string::npos);
  nn::write_file_atomically(weights, "no tensors");
  CHECK(failure().starts_with(weights.string() + ": "));
  fs::remove(weights);
  CHECK(failure().starts_with(weights.string() + ": "));
  fs::remove(config);
  CHECK(failure() == config.string() + ": cannot read: No such file or directory");
  fs::remove_all(options.out);
  CHECK(failure() == options.out + ": is not the folder of a run");
}

TEST_CASE("a file damaged anywhere is an error or harmless, never a crash") {
  TemporaryFolder folder;
  const TrainingOptions options = small_run(folder);
  RunFolder run(options);
  run.save(nn::TransformerLM(options.model()));
  auto attempt = [&](const fs::path& path, const std::string& bytes) {
    fs::remove(path);  // faster than to overwrite
    std::ofstream(path, std::ios::binary) << bytes;
    const std::string text = message_of<FileError>([&] { load_model(options.out); });
    CHECK(text.find('\n') == text.npos);
    return text;
  };
  const std::string config = nn::read_file(run / "config.json");
  for (std::size_t i = 0; i + 2 < config.size(); ++i) {  // the last bytes are "}\n"
    CHECK(attempt(run / "config.json", config.substr(0, i)) != "no error");
    for (char byte : {'\0', '"', '9', '\xff'}) {
      std::string damaged = config;
      damaged[i] = byte;
      attempt(run / "config.json", damaged);
    }
  }
  attempt(run / "config.json", config);
  const std::string weights = nn::read_file(run / "model.safetensors");
  const std::size_t step = weights.size() / 97;
  for (std::size_t i = 0; i < weights.size(); i += step)
    CHECK(attempt(run / "model.safetensors", weights.substr(0, i)) != "no error");
  for (std::size_t i = 0; i < 1500; i += 3) {  // the header
    std::string damaged = weights;
    damaged[i] = char(damaged[i] ^ 4);
    attempt(run / "model.safetensors", damaged);
  }
}

TEST_CASE("a folder that cannot be made is named") {
  TemporaryFolder folder;
  nn::write_file_atomically(folder / "file", "");
  TrainingOptions options = small_run(folder);
  options.out = (folder / "file").string();
  CHECK(message_of<FileError>([&] { RunFolder run(options); }) ==
        options.out + ": cannot make this folder for the run: Not a directory");
  options.out = (folder / "file/sub").string();
  CHECK(message_of<FileError>([&] { RunFolder run(options); }) ==
        options.out + ": cannot make this folder for the run: Not a directory");
}
