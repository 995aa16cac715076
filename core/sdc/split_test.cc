#include "core/sdc/split.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/base/random.h"

namespace gabion::sdc {
namespace {

std::vector<ChunkRange> Split(uint64_t begin, uint64_t end, bool has_data) {
  std::vector<ChunkRange> parts;
  while (begin < end) {
    parts.push_back(FirstRange(begin, end, has_data));
    begin += parts.back().length_bytes;
  }
  return parts;
}

TEST(Split, DataEndsAtTheSixtyFourthBlockItTouches) {
  const auto parts = Split(512, 512 + (512 << 10), true);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].length_bytes, (256u << 10) - 512);
  EXPECT_EQ(parts[1].length_bytes, 256u << 10);
  EXPECT_EQ(parts[2].length_bytes, 512u);
}

TEST(Split, LongZeroesAreWholeBlocksBetweenTheirRaggedEnds) {
  const auto parts = Split(512, (1 << 20) - 512, false);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].length_bytes, (256u << 10) - 512);
  EXPECT_EQ(parts[1].offset_bytes, 256u << 10);
  EXPECT_EQ(parts[1].length_bytes, (768u << 10) - 4096);
  EXPECT_EQ(parts[2].length_bytes, 4096u - 512);
}

TEST(Split, ShortZeroesStayWhole) {
  EXPECT_EQ(Split(512, 5 * 4096 + 512, false).size(), 1u);
  EXPECT_EQ(Split(0, 1 << 20, false).size(), 1u);
}

TEST(Split, PartsCoverTheRequestInOrderAndKeepTheLimitsOfAMessage) {
  RandomStream random(3, 0, 0);
  for (int i = 0; i < 5000; ++i) {
    const uint64_t begin = random.Below(4096) * 512;
    const uint64_t end = begin + (1 + random.Below(6000)) * 512;
    const bool has_data = random.Chance(1, 2);
    uint64_t at = begin;
    for (const ChunkRange& part : Split(begin, end, has_data)) {
      ASSERT_EQ(uint64_t{part.chunk} * wire::kChunkBytes + part.offset_bytes, at);
      ASSERT_GT(part.length_bytes, 0u);
      ASSERT_LE(part.offset_bytes + part.length_bytes, wire::kChunkBytes);
      at += part.length_bytes;
      const uint32_t first = part.offset_bytes / wire::kBlockBytes;
      const uint32_t last = (part.offset_bytes + part.length_bytes - 1) / wire::kBlockBytes;
      const bool whole =
          part.offset_bytes % wire::kBlockBytes == 0 && part.length_bytes % wire::kBlockBytes == 0;
      ASSERT_TRUE(last - first < wire::kDataBlocksMax || (!has_data && whole));
    }
    ASSERT_EQ(at, end);
  }
}

}  // namespace
}  // namespace gabion::sdc
