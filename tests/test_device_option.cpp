// --device, which every program has: what is no device, and a device that is not there. What works
// on one that is there: test_cuda_examples.cpp.
#include <triad/tests/program_test.h>

namespace {

Result run(const TemporaryFolder& folder, const std::string& program, const std::string& device) {
  Words words = {program, "--device", device};
  if (program == "generate") words.push_back((folder / "run").string());
  else words.insert(words.end(), {"--out", (folder / "run").string()});
  return Running(folder, words).wait();
}

}  // namespace

TEST_CASE("what is no device, and a device that is not there") {
  const TemporaryFolder folder;
#ifdef TRIAD_CUDA
  const std::string missing = "cuda:99", words = "cuda:99 is not there: this machine has ";
#else
  const std::string missing = "cuda", words = "cuda:0 is not there: this build of triad has 0 CUDA";
#endif
  for (const std::string program : {"train_lm", "generate", "hybrid_demo"}) {
    CAPTURE(program);
    for (const std::string text : {"nonsense", "", "CUDA", "cuda:", "cuda:x", "cuda:1x", "cuda:-1",
                                   "cuda:99999999999", "cpu:0"}) {
      const Result result = run(folder, program, text);
      CHECK(result.code == 2);
      CHECK(result.one_line());
      CHECK(result.err == program + ": --device: needs cpu, cuda or cuda:N, got " + text + "\n");
    }
    // Where there is no driver, a build with CUDA says that first.
    const Result result = run(folder, program, missing);
    CAPTURE(result.err);
    CHECK(result.code == 2);
    CHECK(result.err.find(program + ": " + words) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(folder / "run"));

    const Result help = Running(folder, {program, "--help"}).wait();
    CHECK(help.code == 0);
    CHECK(help.out.find("--device") != std::string::npos);
  }
}
