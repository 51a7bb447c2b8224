#include <triad/examples/common/program.h>

#include <fmt/format.h>

#include <cstdio>
#include <new>

#include <triad/examples/common/printable.h>

namespace triad::examples {

int run_program(const char* name, const std::function<int()>& body) {
  std::string text;
  int code = 2;
  try {
    return body();
  } catch (const Failure& failure) {
    text = failure.what();
    code = 1;
  } catch (const std::bad_alloc&) {
    text = "there is not enough memory for this";
  } catch (const std::exception& error) {
    text = error.what();
  }
  std::fflush(stdout);
  std::fputs(fmt::format("{}: {}\n", name, one_line(text)).c_str(), stderr);
  return code;
}

bool parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return true;
  } catch (const CLI::CallForHelp&) {
    say(app.help());
    return false;
  } catch (const CLI::ParseError& error) {
    throw ValueError(fmt::format("{} (--help lists the flags)", error.what()));
  }
}

CLI::Validator in_range(double low, double high) {
  auto check = [low, high](const std::string& text) {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= low && value <= high)
      return std::string();
    return fmt::format("needs a number from {} to {}, got {}", low, high, text);
  };
  return CLI::Validator(check, "", "");
}

void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace triad::examples
