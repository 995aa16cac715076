#include "core/store/read_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "core/base/random.h"

namespace gabion::store {
namespace {

constexpr uint32_t kBlock = wire::kBlockBytes;
constexpr DeviceIndex kDevice{1};

std::vector<std::byte> BlockOf(uint64_t stamp) {
  std::vector<std::byte> block(kBlock, std::byte{7});
  StoreLe(block.data(), stamp);
  return block;
}

void Add(ReadCache& cache, uint64_t block, uint64_t stamp, DeviceIndex device = kDevice) {
  const std::vector<std::byte> content = BlockOf(stamp);
  cache.Add(device, block * kBlock, content, Crc32c(content));
}

// The stamp of what is there.
std::optional<uint64_t> Find(ReadCache& cache, uint64_t block, DeviceIndex device = kDevice) {
  std::vector<std::byte> to(kBlock);
  const std::optional<uint32_t> crc = cache.Find(device, block * kBlock, to.data());
  if (!crc) return std::nullopt;
  EXPECT_EQ(*crc, Crc32c(to));
  return LoadLe<uint64_t>(to.data());
}

TEST(ReadCache, WithoutABudgetKeepsNothing) {
  ReadCache cache(kBlock - 1);
  Add(cache, 1, 100);
  EXPECT_FALSE(cache.enabled());
  EXPECT_EQ(cache.bytes(), 0u);
  EXPECT_EQ(Find(cache, 1), std::nullopt);
}

TEST(ReadCache, TellsDevicesAndPlacesApart) {
  ReadCache cache(8 * kBlock);
  Add(cache, 1, 100);
  Add(cache, 2, 200);
  Add(cache, 1, 300, DeviceIndex{2});
  EXPECT_EQ(Find(cache, 1), 100u);
  EXPECT_EQ(Find(cache, 2), 200u);
  EXPECT_EQ(Find(cache, 1, DeviceIndex{2}), 300u);
  EXPECT_EQ(Find(cache, 3), std::nullopt);
  cache.Forget(kDevice);
  EXPECT_EQ(Find(cache, 1), std::nullopt);
  EXPECT_EQ(Find(cache, 1, DeviceIndex{2}), 300u);
  cache.Check();
}

TEST(ReadCache, ForgetsWhatIsOverwritten) {
  ReadCache cache(8 * kBlock);
  for (uint64_t block = 1; block <= 4; ++block) Add(cache, block, block);
  cache.Forget(kDevice, 2 * kBlock, 2 * kBlock);
  EXPECT_EQ(Find(cache, 1), 1u);
  EXPECT_EQ(Find(cache, 2), std::nullopt);
  EXPECT_EQ(Find(cache, 3), std::nullopt);
  EXPECT_EQ(Find(cache, 4), 4u);
  Add(cache, 4, 40);
  EXPECT_EQ(Find(cache, 4), 40u);
  cache.Check();
}

TEST(ReadCache, WhatIsReadAgainOutlivesAScan) {
  ReadCache cache(16 * kBlock);
  for (uint64_t block = 0; block < 8; ++block) Add(cache, block, block);
  for (uint64_t scanned = 100; scanned < 300; ++scanned) {
    for (uint64_t block = 0; block < 8; ++block) ASSERT_EQ(Find(cache, block), block) << scanned;
    Add(cache, scanned, scanned);
  }
  EXPECT_EQ(cache.bytes(), 16u * kBlock);
  cache.Check();
}

TEST(ReadCache, HoldsWhatAMapHoldsAndNoMoreThanItsBudget) {
  RandomStream random(5, 0, 0);
  ReadCache cache(40 * kBlock);
  std::map<std::pair<DeviceIndex, uint64_t>, uint64_t> model;
  uint64_t hits = 0;
  for (uint64_t step = 1; step <= 20'000; ++step) {
    const DeviceIndex device{static_cast<uint32_t>(1 + random.Below(2))};
    const uint64_t block = random.Below(60);
    switch (random.Below(8)) {
      case 0:
        cache.Forget(device, block * kBlock, 3 * kBlock);
        for (uint64_t i = 0; i < 3; ++i) model.erase({device, block + i});
        break;
      case 1:
        if (random.Below(200) != 0) break;
        cache.Forget(device);
        std::erase_if(model, [device](const auto& each) { return each.first.first == device; });
        break;
      case 2:
      case 3:
      case 4:
        Add(cache, block, step, device);
        model[{device, block}] = step;
        break;
      default: {
        const std::optional<uint64_t> found = Find(cache, block, device);
        if (!found) break;
        ASSERT_TRUE(model.contains({device, block}));
        ASSERT_EQ(*found, model.at({device, block}));
        ++hits;
        break;
      }
    }
    ASSERT_LE(cache.bytes(), cache.bytes_max());
    if (step % 1'000 == 0) cache.Check();
  }
  EXPECT_GT(hits, 1'000u);
}

}  // namespace
}  // namespace gabion::store
