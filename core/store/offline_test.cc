#include "core/store/offline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

constexpr SliceId kSlice{1};

// A store with homes in two chunks and an entry in the log, closed or not.
class OfflineTest : public ::testing::Test {
 protected:
  OfflineTest() : test_(TestStore::Options{}) {
    EXPECT_TRUE(test_.Format()) << test_.store().error();
    EXPECT_EQ(test_.Await(test_.Start(kSlice, {.epoch = Epoch(1), .issuer = 9})), DoneStatus::kOk);
    Append(1, 3, 5, 20, 1000);
    Append(2, 4, 0, 1, 2000);
    test_.Commit(kSlice, Entry(1, 2));
    test_.Quiesce();
    Append(3, 3, 200, 2, 3000);
    // Sealed: else damage of the last batch would be a torn tail.
    test_.FireTimer();
    test_.Settle();
  }

  void Append(uint64_t seq, uint32_t chunk, uint32_t first, uint32_t count, uint64_t stamp) {
    const wire::EntryHeader entry = test_.Write(Entry(1, seq), chunk, first, count);
    EXPECT_EQ(test_.Await(test_.Append(kSlice, entry, stamp)), DoneStatus::kOk);
  }

  DeviceReader Reader() {
    return [this](uint64_t offset_bytes, std::span<std::byte> to) {
      if (offset_bytes <= unreadable_ && unreadable_ < offset_bytes + to.size()) return false;
      test_.disk().image().Read(offset_bytes, to);
      return true;
    };
  }
  CheckReport Check() { return CheckDevice(test_.disk().info(), Reader()); }
  std::string Dump(const DumpOptions& options) {
    std::string text;
    const Result<void> shown = DumpDevice(test_.disk().info(), Reader(), options,
                                          [&text](std::string_view part) { text.append(part); });
    return shown ? text : "error: " + shown.error().message;
  }
  // Where the log, or from `from` on anything, holds the block with this stamp.
  uint64_t Find(uint64_t stamp, uint64_t from = kHeadBytes) {
    for (uint64_t at = from; at < test_.disk().info().size_bytes; at += kBlockBytes) {
      if (LoadLe<uint64_t>(test_.disk().Content(at, 8).data()) == stamp) return at;
    }
    ADD_FAILURE() << "nowhere: " << stamp;
    return 0;
  }

  uint64_t ExtentsOffset() {
    return ComputeGeometry(test_.disk().info().size_bytes, 4 << 20)->extents_offset();
  }

  TestStore test_;
  uint64_t unreadable_ = UINT64_MAX;
};

TEST_F(OfflineTest, AGoodDeviceIsGoodAndIsNotTouched) {
  const uint64_t hash = test_.disk().image().Hash();
  const CheckReport report = Check();
  EXPECT_EQ(report.health, Health::kGood);
  EXPECT_TRUE(report.findings.empty());
  EXPECT_EQ(report.slices, 1u);
  EXPECT_EQ(report.extents_used, 3u);
  EXPECT_EQ(report.home_blocks, 21u);
  EXPECT_EQ(report.log_blocks, 2u);
  EXPECT_GE(report.log_batches, 1u);
  EXPECT_EQ(test_.disk().image().Hash(), hash);
}

TEST_F(OfflineTest, NamesEachBadBlockAndWhereItIs) {
  const uint64_t home = Find(1007, ExtentsOffset());
  const uint64_t log = Find(3001);
  test_.disk().FlipBit((home + 77) * 8);
  test_.disk().FlipBit((log + 77) * 8);
  const CheckReport report = Check();
  EXPECT_EQ(report.health, Health::kDamaged);
  EXPECT_EQ(report.bad_blocks, 2u);
  ASSERT_EQ(report.findings.size(), 2u);
  EXPECT_NE(report.findings[0].text.find("chunk 3, block 12, at " + std::to_string(home)),
            std::string::npos)
      << report.findings[0].text;
  EXPECT_NE(report.findings[1].text.find("block 201"), std::string::npos)
      << report.findings[1].text;
}

// Of the directory's claim and the record of the place, neither is believed without the other.
TEST_F(OfflineTest, ADamagedPageOfChecksumsCondemnsWhatIsInIt) {
  const Geometry geometry = *ComputeGeometry(test_.disk().info().size_bytes, 4 << 20);
  // One of the two slots counts.
  for (uint64_t slot = 0; slot < 2; ++slot) {
    test_.disk().FlipBit((geometry.pages_offset() + slot * kBlockBytes + 500) * 8);
  }
  const CheckReport report = Check();
  EXPECT_EQ(report.health, Health::kDamaged);
  EXPECT_EQ(report.bad_blocks, 21u);
  EXPECT_EQ(report.log_blocks, 2u);
  ASSERT_EQ(report.findings.size(), 3u);
  EXPECT_NE(report.findings[0].text.find("checksums is damaged"), std::string::npos);
  EXPECT_NE(Dump({.chunk = DumpOptions::Chunk{SliceId(1), TestKey(3)}}).find("are lost"),
            std::string::npos);
}

TEST_F(OfflineTest, ABlockThatCannotBeReadCondemnsNoOther) {
  unreadable_ = Find(1007, ExtentsOffset()) + 100;
  const CheckReport report = Check();
  EXPECT_EQ(report.bad_blocks, 1u);
  EXPECT_EQ(report.home_blocks, 21u);
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_NE(report.findings[0].text.find("cannot be read"), std::string::npos);
}

TEST_F(OfflineTest, OneSuperblockIsWornAndNoneIsUnusable) {
  test_.disk().FlipBit((kSuperblockOffset[1] + 40) * 8);
  EXPECT_EQ(Check().health, Health::kWorn);
  test_.disk().FlipBit((kSuperblockOffset[0] + 40) * 8);
  const CheckReport report = Check();
  EXPECT_EQ(report.health, Health::kUnusable);
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_NE(report.findings[0].text.find("superblock"), std::string::npos);
}

TEST_F(OfflineTest, ADamagedLogSaysThatReplicasNeedResync) {
  Append(4, 0, 0, 1, 4000);
  test_.disk().FlipBit((Find(3000) - kBlockBytes + 100) * 8);  // the header in front of it
  const CheckReport report = Check();
  EXPECT_EQ(report.health, Health::kDamaged);
  EXPECT_EQ(report.slices_that_need_resync, 1u);
}

TEST_F(OfflineTest, ADamagedCheckpointIsUnusable) {
  const Geometry geometry = *ComputeGeometry(test_.disk().info().size_bytes, 4 << 20);
  for (uint32_t area = 0; area < 2; ++area) test_.disk().FlipBit(geometry.area_offset(area) * 8);
  EXPECT_EQ(Check().health, Health::kUnusable);
  EXPECT_EQ(Dump({.log = true}).substr(0, 6), "error:");
  EXPECT_NE(Dump({.superblocks = true}).find("sequence"), std::string::npos);
}

TEST_F(OfflineTest, ADeviceThatIsTooSmallOrEmptyIsUnusable) {
  const DeviceReader zeroes = [](uint64_t, std::span<std::byte> to) {
    std::fill(to.begin(), to.end(), std::byte{0});
    return true;
  };
  EXPECT_EQ(CheckDevice({.size_bytes = 100, .block_bytes = 512}, zeroes).health, Health::kUnusable);
  EXPECT_EQ(CheckDevice({.size_bytes = 1 << 24, .block_bytes = 512}, zeroes).health,
            Health::kUnusable);
}

TEST_F(OfflineTest, DumpsSuperblocksLogSlicesAndAChunk) {
  const std::string superblocks = Dump({.superblocks = true});
  EXPECT_NE(superblocks.find("device " + ToString(kTestDevice)), std::string::npos) << superblocks;
  const std::string log = Dump({.log = true});
  EXPECT_NE(log.find("1.3 kind"), std::string::npos) << log;
  EXPECT_NE(log.find("chunk 3 blocks 200+2, 2 blocks"), std::string::npos) << log;
  EXPECT_NE(Dump({.slices = true}).find("committed 1.2"), std::string::npos);
  const std::string chunk = Dump({.chunk = {{.slice = kSlice, .key = TestKey(3)}}});
  EXPECT_NE(chunk.find("extent 0: home "), std::string::npos) << chunk;
  EXPECT_NE(chunk.find("block 201: crc "), std::string::npos) << chunk;
  const std::string block = Dump({.chunk = {{.slice = kSlice, .key = TestKey(9)}}});
  EXPECT_NE(block.find("nothing is here"), std::string::npos) << block;
}

// A large write in extents of its own, and a small one that was brought home over it, so that its
// extent does not hold any more what its record says; the checkpoint that knows of it never came.
TEST(OfflineRedirect, WhatIsOverwrittenForGoodIsNoDamageAndWhatIsRottenIs) {
  TestStore test({.redirect = true});
  ASSERT_TRUE(test.Format()) << test.store().error();
  ASSERT_EQ(test.Await(test.Start(kSlice, {.epoch = Epoch(1), .issuer = 9})), DoneStatus::kOk);
  ASSERT_EQ(test.Await(test.Append(kSlice, test.Write(Entry(1, 1), 0, 0, 32), 1000)),
            DoneStatus::kOk);
  ASSERT_EQ(test.Await(test.Append(kSlice, test.Write(Entry(1, 2), 0, 5, 1), 2000)),
            DoneStatus::kOk);
  test.Commit(kSlice, Entry(1, 2));
  const uint64_t extents =
      ComputeGeometry(test.disk().info().size_bytes, 4 << 20)->extents_offset();
  const auto find = [&](uint64_t stamp) {
    uint64_t at = extents;
    while (at < test.disk().info().size_bytes &&
           LoadLe<uint64_t>(test.disk().Content(at, 8).data()) != stamp) {
      at += kBlockBytes;
    }
    return at;
  };
  for (int i = 0; i < 100 && find(2000) == test.disk().info().size_bytes; ++i) {
    if (!test.StepDisk()) test.FireTimer();
  }
  const DeviceReader reader = [&test](uint64_t offset_bytes, std::span<std::byte> to) {
    test.disk().image().Read(offset_bytes, to);
    return true;
  };
  ASSERT_EQ(find(2000), find(1004) + kBlockBytes);
  const CheckReport report = CheckDevice(test.disk().info(), reader);
  EXPECT_EQ(report.health, Health::kGood) << report.findings.front().text;
  EXPECT_EQ(report.log_blocks, 32u);
  EXPECT_EQ(report.extents_used, 2u);
  test.disk().FlipBit((find(1020) + 77) * 8);
  const CheckReport rotten = CheckDevice(test.disk().info(), reader);
  EXPECT_EQ(rotten.bad_blocks, 1u);
  std::string text;
  const auto print = [&text](std::string_view part) { text.append(part); };
  ASSERT_TRUE(DumpDevice(test.disk().info(), reader,
                         {.log = true, .chunk = {{.slice = kSlice, .key = TestKey(0)}}}, print));
  EXPECT_NE(text.find("blocks 0+32, 2 extents of its own"), std::string::npos) << text;
  EXPECT_NE(text.find("by 1.1 in an extent of its own"), std::string::npos) << text;
}

}  // namespace
}  // namespace gabion::store
