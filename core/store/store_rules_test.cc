// The rules S1 to S8 of docs/store.md, one by one, on devices that lie, rot or fill up. For each a
// planted bug takes the rule away (store_bugs.cc), and the test here must see it.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "core/store/checkpoint.h"
#include "core/store/destage.h"
#include "core/store/layout.h"
#include "core/store/state.h"
#include "core/store/superblock.h"
#include "core/store/test_store.h"

namespace gabion::store {
namespace {

using Fate = TestDisk::Fate;
using Stamps = std::vector<uint64_t>;
constexpr SliceId kSlice{1};
constexpr TestStore::Options kOptions{};

void FormatAndStart(TestStore& test) {
  ASSERT_TRUE(test.Format()) << test.store().error();
  ASSERT_EQ(test.Await(test.Start(kSlice, {.epoch = Epoch(1), .issuer = 9})), DoneStatus::kOk);
}

void AppendBlocks(TestStore& test, uint64_t seq, uint32_t chunk, uint32_t first, uint32_t count,
                  uint64_t stamp) {
  const wire::EntryHeader entry = test.Write(Entry(1, seq), chunk, first, count);
  ASSERT_EQ(test.Await(test.Append(kSlice, entry, stamp)), DoneStatus::kOk);
}

void BringHome(TestStore& test) {
  test.Commit(kSlice, test.store().Find(kSlice)->last_durable);
  test.Quiesce();
}

void Reopen(TestStore& test) {
  test.NewProcess();
  ASSERT_TRUE(test.Open()) << test.store().error();
}

// Loses all that may be lost, or nothing.
void CutPower(TestStore& test, Fate fate) {
  const std::vector<Fate> fates(test.disk().undecided(), fate);
  test.disk().PowerCut(fates);
  test.NewProcess();
}

EntryId Last(TestStore& test) { return test.store().Find(kSlice)->last; }

// Where batches begin on the device.
std::vector<uint64_t> Batches(const TestDisk& disk) {
  const Geometry geometry = *ComputeGeometry(disk.info().size_bytes, 4 << 20);
  std::vector<uint64_t> offsets;
  for (uint64_t at = geometry.log_offset(); at < geometry.extents_offset(); at += kBlockBytes) {
    if (LoadLe<uint64_t>(disk.Content(at, 8).data()) == kBatchMagic) offsets.push_back(at);
  }
  return offsets;
}

// The home of the block with this stamp.
uint64_t HomeOf(const TestDisk& disk, uint64_t stamp) {
  const Geometry geometry = *ComputeGeometry(disk.info().size_bytes, 4 << 20);
  for (uint64_t at = geometry.extents_offset(); at < disk.info().size_bytes; at += kBlockBytes) {
    if (LoadLe<uint64_t>(disk.Content(at, 8).data()) == stamp) return at;
  }
  ADD_FAILURE() << "no home holds " << stamp;
  return 0;
}

void CopyBytes(const TestDisk& from, TestDisk& to, uint64_t offset_bytes, uint64_t length_bytes) {
  to.Overwrite(offset_bytes, from.Content(offset_bytes, length_bytes));
}

// The directory that a checkpoint names, and all pages of homes.
void ReadTables(const TestDisk& disk, DeviceState& state) {
  while (const std::optional<SlotTable::Range> range = state.NextRead()) {
    ASSERT_TRUE(state.OnRead(*range, disk.Content(range->offset_bytes, range->length_bytes)));
  }
  ASSERT_TRUE(state.FinishRead());
  state.homes().SetBudget(16 << 20);
  for (uint32_t place = 0; place < state.extents().total(); place += kHomesPerPage) {
    const uint32_t page = HomeTable::PageOf(place);
    if (!state.homes().exists(page)) continue;
    const HomeTable::PageRead read = state.homes().ToRead(page);
    ASSERT_TRUE(state.homes().OnPageRead(read, disk.Content(read.offset_bytes, kBlockBytes)));
  }
}

// Replaces the checkpoint of a closed store by a changed one, with all checksums right.
void ForgeCheckpoint(TestDisk& disk, const std::function<void(DeviceState&)>& change) {
  Superblock superblock = *DecodeSuperblock(disk.Content(0, kBlockBytes));
  const uint64_t at = superblock.geometry().area_offset(superblock.checkpoint_area);
  DeviceState state;
  state.Reset(superblock.geometry(), superblock.log_key);
  ASSERT_TRUE(DecodeState(disk.Content(at, superblock.checkpoint_bytes), state));
  ReadTables(disk, state);
  change(state);
  std::vector<std::byte> content;
  EncodeState(state, &content);
  state.directory().BeginCheckpoint(superblock.checkpoint_number);
  state.homes().BeginCheckpoint(superblock.checkpoint_number);
  std::vector<std::byte> block(kBlockBytes);
  while (const std::optional<uint64_t> offset = state.directory().NextToWrite(block)) {
    disk.Overwrite(*offset, block);
  }
  while (const std::optional<uint64_t> offset = state.homes().NextToWrite(block)) {
    disk.Overwrite(*offset, block);
  }
  EncodeRoot(state, &content);
  disk.Overwrite(at, content);
  superblock.checkpoint_bytes = content.size();
  superblock.checkpoint_crc = Crc32c(content);
  EncodeSuperblock(superblock, block);
  for (const uint64_t offset : kSuperblockOffset) disk.Overwrite(offset, block);
}

// ---- S1
// ------------------------------------------------------------------------------------------

TEST(StoreRules, WhatIsAcknowledgedSurvivesTheLossOfEverythingElse) {
  TestStore test(kOptions);
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 0, 1, 100);
  CutPower(test, Fate::kLost);
  ASSERT_TRUE(test.Open()) << test.store().error();
  EXPECT_EQ(Last(test), Entry(1, 1));
}

TEST(StoreRules, ABatchIsNotAcknowledgedBeforeThoseInFrontOfIt) {
  TestStore test(kOptions);
  FormatAndStart(test);
  test.Settle();
  const Tag first = test.Append(kSlice, test.Write(Entry(1, 1), 0, 0, 1), 100);
  const Tag small = test.Append(kSlice, test.Write(Entry(1, 2), 0, 1, 1), 200);
  ASSERT_EQ(test.disk().pending(), 1u);  // it waits: batches stay large
  const Tag large = test.Append(kSlice, test.Write(Entry(1, 3), 0, 16, 16), 300);
  ASSERT_EQ(test.disk().pending(), 2u);
  test.CompleteDisk(1);
  EXPECT_FALSE(test.IsDone(small) || test.IsDone(large));
  TestStore cut(kOptions, test.disk());
  CutPower(cut, Fate::kLost);
  ASSERT_TRUE(cut.Open());
  EXPECT_EQ(Last(cut), Entry(1, 0));
  test.CompleteDisk(0);
  EXPECT_TRUE(test.IsDone(first) && test.IsDone(small) && test.IsDone(large));
  CutPower(test, Fate::kLost);
  ASSERT_TRUE(test.Open());
  EXPECT_EQ(Last(test), Entry(1, 3));
}

// Two pasts of one device: a mirror of the hardware below that was split and joined again.
TEST(StoreRules, ABatchThatContinuesAnotherPastEndsTheLog) {
  TestStore base(kOptions);
  FormatAndStart(base);
  base.Settle();
  TestStore one(kOptions, base.disk());
  TestStore two(kOptions, base.disk());
  for (TestStore* test : {&one, &two}) {
    ASSERT_TRUE(test->Open());
    const uint64_t stamp = test == &one ? 1000 : 2000;
    for (uint64_t seq = 1; seq <= 3; ++seq) AppendBlocks(*test, seq, 0, 0, 1, stamp + seq);
  }
  const std::vector<uint64_t> batches = Batches(one.disk());
  ASSERT_EQ(batches.size(), 4u);
  ASSERT_EQ(Batches(two.disk()), batches);
  TestStore tail(kOptions, one.disk());
  tail.disk().Overwrite(batches[3], std::vector<std::byte>(2 * kBlockBytes));
  CopyBytes(two.disk(), tail.disk(), batches[2], 2 * kBlockBytes);
  ASSERT_TRUE(tail.Open());
  EXPECT_EQ(Last(tail), Entry(1, 1));
  EXPECT_EQ(tail.Read(kSlice, TestKey(0), 0, 1), Stamps{1001});
  EXPECT_FALSE(tail.store().Find(kSlice)->needs_resync);
  // With a batch behind it that says that all before was durable, that is damage.
  CopyBytes(two.disk(), one.disk(), batches[2], 4 * kBlockBytes);
  Reopen(one);
  EXPECT_EQ(Last(one), Entry(1, 1));
  EXPECT_TRUE(one.store().Find(kSlice)->needs_resync);
}

// A later write that is torn in turn may complete what was torn before.
TEST(StoreRules, WhatARecoveryGaveUpNeverComesBack) {
  TestStore test(kOptions);
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 0, 1, 100);
  test.Append(kSlice, test.Write(Entry(1, 2), 0, 0, 1), 200);
  ASSERT_EQ(test.disk().pending(), 1u);
  test.disk().Complete(0);  // nobody learns of it
  const uint64_t payload = Batches(test.disk()).back() + kBlockBytes;
  const std::vector<std::byte> content = test.disk().Content(payload, kBlockBytes);
  test.disk().Overwrite(payload, std::vector<std::byte>(kBlockBytes));
  Reopen(test);
  EXPECT_EQ(Last(test), Entry(1, 1));
  EXPECT_FALSE(test.store().Find(kSlice)->needs_resync);
  test.disk().Overwrite(payload, content);
  Reopen(test);
  EXPECT_EQ(Last(test), Entry(1, 1));
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 0, 1), Stamps{100});
  EXPECT_FALSE(test.store().Find(kSlice)->needs_resync);
}

// ---- S2
// ------------------------------------------------------------------------------------------

// The first batch that is written after a recovery may overwrite what showed the damage.
TEST(StoreRules, TheVerdictOfDamageIsKeptWhateverIsCutOff) {
  TestStore base(kOptions);
  FormatAndStart(base);
  for (uint64_t seq = 1; seq <= 3; ++seq) AppendBlocks(base, seq, 0, 0, 1, seq * 100);
  base.disk().FlipBit((Batches(base.disk())[2] + 100) * 8);
  bool ended = false;
  for (uint64_t cut = 0; !ended; ++cut) {
    for (const Fate fate : {Fate::kLost, Fate::kWhole}) {
      TestStore test(kOptions, base.disk());
      const Tag open = test.NewTag();
      test.store().Open(test.now(), test.disk().info(), test.identity, open, test.out());
      test.Take();
      bool written = false;
      for (uint64_t step = 0; step < cut; ++step) {
        if (!written && test.IsDone(open)) {
          test.Append(kSlice, test.Write(Entry(1, 2), 0, 0, 2), 900);
          written = true;
        }
        if (test.StepDisk()) continue;
        ended = test.timer() == kNever;
        test.FireTimer();
      }
      CutPower(test, fate);
      ASSERT_TRUE(test.Open()) << test.store().error();
      ASSERT_TRUE(test.store().Find(kSlice)->needs_resync) << "cut at " << cut;
    }
  }
}

TEST(StoreRules, AnIdleLogIsSealedWithinAHundredMilliseconds) {
  TestStore test(kOptions);
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 0, 1, 100);
  const uint64_t batches = test.store().counters().batches;
  ASSERT_LE(test.timer(), test.now().boot + std::chrono::milliseconds(100));
  test.FireTimer();
  test.Settle();
  EXPECT_EQ(test.store().counters().batches, batches + 1);
  // The seal proves the batch before it, and so needs no seal itself.
  test.Quiesce();
  EXPECT_EQ(test.store().counters().batches, batches + 1);
}

TEST(StoreRules, SuperblocksThatAreOlderThanTheLogAreDamage) {
  TestStore test(kOptions);
  FormatAndStart(test);
  test.Settle();
  const std::vector<std::byte> head = test.disk().Content(0, kHeadBytes);
  Reopen(test);
  AppendBlocks(test, 1, 0, 0, 1, 100);
  AppendBlocks(test, 2, 0, 0, 1, 200);
  test.disk().Overwrite(0, head);
  Reopen(test);
  EXPECT_TRUE(test.store().Find(kSlice)->needs_resync);
}

// ---- S3
// ------------------------------------------------------------------------------------------

TEST(StoreRules, AnyWriteOrFlushThatFailsFailsTheDevice) {
  uint64_t failures = 0;
  for (bool ended = false; !ended; ++failures) {
    TestStore test(kOptions);
    FormatAndStart(test);
    AppendBlocks(test, 1, 0, 0, 20, 100);
    test.Commit(kSlice, Entry(1, 1));
    uint64_t left = failures;
    while (test.store().state() == State::kOpen) {
      if (test.disk().pending() == 0) {
        ended = test.timer() == kNever;
        if (ended) break;
        test.FireTimer();
        continue;
      }
      const bool fails = test.disk().pending_op(0) != DiskOp::kRead && left-- == 0;
      const DiskStatus status = fails ? DiskStatus::kIoError : DiskStatus::kOk;
      test.store().OnDiskDone(test.now(), test.disk().Complete(0, status), test.out());
      test.Take();
      ASSERT_EQ(test.store().state(), fails ? State::kFailed : State::kOpen);
    }
    if (!ended) {
      const Tag after = test.Append(kSlice, test.Write(Entry(1, 2), 0, 0, 1), 200);
      EXPECT_EQ(test.Result(after), DoneStatus::kFailed);
    }
    CutPower(test, Fate::kLost);
    ASSERT_TRUE(test.Open()) << test.store().error();
    const auto got = test.Read(kSlice, TestKey(0), 0, 20);
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(got->front(), 100u);
    EXPECT_EQ(got->back(), 119u);
  }
  // Commit point, floor, two homes, checkpoint, flush, two superblocks; and a round that succeeds.
  EXPECT_GE(failures, 8u);
}

// ---- S4
// ------------------------------------------------------------------------------------------

TEST(StoreRules, ABlockThatWasWrittenElsewhereOrNotAtAllIsNoticed) {
  TestStore test(kOptions);
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 0, 1, 100);
  AppendBlocks(test, 2, 0, 40, 1, 500);
  BringHome(test);
  const uint64_t home = HomeOf(test.disk(), 100);
  const std::vector<std::byte> old = test.disk().Content(home, kBlockBytes);
  // Misdirected: what belongs there hit its neighbour.
  test.disk().Overwrite(HomeOf(test.disk(), 500), old);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 40, 1), std::nullopt);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 0, 1), Stamps{100});
  // Stale: a later write never happened.
  AppendBlocks(test, 3, 0, 0, 1, 300);
  BringHome(test);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 0, 1), Stamps{300});
  test.disk().Overwrite(home, old);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 0, 1), std::nullopt);
  EXPECT_EQ(test.store().counters().checksum_errors, 2u);
}

TEST(StoreRules, ABlockThatMetadataTakesForAnotherIsNoticed) {
  TestStore test(kOptions);
  FormatAndStart(test);
  AppendBlocks(test, 1, 3, 0, 2, 100);
  AppendBlocks(test, 2, 4, 0, 2, 500);
  BringHome(test);
  AppendBlocks(test, 3, 5, 0, 1, 700);  // these stay in the log
  AppendBlocks(test, 4, 6, 0, 1, 900);
  ASSERT_TRUE(test.Close());
  ForgeCheckpoint(test.disk(), [](DeviceState& state) {
    Replica& replica = *state.Find(kSlice);
    PlacedChunk three = state.View(kSlice, TestKey(3)).homes;
    PlacedChunk four = state.View(kSlice, TestKey(4)).homes;
    const uint32_t places[] = {three.extent[0].place, four.extent[0].place};
    Home moved = state.homes().at(places[0]);
    Home other = state.homes().at(places[1]);
    std::swap(moved.chunk, other.chunk);
    state.homes().Set(places[0], moved);
    state.homes().Set(places[1], other);
    state.directory().Put({kSlice, TestKey(3)}, four);
    state.directory().Put({kSlice, TestKey(4)}, three);
    Item& one = *replica.items.at({Entry(1, 3), 0});
    Item& two = *replica.items.at({Entry(1, 4), 0});
    std::swap(one.crc, two.crc);
    std::swap(one.position, two.position);
  });
  Reopen(test);
  for (const uint32_t chunk : {3, 4, 5, 6}) {
    EXPECT_EQ(test.Read(kSlice, TestKey(chunk), 0, 1), std::nullopt) << "chunk " << chunk;
  }
}

TEST(StoreRules, ChecksumsLeaveTheStoreAsTheyCame) {
  TestStore test(kOptions);
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 7, 3, 100);
  for (int i = 0; i < 2; ++i) {
    const Slice target = test.pool().Allocate(3 * kBlockBytes);
    std::vector<uint32_t> crc(3);
    const Tag tag = test.NewTag();
    test.store().ReadEntry(test.now(), kSlice, Entry(1, 1), target, crc, tag, test.out());
    test.Take();
    ASSERT_EQ(test.Await(tag), DoneStatus::kOk);
    EXPECT_EQ(crc, TestStore::Crcs(test.Data(100, 3)));
    Reopen(test);
  }
}

// What names a block of metadata has its checksum, so an old one in the place of a new one is seen,
// too.
// Three checkpoints, each with another first block of both tables.
void WriteCheckpoints(TestStore& test) {
  FormatAndStart(test);
  for (uint64_t seq = 1; seq <= 3; ++seq) {
    AppendBlocks(test, seq, static_cast<uint32_t>(seq), 0, 2, 100 * seq);
    BringHome(test);
  }
  ASSERT_TRUE(test.Close());
}

// Calls `visit` with stores on disks on which one slot is rotten, or holds what the other one does.
void ForEachDamage(const TestDisk& disk, uint64_t first_slot,
                   const std::function<void(TestStore&)>& visit) {
  const uint64_t slots[] = {first_slot, first_slot + kBlockBytes};
  for (const uint64_t slot : slots) {
    TestStore rotten(kOptions, disk);
    rotten.disk().FlipBit((slot + 100) * 8);
    visit(rotten);
    TestStore stale(kOptions, disk);
    const uint64_t other = slot == slots[0] ? slots[1] : slots[0];
    stale.disk().Overwrite(slot, disk.Content(other, kBlockBytes));
    visit(stale);
  }
}

TEST(StoreRules, AStaleOrRottenLeafOfTheDirectoryIsNoCheckpoint) {
  TestStore base(kOptions);
  WriteCheckpoints(base);
  const Geometry geometry = *ComputeGeometry(base.disk().info().size_bytes, 4 << 20);
  int refused = 0;
  ForEachDamage(base.disk(), geometry.leaves_offset(),
                [&refused](TestStore& test) { refused += test.Open() ? 0 : 1; });
  EXPECT_EQ(refused, 2) << "the slot that counts, rotten and stale; the other one does not matter";
}

// The blocks whose checksums are lost can be written anew, and they alone.
TEST(StoreRules, AStaleOrRottenPageOfHomesIsNotBelieved) {
  TestStore base(kOptions);
  WriteCheckpoints(base);
  const Geometry geometry = *ComputeGeometry(base.disk().info().size_bytes, 4 << 20);
  int corrupt = 0;
  ForEachDamage(base.disk(), geometry.pages_offset(), [&corrupt](TestStore& test) {
    ASSERT_TRUE(test.Open()) << test.store().error();
    if (test.Read(kSlice, TestKey(1), 0, 2) == Stamps{100, 101}) return;
    ++corrupt;
    EXPECT_EQ(test.Read(kSlice, TestKey(3), 0, 1), std::nullopt);
    // One block of the two comes from elsewhere.
    AppendBlocks(test, 4, 1, 0, 1, 700);
    BringHome(test);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(test.Read(kSlice, TestKey(1), 0, 1), Stamps{700});
      EXPECT_EQ(test.Read(kSlice, TestKey(1), 1, 1), std::nullopt);
      EXPECT_EQ(test.Read(kSlice, TestKey(2), 0, 1), std::nullopt);
      ASSERT_TRUE(test.Close());
      Reopen(test);
    }
  });
  EXPECT_EQ(corrupt, 2);
}

// ---- S5, S6
// --------------------------------------------------------------------------------------

TEST(StoreRules, AFullDeviceKeepsItsReserveAndGivesSpaceBack) {
  TestStore test({.device_bytes = 12 << 20});
  FormatAndStart(test);
  const Geometry geometry = *ComputeGeometry(12 << 20, 4 << 20);
  uint64_t seq = 0;
  uint32_t extents = 0;
  const auto next = [&] {
    return test.Write(Entry(1, seq + 1), extents / 16, extents % 16 * kBlocksPerExtent,
                      kBlocksPerExtent);
  };
  while (test.store().ExtentsNeeded(kSlice, next()) <= test.store().capacity().extents_free) {
    ASSERT_EQ(test.Await(test.Append(kSlice, next(), 1000 * seq + 1000)), DoneStatus::kOk);
    ++seq;
    ++extents;
    test.Commit(kSlice, Entry(1, seq));
  }
  EXPECT_EQ(extents + geometry.reserve(), geometry.extents_total);
  test.Quiesce();
  EXPECT_EQ(test.store().capacity().extents_free, 0u);
  EXPECT_EQ(test.store().capacity().log_used_bytes / kExtentBytes, 0u);  // all of it found a home
  test.store().CheckInvariants(true);
  // What is there can be overwritten, and trimmed.
  AppendBlocks(test, ++seq, 0, 5, 1, 5);
  wire::EntryHeader trim = test.Write(Entry(1, ++seq), 1, 0, kBlocksPerChunk);
  trim.kind = wire::EntryKind::kTrim;
  ASSERT_EQ(test.Await(test.Append(kSlice, trim, 0)), DoneStatus::kOk);
  BringHome(test);
  EXPECT_EQ(test.store().capacity().extents_free, 16u);
  EXPECT_EQ(test.Read(kSlice, TestKey(0), 5, 1), Stamps{5});
  Reopen(test);
  test.store().CheckInvariants(true);
  EXPECT_EQ(test.store().capacity().extents_free, 16u);
}

TEST(StoreRules, AnExtentWithTwoOwnersIsNoCheckpoint) {
  TestStore test(kOptions);
  FormatAndStart(test);
  AppendBlocks(test, 1, 3, 0, 2, 100);
  AppendBlocks(test, 2, 4, 0, 2, 500);
  BringHome(test);
  ASSERT_TRUE(test.Close());
  ForgeCheckpoint(test.disk(), [](DeviceState& state) {
    const PlacedChunk four = state.View(kSlice, TestKey(4)).homes;
    state.directory().Put({kSlice, TestKey(3)}, four);
  });
  test.NewProcess();
  EXPECT_FALSE(test.Open());
  EXPECT_NE(test.store().error().find("directory of homes"), std::string::npos)
      << test.store().error();
}

// Two extents' worth of entries in chunk 0, committed, and a round that has begun to bring them
// home.
void BeginRound(TestStore& test, uint64_t seq) {
  AppendBlocks(test, seq, 0, 0, 32, 1000);
  test.Commit(kSlice, Entry(1, seq));
  for (int i = 0; i < 100; ++i) {
    if (test.disk().pending() > 0 && test.disk().pending_op(0) == DiskOp::kRead) return;
    if (!test.StepDisk()) test.FireTimer();
  }
  FAIL() << "no round: " << test.store().Dump();
}

TEST(StoreRules, ASliceThatIsDroppedWhileItIsBroughtHomeLeavesNoExtentWithoutAnOwner) {
  TestStore test(kOptions);
  FormatAndStart(test);
  test.Quiesce();
  const uint64_t free = test.store().capacity().extents_free;
  BeginRound(test, 1);
  const Tag tag = test.NewTag();
  test.store().DropSlice(test.now(), kSlice, tag, test.out());
  test.Take();
  EXPECT_EQ(test.Await(tag), DoneStatus::kOk);
  test.Quiesce();
  test.store().CheckInvariants(true);
  EXPECT_EQ(test.store().capacity().extents_free, free);
}

// ---- S8
// ------------------------------------------------------------------------------------------

// The first `blocks` blocks of `count` extents from `chunk` on, the i-th with stamps from
// 1000 * (i + 1) on.
void FillExtents(TestStore& test, SliceId slice, uint32_t chunk, uint32_t count,
                 uint32_t blocks = kBlocksPerExtent) {
  ASSERT_EQ(test.Await(test.Start(slice, {.epoch = Epoch(1), .issuer = 9})), DoneStatus::kOk);
  for (uint32_t i = 0; i < count; ++i) {
    const wire::EntryHeader entry =
        test.Write(Entry(1, i + 1), chunk + i / 16, i % 16 * kBlocksPerExtent, blocks);
    ASSERT_EQ(test.Await(test.Append(slice, entry, 1000 * (i + 1))), DoneStatus::kOk);
  }
  test.Commit(slice, Entry(1, count));
}

// The drop of a slice is on its way to the log, and another slice needs the space; the power fails.
TEST(StoreRules, AnExtentIsNotUsedAgainBeforeItsOwnersEndIsDurable) {
  constexpr TestStore::Options kSmall{.device_bytes = 10 << 20};
  constexpr uint32_t kDropped = 6;
  constexpr uint32_t kFree = Destager::kJobsMax;
  TestStore test(kSmall);
  ASSERT_TRUE(test.Format()) << test.store().error();
  const auto total = static_cast<uint32_t>(test.store().capacity().extents_total);
  FillExtents(test, SliceId(2), 0, kDropped);
  test.Quiesce();
  FillExtents(test, SliceId(3), 16, total - kDropped - kFree);
  test.Quiesce();
  // More than there is room for, as no caller would let it happen: what the first jobs leave must
  // wait.
  FillExtents(test, SliceId(4), 32, kFree + 4, 1);
  for (int i = 0; test.disk().pending() == 0 || test.disk().pending_op(0) != DiskOp::kRead; ++i) {
    ASSERT_LT(i, 100) << test.store().Dump();
    if (!test.StepDisk()) test.FireTimer();
  }
  const Tag drop = test.NewTag();
  test.store().DropSlice(test.now(), SliceId(2), drop, test.out());
  test.Take();
  // Everything but that goes on.
  for (size_t at = 0; at < test.disk().pending();) {
    if (test.disk().pending_op(at) == DiskOp::kDurableWrite) {
      ++at;
      continue;
    }
    test.store().OnDiskDone(test.now(), test.disk().Complete(at), test.out());
    test.Take();
    at = 0;
  }
  ASSERT_FALSE(test.IsDone(drop));
  ASSERT_EQ(test.disk().pending(), 1u);
  std::vector<Fate> fates(test.disk().undecided(), Fate::kWhole);
  fates.back() = Fate::kLost;
  test.disk().PowerCut(fates);
  test.NewProcess();
  ASSERT_TRUE(test.Open()) << test.store().error();
  ASSERT_NE(test.store().Find(SliceId(2)), nullptr);
  for (uint32_t i = 0; i < kDropped; ++i) {
    EXPECT_EQ(test.Read(SliceId(2), TestKey(0), i * kBlocksPerExtent, 1), Stamps{1000 * (i + 1)});
  }
}

// The other superblock still names the checkpoint before, and that one needs the log.
// A checkpoint is the state at its cut: the drop comes later, and never becomes durable.
TEST(StoreRules, ASliceThatIsDroppedDuringACheckpointIsWholeUntilTheDropIsDurable) {
  TestStore test({.device_bytes = 128 << 20});
  FormatAndStart(test);
  const Geometry geometry = *ComputeGeometry(test.disk().info().size_bytes, 4 << 20);
  const uint64_t log = geometry.log_offset();
  const uint64_t log_end = geometry.extents_offset();
  // Homes in more pages than a checkpoint writes at a time; then one of each changes.
  constexpr uint32_t kPages = Checkpointer::kPagesInFlightMax + 8;
  uint64_t seq = 0;
  const auto append = [&](uint32_t extent, uint64_t stamp) {
    AppendBlocks(test, ++seq, extent / kExtentsPerChunk,
                 extent % kExtentsPerChunk * kBlocksPerExtent, 1, stamp);
  };
  for (uint32_t extent = 0; extent < kPages * kHomesPerPage; ++extent) {
    append(extent, 100);
    if (extent % 200 == 199) BringHome(test);
  }
  BringHome(test);
  for (uint32_t page = 0; page < kPages; ++page) append(page * kHomesPerPage, 200 + page);
  test.Commit(kSlice, Entry(1, seq));
  const auto in_table = [&] {
    const uint64_t at = test.disk().pending() == 0 ? 0 : test.disk().pending_offset(0);
    return at >= geometry.leaf_maps_offset() && at < log;
  };
  for (int i = 0; !in_table(); ++i) {
    ASSERT_LT(i, 100) << test.store().Dump();
    if (!test.StepDisk()) test.FireTimer();
  }
  const uint64_t checkpoints = test.store().counters().checkpoints;
  const Tag drop = test.NewTag();
  test.store().DropSlice(test.now(), kSlice, drop, test.out());
  test.Take();
  // Everything goes on but the log.
  for (size_t at = 0; at < test.disk().pending();) {
    if (test.disk().pending_offset(at) >= log && test.disk().pending_offset(at) < log_end) {
      ++at;
      continue;
    }
    test.store().OnDiskDone(test.now(), test.disk().Complete(at), test.out());
    test.Take();
    at = 0;
  }
  ASSERT_GT(test.store().counters().checkpoints, checkpoints);
  ASSERT_FALSE(test.IsDone(drop));
  CutPower(test, Fate::kLost);
  ASSERT_TRUE(test.Open()) << test.store().error();
  ASSERT_NE(test.store().Find(kSlice), nullptr);
  for (uint32_t extent = 0; extent < kPages * kHomesPerPage; ++extent) {
    const uint32_t chunk = extent / kExtentsPerChunk;
    const uint32_t block = extent % kExtentsPerChunk * kBlocksPerExtent;
    const uint64_t want = extent % kHomesPerPage == 0 ? 200 + extent / kHomesPerPage : 100;
    ASSERT_EQ(test.Read(kSlice, TestKey(chunk), block, 1), Stamps{want}) << "extent " << extent;
  }
}

TEST(StoreRules, TheLogIsNotUsedAgainWhileOneSuperblockNeedsIt) {
  TestStore test({.device_bytes = 14 << 20});
  FormatAndStart(test);
  // Completes what may be completed; the second superblock is held.
  const auto settle = [&] {
    for (size_t at = 0; at < test.disk().pending();) {
      if (test.disk().pending_op(at) == DiskOp::kDurableWrite &&
          test.disk().pending_offset(at) == kSuperblockOffset[1]) {
        ++at;
        continue;
      }
      test.store().OnDiskDone(test.now(), test.disk().Complete(at), test.out());
      test.Take();
      at = 0;
    }
  };
  Tag last = 0;
  for (uint64_t seq = 1; seq <= 40; ++seq) {  // 10 MiB, and the ring has 4
    const wire::EntryHeader entry =
        test.Write(Entry(1, seq), 0, static_cast<uint32_t>(seq % 4) * 64, 64);
    last = test.Append(kSlice, entry, seq * 1000);
    settle();
    test.Commit(kSlice, test.store().Find(kSlice)->last_durable);
    settle();
  }
  // Epoch starts may use more of the ring than entries.
  test.Start(SliceId(2), {.epoch = Epoch(1), .issuer = 9});
  settle();
  EXPECT_FALSE(test.IsDone(last));
  const uint64_t durable = test.store().Find(kSlice)->last_durable.seq.value();
  CutPower(test, Fate::kLost);
  test.disk().FlipBit((kSuperblockOffset[0] + 40) * 8);  // and the newer one rots
  ASSERT_TRUE(test.Open()) << test.store().error();
  EXPECT_FALSE(test.store().Find(kSlice)->needs_resync);
  EXPECT_GE(Last(test).seq.value(), durable);
  for (uint64_t seq = durable - 3; seq <= durable; ++seq) {
    const auto got = test.Read(kSlice, TestKey(0), static_cast<uint32_t>(seq % 4) * 64, 1);
    ASSERT_TRUE(got.has_value());
    EXPECT_GE(got->front(), seq * 1000);
  }
}

TEST(StoreRules, CountersAddUp) {
  TestStore test(kOptions);
  FormatAndStart(test);
  AppendBlocks(test, 1, 0, 0, 20, 100);
  BringHome(test);
  const Counters counters = test.store().counters();
  EXPECT_EQ(counters.user_bytes, 20 * kBlockBytes);
  EXPECT_EQ(counters.destaged_blocks, 20u);
  EXPECT_GT(counters.checkpoints, 0u);
  EXPECT_EQ(counters.log_bytes + counters.checkpoint_bytes + 20 * kBlockBytes + 2 * kBlockBytes,
            counters.device_bytes);
  AppendBlocks(test, 2, 0, 0, 1, 100);
  Reopen(test);
  EXPECT_GT(test.store().counters().recovery_time.count(), 0);
  // The commit point that the checkpoint left in the log, and the entry.
  EXPECT_EQ(test.store().counters().recovery_batches, 2u);
  EXPECT_EQ(test.store().counters().recovery_log_bytes, 3 * kBlockBytes);
}

}  // namespace
}  // namespace gabion::store
