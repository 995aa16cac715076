// What a replica goes through: renames, voids, copies, floors, request ids, and the space it takes.
#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <vector>

#include "core/store/layout.h"
#include "core/store/store.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

using Stamps = std::vector<uint64_t>;
constexpr SliceId kSlice{1};
constexpr SdcId kClient{5};

class StoreReplicaTest : public ::testing::Test {
 protected:
  StoreReplicaTest() : test_({.device_bytes = 14 << 20, .log_bytes = 4 << 20}) {
    EXPECT_TRUE(test_.Format()) << test_.store().error();
    StartEpoch({.epoch = Epoch(1), .issuer = 9});
  }

  void StartEpoch(const EpochStartRecord& record) {
    EXPECT_EQ(test_.Await(test_.Start(kSlice, record)), DoneStatus::kOk);
  }
  void Append(EntryId id, uint32_t first, uint32_t count, uint64_t stamp, uint64_t request = 0) {
    wire::EntryHeader entry = test_.Write(id, 0, first, count);
    if (request != 0) {
      entry.client = kClient;
      entry.client_incarnation = Incarnation(1);
      entry.request = RequestId(request);
    }
    EXPECT_EQ(test_.Await(test_.Append(kSlice, entry, stamp)), DoneStatus::kOk);
  }
  void Void(EntryId end) {
    const Tag tag = test_.NewTag();
    test_.store().VoidAbove(test_.now(), kSlice, end, tag, test_.out());
    test_.Take();
    EXPECT_EQ(test_.Await(tag), DoneStatus::kOk);
  }
  void Copy(uint16_t extent, uint16_t present, Epoch modified, EntryId after, uint64_t stamp) {
    const auto blocks = static_cast<uint32_t>(std::popcount(present));
    const Slice data = blocks == 0 ? Slice() : test_.Data(stamp, blocks);
    const Tag tag = test_.NewTag();
    test_.store().AppendCopy(test_.now(), kSlice, TestKey(0), extent, present, modified, after,
                             data, TestStore::Crcs(data), tag, test_.out());
    test_.Take();
    EXPECT_EQ(test_.Await(tag), DoneStatus::kOk);
  }
  void Reopen() {
    test_.Crash(false);
    ASSERT_TRUE(test_.Open()) << test_.store().error();
    test_.store().CheckInvariants(true);
  }
  Store::RequestLookup Request(uint64_t request) {
    return test_.store().FindRequest(kSlice, kClient, Incarnation(1), RequestId(request));
  }
  const SliceFacts& facts() { return *test_.store().Find(kSlice); }

  TestStore test_;
};

TEST_F(StoreReplicaTest, RenameKeepsPayloadAndRequestId) {
  Append(Entry(1, 1), 0, 1, 100, 11);
  Append(Entry(1, 2), 1, 1, 200, 12);
  Append(Entry(1, 3), 2, 1, 300, 13);
  test_.Commit(kSlice, Entry(1, 1));
  const Rename rename{.from = Entry(1, 2), .to = Entry(2, 1)};
  StartEpoch({.epoch = Epoch(2), .end = Entry(1, 1), .renames = std::span(&rename, 1)});
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(facts().last, Entry(2, 1));
    EXPECT_EQ(test_.store().FindEntry(kSlice, Entry(1, 2)), nullptr);
    ASSERT_NE(test_.store().FindEntry(kSlice, Entry(2, 1)), nullptr);
    EXPECT_EQ(Request(12).entry, Entry(2, 1));
    EXPECT_EQ(Request(13).state, Store::RequestState::kUnknown);  // not carried over: void
    EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 3), (Stamps{100, 200, 0}));
    Reopen();
  }
  const Slice target = test_.pool().Allocate(kBlockBytes);
  std::vector<uint32_t> crc(1);
  const Tag tag = test_.NewTag();
  test_.store().ReadEntry(test_.now(), kSlice, Entry(2, 1), target, crc, tag, test_.out());
  test_.Take();
  EXPECT_EQ(test_.Await(tag), DoneStatus::kOk);
  EXPECT_EQ(TestStore::Crcs(target), crc);
}

// A primary that comes back may have brought home what its successor carries over under new names.
TEST_F(StoreReplicaTest, VoidSparesWhatIsHome) {
  Append(Entry(1, 1), 0, 20, 100, 11);
  Append(Entry(1, 2), 0, 20, 200, 12);
  test_.Commit(kSlice, Entry(1, 2));
  test_.Quiesce();
  Append(Entry(1, 3), 0, 1, 300, 13);
  Void(Entry(1, 1));
  EXPECT_EQ(facts().last, Entry(1, 2));
  EXPECT_EQ(facts().commit_point, Entry(1, 2));
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 2), (Stamps{200, 201}));
  EXPECT_EQ(Request(12).state, Store::RequestState::kKnown);
  EXPECT_EQ(Request(13).state, Store::RequestState::kUnknown);
  Reopen();
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 2), (Stamps{200, 201}));
  EXPECT_EQ(Request(12).state, Store::RequestState::kKnown);
}

TEST_F(StoreReplicaTest, CopyWinsOverWhatWasBeforeAndLosesToWhatComesAfter) {
  Append(Entry(1, 1), 0, 4, 100);
  StartEpoch({.epoch = Epoch(2), .end = Entry(1, 1), .in_sync = false, .start = Seq(3)});
  EXPECT_EQ(facts().last, Entry(2, 3));
  EXPECT_EQ(facts().commit_point, Entry(2, 3));
  EXPECT_EQ(facts().in_sync_epoch, Epoch(1));
  Append(Entry(2, 4), 1, 1, 400);
  Copy(0, 0b0101, Epoch(1), Entry(2, 4), 500);
  Append(Entry(2, 5), 2, 1, 600);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 4), (Stamps{500, 0, 600, 0}));
    EXPECT_EQ(test_.store().Present(kSlice, TestKey(0), 0, 4), 0b0101u);
    Reopen();
  }
  // The copy alone: the source's modified epoch.
  Void(Entry(2, 4));
  auto list = test_.store().List(kSlice, std::nullopt, Epoch(1), 10);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].changed & 1u, 0u);
  test_.Commit(kSlice, Entry(2, 4));
  test_.Quiesce();
  list = test_.store().List(kSlice, std::nullopt, Epoch(1), 10);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].changed & 1u, 0u);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 4), (Stamps{500, 0, 501, 0}));
}

// The replica that the copy came from voids the entry under its old name when it comes back, so the
// entry has to count as new here, although the copy has its content (seed 3820479719).
TEST_F(StoreReplicaTest, ACopyIsAsYoungAsWhatIsCarriedOverInIt) {
  StartEpoch({.epoch = Epoch(2), .in_sync = false});
  Append(Entry(2, 1), 0, 1, 100);
  Copy(0, 0xffff, Epoch(2), Entry(2, 1), 100);
  Copy(1, 0xffff, Epoch(2), facts().last, 500);
  const Rename rename{.from = Entry(2, 1), .to = Entry(3, 1)};
  StartEpoch({.epoch = Epoch(3), .end = Entry(2, 0), .renames = std::span(&rename, 1)});
  for (int i = 0; i < 2; ++i) {
    const auto list = test_.store().List(kSlice, std::nullopt, Epoch(2), 10);
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].changed & 1u, 1u);
    Reopen();
  }
  test_.Commit(kSlice, Entry(3, 1));
  test_.Quiesce();
  const auto list = test_.store().List(kSlice, std::nullopt, Epoch(2), 10);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].changed & 1u, 1u);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 2), (Stamps{100, 101}));
}

TEST_F(StoreReplicaTest, AnIdleJoiningBringsItsCopiesHome) {
  StartEpoch({.epoch = Epoch(2), .in_sync = false});
  Copy(3, 0xffff, Epoch(1), facts().last, 500);
  test_.Quiesce();
  EXPECT_EQ(test_.store().counters().destaged_blocks, 16u);
  EXPECT_EQ(test_.store().capacity().log_used_bytes / (64 << 10), 0u);
}

TEST_F(StoreReplicaTest, ATrimThatEmptiedAChunkStillCountsWhenTheChunkComesBack) {
  Append(Entry(1, 1), 0, 40, 100);
  wire::EntryHeader trim = test_.Write(Entry(1, 2), 0, 0, wire::kBlocksPerChunk);
  trim.kind = wire::EntryKind::kTrim;
  test_.Await(test_.Append(kSlice, trim, 0));
  test_.Commit(kSlice, Entry(1, 2));
  test_.Quiesce();
  EXPECT_TRUE(test_.store().List(kSlice, std::nullopt, Epoch(0), 10).empty());
  StartEpoch({.epoch = Epoch(5), .end = Entry(1, 2)});
  Append(Entry(5, 1), 0, 1, 200);
  const auto list = test_.store().List(kSlice, std::nullopt, Epoch(4), 10);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].extents, 1u);
  // Whoever was in sync up to 4 may still have the other extents.
  EXPECT_EQ(list[0].changed, 0xffffu);
}

TEST_F(StoreReplicaTest, SpaceComesBackAfterATrimAndADroppedSlice) {
  const uint64_t free = test_.store().capacity().extents_free;
  Append(Entry(1, 1), 0, 64, 100);
  EXPECT_EQ(test_.store().capacity().extents_free, free - 4);
  EXPECT_EQ(test_.store().ExtentsNeeded(kSlice, test_.Write(Entry(1, 2), 0, 60, 8)), 1u);
  test_.Commit(kSlice, Entry(1, 1));
  test_.Quiesce();
  EXPECT_EQ(test_.store().capacity().extents_free, free - 4);
  wire::EntryHeader trim = test_.Write(Entry(1, 2), 0, 0, 32);
  trim.kind = wire::EntryKind::kTrim;
  test_.Await(test_.Append(kSlice, trim, 0));
  test_.Commit(kSlice, Entry(1, 2));
  test_.Quiesce();
  EXPECT_EQ(test_.store().capacity().extents_free, free - 2);
  const Tag tag = test_.NewTag();
  test_.store().DropSlice(test_.now(), kSlice, tag, test_.out());
  test_.Take();
  EXPECT_EQ(test_.Await(tag), DoneStatus::kOk);
  test_.Quiesce();
  EXPECT_EQ(test_.store().capacity().extents_free, free);
  Reopen();
  EXPECT_TRUE(test_.store().slices().empty());
  EXPECT_EQ(test_.store().capacity().extents_free, free);
}

// One slice never commits; another one writes many times the ring.
TEST_F(StoreReplicaTest, AnUndecidedEntryDoesNotHoldUpTheLog) {
  Append(Entry(1, 1), 0, 4, 100);
  const SliceId other{2};
  test_.Await(test_.Start(other, {.epoch = Epoch(1)}));
  for (uint64_t seq = 1; seq <= 200; ++seq) {
    const wire::EntryHeader entry =
        test_.Write(Entry(1, seq), 0, static_cast<uint32_t>(seq % 3) * 64, 64);
    ASSERT_EQ(test_.Await(test_.Append(other, entry, seq * 1000)), DoneStatus::kOk);
    test_.Commit(other, Entry(1, seq));
  }
  EXPECT_GT(test_.store().log_position(), uint64_t{10} * (4 << 20));
  ASSERT_EQ(test_.store().Tail(kSlice).size(), 1u);
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 4), (Stamps{100, 101, 102, 103}));
  Reopen();
  EXPECT_EQ(test_.Read(kSlice, TestKey(0), 0, 4), (Stamps{100, 101, 102, 103}));
  EXPECT_EQ(test_.Read(other, TestKey(0), 64, 1), (Stamps{199000}));
}

// S8: with the superblocks of a checkpoint on their way, the log stops before it overwrites
// anything.
TEST_F(StoreReplicaTest, NothingIsUsedAgainBeforeBothSuperblocksAreDurable) {
  const auto step = [this](bool superblocks) {
    for (size_t i = 0; i < test_.disk().pending(); ++i) {
      if (test_.disk().pending_offset(i) < kHeadBytes && !superblocks &&
          test_.disk().pending_op(i) == DiskOp::kDurableWrite) {
        continue;
      }
      test_.store().OnDiskDone(test_.now(), test_.disk().Complete(i), test_.out());
      test_.Take();
      return true;
    }
    return false;
  };
  std::vector<Tag> tags;
  for (uint64_t seq = 1; seq <= 40; ++seq) {  // 10 MiB, and the ring has 4
    const wire::EntryHeader entry =
        test_.Write(Entry(1, seq), 0, static_cast<uint32_t>(seq % 4) * 64, 64);
    tags.push_back(test_.Append(kSlice, entry, seq * 1000));
    while (step(false)) {
    }
    test_.Commit(kSlice, facts().last_durable);
  }
  EXPECT_FALSE(test_.IsDone(tags.back()));
  const uint64_t durable = facts().last_durable.seq.value();
  EXPECT_GT(durable, 4u);
  test_.Crash(true);
  ASSERT_TRUE(test_.Open()) << test_.store().error();
  EXPECT_FALSE(facts().needs_resync);
  EXPECT_GE(facts().last.seq.value(), durable);
  for (uint64_t seq = durable - 3; seq <= durable; ++seq) {
    const auto got = test_.Read(kSlice, TestKey(0), static_cast<uint32_t>(seq % 4) * 64, 1);
    ASSERT_TRUE(got.has_value());
    EXPECT_GE(got->front(), seq * 1000);
  }
}

TEST_F(StoreReplicaTest, RequestIdsKnowTheirMarksAndIncarnations) {
  using State = Store::RequestState;
  for (uint64_t i = 1; i <= 4; ++i) Append(Entry(1, i), 0, 1, i * 100, i);
  test_.store().SetLowWater(kSlice, kClient, Incarnation(1), RequestId(3));
  EXPECT_EQ(Request(2).state, State::kBelowLowWater);
  EXPECT_EQ(Request(3).state, State::kKnown);
  EXPECT_EQ(Request(5).state, State::kUnknown);
  wire::EntryHeader entry = test_.Write(Entry(1, 5), 0, 0, 1);
  entry.client = kClient;
  entry.client_incarnation = Incarnation(2);
  entry.request = RequestId(1);
  test_.Await(test_.Append(kSlice, entry, 900));
  EXPECT_EQ(Request(3).state, State::kStaleIncarnation);
  EXPECT_EQ(test_.store().Requests(kSlice).size(), 1u);
  test_.store().DropClient(test_.now(), kClient, Incarnation(), test_.out());
  test_.Take();
  EXPECT_TRUE(test_.store().Requests(kSlice).empty());
  test_.Settle();
  Reopen();
  EXPECT_TRUE(test_.store().Requests(kSlice).empty());
}

}  // namespace
}  // namespace gabion::store
