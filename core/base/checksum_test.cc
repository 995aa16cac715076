#include "core/base/checksum.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/base/bytes.h"
#include "core/base/random.h"

namespace gabion {
namespace {

std::vector<std::byte> RandomBytes(RandomStream& stream, size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(stream.Next());
  return bytes;
}

uint32_t OneBitAtATime(std::span<const std::byte> bytes, uint32_t seed) {
  uint32_t state = ~seed;
  for (const std::byte byte : bytes) {
    state ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) state = (state >> 1) ^ ((state & 1) != 0 ? 0x82f63b78 : 0);
  }
  return ~state;
}

// The test vectors of RFC 3720, appendix B.4, and the usual check value.
TEST(Crc32c, KnownValues) {
  EXPECT_EQ(Crc32c(AsBytes("123456789")), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::vector<std::byte>(32)), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::vector<std::byte>(32, std::byte{0xff})), 0x62a8ab43u);
  EXPECT_EQ(Crc32c({}), 0u);
  EXPECT_EQ(Crc32c({}, 17), 17u);
}

TEST(Crc32c, EqualsTheDefinition) {
  RandomStream stream(1, 0, 0);
  for (size_t size = 0; size < 300; ++size) {
    const std::vector<std::byte> bytes = RandomBytes(stream, size);
    const auto seed = static_cast<uint32_t>(stream.Next());
    EXPECT_EQ(Crc32c(bytes, seed), OneBitAtATime(bytes, seed)) << size;
  }
}

TEST(Crc32c, ChainsAtEveryCut) {
  RandomStream stream(1, 0, 1);
  const std::vector<std::byte> bytes = RandomBytes(stream, 100);
  const std::span<const std::byte> all(bytes);
  for (size_t cut = 0; cut <= all.size(); ++cut) {
    EXPECT_EQ(Crc32c(all.subspan(cut), Crc32c(all.first(cut))), Crc32c(all)) << cut;
  }
}

TEST(Crc32c, ASeedMayBeAddedAfterwards) {
  RandomStream stream(1, 0, 2);
  for (const size_t size : {0, 1, 7, 512, 4095, 4096, 100'000}) {
    const std::vector<std::byte> bytes = RandomBytes(stream, size);
    const auto seed = static_cast<uint32_t>(stream.Next());
    EXPECT_EQ(Crc32cWithSeed(Crc32c(bytes), size, seed), Crc32c(bytes, seed)) << size;
  }
}

// Zeros of any length, without their bytes: 2^40 of them are 2^20 times 2^20 of them.
TEST(Crc32c, SeedsPassOverLongLengths) {
  uint32_t by_steps = 0xdeadbeef;
  for (int i = 0; i < 1 << 20; ++i) by_steps = Crc32cWithSeed(0, uint64_t{1} << 20, by_steps);
  EXPECT_EQ(Crc32cWithSeed(0, uint64_t{1} << 40, 0xdeadbeef), by_steps);
}

}  // namespace
}  // namespace gabion
