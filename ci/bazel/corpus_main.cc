// The main of a corpus test (gabion_fuzz in cc.bzl): feeds the harness every file named on the
// command line, whole, cut off at every length, and with every byte changed. It fails by crashing.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

// A copy of exactly the size, so that AddressSanitizer sees a read behind its end.
void Feed(const std::vector<uint8_t>& input, size_t size) {
  const std::vector<uint8_t> copy(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(size));
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

}  // namespace

int main(int argc, char** argv) {
  Feed({}, 0);
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", argv[i]);
      return 1;
    }
    std::vector<uint8_t> input{std::istreambuf_iterator<char>(file), {}};
    for (size_t size = 0; size <= input.size(); ++size) Feed(input, size);
    for (uint8_t& byte : input) {
      const uint8_t kept = byte;
      for (const uint8_t changed : {uint8_t{0}, uint8_t{0xff}, static_cast<uint8_t>(kept ^ 0x01)}) {
        byte = changed;
        Feed(input, input.size());
      }
      byte = kept;
    }
  }
  std::printf("%d files of the corpus\n", argc - 1);
  return 0;
}
