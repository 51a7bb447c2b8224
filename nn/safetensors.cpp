// The reader checks every number of the header before it uses it: a bad file is refused at worst.
#include <triad/nn/safetensors.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include <triad/core/format.h>
#include <triad/nn/files.h>

namespace triad::nn {
using nlohmann::json;

namespace {

using TensorMap = std::map<std::string, Tensor>;
using Texts = std::map<std::string, std::string>;

static_assert(std::endian::native == std::endian::little, "elements go to the file as they are");

constexpr std::uint64_t kMaxHeader = 100'000'000;  // bytes; the limit of the format

struct NamedDType {
  const char* name;
  DType dtype;
};
// In the order of the reference implementation, which is also that of growing alignment.
constexpr NamedDType kDTypes[] = {{"BOOL", boolean}, {"F16", f16}, {"BF16", bf16}, {"I32", i32},
                                  {"F32", f32},      {"C64", c64}, {"F64", f64},   {"I64", i64}};

// A name for a message: in one line, printable, and not longer than a line.
std::string quoted(const std::string& name) {
  const std::string text = json(name).dump(-1, ' ', /*ascii=*/true, json::error_handler_t::replace);
  return text.size() > 80 ? text.substr(0, 76) + "...\"" : text;
}

// What is wrong with a file that is read; load_safetensors() adds its name.
template <class... Args> [[noreturn]] void bad(fmt::format_string<Args...> text, Args&&... args) {
  throw_error<FileError>(text, std::forward<Args>(args)...);
}

struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  std::uint64_t begin, end;  // bytes, from the start of the data
};

json parse_header(std::string_view text) {
  if (!text.starts_with('{')) bad("not a safetensors file: its header does not start with '{{'");
  // The parser would take a zero byte for the end and not look at what follows.
  if (text.find('\0') != text.npos) bad("the header has a zero byte");

  // The parser keeps the last of two equal keys and nests without limit; the format has neither.
  std::vector<std::set<std::string>> keys;  // of each object that is open
  auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    if ((event == Event::object_start || event == Event::array_start) && depth > 2)
      bad("the header is nested too deeply");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(parsed.get<std::string>()).second)
      bad("the header has {} twice", quoted(parsed.get<std::string>()));
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::parse_error& error) {
    bad("the header is not JSON at its byte {}", error.byte);
  } catch (const json::out_of_range&) {
    bad("the header has a number that is too large");
  }
}

Entry parse_entry(const std::string& name, const json& value) {
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets"))
    bad("tensor {} needs dtype, shape and data_offsets, and nothing else", quoted(name));
  const json &dtype = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];

  const auto* known = std::ranges::find_if(kDTypes, [&](auto& type) { return dtype == type.name; });
  if (known == std::end(kDTypes))
    bad("tensor {} has dtype {}; F32, F64, BF16, F16, C64, I32, I64 and BOOL can be read",
        quoted(name), dtype.is_string() ? quoted(dtype.get<std::string>()) : dtype.type_name());
  if (!shape.is_array() || shape.size() > std::size_t(kMaxRank))
    bad("tensor {} needs a shape of at most {} sizes", quoted(name), kMaxRank);
  Shape sizes;
  // A stride is a product of sizes, even where a size of 0 leaves no element: none may overflow.
  auto extent = std::int64_t(item_size(known->dtype));
  for (const json& size : shape) {
    if (!size.is_number_unsigned()) bad("tensor {} has a size that is no count", quoted(name));
    const auto count = size.get<std::uint64_t>();
    if (__builtin_mul_overflow(extent, std::max<std::uint64_t>(count, 1), &extent))
      bad("tensor {} has more elements than can be counted", quoted(name));
    sizes.push_back(std::int64_t(count));
  }

  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    bad("tensor {} needs data_offsets of two counts", quoted(name));
  const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  const std::uint64_t bytes = std::uint64_t(sizes.numel()) * item_size(known->dtype);
  if (end < begin || end - begin != bytes)
    bad("tensor {} of {} {} has {} bytes, and its data_offsets are [{},{}]", quoted(name),
        known->name, sizes, bytes, begin, end);
  return {name, known->dtype, sizes, begin, end};
}

// Tensors are to lie side by side, from the first byte of the data to the last.
void check_places(std::vector<Entry>& entries, std::uint64_t data_size) {
  std::ranges::sort(entries, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });
  std::uint64_t place = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != place)
      bad("tensor {} begins at byte {} of the data instead of {}: tensors may neither overlap nor "
          "leave a gap",
          quoted(entry.name), entry.begin, place);
    place = entry.end;
  }
  if (place != data_size)
    bad("the tensors take {} bytes and the file has {} for them: it is {}", place, data_size,
        place > data_size ? "incomplete" : "too long");
}

Tensor make_tensor(const Entry& entry, char* data, const MappedFile& file) {
  const std::size_t bytes = entry.end - entry.begin;
  if (entry.dtype == boolean) {  // any other bit pattern in a bool is undefined behaviour
    const char* wrong = std::find_if(data, data + bytes, [](char b) { return b != 0 && b != 1; });
    if (wrong != data + bytes)
      bad("tensor {} of BOOL has a byte that is neither 0 nor 1 at its place {}",
          quoted(entry.name), wrong - data);
  }
  const bool aligned = std::uintptr_t(data) % item_size(entry.dtype) == 0;
  auto storage = aligned ? Storage::borrow(data, bytes, file.data) : Storage::allocate(bytes);
  if (!aligned) std::memcpy(storage->data(), data, bytes);  // old writers do not pad the header
  return {std::move(storage), contiguous_layout(entry.shape), entry.dtype};
}

}  // namespace

TensorMap load_safetensors(const std::string& path, Texts* metadata) {
  const MappedFile file = map_file(path);
  try {
    std::uint64_t size = 0;
    if (file.size < sizeof size) bad("not a safetensors file: it has {} bytes", file.size);
    std::memcpy(&size, file.data.get(), sizeof size);
    char* text = file.data.get() + sizeof size;
    const std::uint64_t rest = file.size - sizeof size;
    if (size > kMaxHeader) bad("not a safetensors file: its header would have {} bytes", size);
    if (size > rest)
      bad("the header has {} bytes and the file ends after {}: it is incomplete", size, rest);
    const json header = parse_header({text, size});
    Texts texts;
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        if (!value.is_object()) bad("__metadata__ is not an object");
        for (const auto& [key, words] : value.items()) {
          if (!words.is_string()) bad("__metadata__ {} is not a text", quoted(key));
          texts[key] = words.get<std::string>();
        }
      } else entries.push_back(parse_entry(name, value));
    }
    check_places(entries, rest - size);
    TensorMap tensors;
    for (const Entry& e : entries)
      tensors.emplace(e.name, make_tensor(e, text + size + e.begin, file));
    if (metadata) *metadata = std::move(texts);
    return tensors;
  } catch (const FileError& error) {
    throw FileError(path + ": " + error.what());
  }
}

void save_safetensors(const std::string& path, const TensorMap& tensors, const Texts& metadata) {
  std::vector<std::pair<std::string, Tensor>> sorted;
  for (const auto& [name, x] : tensors) {
    if (!x.defined()) throw_error<ValueError>("save_safetensors: {} is undefined", quoted(name));
    if (x.dtype() == c128)
      throw_error<DTypeError>("save_safetensors: the format has no c128 for {}; write x.to(c64)",
                              quoted(name));
    if (name == "__metadata__")
      throw_error<ValueError>("save_safetensors: {} is not a name for a tensor", quoted(name));
    sorted.emplace_back(name, x.detach().to(Device::cpu()).contiguous());
  }
  // The widest types first, then by name, as the reference implementation does it: with the header
  // padded to a multiple of 8 every tensor is aligned, and a mapped file needs no copies.
  auto known = [](DType dtype) { return std::ranges::find(kDTypes, dtype, &NamedDType::dtype); };
  std::ranges::stable_sort(sorted, std::greater(),
                           [&](const auto& entry) { return known(entry.second.dtype()); });

  std::vector<std::string_view> parts(2);  // the size of the header, the header, the tensors
  std::string header = "{";
  try {
    if (!metadata.empty()) header += "\"__metadata__\":" + json(metadata).dump();
    std::size_t place = 0;
    for (const auto& [name, x] : sorted) {
      const std::size_t bytes = std::size_t(x.numel()) * item_size(x.dtype());
      header += fmt::format(R"({}{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                            header.size() > 1 ? "," : "", json(name).dump(), known(x.dtype())->name,
                            x.shape(), place, place + bytes);
      place += bytes;
      parts.emplace_back(reinterpret_cast<const char*>(x.first_byte()), bytes);
    }
  } catch (const json::type_error&) {
    throw ValueError("save_safetensors: names and metadata must be UTF-8");
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  const std::uint64_t size = header.size();
  if (size > kMaxHeader)
    throw_error<ValueError>("save_safetensors: the header would have {} bytes, more than {}", size,
                            kMaxHeader);
  parts[0] = {reinterpret_cast<const char*>(&size), sizeof size};
  parts[1] = header;
  write_file_atomically(path, parts);
}

}  // namespace triad::nn
