// The read cache under a store: what it saves, and that it never serves what was there before.
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "core/store/layout.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

using Stamps = std::vector<uint64_t>;
constexpr SliceId kSlice{1};
// Memory for a single page of checksums: mostly nobody else knows what a block should be.
constexpr TestStore::Options kOptions{
    .redirect = true, .memory_bytes = 1, .read_cache_bytes = 64 * kBlockBytes};

class StoreCache : public ::testing::Test {
 protected:
  StoreCache() : test_(kOptions) {
    EXPECT_TRUE(test_.Format()) << test_.store().error();
    EXPECT_EQ(test_.Await(test_.Start(kSlice, {.epoch = Epoch(1), .issuer = 9})), DoneStatus::kOk);
  }

  void Write(uint32_t chunk, uint32_t first, uint32_t count, uint64_t stamp) {
    const auto entry = test_.Write(Entry(1, ++seq_), chunk, first, count);
    ASSERT_EQ(test_.Await(test_.Append(kSlice, entry, stamp)), DoneStatus::kOk);
  }
  void BringHome() {
    test_.Commit(kSlice, Entry(1, seq_));
    test_.Quiesce();
  }
  std::optional<Stamps> Read(uint32_t chunk, uint32_t first, uint32_t count) {
    return test_.Read(kSlice, TestKey(chunk), first, count);
  }
  // So that the pages of others are not in memory.
  void UseAnotherPage() {
    for (uint32_t chunk = 20; chunk < 30; ++chunk) {
      for (uint32_t extent = 0; extent < 8; ++extent) {
        Write(chunk, extent * kBlocksPerExtent, 1, 1);
      }
    }
    BringHome();
  }

  TestStore test_;
  uint64_t seq_ = 0;
};

TEST_F(StoreCache, WhatWasReadOnceNeedsNoDisk) {
  Write(0, 0, 8, 100);
  BringHome();
  const Stamps want{100, 101, 102, 103};
  EXPECT_EQ(Read(0, 0, 4), want);
  EXPECT_EQ(test_.store().counters().cache_misses, 4u);
  const Slice target = test_.pool().Allocate(4 * kBlockBytes);
  const Tag tag = test_.NewTag();
  test_.store().Read(test_.now(), kSlice, TestKey(0), 0, 4, target, tag, test_.out());
  EXPECT_TRUE(test_.disk().pending() == 0);
  test_.Take();
  EXPECT_TRUE(test_.IsDone(tag));
  EXPECT_EQ(Read(0, 0, 4), want);
  EXPECT_EQ(test_.store().counters().cache_hits, 8u);
}

TEST_F(StoreCache, LargeReadsAndReadsOfTheDeviceLeaveItAlone) {
  Write(0, 0, 64, 100);
  BringHome();
  ASSERT_TRUE(Read(0, 0, 16).has_value());
  const Slice target = test_.pool().Allocate(kBlockBytes);
  for (int i = 0; i < 2; ++i) {
    const Tag tag = test_.NewTag();
    test_.store().ReadFromDevice(test_.now(), kSlice, TestKey(0), 3, 1, target, tag, test_.out());
    test_.Take();
    EXPECT_EQ(test_.Await(tag), DoneStatus::kOk);
  }
  EXPECT_EQ(test_.store().memory().cache_bytes, 0u);
  EXPECT_EQ(test_.store().counters().cache_hits, 0u);
}

TEST_F(StoreCache, AHomeThatIsOverwrittenInPlaceIsReadAnew) {
  Write(0, 0, 1, 100);
  BringHome();
  EXPECT_EQ(Read(0, 0, 1), Stamps{100});
  EXPECT_EQ(test_.store().memory().cache_bytes, kBlockBytes);
  Write(0, 0, 1, 200);
  EXPECT_EQ(Read(0, 0, 1), Stamps{200});
  BringHome();
  UseAnotherPage();
  EXPECT_EQ(Read(0, 0, 1), Stamps{200});
}

TEST_F(StoreCache, APlaceThatALargeWriteTakesOverIsReadAnew) {
  // Whatever place it gets: all of them were read.
  const uint64_t extents = test_.store().capacity().extents_total;
  constexpr uint32_t kWrites = 8;
  for (uint32_t round = 0; round * kWrites < 3 * extents; ++round) {
    for (uint32_t chunk = 0; chunk < kWrites; ++chunk) {
      Write(chunk, 0, kBlocksPerExtent, 1'000 * round + chunk);
      EXPECT_EQ(Read(chunk, 0, 1), Stamps{1'000 * round + chunk});
    }
    BringHome();
    for (uint32_t chunk = 0; chunk < kWrites; ++chunk) {
      ASSERT_EQ(Read(chunk, 0, 1), Stamps{1'000 * round + chunk});
    }
  }
  EXPECT_GT(test_.store().counters().cache_hits, 0u);
}

TEST_F(StoreCache, ARestartForgetsIt) {
  Write(0, 0, 1, 100);
  BringHome();
  EXPECT_EQ(Read(0, 0, 1), Stamps{100});
  test_.NewProcess();
  ASSERT_TRUE(test_.Open());
  EXPECT_EQ(test_.store().memory().cache_bytes, 0u);
}

// The disk serves the read last, but with what was there first.
TEST_F(StoreCache, ARoundThatOverwritesWhatIsBeingReadIsNoticed) {
  Write(0, 0, 1, 100);
  BringHome();
  UseAnotherPage();
  const Slice target = test_.pool().Allocate(kBlockBytes);
  const Tag tag = test_.NewTag();
  test_.store().Read(test_.now(), kSlice, TestKey(0), 0, 1, target, tag, test_.out());
  test_.Take();
  const size_t reads = test_.disk().pending();
  ASSERT_GE(reads, 2u);  // block and page
  const uint64_t at = test_.disk().pending_offset(reads - 1);
  // The block's content is what it was when it was asked for; its completion comes late.
  const DiskDoneEvent late = test_.disk().Complete(reads - 1);
  ASSERT_GE(at, ComputeGeometry(24 << 20, 4 << 20)->extents_offset());
  Write(0, 0, 1, 200);
  BringHome();
  test_.store().OnDiskDone(test_.now(), late, test_.out());
  test_.Take();
  EXPECT_EQ(test_.Await(tag), DoneStatus::kOk);
  UseAnotherPage();
  EXPECT_EQ(Read(0, 0, 1), Stamps{200});
}

}  // namespace
}  // namespace gabion::store
