#include "core/base/random.h"

#include <bit>

#include "core/base/check.h"

namespace gabion {

namespace {

using Wide = unsigned __int128;

}  // namespace

uint64_t RandomStream::Below(uint64_t n) {
  CHECK_GT(n, 0);
  return static_cast<uint64_t>((Wide{Next()} * n) >> 64);
}

uint64_t RandomStream::Range(uint64_t lo, uint64_t hi) {
  CHECK_LE(lo, hi);
  const uint64_t count = hi - lo + 1;
  return count == 0 ? Next() : lo + Below(count);  // 0: all 2^64 values
}

bool RandomStream::Chance(uint64_t numerator, uint64_t denominator) {
  return Below(denominator) < numerator;
}

// A draw x in (0, 2^64) is 2^(63-k) * (1 + f) with k leading zeros and 0 <= f < 1; k + 1 - f
// approximates -log2(x / 2^64) to 0.09 and has mean 1 + 1/2 exactly, so 2/3 of it, times `mean`,
// has mean `mean`.
uint64_t RandomStream::Tail(uint64_t mean, uint64_t max) {
  const uint64_t x = Next();
  const auto zeros = static_cast<unsigned>(std::countl_zero(x));
  const uint64_t fraction = zeros >= 63 ? 0 : (x << (zeros + 1)) >> 32;               // f * 2^32
  const uint64_t halvings = ((uint64_t{zeros} + 1) << 32) - fraction;                 // * 2^32
  const Wide tail = (Wide{mean} * halvings * 2 + (Wide{3} << 31)) / (Wide{3} << 32);  // to nearest
  return tail < max ? static_cast<uint64_t>(tail) : max;
}

}  // namespace gabion
