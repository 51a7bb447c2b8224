// Continues a prompt with a model that train_lm trained:
//
//   generate runs/demo --prompt "template <" --tokens 400 --temperature 0.8 --top-k 40 --seed 1
#include <triad/triad.h>

#include <cstdio>

#include <triad/examples/common/decoding.h>
#include <triad/examples/common/device_option.h>
#include <triad/examples/common/printable.h>
#include <triad/examples/common/program.h>
#include <triad/examples/common/run_folder.h>

namespace triad::examples {
namespace {

struct Options {
  std::string run, prompt = "\n";
  std::int64_t tokens = 400;
  Sampling sampling;
  std::uint64_t seed = 0;
  Device device = {};
};

bool read_command_line(int argc, char** argv, Options& o) {
  CLI::App app("Continues a prompt with the model in a run's folder.", "generate");
  app.add_option("RUN", o.run, "the folder that train_lm wrote")->required()->type_name("");
  app.add_option("--prompt", o.prompt, "the text to continue; by default a new line")
      ->type_name("TEXT");
  auto number = [&](const char* flag, auto& value, const char* help, double low, double high) {
    app.add_option(flag, value, help)
        ->check(in_range(low, high))
        ->type_name("NUMBER")
        ->capture_default_str();
  };
  number("--tokens", o.tokens, "bytes to write", 0, 1e12);
  number("--temperature", o.sampling.temperature, "0 always takes the likeliest byte", 0, 1e6);
  number("--top-k", o.sampling.top_k, "draw from this many of the likeliest; 0: from all", 0, 1e9);
  number("--seed", o.seed, "the same seed gives the same text", 0, 1e18);
  add_device_option(app, o.device);
  return parse(app, argc, argv);
}

int generate(int argc, char** argv) {
  Options options;
  if (!read_command_line(argc, argv, options)) return 0;
  // A model continues something: where there is nothing, the start of a line.
  if (options.prompt.empty()) options.prompt = "\n";
  nn::TransformerLM model = load_model(options.run);
  model.to(options.device);
  manual_seed(options.seed);

  Decoder decoder(model);
  PrintableText text;
  auto show = [&](std::int64_t id) {
    say(text.push(static_cast<unsigned char>(id)));
    if (std::ferror(stdout)) throw Failure("cannot write the text");
    decoder.push(id);
  };
  for (char byte : options.prompt) show(static_cast<unsigned char>(byte));
  for (std::int64_t i = 0; i < options.tokens; ++i) show(draw(decoder.logits(), options.sampling));
  say(text.finish() + "\n");
  if (std::ferror(stdout)) throw Failure("cannot write the text");
  return 0;
}

}  // namespace
}  // namespace triad::examples

int main(int argc, char** argv) {
  return triad::examples::run_program("generate",
                                      [&] { return triad::examples::generate(argc, argv); });
}
