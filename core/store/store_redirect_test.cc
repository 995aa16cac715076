// Large writes, whose whole extents go straight to the device instead of through the log
// (docs/store.md, "Large writes").
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "core/base/bytes.h"
#include "core/store/layout.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

using Fate = TestDisk::Fate;
using Stamps = std::vector<uint64_t>;
constexpr SliceId kSlice{1};
constexpr TestStore::Options kOptions{.redirect = true};

class StoreRedirect : public ::testing::Test {
 protected:
  explicit StoreRedirect(const TestStore::Options& options = kOptions)
      : test_(options), geometry_(*ComputeGeometry(options.device_bytes, options.log_bytes)) {
    EXPECT_TRUE(test_.Format()) << test_.store().error();
    EXPECT_EQ(test_.Await(test_.Start(kSlice, {.epoch = Epoch(1), .issuer = 9})), DoneStatus::kOk);
  }

  Tag Append(uint64_t seq, uint32_t chunk, uint32_t first, uint32_t count, uint64_t stamp) {
    return test_.Append(kSlice, test_.Write(Entry(1, seq), chunk, first, count), stamp);
  }
  void AppendAndWait(uint64_t seq, uint32_t chunk, uint32_t first, uint32_t count, uint64_t stamp) {
    ASSERT_EQ(test_.Await(Append(seq, chunk, first, count, stamp)), DoneStatus::kOk);
  }
  void BringHome() {
    test_.Commit(kSlice, test_.store().Find(kSlice)->last_durable);
    test_.Quiesce();
  }
  void Reopen() {
    test_.NewProcess();
    ASSERT_TRUE(test_.Open()) << test_.store().error();
    test_.store().CheckInvariants(true);
  }
  void CutPower() {
    test_.disk().PowerCut(std::vector<Fate>(test_.disk().undecided(), Fate::kLost));
    Reopen();
  }
  // Completes the oldest operation on its way that is of this kind and in this part of the device.
  bool Complete(DiskOp op, bool in_extents) {
    TestDisk& disk = test_.disk();
    for (size_t i = 0; i < disk.pending(); ++i) {
      const bool is_there = disk.pending_offset(i) >= geometry_.extents_offset();
      if (disk.pending_op(i) != op || is_there != in_extents) continue;
      test_.store().OnDiskDone(test_.now(), disk.Complete(i), test_.out());
      test_.Take();
      return true;
    }
    return false;
  }
  bool CompleteExtent() { return Complete(DiskOp::kDurableWrite, true); }
  bool CompleteBatch() { return Complete(DiskOp::kDurableWrite, false); }
  // The stamps of an entry's payload, by ReadEntry; nothing when it is not kOk.
  std::optional<Stamps> Fetch(uint64_t seq, uint32_t count) {
    const Slice target = test_.pool().Allocate(count * kBlockBytes);
    std::vector<uint32_t> crcs(count);
    const Tag tag = test_.NewTag();
    test_.store().ReadEntry(test_.now(), kSlice, Entry(1, seq), target, crcs, tag, test_.out());
    test_.Take();
    if (test_.Await(tag) != DoneStatus::kOk) return std::nullopt;
    EXPECT_EQ(TestStore::Crcs(target), crcs);
    Stamps stamps;
    for (uint32_t i = 0; i < count; ++i) {
      stamps.push_back(LoadLe<uint64_t>(target.data() + size_t{i} * kBlockBytes));
    }
    return stamps;
  }
  static Stamps Run(uint64_t stamp, uint32_t count) {
    Stamps stamps;
    for (uint32_t i = 0; i < count; ++i) stamps.push_back(stamp + i);
    return stamps;
  }
  uint64_t redirected_bytes() { return test_.store().counters().redirected_bytes; }
  uint64_t extents_free() { return test_.store().capacity().extents_free; }

  TestStore test_;
  Geometry geometry_;
};

TEST_F(StoreRedirect, AWholeExtentIsWrittenOnceAndNeverThroughTheLog) {
  AppendAndWait(1, 0, 16, 64, 1000);
  EXPECT_EQ(redirected_bytes(), 4 * kExtentBytes);
  BringHome();
  const Counters counters = test_.store().counters();
  EXPECT_EQ(counters.user_bytes, 4 * kExtentBytes);
  EXPECT_EQ(counters.destaged_blocks, 0u);
  EXPECT_EQ(counters.device_bytes, counters.log_bytes + counters.checkpoint_bytes +
                                       counters.redirected_bytes + 2 * kBlockBytes);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 16, 64), Run(1000, 64));
  Reopen();
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 16, 64), Run(1000, 64));
}

TEST_F(StoreRedirect, EndsGoThroughTheLog) {
  AppendAndWait(1, 0, 5, 40, 1000);  // 11 + 16 + 13
  EXPECT_EQ(redirected_bytes(), kExtentBytes);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 5, 40), Run(1000, 40));
  EXPECT_EQ(Fetch(1, 40), Run(1000, 40));
  Reopen();
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 5, 40), Run(1000, 40));
  EXPECT_EQ(Fetch(1, 40), Run(1000, 40));
  BringHome();
  EXPECT_EQ(test_.store().counters().destaged_blocks, 24u);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 5, 40), Run(1000, 40));
  AppendAndWait(2, 1, 0, 20, 2000);  // only one end
  AppendAndWait(3, 1, 60, 20, 3000);
  EXPECT_EQ(Fetch(2, 20), Run(2000, 20));
  EXPECT_EQ(Fetch(3, 20), Run(3000, 20));
}

TEST_F(StoreRedirect, ARecordWaitsForItsExtentsAndThoseBehindItWait) {
  const Tag small = Append(1, 1, 0, 1, 100);
  const Tag large = Append(2, 0, 0, 32, 1000);
  const Tag behind = Append(3, 1, 1, 1, 300);
  ASSERT_TRUE(CompleteBatch());
  EXPECT_TRUE(test_.IsDone(small));
  // Nothing goes to the log before the extents are there; then in the order of the calls.
  EXPECT_FALSE(CompleteBatch());
  ASSERT_TRUE(CompleteExtent());
  EXPECT_FALSE(test_.IsDone(large));
  ASSERT_TRUE(CompleteBatch());
  EXPECT_TRUE(test_.IsDone(large));
  EXPECT_TRUE(test_.IsDone(behind));
}

// A cut seals what waits, and the checkpoint waits for it.
TEST_F(StoreRedirect, ACheckpointWaitsForTheExtentsThatItNames) {
  const Tag large = Append(1, 0, 0, 32, 1000);
  const Tag close = test_.NewTag();
  test_.store().Close(test_.now(), close, test_.out());
  test_.Take();
  while (Complete(DiskOp::kWrite, false) || CompleteBatch() || Complete(DiskOp::kFlush, false)) {
  }
  EXPECT_FALSE(test_.IsDone(large));
  EXPECT_FALSE(test_.IsDone(close));
  ASSERT_TRUE(CompleteExtent());
  EXPECT_EQ(test_.Await(close), DoneStatus::kOk);
  EXPECT_TRUE(test_.IsDone(large));
  Reopen();
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 32), Run(1000, 32));
}

TEST_F(StoreRedirect, ReadsFindItAtEveryStage) {
  const Tag tag = Append(1, 0, 0, 32, 1000);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 3, 20), Run(1003, 20));
  EXPECT_EQ(Fetch(1, 32), Run(1000, 32));
  EXPECT_EQ(test_.disk().pending(), 1u);  // nothing of it is on the device yet
  EXPECT_EQ(test_.Await(tag), DoneStatus::kOk);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 3, 20), Run(1003, 20));
  AppendAndWait(2, 0, 10, 2, 500);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 9, 4), (Stamps{1009, 500, 501, 1012}));
  EXPECT_EQ(Fetch(1, 32), Run(1000, 32));
  BringHome();
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 9, 4), (Stamps{1009, 500, 501, 1012}));
  EXPECT_EQ(Fetch(1, 32), std::nullopt);
}

TEST_F(StoreRedirect, WhatIsVoidedIsNotUsedAgainBeforeTheVoidIsDurable) {
  AppendAndWait(1, 0, 0, 16, 1000);
  const Tag voided = test_.NewTag();
  test_.store().VoidAbove(test_.now(), kSlice, Entry(1, 0), voided, test_.out());
  test_.Take();
  Append(1, 1, 0, 16, 2000);
  ASSERT_TRUE(CompleteExtent());
  CutPower();
  ASSERT_FALSE(test_.IsDone(voided));
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 16), Run(1000, 16));
}

TEST_F(StoreRedirect, AnOldHomeIsNotUsedAgainBeforeACheckpointKnowsTheNewOne) {
  AppendAndWait(1, 0, 0, 16, 1000);
  BringHome();
  AppendAndWait(2, 0, 0, 16, 2000);
  test_.Commit(kSlice, Entry(1, 2));
  // The checkpoint that follows the hand-over has begun.
  for (int i = 0; i < 100; ++i) {
    if (test_.disk().pending() > 0 && test_.disk().pending_op(0) == DiskOp::kWrite) break;
    if (!test_.StepDisk()) test_.FireTimer();
  }
  ASSERT_GT(test_.disk().pending(), 0u);
  const Tag tag = Append(3, 1, 0, 16, 3000);
  ASSERT_TRUE(CompleteExtent());
  while (!test_.IsDone(tag)) ASSERT_TRUE(CompleteBatch());
  CutPower();
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 16), Run(2000, 16));
  EXPECT_EQ(test_.Read(kSlice, TestKey(1), 0, 16), Run(3000, 16));
}

TEST_F(StoreRedirect, SpaceComesBack) {
  const uint64_t free = extents_free();
  AppendAndWait(1, 0, 0, 64, 1000);
  EXPECT_EQ(extents_free(), free - 4);
  // What it has an extent for, another write needs none for.
  EXPECT_EQ(test_.store().ExtentsNeeded(kSlice, test_.Write(Entry(1, 2), 0, 48, 16)), 0u);
  AppendAndWait(2, 0, 0, 64, 2000);
  EXPECT_EQ(extents_free(), free - 8);
  BringHome();
  EXPECT_EQ(extents_free(), free - 4);
  AppendAndWait(3, 0, 0, 64, 3000);
  const Tag tag = test_.NewTag();
  test_.store().DropSlice(test_.now(), kSlice, tag, test_.out());
  test_.Take();
  EXPECT_EQ(test_.Await(tag), DoneStatus::kOk);
  test_.Quiesce();
  EXPECT_EQ(extents_free(), free);
  Reopen();
  EXPECT_EQ(extents_free(), free);
}

TEST_F(StoreRedirect, LeavesWhatIsPromisedToOthersAndThenGoesThroughTheLog) {
  const uint64_t free = extents_free();
  // What it leaves besides, at most.
  const uint64_t margin = geometry_.extents_total / 8;
  test_.store().SetExtentsPromised(free - margin - 4);
  AppendAndWait(1, 0, 0, 64, 1000);
  EXPECT_EQ(redirected_bytes(), 4 * kExtentBytes);
  AppendAndWait(2, 1, 0, 64, 2000);
  EXPECT_EQ(redirected_bytes(), 4 * kExtentBytes);
  EXPECT_EQ(test_.Read(kSlice, TestKey(1), 0, 64), Run(2000, 64));
}

// Ten times the device, over and over the same place: nobody waits for space without end, and no
// more than half the ring's worth is ever on its way home.
TEST_F(StoreRedirect, ManyTimesTheDeviceFindsItsWayHome) {
  const uint64_t free = extents_free();
  constexpr uint64_t kEntries = 960;
  for (uint64_t seq = 1; seq <= kEntries; ++seq) {
    AppendAndWait(seq, 0, static_cast<uint32_t>(seq % 4) * 64, 64, seq * 1000);
    test_.Commit(kSlice, Entry(1, seq));
    ASSERT_LE(free - extents_free(), geometry_.redirected_max() + 32);
  }
  // Some goes through the log while homes are waited for.
  EXPECT_GT(redirected_bytes(), kEntries * 4 * kExtentBytes / 2);
  test_.Quiesce();
  EXPECT_EQ(extents_free(), free - 16);
  for (uint64_t seq = kEntries - 3; seq <= kEntries; ++seq) {
    EXPECT_EQ(test_.Read(kSlice, TestKey(0), static_cast<uint32_t>(seq % 4) * 64, 64),
              Run(seq * 1000, 64));
  }
}

TEST_F(StoreRedirect, AWriteOfAnExtentThatFailsFailsTheDevice) {
  const Tag tag = Append(1, 0, 0, 16, 1000);
  TestDisk& disk = test_.disk();
  ASSERT_EQ(disk.pending(), 1u);
  test_.store().OnDiskDone(test_.now(), disk.Complete(0, DiskStatus::kIoError), test_.out());
  test_.Take();
  EXPECT_EQ(test_.Result(tag), DoneStatus::kFailed);
  EXPECT_EQ(test_.store().state(), State::kFailed);
}

class StoreRedirectSequential : public StoreRedirect {
 protected:
  StoreRedirectSequential()
      : StoreRedirect({.device_bytes = 200 << 20, .log_bytes = 16 << 20, .redirect = true}) {}
};

// 1 MiB at a time, in entries of 256 KiB as they come from the SDC.
TEST_F(StoreRedirectSequential, CostsHardlyMoreThanItsBytes) {
  const Counters before = test_.store().counters();
  for (uint64_t seq = 1; seq <= 512; seq += 4) {
    const auto chunk = static_cast<uint32_t>(seq / 4);
    Tag last = 0;
    for (uint32_t i = 0; i < 4; ++i) last = Append(seq + i, chunk, i * 64, 64, seq * 1000);
    ASSERT_EQ(test_.Await(last), DoneStatus::kOk);
    test_.Commit(kSlice, Entry(1, seq + 3));
  }
  test_.Quiesce();
  const Counters after = test_.store().counters();
  EXPECT_EQ(after.user_bytes - before.user_bytes, uint64_t{128} << 20);
  EXPECT_LE(after.device_bytes - before.device_bytes,
            (after.user_bytes - before.user_bytes) * 105 / 100);
}

}  // namespace
}  // namespace gabion::store
