#include "core/base/check.h"

#include <cinttypes>
#include <cstdio>
#include <cstdlib>

// stderr is unbuffered and fprintf formats these on its stack, so no heap is needed. The lock keeps
// other threads' output out of the line; nobody releases it, because abort() follows.

namespace gabion::internal {

void BeginFailure(const char* file, int line, const char* condition) {
  flockfile(stderr);
  std::fprintf(stderr, "%s:%d: CHECK failed: %s", file, line, condition);
}

void Print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }
void Print(int64_t value) { std::fprintf(stderr, "%" PRId64, value); }
void Print(uint64_t value) { std::fprintf(stderr, "%" PRIu64, value); }
void Print(double value) { std::fprintf(stderr, "%g", value); }
void Print(const void* pointer) { std::fprintf(stderr, "%p", pointer); }

Failure::~Failure() {
  std::fputc('\n', stderr);
  std::abort();
}

void Unreachable(const char* file, int line, std::string_view text) {
  BeginFailure(file, line, "unreachable");
  Print(std::string_view(" "));
  Print(text);
  std::fputc('\n', stderr);
  std::abort();
}

}  // namespace gabion::internal
