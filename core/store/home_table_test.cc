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
    .extents_total = kHomesPerPage * (kBlocksPerMap + 5) - 3,
};

// The blocks of the table on a device that has no other.
using Blocks = std::map<uint64_t, std::vector<std::byte>>;
using Bytes = std::vector<std::byte>;

Home Of(uint64_t chunk) {
  Home home;
  home.slice = SliceId(1);
  home.chunk = static_cast<uint32_t>(chunk);
  home.present = 1;
  return home;
}

HomeTable NewTable(uint32_t frames) {
  HomeTable table;
  table.Reset(kGeometry, 7);
  table.SetBudget(frames * HomeTable::kFrameBytes);
  return table;
}

// As destaging does: brings the page into memory first.
void SetHome(HomeTable& table, const Blocks& blocks, uint32_t place, const Home& home) {
  const uint32_t page = HomeTable::PageOf(place);
  if (!table.cached(page) && table.exists(page)) {
    const HomeTable::PageRead read = table.ToRead(page);
    ASSERT_TRUE(table.OnPageRead(read, blocks.at(read.offset_bytes)));
  }
  if (!table.cached(page)) table.AddEmpty(page);
  table.Set(place, home);
}

// Writes the blocks of a checkpoint; with a limit only so many of them, as if the power failed.
Bytes Write(HomeTable& table, uint64_t number, Blocks& blocks, size_t limit = SIZE_MAX) {
  table.BeginCheckpoint(number);
  Bytes block(kBlockBytes);
  while (const std::optional<uint64_t> offset = table.NextToWrite(block)) {
    if (limit == 0) return {};
    --limit;
    blocks[*offset] = block;
  }
  table.CheckpointWritten();
  Bytes root;
  ByteWriter writer(&root);
  table.EncodeRoot(writer);
  return root;
}

Bytes ReadRange(const SlotTable::Range& range, const Blocks& blocks) {
  EXPECT_LE(range.length_bytes, kIoBytesMax);
  Bytes bytes(range.length_bytes);
  for (auto it = blocks.lower_bound(range.offset_bytes);
       it != blocks.end() && it->first < range.offset_bytes + range.length_bytes; ++it) {
    std::copy(it->second.begin(), it->second.end(),
              bytes.begin() + static_cast<ptrdiff_t>(it->first - range.offset_bytes));
  }
  return bytes;
}

std::optional<HomeTable> Open(const Bytes& root, const Blocks& blocks, uint32_t frames) {
  HomeTable table = NewTable(frames);
  ByteReader reader(root);
  if (!table.DecodeRoot(reader)) return std::nullopt;
  while (const std::optional<SlotTable::Range> range = table.NextRead()) {
    if (!table.OnRead(*range, ReadRange(*range, blocks))) return std::nullopt;
  }
  return table;
}

// The homes among `places` that a device holds.
Homes Read(const Bytes& root, const Blocks& blocks, const Homes& places) {
  std::optional<HomeTable> table = Open(root, blocks, 2);
  Homes homes;
  if (!table) return homes;
  for (const auto& [place, chunk] : places) {
    const uint32_t page = HomeTable::PageOf(place);
    if (!table->exists(page)) continue;
    if (!table->cached(page)) {
      const HomeTable::PageRead read = table->ToRead(page);
      if (!table->OnPageRead(read, blocks.at(read.offset_bytes))) continue;
    }
    homes[place] = table->at(place).chunk;
  }
  return homes;
}

void Change(HomeTable& table, const Blocks& blocks, Homes& homes, RandomStream& random) {
  for (uint64_t i = random.Range(1, 40); i > 0; --i) {
    // Some pages are full, most are empty.
    const auto place = static_cast<uint32_t>(
        random.Chance(1, 2) ? random.Below(100) : random.Below(kGeometry.extents_total));
    const uint64_t chunk = random.Below(1000);
    SetHome(table, blocks, place, Of(chunk));
    homes[place] = chunk;
  }
}

TEST(HomeTable, ACheckpointHoldsEveryHome) {
  for (const uint32_t frames : {1, 3, 1000}) {
    RandomStream random(1, frames, 0);
    HomeTable table = NewTable(frames);
    Homes homes;
    Blocks blocks;
    for (uint64_t number = 2; number < 60; ++number) {
      Change(table, blocks, homes, random);
      const Bytes root = Write(table, number, blocks);
      table.Check();
      EXPECT_EQ(root.size(), table.root_bytes());
      ASSERT_EQ(Read(root, blocks, homes), homes) << "checkpoint " << number;
    }
    for (const auto& [offset, block] : blocks) {
      EXPECT_GE(offset, kGeometry.page_maps_offset());
      EXPECT_LE(offset + kBlockBytes, kGeometry.log_offset());
    }
  }
}

TEST(HomeTable, WritesOnlyWhatChanged) {
  HomeTable table = NewTable(10'000);
  Blocks all;
  for (uint32_t place = 0; place < kGeometry.extents_total; place += 10) {
    SetHome(table, all, place, Of(place));
  }
  Write(table, 2, all);
  EXPECT_EQ(all.size(), kGeometry.extents_total / kHomesPerPage + 1 + 2) << "pages and two maps";
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
  HomeTable table = NewTable(5);
  Homes homes;
  Blocks blocks;
  for (uint64_t number = 2; number < 40; ++number) {
    Change(table, blocks, homes, random);
    const Bytes root = Write(table, number, blocks);
    for (size_t limit = 0; limit < 8; ++limit) {
      std::optional<HomeTable> next = Open(root, blocks, 5);
      ASSERT_TRUE(next);
      Blocks cut = blocks;
      Homes changed = homes;
      Change(*next, cut, changed, random);
      Write(*next, number + 1, cut, limit);
      ASSERT_EQ(Read(root, cut, homes), homes)
          << "checkpoint " << number << ", cut off after " << limit;
    }
  }
}

TEST(HomeTable, WhatChangedOrIsPinnedStaysInMemory) {
  HomeTable table = NewTable(2);
  Blocks blocks;
  const auto place = [](uint32_t page) { return page * kHomesPerPage; };
  for (uint32_t page = 0; page < 5; ++page) SetHome(table, blocks, place(page), Of(page));
  EXPECT_EQ(table.frames(), 5u) << "nothing can go";
  Write(table, 2, blocks);
  table.Pin(0);
  SetHome(table, blocks, place(7), Of(7));
  EXPECT_EQ(table.frames(), 2u);
  EXPECT_TRUE(table.cached(0));
  table.Unpin(0);
  Write(table, 3, blocks);
  const HomeTable::PageRead read = table.ToRead(3);
  EXPECT_TRUE(table.IsCurrent(read));
  ASSERT_TRUE(table.OnPageRead(read, blocks.at(read.offset_bytes)));
  EXPECT_FALSE(table.IsCurrent(read));
  EXPECT_EQ(table.frames(), 2u);
  EXPECT_EQ(table.at(place(3)).chunk, 3u);
}

// What was read may be old when it comes.
TEST(HomeTable, APageThatMovedWhileItWasReadIsNotTaken) {
  HomeTable table = NewTable(1);
  Blocks blocks;
  SetHome(table, blocks, 0, Of(1));
  Write(table, 2, blocks);
  const HomeTable::PageRead old = table.ToRead(0);
  const Bytes before = blocks.at(old.offset_bytes);
  SetHome(table, blocks, 0, Of(2));
  Write(table, 3, blocks);
  SetHome(table, blocks, kHomesPerPage, Of(3));
  Write(table, 4, blocks);
  ASSERT_FALSE(table.cached(0));
  EXPECT_TRUE(table.OnPageRead(old, before)) << "it is what was asked for";
  EXPECT_FALSE(table.cached(0));
  EXPECT_FALSE(table.IsCurrent(old));
  EXPECT_FALSE(table.OnPageRead(table.ToRead(0), before));
}

}  // namespace
}  // namespace gabion::store
