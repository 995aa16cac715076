#include "core/store/home_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/random.h"

namespace gabion::store {
namespace {

using Homes = std::map<uint32_t, uint64_t>;  // place -> chunk
// Large enough for two map blocks; nothing but the table of it is ever touched.
constexpr Geometry kGeometry{
    .device_bytes = uint64_t{4} << 30,
    .area_bytes = 1 << 20,
    .log_bytes = 4 << 20,
    .extents_total = kHomesPerPage * (kPagesPerMap + 5) - 3,
};

// The blocks of the table on a device that has no other.
using Blocks = std::map<uint64_t, std::vector<std::byte>>;

Home Of(uint64_t chunk) {
  Home home;
  home.slice = SliceId(1);
  home.chunk = static_cast<uint32_t>(chunk);
  home.present = 1;
  return home;
}

// Writes the blocks of a checkpoint; with a limit only so many of them, as if the power failed.
std::vector<std::byte> Write(HomeTable& table, uint64_t number, Blocks& blocks,
                             size_t limit = SIZE_MAX) {
  table.BeginCheckpoint(number);
  std::vector<std::byte> block(kBlockBytes);
  while (const std::optional<uint64_t> offset = table.NextToWrite(block)) {
    if (limit == 0) return {};
    --limit;
    blocks[*offset] = block;
  }
  std::vector<std::byte> root;
  ByteWriter writer(&root);
  table.EncodeRoot(writer);
  return root;
}

std::optional<Homes> Read(const std::vector<std::byte>& root, const Blocks& blocks) {
  HomeTable table;
  table.Reset(kGeometry, 7);
  ByteReader reader(root);
  if (!table.DecodeRoot(reader)) return std::nullopt;
  while (const std::optional<HomeTable::Range> range = table.NextRead()) {
    EXPECT_LE(range->length_bytes, kIoBytesMax);
    std::vector<std::byte> bytes(range->length_bytes);
    for (auto it = blocks.lower_bound(range->offset_bytes);
         it != blocks.end() && it->first < range->offset_bytes + range->length_bytes; ++it) {
      std::copy(it->second.begin(), it->second.end(),
                bytes.begin() + static_cast<ptrdiff_t>(it->first - range->offset_bytes));
    }
    if (!table.OnRead(*range, bytes)) return std::nullopt;
  }
  Homes homes;
  table.ForEach([&homes](uint32_t place, const Home& home) {
    homes[place] = home.chunk;
    return true;
  });
  return homes;
}

void Change(HomeTable& table, Homes& homes, RandomStream& random) {
  for (uint64_t i = random.Range(1, 40); i > 0; --i) {
    // Some pages are full, most are empty.
    const auto place = static_cast<uint32_t>(
        random.Chance(1, 2) ? random.Below(100) : random.Below(kGeometry.extents_total));
    if (random.Chance(1, 3)) {
      table.Clear(place);
      homes.erase(place);
    } else {
      const uint64_t chunk = random.Below(1000);
      table.Set(place, Of(chunk));
      homes[place] = chunk;
    }
  }
}

TEST(HomeTable, ACheckpointHoldsEveryHome) {
  RandomStream random(1, 0, 0);
  HomeTable table;
  table.Reset(kGeometry, 7);
  Homes homes;
  Blocks blocks;
  for (uint64_t number = 2; number < 60; ++number) {
    Change(table, homes, random);
    const std::vector<std::byte> root = Write(table, number, blocks);
    EXPECT_EQ(root.size(), table.root_bytes());
    ASSERT_EQ(Read(root, blocks), homes) << "checkpoint " << number;
  }
  for (const auto& [offset, block] : blocks) {
    EXPECT_GE(offset, kGeometry.maps_offset());
    EXPECT_LE(offset + kBlockBytes, kGeometry.log_offset());
  }
}

TEST(HomeTable, WritesOnlyWhatChanged) {
  HomeTable table;
  table.Reset(kGeometry, 7);
  Blocks all;
  for (uint32_t place = 0; place < kGeometry.extents_total; place += 10)
    table.Set(place, Of(place));
  Write(table, 2, all);
  EXPECT_EQ(all.size(), kGeometry.table_pages() + kGeometry.table_maps());
  Blocks some;
  table.Set(50, Of(1));
  table.Set(51, Of(2));
  Write(table, 3, some);
  EXPECT_EQ(some.size(), 2u) << "a page and its map";
  Write(table, 4, some);
  EXPECT_EQ(some.size(), 2u);
}

// Up to the moment in which the next one counts, the last checkpoint is whole.
TEST(HomeTable, ACheckpointThatIsCutOffLeavesTheLastOne) {
  RandomStream random(2, 0, 0);
  HomeTable table;
  table.Reset(kGeometry, 7);
  Homes homes;
  Blocks blocks;
  for (uint64_t number = 2; number < 40; ++number) {
    Change(table, homes, random);
    const std::vector<std::byte> root = Write(table, number, blocks);
    HomeTable next;
    Homes changed = homes;
    for (size_t limit = 0; limit < 8; ++limit) {
      next = HomeTable();
      next.Reset(kGeometry, 7);
      ByteReader reader(root);
      ASSERT_TRUE(next.DecodeRoot(reader));
      Blocks cut = blocks;
      while (const std::optional<HomeTable::Range> range = next.NextRead()) {
        std::vector<std::byte> bytes(range->length_bytes);
        for (uint64_t at = 0; at < bytes.size(); at += kBlockBytes) {
          const auto found = blocks.find(range->offset_bytes + at);
          if (found == blocks.end()) continue;
          std::copy(found->second.begin(), found->second.end(),
                    bytes.begin() + static_cast<ptrdiff_t>(at));
        }
        ASSERT_TRUE(next.OnRead(*range, bytes));
      }
      Change(next, changed, random);
      Write(next, number + 1, cut, limit);
      ASSERT_EQ(Read(root, cut), homes) << "checkpoint " << number << ", cut off after " << limit;
    }
  }
}

// A slice that is dropped while a checkpoint is written changes pages that are written already, and
// others that are not. The drop may be undone by a crash, so the checkpoint must not show it.
TEST(HomeTable, WhatChangesMeanwhileIsWrittenNextTime) {
  HomeTable table;
  table.Reset(kGeometry, 7);
  Blocks blocks;
  table.Set(1, Of(10));
  table.Set(1000, Of(20));
  std::vector<std::byte> root = Write(table, 2, blocks);
  table.Set(1, Of(11));
  table.Set(1000, Of(21));
  table.Set(2000, Of(31));
  table.BeginCheckpoint(3);
  std::vector<std::byte> block(kBlockBytes);
  const std::optional<uint64_t> page = table.NextToWrite(block);
  ASSERT_TRUE(page);
  blocks[*page] = block;
  table.Clear(1);
  table.Clear(1000);
  table.Set(1000, Of(22));
  table.Clear(2000);
  while (const std::optional<uint64_t> offset = table.NextToWrite(block)) {
    EXPECT_NE(*offset, *page);
    blocks[*offset] = block;
  }
  EXPECT_EQ(Read(root, blocks), (Homes{{1, 10}, {1000, 20}})) << "the last one is whole";
  root.clear();
  ByteWriter writer(&root);
  table.EncodeRoot(writer);
  EXPECT_EQ(Read(root, blocks), (Homes{{1, 11}, {1000, 21}, {2000, 31}}));
  root = Write(table, 4, blocks);
  EXPECT_EQ(Read(root, blocks), (Homes{{1000, 22}}));
}

}  // namespace
}  // namespace gabion::store
