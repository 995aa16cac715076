#include "core/base/random.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

namespace gabion {
namespace {

// Recorded seeds depend on these values: they never change.
TEST(Random, KnownValues) {
  EXPECT_EQ(mix64(0), 0u);
  EXPECT_EQ(mix64(0x9e3779b97f4a7c15u),
            0xe220a8397b1dcdafu);  // SplitMix64's first output for seed 0
  EXPECT_EQ(Draw(0, 0, 0, 0), 0x987feb3461821c08u);
  EXPECT_EQ(Draw(1, 2, 3, 4), 0xdb5dc2ca3bf240c4u);
}

TEST(Random, AStreamIsItsDrawsInOrder) {
  RandomStream stream(1, 2, 3);
  for (uint64_t i = 0; i < 10; ++i) {
    EXPECT_EQ(stream.counter(), i);
    EXPECT_EQ(stream.Next(), Draw(1, 2, 3, i));
  }
}

TEST(Random, ACopyContinuesFromTheSamePlace) {
  RandomStream stream(1, 2, 3);
  stream.Next();
  RandomStream copy = stream;
  EXPECT_EQ(copy, stream);
  EXPECT_EQ(copy.Next(), stream.Next());
}

TEST(Random, NeighbouringSeedsNodesStreamsAndIndexesDiffer) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    for (uint64_t node = 0; node < 8; ++node) {
      for (uint64_t stream = 0; stream < 8; ++stream) {
        for (uint64_t index = 0; index < 64; ++index) seen.insert(Draw(seed, node, stream, index));
      }
    }
  }
  EXPECT_EQ(seen.size(), 8u * 8 * 8 * 64);
}

TEST(Random, EveryBitIsSetHalfTheTime) {
  constexpr int kDraws = 100'000;
  std::array<int, 64> ones{};
  RandomStream stream(7, 0, 0);
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t x = stream.Next();
    for (size_t bit = 0; bit < 64; ++bit) ones[bit] += static_cast<int>((x >> bit) & 1);
  }
  // Five standard deviations are 5 * sqrt(100000) / 2 = 790.
  for (const int count : ones) EXPECT_NEAR(count, kDraws / 2, 790);
}

TEST(Random, BelowIsUniform) {
  constexpr int kDraws = 70'000;
  std::array<int, 7> counts{};
  RandomStream stream(7, 0, 1);
  for (int i = 0; i < kDraws; ++i) ++counts[stream.Below(7)];
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 7, 500);
  EXPECT_EQ(stream.Below(1), 0u);
}

TEST(Random, RangeIncludesBothEnds) {
  std::set<uint64_t> seen;
  RandomStream stream(7, 0, 2);
  for (int i = 0; i < 200; ++i) seen.insert(stream.Range(10, 13));
  EXPECT_EQ(seen, (std::set<uint64_t>{10, 11, 12, 13}));
  EXPECT_EQ(stream.Range(5, 5), 5u);
  EXPECT_NE(stream.Range(0, UINT64_MAX), stream.Range(0, UINT64_MAX));
  EXPECT_GE(stream.Range(UINT64_MAX - 1, UINT64_MAX), UINT64_MAX - 1);
}

TEST(Random, ChanceKeepsItsOdds) {
  RandomStream stream(7, 0, 3);
  int hits = 0;
  for (int i = 0; i < 100'000; ++i) hits += stream.Chance(3, 100) ? 1 : 0;
  EXPECT_NEAR(hits, 3'000, 300);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(stream.Chance(0, 5));
    EXPECT_TRUE(stream.Chance(5, 5));
    EXPECT_TRUE(stream.Chance(6, 5));
  }
}

TEST(Random, TailHasItsMeanAndItsCut) {
  RandomStream stream(7, 0, 4);
  uint64_t sum = 0;
  int above_three_means = 0;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t x = stream.Tail(1'000, UINT64_MAX);
    sum += x;
    above_three_means += x > 3'000 ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(sum), 1e8, 2e6);
  EXPECT_NEAR(above_three_means, 4'700, 500);  // an exponential has 4,979
  for (int i = 0; i < 1'000; ++i) EXPECT_LE(stream.Tail(1'000, 50), 50u);
  EXPECT_EQ(stream.Tail(0, 50), 0u);
  EXPECT_LE(stream.Tail(UINT64_MAX, UINT64_MAX - 1), UINT64_MAX - 1);
}

TEST(Random, EveryCallIsOneDraw) {
  RandomStream stream(7, 0, 5);
  const std::vector<int> items{1, 2, 3};
  stream.Next();
  stream.Below(3);
  stream.Range(1, 9);
  stream.Chance(1, 2);
  stream.Tail(5, 50);
  stream.Pick(items);
  EXPECT_EQ(stream.counter(), 6u);
}

TEST(Random, PickReachesEveryItem) {
  RandomStream stream(7, 0, 6);
  std::vector<int> items{1, 2, 3};
  for (int i = 0; i < 100; ++i) stream.Pick(items) = 0;
  EXPECT_EQ(items, (std::vector<int>{0, 0, 0}));
}

TEST(RandomDeathTest, RefusesEmptyChoices) {
  RandomStream stream(7, 0, 7);
  EXPECT_DEATH(stream.Below(0), "n > 0");
  EXPECT_DEATH(stream.Range(2, 1), "lo <= hi");
}

}  // namespace
}  // namespace gabion
