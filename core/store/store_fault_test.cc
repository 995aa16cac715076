// What a device can do to a store: crashes at every point of a short story, rot, foreign and
// damaged superblocks, failing writes, a device that is too small.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/store/layout.h"
#include "core/store/store.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

using ::testing::Test;
using Stamps = std::vector<uint64_t>;
constexpr SliceId kSlice{1};

EpochStartRecord Start(uint64_t epoch) { return {.epoch = Epoch(epoch), .issuer = 9}; }

void FormatAndStart(TestStore& test) {
  ASSERT_TRUE(test.Format()) << test.store().error();
  ASSERT_EQ(test.Await(test.Start(kSlice, Start(1))), DoneStatus::kOk);
}

void AppendBlocks(TestStore& test, uint64_t seq, uint32_t first, uint32_t count, uint64_t stamp) {
  ASSERT_EQ(test.Await(test.Append(kSlice, test.Write(Entry(1, seq), 0, first, count), stamp)),
            DoneStatus::kOk);
}

// Where batches begin on the device, found by their magic.
std::vector<uint64_t> BatchOffsets(const TestDisk& disk) {
  std::vector<uint64_t> offsets;
  for (uint64_t at = kHeadBytes; at < disk.info().size_bytes; at += kBlockBytes) {
    if (LoadLe<uint64_t>(disk.Content(at, sizeof(uint64_t)).data()) == kBatchMagic) {
      offsets.push_back(at);
    }
  }
  return offsets;
}

// A story in which everything that writes happens, cut after its n-th disk operation, for every n.
class Story {
 public:
  Story(uint64_t seed, bool power_cut)
      : test_({.device_bytes = 14 << 20, .log_bytes = 4 << 20, .seed = seed}),
        power_cut_(power_cut) {}

  // False: the story ended before operation `n`.
  bool PlayUntil(uint64_t n) {
    left_ = n;
    FormatAndStart(test_);
    const bool cut = !Play();
    if (!cut) return false;
    test_.Crash(power_cut_);
    EXPECT_TRUE(test_.Open()) << test_.store().error();
    if (::testing::Test::HasFailure()) return false;
    test_.store().CheckInvariants(true);
    Verify();
    // And it goes on working.
    const EntryId next{Epoch(3), Seq(1)};
    test_.Await(test_.Start(kSlice, Start(3)));
    EXPECT_EQ(test_.Await(test_.Append(kSlice, test_.Write(next, 0, 0, 1), 7000)), DoneStatus::kOk);
    test_.Quiesce();
    test_.store().CheckInvariants(true);
    EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 1), Stamps{7000});
    return true;
  }

 private:
  // One disk operation; false: the power is gone.
  bool Tick() {
    if (left_ == 0) return false;
    if (test_.StepDisk()) {
      --left_;
    } else {
      test_.FireTimer();
    }
    return true;
  }
  bool Until(Tag tag) {
    while (!test_.IsDone(tag)) {
      if (!Tick()) return false;
    }
    return true;
  }
  bool Write(EntryId id, uint32_t first, uint32_t count, uint64_t stamp) {
    if (!Until(test_.Append(kSlice, test_.Write(id, 0, first, count), stamp))) return false;
    for (uint32_t i = 0; i < count; ++i) done_[first + i] = stamp + i;
    return true;
  }
  bool Idle() {
    for (int i = 0; i < 60; ++i) {
      if (test_.timer() == kNever && test_.disk().pending() == 0) return true;
      if (!Tick()) return false;
    }
    return true;
  }

  bool Play() {
    if (!Write(Entry(1, 1), 0, 8, 100)) return false;
    if (!Write(Entry(1, 2), 4, 8, 200)) return false;
    test_.Commit(kSlice, Entry(1, 1));
    if (!Idle()) return false;
    const Rename rename{.from = Entry(1, 2), .to = Entry(2, 1)};
    EpochStartRecord start = ::gabion::store::Start(2);
    start.end = Entry(1, 1);
    start.renames = std::span(&rename, 1);
    if (!Until(test_.Start(kSlice, start))) return false;
    started_two_ = true;
    if (!Write(Entry(2, 2), 6, 1, 300)) return false;
    test_.Commit(kSlice, Entry(2, 2));
    if (!Idle()) return false;
    if (!Write(Entry(2, 3), 20, 3, 400)) return false;
    return Idle();
  }

  // Every block that was done is there; a block beyond holds that or what was on its way.
  void Verify() {
    const auto got = test_.Read(kSlice, TestKey(0), 0, 32);
    ASSERT_TRUE(got.has_value());
    const SliceFacts* facts = test_.store().Find(kSlice);
    ASSERT_NE(facts, nullptr);
    if (started_two_) {
      EXPECT_EQ(facts->started_epoch, Epoch(2));
    }
    for (const auto& [block, stamp] : done_) {
      EXPECT_GE((*got)[block], stamp) << "block " << block;  // stamps grow
    }
    EXPECT_FALSE(facts->needs_resync);
  }

  TestStore test_;
  bool power_cut_;
  bool started_two_ = false;
  uint64_t left_ = 0;
  std::map<uint32_t, uint64_t> done_;
};

TEST(StoreCrash, EveryPointOfAShortStoryIsSurvived) {
  for (const bool power_cut : {false, true}) {
    uint64_t points = 0;
    while (Story(points + 1, power_cut).PlayUntil(points)) ++points;
    ASSERT_FALSE(Test::HasFailure()) << "cut after " << points << " operations";
    EXPECT_GT(points, 20u);
  }
}

TEST(StoreFormat, RefusesADeviceThatIsTooSmallAndWritesNothing) {
  TestStore test({.device_bytes = 4 << 20, .log_bytes = 0});
  EXPECT_FALSE(test.Format());
  EXPECT_NE(test.store().error().find("too few"), std::string::npos) << test.store().error();
  EXPECT_EQ(test.disk().writes(), 0u);
}

TEST(StoreFormat, RefusesForeignDataUnlessForced) {
  TestStore test({});
  const std::vector<std::byte> foreign(16, std::byte{0x42});
  test.disk().Overwrite(512 << 10, foreign);
  EXPECT_FALSE(test.Format());
  EXPECT_EQ(test.disk().writes(), 0u);
  test.NewProcess();
  EXPECT_TRUE(test.Format(true)) << test.store().error();
}

TEST(StoreFormat, NamesTheStoreThatIsAlreadyThere) {
  TestStore test({});
  ASSERT_TRUE(test.Format());
  test.NewProcess();
  const uint64_t writes = test.disk().writes();
  EXPECT_FALSE(test.Format());
  EXPECT_NE(test.store().error().find(ToString(kTestCluster)), std::string::npos);
  EXPECT_EQ(test.disk().writes(), writes);
}

TEST(StoreOpen, RefusesAnotherIdentityAndWritesNothing) {
  TestStore test({});
  ASSERT_TRUE(test.Format());
  const uint64_t writes = test.disk().writes();
  const Identity right = test.identity;
  for (int i = 0; i < 3; ++i) {
    test.identity = right;
    if (i == 0) test.identity.cluster = ClusterId(99);
    if (i == 1) test.identity.sds = SdsId(99);
    if (i == 2) test.identity.device = DeviceId(99);
    test.NewProcess();
    EXPECT_FALSE(test.Open());
    EXPECT_NE(test.store().error().find(HexId(99)), std::string::npos) << test.store().error();
    EXPECT_EQ(test.store().state(), State::kFailed);
  }
  EXPECT_EQ(test.disk().writes(), writes);
  test.identity = right;
  test.NewProcess();
  EXPECT_TRUE(test.Open());
}

TEST(StoreOpen, RefusesARunThatIsOlderThanTheLast) {
  TestStore test({});
  test.identity.incarnation = Incarnation(5);
  test.identity.run = 50;
  ASSERT_TRUE(test.Format());
  test.NewProcess();
  EXPECT_TRUE(test.Open()) << "the same run opens it again";
  EXPECT_TRUE(test.store().marked());
  const uint64_t writes = test.disk().writes();
  const std::pair<uint64_t, uint64_t> refused[] = {{4, 40}, {5, 51}};
  for (const auto& [incarnation, run] : refused) {
    test.identity.incarnation = Incarnation(incarnation);
    test.identity.run = run;
    test.NewProcess();
    EXPECT_FALSE(test.Open());
    EXPECT_FALSE(test.store().marked());
    EXPECT_EQ(test.store().newer_incarnation(), Incarnation(5));
    EXPECT_NE(test.store().error().find("old copy"), std::string::npos) << test.store().error();
  }
  EXPECT_EQ(test.disk().writes(), writes);
  test.identity.incarnation = Incarnation();  // a reader
  test.NewProcess();
  EXPECT_TRUE(test.Open());
  test.identity.incarnation = Incarnation(6);
  test.identity.run = 60;
  test.NewProcess();
  EXPECT_TRUE(test.Open());
  test.identity.incarnation = Incarnation(5);
  test.identity.run = 50;
  test.NewProcess();
  EXPECT_FALSE(test.Open());
  EXPECT_EQ(test.store().newer_incarnation(), Incarnation(6));
}

TEST(StoreOpen, RefusesAnEmptyDevice) {
  TestStore test({});
  EXPECT_FALSE(test.Open());
  EXPECT_NE(test.store().error().find("format"), std::string::npos) << test.store().error();
  EXPECT_EQ(test.disk().writes(), 0u);
}

TEST(StoreOpen, LivesWithOneDamagedSuperblockAndSaysSoWithTwo) {
  TestStore test({});
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 1, 100);
  for (const uint64_t offset : kSuperblockOffset) {
    test.NewProcess();
    test.disk().FlipBit((offset + 40) * 8);
    ASSERT_TRUE(test.Open()) << test.store().error();
    EXPECT_EQ(test.Read(kSlice, TestKey(0), 0, 1), Stamps{100});
  }
  test.NewProcess();
  for (const uint64_t offset : kSuperblockOffset) test.disk().FlipBit((offset + 40) * 8);
  const uint64_t writes = test.disk().writes();
  EXPECT_FALSE(test.Open());
  EXPECT_NE(test.store().error().find("superblock"), std::string::npos) << test.store().error();
  EXPECT_EQ(test.disk().writes(), writes);
}

TEST(StoreOpen, SaysThatTheCheckpointIsDamaged) {
  TestStore test({});
  FormatAndStart(test);
  ASSERT_TRUE(test.Close());
  // Both areas: one of them is named.
  const Geometry geometry = *ComputeGeometry(24 << 20, 4 << 20);
  for (uint32_t area = 0; area < 2; ++area) test.disk().FlipBit(geometry.area_offset(area) * 8);
  test.NewProcess();
  EXPECT_FALSE(test.Open());
  EXPECT_NE(test.store().error().find("checkpoint"), std::string::npos) << test.store().error();
}

TEST(StoreRot, InTheMiddleOfTheLogMarksEveryReplica) {
  TestStore test({});
  FormatAndStart(test);
  for (uint64_t seq = 1; seq <= 3; ++seq) AppendBlocks(test, seq, 0, 1, seq * 100);
  // Batches: the start, three entries. The second entry's header rots; the third proves that it was
  // durable.
  const std::vector<uint64_t> batches = BatchOffsets(test.disk());
  ASSERT_EQ(batches.size(), 4u);
  test.disk().FlipBit((batches[2] + 100) * 8);
  test.NewProcess();
  ASSERT_TRUE(test.Open()) << test.store().error();
  EXPECT_TRUE(test.store().Find(kSlice)->needs_resync);
  EXPECT_EQ(test.store().Find(kSlice)->last, Entry(1, 1));
  // The verdict outlives crashes, until a resync clears it.
  test.Crash(true);
  ASSERT_TRUE(test.Open()) << test.store().error();
  EXPECT_TRUE(test.store().Find(kSlice)->needs_resync);
  test.Settle();
  const Tag tag = test.NewTag();
  test.store().SetNeedsResync(test.now(), kSlice, false, tag, test.out());
  test.Take();
  EXPECT_EQ(test.Await(tag), DoneStatus::kOk);
  test.Quiesce();
  test.NewProcess();
  ASSERT_TRUE(test.Open()) << test.store().error();
  EXPECT_FALSE(test.store().Find(kSlice)->needs_resync);
}

TEST(StoreRot, OfTheLastBatchIsProvenByTheSealOfAnIdleLog) {
  TestStore test({});
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 1, 100);
  test.FireTimer();  // 100 ms later
  test.Settle();
  const std::vector<uint64_t> batches = BatchOffsets(test.disk());
  ASSERT_EQ(batches.size(), 3u);
  test.disk().FlipBit((batches[1] + 100) * 8);
  test.NewProcess();
  ASSERT_TRUE(test.Open()) << test.store().error();
  EXPECT_TRUE(test.store().Find(kSlice)->needs_resync);
}

TEST(StoreRot, OfUserDataIsCorruptThereAndNowhereElse) {
  TestStore test({});
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 3, 100);
  AppendBlocks(test, 2, 8, 1, 200);
  const std::vector<uint64_t> batches = BatchOffsets(test.disk());
  ASSERT_EQ(batches.size(), 3u);
  test.disk().FlipBit((batches[1] + 2 * kBlockBytes + 77) *
                      8);  // the second block of the first entry
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 0, 3), std::nullopt);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 2, 1), Stamps{102});
  test.NewProcess();
  ASSERT_TRUE(test.Open()) << test.store().error();
  EXPECT_FALSE(test.store().Find(kSlice)->needs_resync);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 0, 1), Stamps{100});
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 1, 1), std::nullopt);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 8, 1), Stamps{200});
  // Nor does destaging make good data of it.
  test.Commit(kSlice, Entry(1, 2));
  test.Quiesce();
  EXPECT_EQ(test.store().FindEntry(kSlice, Entry(1, 2)), nullptr);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 1, 1), std::nullopt);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 2, 1), Stamps{102});
}

TEST(StoreFailure, AFailedWriteOrFlushIsForGood) {
  for (const DiskOp op : {DiskOp::kDurableWrite, DiskOp::kFlush}) {
    TestStore test({});
    FormatAndStart(test);
    const Tag write = test.Append(kSlice, test.Write(Entry(1, 1), 0, 0, 1), 100);
    if (op == DiskOp::kFlush) {
      test.Await(write);
      test.store().Close(test.now(), test.NewTag(), test.out());
      test.Take();
    }
    while (test.disk().pending() > 0 && test.disk().pending_op(0) != op) test.StepDisk();
    ASSERT_GT(test.disk().pending(), 0u);
    test.store().OnDiskDone(test.now(), test.disk().Complete(0, DiskStatus::kIoError), test.out());
    test.Take();
    EXPECT_EQ(test.store().state(), State::kFailed);
    EXPECT_FALSE(test.store().error().empty());
    EXPECT_EQ(test.Result(write), op == DiskOp::kFlush ? DoneStatus::kOk : DoneStatus::kFailed);
    const Tag after = test.Append(kSlice, test.Write(Entry(1, 2), 0, 0, 1), 200);
    EXPECT_EQ(test.Result(after), DoneStatus::kFailed);
    EXPECT_EQ(test.disk().pending(), 0u);
  }
}

// The commit point of an epoch that starts behind a full queue.
TEST(StoreFaultTest, CommitPointsDoNotOvertakeTheEpochThatNumbersThem) {
  TestStore test(TestStore::Options{});
  FormatAndStart(test);
  constexpr SliceId kOther{2};
  ASSERT_EQ(test.Await(test.Start(kOther, Start(1))), DoneStatus::kOk);
  for (uint64_t seq = 1; seq <= 5; ++seq) AppendBlocks(test, seq, 0, 1, 100 * seq);
  test.Settle();
  for (uint64_t seq = 1; seq <= 300; ++seq) {
    test.Append(kOther, test.Write(Entry(1, seq), 0, 0, 1), seq);
  }
  test.Commit(kSlice, Entry(1, 2));
  EpochStartRecord joining = Start(3);
  joining.in_sync = false;
  joining.end = Entry(1, 2);
  joining.start = Seq(50);
  test.Start(kSlice, joining);
  ASSERT_TRUE(test.StepDisk());  // the first batch: it was on its way before
  ASSERT_TRUE(test.StepDisk());  // the second one: full, and without the epoch's start
  while (test.disk().pending() > 0) test.disk().Complete(0, DiskStatus::kIoError);
  test.Crash(false);
  ASSERT_TRUE(test.Open()) << test.store().error();
  const SliceFacts* facts = test.store().Find(kSlice);
  ASSERT_NE(facts, nullptr);
  EXPECT_EQ(facts->started_epoch, Epoch(1));
  EXPECT_LE(facts->commit_point, Entry(1, 2));
  EXPECT_EQ(facts->last, Entry(1, 5));
}

TEST(StoreFaultTest, RottenEntryIsNotServedWhileItIsMovedInTheLog) {
  TestStore test(TestStore::Options{});
  FormatAndStart(test);
  constexpr SliceId kOther{2};
  ASSERT_EQ(test.Await(test.Start(kOther, Start(1))), DoneStatus::kOk);
  AppendBlocks(test, 1, 0, 1, 100);  // not committed: it stays in the log
  const uint64_t before = BatchOffsets(test.disk()).back();
  test.disk().FlipBit((before + kBlockBytes + 100) * 8);
  for (uint64_t seq = 1; seq <= 200; ++seq) {
    const auto entry = test.Write(Entry(1, seq), 0, static_cast<uint32_t>(seq % 8 * 32), 32);
    const Tag tag = test.Append(kOther, entry, seq);
    while (!test.IsDone(tag)) {
      EXPECT_EQ(test.Read(kSlice, TestKey(0), 0, 1), std::nullopt) << "after " << seq;
      if (!test.StepDisk()) test.FireTimer();
    }
    test.Commit(kOther, Entry(1, seq));
  }
  EXPECT_GT(test.store().counters().checkpoints, 3u);
  // It was moved, and not freed by moving of what is wrong with it.
  EXPECT_NE(test.store().FindEntry(kSlice, Entry(1, 1)), nullptr);
}

}  // namespace
}  // namespace gabion::store
