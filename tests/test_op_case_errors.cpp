// What every op in the table of op_cases.h refuses: one line that names the op.
#include <triad/tests/op_case_inputs.h>

using namespace op_test;

namespace {

// The text of what f throws, if that is an E.
template <class E, class F> std::string text_of(F&& f) {
  try {
    f();
  } catch (const E& error) {
    return typeid(error) == typeid(E) ? error.what()
                                      : std::string("another error: ") + error.what();
  } catch (const Error& error) {
    return std::string("another error: ") + error.what();
  }
  return "no error";
}

bool names_op(const Case& c, const std::string& text) {
  return text.find('\n') == std::string::npos &&
         std::any_of(c.said.begin(), c.said.end(),
                     [&](const char* op) { return text.starts_with(std::string(op) + ": "); });
}

// One that cannot hold what a case needs of its inputs is not tried.
bool is_tried(const Case& c, std::size_t i) { return !c.inputs[0][i].optional; }

}  // namespace

TEST_CASE("an undefined tensor in any place") {
  for (const Case& c : cases())
    for (std::size_t i = 0; i < c.inputs[0].size(); ++i) {
      if (!is_tried(c, i)) continue;
      Tensors inputs = make(c.inputs[0], c.types[0], 5);
      inputs[i] = {};
      const std::string text = text_of<ValueError>([&] { c.call(inputs); });
      CHECK_MESSAGE((names_op(c, text) && text.ends_with(": got an undefined tensor")), c.title(),
                    ", input ", i, " undefined: ", text);
    }
}

TEST_CASE("types that an op does not take, and two that do not mix") {
  for (const Case& c : cases()) {
    std::vector<std::size_t> typed;
    for (std::size_t i = 0; i < c.inputs[0].size(); ++i)
      if (!c.inputs[0][i].dtype && is_tried(c, i)) typed.push_back(i);
    if (typed.empty()) continue;
    for (DType dtype : op_cases::kAll) {
      if (takes(c, dtype)) continue;
      const Tensors inputs = make(c.inputs[0], dtype, 6);
      const std::string text = text_of<DTypeError>([&] { c.call(inputs); });
      CHECK_MESSAGE(names_op(c, text), c.title(), " of ", type_name(dtype), ": ", text);
    }
    if (typed.size() < 2 || c.types[0] != f32) continue;
    Tensors inputs = make(c.inputs[0], f32, 6);
    inputs[typed.back()] = inputs[typed.back()].to(f64);
    const std::string text = text_of<DTypeError>([&] { c.call(inputs); });
    CHECK_MESSAGE((names_op(c, text) && text.find("the types differ, f") != std::string::npos),
                  c.title(), " of two types: ", text);
  }
}

TEST_CASE("wrong calls") {
  for (const Case& c : cases())
    for (const op_cases::Wrong& wrong : c.errors) {
      std::string text = "no error";
      bool right_type = false;
      try {
        wrong.call();
      } catch (const Error& error) {
        text = error.what();
        right_type = typeid(error) == *wrong.type;
      }
      CHECK_MESSAGE(right_type, c.title(), ": another type of error, or none: ", text);
      CHECK_MESSAGE(text.find(wrong.part) != std::string::npos, c.title(), ": \"", text,
                    "\" lacks \"", std::string(wrong.part), "\"");
      CHECK_MESSAGE(text.find('\n') == std::string::npos, c.title(),
                    ": more than one line: ", text);
    }
}
