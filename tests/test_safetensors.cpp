// Tensors come back bit for bit, other programs' files are read, and a damaged or hostile file is
// refused with its fault.
#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <triad/autograd/creation.h>
#include <triad/nn/files.h>
#include <triad/nn/safetensors.h>
#include <triad/tests/temporary_folder.h>

using namespace triad;
using nn::load_safetensors;
using nn::read_file;
using nn::save_safetensors;

namespace {

using TensorMap = std::map<std::string, Tensor>;
using Texts = std::map<std::string, std::string>;

std::string bytes_of(const Tensor& x) {  // of a contiguous tensor
  const std::size_t size = item_size(x.dtype());
  return std::string(reinterpret_cast<const char*>(x.storage()->data()) + x.layout().offset * size,
                     std::size_t(x.numel()) * size);
}

void check_equal(const TensorMap& a, const TensorMap& b) {
  REQUIRE(a.size() == b.size());
  for (const auto& [name, x] : a) {
    CAPTURE(name);
    REQUIRE(b.contains(name));
    const Tensor& y = b.at(name);
    CHECK(x.dtype() == y.dtype());
    CHECK(x.shape() == y.shape());
    CHECK(bytes_of(x) == bytes_of(y));
  }
}

// Not write_file_atomically: thousands of files need not each be safe on the disk.
void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string with_header(const std::string& header, const std::string& data = "") {
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + data;
}

std::string failure(auto action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TensorMap examples() {
  return {{"w", from_vector<float>({0, 1, 2, 3, 4, 5}, {2, 3})},
          {"d", from_vector<double>({1.5}, {})},
          {"i", from_vector<std::int64_t>({-1, 2}, {2})},
          {"m", from_vector<bool>({true, false}, {2})},
          {"e", empty({0, 4})},
          {"a\"b\n\u00e9", from_vector<float>({7}, {1})}};
}

// What the Python package safetensors 0.8.0 writes for these, with the metadata {"format": "np"}.
std::string python_file() {
  const std::string header =
      R"({"__metadata__":{"format":"np"},"i":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},)"
      R"("d":{"dtype":"F64","shape":[],"data_offsets":[16,24]},)"
      "\"a\\\"b\\n\u00e9\""
      R"(:{"dtype":"F32","shape":[1],"data_offsets":[24,28]},)"
      R"("e":{"dtype":"F32","shape":[0,4],"data_offsets":[28,28]},)"
      R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[28,52]},)"
      R"("m":{"dtype":"BOOL","shape":[2],"data_offsets":[52,54]}}    )";
  static const char data[] =
      "\xff\xff\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\0\0\0"                  // i
      "\0\0\0\0\0\0\xf8\x3f"                                                // d
      "\0\0\xe0\x40"                                                        // a"b
      "\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40"  // w
      "\x01\0";                                                             // m
  return with_header(header, std::string(data, sizeof data - 1));
}

}  // namespace

TEST_CASE("safetensors: the files are those of the Python package, byte for byte") {
  TemporaryFolder folder;
  write(folder / "python", python_file());
  Texts metadata;
  check_equal(load_safetensors(folder / "python", &metadata), examples());
  CHECK(metadata == Texts{{"format", "np"}});
  save_safetensors(folder / "ours", examples(), {{"format", "np"}});
  CHECK(read_file(folder / "ours") == python_file());
}

TEST_CASE("safetensors: every bit comes back") {
  TemporaryFolder folder;
  std::vector<float> singles;  // signalling and quiet NaNs with payloads, infinities, subnormals
  for (std::uint32_t bits : {0x7f800001u, 0xffc12345u, 0x7f800000u, 0x80000000u, 1u, 0x3f800001u})
    singles.push_back(std::bit_cast<float>(bits));
  const std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  const Tensor grid = from_vector<std::int64_t>({1, 2, 3, 4, 5, lowest}, {2, 3});
  const TensorMap tensors{
      {"singles", from_vector(singles)},
      {"doubles", from_vector<double>({std::bit_cast<double>(0x7ff0000000000001u), -0.0})},
      {"grid", grid},
      {"", full({1, 1, 1, 1, 1, 1, 1, 1}, 3)},
      {"nothing", empty({3, 0}, f64)},
      {"no flags", empty({0}, boolean)}};
  save_safetensors(folder / "x", tensors, {{"", "\u00fc\n"}});
  Texts metadata{{"old", "gone"}};
  check_equal(load_safetensors(folder / "x", &metadata), tensors);
  CHECK(metadata == Texts{{"", "\u00fc\n"}});

  save_safetensors(folder / "x", {{"a view", grid.transpose(0, 1).slice(0, 1)}});
  CHECK(load_safetensors(folder / "x").at("a view").to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{2, 5, 3, lowest});

  save_safetensors(folder / "x", {});
  CHECK(load_safetensors(folder / "x", &metadata).empty());
  CHECK(metadata.empty());
}

TEST_CASE("safetensors: loaded tensors are the mapped file, and writing to them is private") {
  TemporaryFolder folder;
  save_safetensors(folder / "x", examples());
  TensorMap first = load_safetensors(folder / "x");
  CHECK(std::uintptr_t(first.at("w").storage()->data()) -
            std::uintptr_t(first.at("i").storage()->data()) ==
        28);
  first.at("w").data<float>()[0] = 9;
  check_equal(load_safetensors(folder / "x"), examples());
  // The mapping outlives the file's name and the other tensors of the file.
  save_safetensors(folder / "x", {});
  std::filesystem::remove(folder / "x");
  const Tensor w = first.at("w");
  first.clear();
  CHECK(w.to_vector<float>() == std::vector<float>{9, 1, 2, 3, 4, 5});
}

TEST_CASE("safetensors: f16 comes back, and lies before bf16 as the Python package writes it") {
  TemporaryFolder folder;
  std::vector<float16> halves;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits)
    halves.push_back(std::bit_cast<float16>(std::uint16_t(bits)));
  save_safetensors(folder / "x", {{"h", from_vector(halves)}});
  const auto back = load_safetensors(folder / "x").at("h").to_vector<float16>();
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits)
    if (back[bits].bits != bits) CHECK(back[bits].bits == bits);
  const Tensor one = ones({1});
  save_safetensors(folder / "y", {{"b", one.to(bf16)}, {"h", one.to(f16)}, {"f", one}});
  const std::string text = read_file(folder / "y");
  CHECK(text.find(R"("dtype":"F32")") < text.find(R"("dtype":"BF16")"));
  CHECK(text.find(R"("dtype":"BF16")") < text.find(R"("dtype":"F16")"));
  CHECK(text.ends_with(std::string("\0\0\x80\x3f\x80\x3f\0\x3c", 8)));
}

TEST_CASE("safetensors: tensors that are not aligned are read too") {
  TemporaryFolder folder;
  const std::string data("\1\0\0\xe0\x40\0\0\0\0\0\0\xf8\x3f", 13);
  for (int spaces = 0; spaces < 8; ++spaces) {
    const std::string header = R"({"m":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},)"
                               R"("f":{"dtype":"F32","shape":[],"data_offsets":[1,5]},)"
                               R"("d":{"dtype":"F64","shape":[1],"data_offsets":[5,13]}})";
    write(folder / "x", with_header(header + std::string(spaces, ' '), data));
    check_equal(load_safetensors(folder / "x"), {{"m", from_vector<bool>({true})},
                                                 {"f", from_vector<float>({7}, {})},
                                                 {"d", from_vector<double>({1.5})}});
  }
}

TEST_CASE("safetensors: a file that is cut short or too long is refused") {
  TemporaryFolder folder;
  const std::string whole = python_file(), path = (folder / "x").string();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    write(path, whole.substr(0, size));
    CHECK_THROWS_AS(load_safetensors(path), FileError);
  }
  write(path, whole.substr(0, whole.size() - 1));
  CHECK(failure([&] { load_safetensors(path); }) ==
        path + ": the tensors take 54 bytes and the file has 53 for them: it is incomplete");
  write(path, whole + '\0');
  CHECK(failure([&] { load_safetensors(path); }).ends_with("it is too long"));
}

TEST_CASE("safetensors: a header with any one bit flipped is refused or read, nothing else") {
  TemporaryFolder folder;
  const std::string whole = python_file();
  int refused = 0;
  for (std::size_t bit = 0; bit < 8 * (whole.size() - 54); ++bit) {
    CAPTURE(bit);
    std::string damaged = whole;
    damaged[bit / 8] = char(damaged[bit / 8] ^ (1 << bit % 8));
    write(folder / "x", damaged);
    try {
      std::string all;  // every byte is there
      for (const auto& [name, tensor] : load_safetensors(folder / "x")) all += bytes_of(tensor);
      CHECK(all.size() == 54);
    } catch (const FileError& error) {
      refused += 1;
      CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
  CHECK(refused > 2000);  // what is left are other names, other metadata, other white space
}

TEST_CASE("safetensors: hostile headers are refused with their fault") {
  TemporaryFolder folder;
  auto tensor = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
           "}}";
  };
  auto f32_tensor = [&](const std::string& shape, const std::string& offsets) {
    return tensor(R"("F32")", shape, offsets);
  };
  const std::string one = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  const std::string second = R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})";
  const struct {
    std::string header, fault;
    std::size_t data = 4;
  } cases[] = {
      {"", "not a safetensors file: its header does not start with '{'"},
      {"[]", "not a safetensors file: its header does not start with '{'"},
      {" {}", "not a safetensors file: its header does not start with '{'"},
      {"{", "the header is not JSON at its byte 2"},
      {"{}x", "the header is not JSON at its byte 3"},
      {"{\"a\xff\":1}", "the header is not JSON at its byte 4"},
      {std::string("{}\0\0", 4), "the header has a zero byte"},
      {"{\"a\":" + std::string(1000000, '[') + std::string(1000000, ']') + "}",
       "the header is nested too deeply"},
      {std::string(1000000, '{'), "the header is not JSON at its byte 2"},
      {R"({"a":{"b":{"c":{}}}})", "the header is nested too deeply"},
      {R"({"a":1e999})", "the header has a number that is too large"},
      {"{\"a\":" + one + ",\"a\":" + one + "}", "the header has \"a\" twice"},
      {R"({"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}})",
       "the header has \"dtype\" twice"},
      {R"({"a":1})", "tensor \"a\" needs dtype, shape and data_offsets, and nothing else"},
      {R"({"a":{"dtype":"F32","shape":[1]}})",
       "tensor \"a\" needs dtype, shape and data_offsets, and nothing else"},
      {R"({"__metadata__":1})", "__metadata__ is not an object"},
      {R"({"__metadata__":{"a":1}})", "__metadata__ \"a\" is not a text"},
      {tensor(R"("U16")", "[2]", "[0,4]"),
       "tensor \"a\" has dtype \"U16\"; F32, F64, BF16, F16, C64, I32, I64 and BOOL can be read"},
      {tensor(R"("F16")", "[2]", "[0,8]"),
       "tensor \"a\" of F16 [2] has 4 bytes, and its data_offsets are [0,8]"},
      {tensor("7", "[1]", "[0,4]"),
       "tensor \"a\" has dtype number; F32, F64, BF16, F16, C64, I32, I64 and BOOL can be read"},
      {f32_tensor("1", "[0,4]"), "tensor \"a\" needs a shape of at most 8 sizes"},
      {f32_tensor("[1,1,1,1,1,1,1,1,1]", "[0,4]"), "tensor \"a\" needs a shape of at most 8 sizes"},
      {f32_tensor("[-1]", "[0,4]"), "tensor \"a\" has a size that is no count"},
      {f32_tensor("[1.0]", "[0,4]"), "tensor \"a\" has a size that is no count"},
      {f32_tensor("[99999999999999999999]", "[0,4]"), "tensor \"a\" has a size that is no count"},
      {f32_tensor("[18446744073709551615]", "[0,4]"),
       "tensor \"a\" has more elements than can be counted"},
      {f32_tensor("[4294967296,1073741825]", "[0,4]"),
       "tensor \"a\" has more elements than can be counted"},
      {f32_tensor("[0,4294967296,4294967296]", "[0,0]"),
       "tensor \"a\" has more elements than can be counted"},
      {f32_tensor("[1]", "[0]"), "tensor \"a\" needs data_offsets of two counts"},
      {f32_tensor("[1]", "[-4,0]"), "tensor \"a\" needs data_offsets of two counts"},
      {f32_tensor("[1]", "[0,8]"),
       "tensor \"a\" of F32 [1] has 4 bytes, and its data_offsets are [0,8]"},
      {f32_tensor("[1]", "[4,0]"),
       "tensor \"a\" of F32 [1] has 4 bytes, and its data_offsets are [4,0]"},
      {f32_tensor("[1]", "[4,8]"),
       "tensor \"a\" begins at byte 4 of the data instead of 0: tensors may neither overlap nor "
       "leave a gap",
       8},
      {f32_tensor("[0]", "[18446744073709551615,18446744073709551615]"),
       "tensor \"a\" begins at byte 18446744073709551615 of the data instead of 0: tensors may "
       "neither overlap nor leave a gap"},
      {"{\"a\":" + one + ",\"b\":" + one + "}",
       "tensor \"b\" begins at byte 0 of the data instead of 4: tensors may neither overlap nor "
       "leave a gap"},
      {"{\"a\":" + one + ",\"b\":" + second + "}",
       "the tensors take 8 bytes and the file has 4 for them: it is incomplete"},
      {"{}", "the tensors take 0 bytes and the file has 4 for them: it is too long"},
      {tensor(R"("BOOL")", "[4]", "[0,4]"),
       "tensor \"a\" of BOOL has a byte that is neither 0 nor 1 at its place 3"},
      {R"({"\u001b[2J)" + std::string(200, 'x') + R"(":1})",
       "tensor \"\\u001b[2J" + std::string(66, 'x') +
           "...\" needs dtype, shape and data_offsets, and nothing else"},
  };
  const std::string path = (folder / "x").string();
  for (const auto& [header, fault, data] : cases) {
    CAPTURE(header.substr(0, 100));
    write(path, with_header(header, std::string("\0\0\1\2\0\0\0\0", data)));
    CHECK(failure([&] { load_safetensors(path); }) == path + ": " + fault);
  }

  for (const std::uint64_t size : {std::uint64_t(100'000'001), ~std::uint64_t(0)}) {
    write(path, std::string(reinterpret_cast<const char*>(&size), sizeof size));
    CHECK(failure([&] { load_safetensors(path); }) ==
          path + ": not a safetensors file: its header would have " + std::to_string(size) +
              " bytes");
  }
}

TEST_CASE("safetensors: files that cannot be read or written are named") {
  TemporaryFolder folder;
  const std::string missing = (folder / "no/x").string();
  CHECK(failure([&] { load_safetensors(missing); }) ==
        missing + ": cannot read: No such file or directory");
  CHECK(failure([&] { save_safetensors(missing, {}); }) ==
        missing + ": cannot write: No such file or directory");
  CHECK(failure([&] { load_safetensors(folder / "."); }).ends_with("cannot read: Is a directory"));
  CHECK(failure([&] { load_safetensors("/dev/null"); }) ==
        "/dev/null: cannot read: it is not a regular file");
}

TEST_CASE("safetensors: what cannot be a file is refused before the old one is touched") {
  TemporaryFolder folder;
  save_safetensors(folder / "x", examples());
  CHECK(failure([&] {
          save_safetensors(folder / "x", {{"a", Tensor()}});
        }) == "save_safetensors: \"a\" is undefined");
  CHECK(failure([&] {
          save_safetensors(folder / "x", {{"__metadata__", ones({1})}});
        }) == "save_safetensors: \"__metadata__\" is not a name for a tensor");
  CHECK(failure([&] {
          save_safetensors(folder / "x", {{"\xff", ones({1})}});
        }) == "save_safetensors: names and metadata must be UTF-8");
  CHECK(failure([&] {
          save_safetensors(folder / "x", {}, {{"a", "\xff"}});
        }) == "save_safetensors: names and metadata must be UTF-8");
  check_equal(load_safetensors(folder / "x"), examples());
}
