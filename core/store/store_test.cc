#include "core/store/store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "core/store/layout.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

using Stamps = std::vector<uint64_t>;
constexpr SliceId kSlice{1};

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() : test_(TestStore::Options{}) {}

  void FormatAndStart() {
    ASSERT_TRUE(test_.Format()) << test_.store().error();
    EXPECT_EQ(test_.Await(test_.Start(kSlice, {.epoch = Epoch(1), .issuer = 9})), DoneStatus::kOk);
  }
  void Reopen() {
    test_.NewProcess();
    ASSERT_TRUE(test_.Open()) << test_.store().error();
  }

  TestStore test_;
};

TEST_F(StoreTest, KeepsWhatWasWrittenOverARestart) {
  FormatAndStart();
  EXPECT_EQ(test_.Await(test_.Append(kSlice, test_.Write(Entry(1, 1), 3, 10, 4), 100)),
            DoneStatus::kOk);
  EXPECT_EQ(test_.Read(kSlice, TestKey(3), 9, 6), (Stamps{0, 100, 101, 102, 103, 0}));
  Reopen();
  EXPECT_EQ(test_.Read(kSlice, TestKey(3), 9, 6), (Stamps{0, 100, 101, 102, 103, 0}));
  const SliceFacts* facts = test_.store().Find(kSlice);
  ASSERT_NE(facts, nullptr);
  EXPECT_EQ(facts->last_durable, Entry(1, 1));
  EXPECT_EQ(facts->issuer, 9u);
  EXPECT_EQ(test_.store().Tail(kSlice).size(), 1u);
  test_.store().CheckInvariants(true);
}

TEST_F(StoreTest, WhatIsNotOpenYetHasRoomForNothing) {
  EXPECT_EQ(test_.store().append_room(), 0u);
  EXPECT_EQ(test_.store().capacity().log_bytes, 0u);
  FormatAndStart();
  EXPECT_GT(test_.store().append_room(), 0u);
}

TEST_F(StoreTest, DestagesCommittedEntriesWhenIdle) {
  FormatAndStart();
  test_.Await(test_.Append(kSlice, test_.Write(Entry(1, 1), 3, 10, 10), 100));
  test_.Await(test_.Append(kSlice, test_.Write(Entry(1, 2), 3, 12, 1), 200));
  test_.Commit(kSlice, Entry(1, 1));
  const uint64_t free_before = test_.store().capacity().extents_free;
  test_.Quiesce();
  EXPECT_EQ(test_.store().counters().destaged_blocks, 10u);
  EXPECT_EQ(test_.store().FindEntry(kSlice, Entry(1, 1)), nullptr);
  EXPECT_NE(test_.store().FindEntry(kSlice, Entry(1, 2)), nullptr);
  EXPECT_EQ(test_.store().capacity().extents_free, free_before);
  const Stamps want{100, 101, 200, 103, 104, 105, 106, 107, 108, 109};
  EXPECT_EQ(test_.Read(kSlice, TestKey(3), 10, 10), want);
  test_.store().CheckInvariants(true);
  Reopen();
  test_.store().CheckInvariants(true);
  EXPECT_EQ(test_.Read(kSlice, TestKey(3), 10, 10), want);
  EXPECT_EQ(test_.store().capacity().extents_free, free_before);
}

// Clients that always have more to write, against a small log.
TEST_F(StoreTest, FullLogMakesCallersWaitAndServesThemAll) {
  FormatAndStart();
  constexpr uint32_t kBlocks = 32;
  constexpr uint64_t kChunks = 8;
  constexpr uint64_t kEntries = 600;
  constexpr uint64_t kNeeded = kBlocks * wire::kBlockBytes + kAppendOverheadBytes;
  constexpr uint64_t kPerChunk = wire::kBlocksPerChunk / kBlocks;
  std::deque<Tag> in_flight;
  uint64_t appended = 0;
  uint64_t committed = 0;
  size_t most = 0;
  while (committed < kEntries) {
    while (appended < kEntries && test_.store().append_room() >= kNeeded) {
      const uint64_t place = appended++ % (kChunks * kPerChunk);
      const auto entry = test_.Write(Entry(1, appended), static_cast<uint32_t>(place / kPerChunk),
                                     static_cast<uint32_t>(place % kPerChunk * kBlocks), kBlocks);
      in_flight.push_back(test_.Append(kSlice, entry, appended * 1'000));
    }
    most = std::max(most, in_flight.size());
    ASSERT_TRUE(test_.StepDisk() || test_.timer() != kNever) << test_.store().Dump();
    if (in_flight.empty()) test_.FireTimer();
    while (!in_flight.empty() && test_.IsDone(in_flight.front())) {
      ASSERT_EQ(test_.Result(in_flight.front()), DoneStatus::kOk) << test_.store().error();
      in_flight.pop_front();
      test_.Commit(kSlice, Entry(1, ++committed));
    }
  }
  EXPECT_GT(most, 16u);
  EXPECT_GT(test_.store().counters().checkpoints, 10u);
  test_.store().CheckInvariants(true);
  test_.Crash(true);
  Reopen();
  for (uint64_t place = 0; place < kChunks * kPerChunk; ++place) {
    const uint64_t last = kEntries - 1 - (kEntries - 1 - place) % (kChunks * kPerChunk);
    const auto read = test_.Read(kSlice, TestKey(static_cast<uint32_t>(place / kPerChunk)),
                                 static_cast<uint32_t>(place % kPerChunk * kBlocks), 1);
    ASSERT_EQ(read, Stamps{(last + 1) * 1'000});
  }
}

// What becomes destageable while a round is under way is the next round's, though nothing else
// happens: callers that wait for room give no other sign.
TEST_F(StoreTest, WhatIsCommittedDuringARoundIsBroughtHomeByTheNext) {
  FormatAndStart();
  constexpr uint64_t kEntries = 12;
  Tag last = 0;
  for (uint64_t seq = 1; seq <= kEntries; ++seq) {
    last = test_.Append(kSlice, test_.Write(Entry(1, seq), static_cast<uint32_t>(seq), 0, 32), seq);
  }
  ASSERT_EQ(test_.Await(last), DoneStatus::kOk);
  test_.Commit(kSlice, Entry(1, 1));
  while (test_.store().counters().destaged_blocks == 0) {
    ASSERT_TRUE(test_.StepDisk() || test_.timer() != kNever) << test_.store().Dump();
    test_.FireTimer();
  }
  test_.Commit(kSlice, Entry(1, kEntries));
  test_.Quiesce();
  EXPECT_EQ(test_.store().counters().destaged_blocks, kEntries * 32) << test_.store().Dump();
}

// For disks that seek: whatever the names of what is written.
TEST_F(StoreTest, ARoundWritesHomesInOneSweepOverTheDevice) {
  FormatAndStart();
  constexpr uint32_t kChunks = 40;
  const auto write = [this](uint64_t seq, uint32_t chunk) {
    test_.Await(test_.Append(kSlice, test_.Write(Entry(1, seq), chunk, 0, 1), seq));
  };
  // Homes whose places do not ascend with their names.
  for (uint64_t seq = 1; seq <= kChunks; ++seq) {
    write(seq, static_cast<uint32_t>(seq * 17 % kChunks));
    test_.Commit(kSlice, Entry(1, seq));
    test_.Quiesce();
  }
  for (uint32_t chunk = 0; chunk < kChunks; ++chunk) write(kChunks + 1 + chunk, chunk);
  test_.Commit(kSlice, Entry(1, uint64_t{2} * kChunks));
  const uint64_t extents = ComputeGeometry(24 << 20, 4 << 20)->extents_offset();
  std::vector<uint64_t> written;
  while (written.size() < kChunks) {
    const TestDisk& disk = test_.disk();
    if (disk.pending() > 0 && disk.pending_op(0) == DiskOp::kWrite &&
        disk.pending_offset(0) >= extents) {
      written.push_back(disk.pending_offset(0));
    }
    if (!test_.StepDisk()) test_.FireTimer();
  }
  EXPECT_TRUE(std::ranges::is_sorted(written));
}

}  // namespace
}  // namespace gabion::store
