// Errors beside those of the single ops, which are in op_cases.
#include <triad/tests/op_test.h>

using namespace op_test;

TEST_CASE("all_finite refuses what it cannot judge") {
  check_error<ValueError>([] { all_finite({}); }, "all_finite: got an undefined tensor");
  check_error<DTypeError>([] { all_finite(zeros({2}, {.dtype = i64})); },
                          "all_finite: needs f32 or f64, got i64");
}

TEST_CASE("every error is a triad::Error and a std::runtime_error") {
  const auto caught = [](auto&& f) {
    try {
      f();
    } catch (const std::runtime_error& error) {
      return dynamic_cast<const Error*>(&error) != nullptr;
    }
    return false;
  };
  CHECK(caught([] { throw ShapeError("x"); }));
  CHECK(caught([] { throw DTypeError("x"); }));
  CHECK(caught([] { throw DeviceError("x"); }));
  CHECK(caught([] { throw ValueError("x"); }));
  CHECK(caught([] { throw IndexError("x"); }));
  CHECK(caught([] { throw AutogradError("x"); }));
  CHECK(caught([] { throw FileError("x"); }));
}
