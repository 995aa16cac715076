#include "core/store/journal.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/checksum.h"
#include "core/store/journal_format.h"
#include "core/store/test_disk.h"

namespace gabion::store {
namespace {

using journal::kAreasBegin;
using journal::kBlock;

constexpr uint64_t kTagBase = uint64_t{9} << 32;
constexpr uint64_t kSmallDevice = kAreasBegin + 2 * 16 * kBlock;

std::vector<std::byte> Bytes(std::string_view text) {
  const std::span<const std::byte> bytes = AsBytes(text);
  return {bytes.begin(), bytes.end()};
}

// A journal on a test disk.
class Rig {
 public:
  explicit Rig(uint64_t size_bytes = kSmallDevice, bool garbage = true)
      : disk({.device = DeviceIndex::kState, .size_bytes = size_bytes, .garbage = garbage}) {
    Restart();
  }

  // Forgets the process; the disk stays. Opens.
  void Restart() {
    journal.emplace(
        Journal::Options{.device = DeviceIndex::kState, .pool = &pool, .disk_tag_base = kTagBase});
    opened = false;
    journal->Open(disk.info(), effects);
    Submit();
  }

  void Submit() {
    disk.Submit(effects);
    effects.Clear();
  }

  void Complete(size_t index, DiskStatus status = DiskStatus::kOk) {
    bool handled = false;
    const Journal::Progress progress =
        journal->OnDiskDone(disk.Complete(index, status), effects, &handled);
    EXPECT_TRUE(handled);
    opened = opened || progress.opened;
    snapshots_durable += progress.snapshot_durable ? 1 : 0;
    Submit();
  }

  void CompleteAll() {
    while (disk.pending() > 0) Complete(0);
  }

  // A write that says it was done, and was not.
  void CompleteNot(size_t index) {
    const uint64_t at = disk.pending_offset(index);
    const std::vector<std::byte> before = disk.Content(at, disk.pending_length(index));
    Complete(index);
    disk.Overwrite(at, before);
  }

  uint64_t Append(std::string_view record) {
    const uint64_t sequence = journal->Append(AsBytes(record), effects);
    Submit();
    return sequence;
  }

  void WriteSnapshot(std::string_view snapshot) {
    journal->WriteSnapshot(AsBytes(snapshot), effects);
    Submit();
  }

  std::vector<std::string> Records() const {
    std::vector<std::string> texts;
    for (const auto& record : journal->records()) texts.emplace_back(AsText(record));
    return texts;
  }

  BufferPool pool{{.bytes_max = 64u << 10}};  // small: the journal must do without
  TestDisk disk;
  Effects effects;
  std::optional<Journal> journal;
  bool opened = false;
  int snapshots_durable = 0;
};

TEST(Journal, ADeviceOfZeroesIsAnEmptyJournal) {
  Rig rig;
  rig.CompleteAll();
  EXPECT_TRUE(rig.opened);
  EXPECT_EQ(rig.journal->state(), Journal::State::kOpen);
  EXPECT_TRUE(rig.journal->snapshot().empty());
  EXPECT_TRUE(rig.journal->records().empty());
  EXPECT_EQ(rig.journal->durable_sequence(), 0u);
}

TEST(Journal, GivesBackWhatWasAppendedInOrder) {
  Rig rig;
  rig.CompleteAll();
  EXPECT_EQ(rig.Append("one"), 1u);
  EXPECT_EQ(rig.Append(""), 2u);
  EXPECT_EQ(rig.Append("three"), 3u);
  EXPECT_EQ(rig.journal->durable_sequence(), 0u);
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->durable_sequence(), 3u);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.Records(), (std::vector<std::string>{"one", "", "three"}));
  EXPECT_EQ(rig.journal->durable_sequence(), 3u);
  EXPECT_EQ(rig.Append("four"), 4u);
  rig.CompleteAll();
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.Records().size(), 4u);
  rig.journal->ForgetRecovered();
  EXPECT_TRUE(rig.journal->records().empty());
}

TEST(Journal, OneWriteCarriesAllThatWaits) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("first");
  ASSERT_EQ(rig.disk.pending(), 1u);
  for (int i = 0; i < 100; ++i) rig.Append("waits");
  EXPECT_EQ(rig.disk.pending(), 1u);
  rig.Complete(0);
  ASSERT_EQ(rig.disk.pending(), 2u);  // the batch, and the seal of the new generation
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->durable_sequence(), 101u);
}

TEST(Journal, ARecordCountsWhenAProofOfItIsDurable) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("one");
  rig.Append("two");
  rig.Complete(0);
  EXPECT_EQ(rig.journal->durable_sequence(), 0u);
  ASSERT_EQ(rig.disk.pending(), 2u);  // the second batch, and a seal
  rig.Complete(0);
  EXPECT_EQ(rig.journal->durable_sequence(), 1u) << "the second batch proves the first";
  rig.Complete(0);
  EXPECT_EQ(rig.journal->durable_sequence(), 1u) << "the seal was on its way before";
  ASSERT_EQ(rig.disk.pending(), 1u);
  rig.Complete(0);
  EXPECT_EQ(rig.journal->durable_sequence(), 2u);
}

TEST(Journal, ALieAboutTheLastRecordIsNoticed) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("first");
  rig.CompleteAll();
  rig.Append("second");
  rig.CompleteNot(0);
  EXPECT_EQ(rig.journal->durable_sequence(), 1u);
  const TestDisk without_seal = rig.disk;
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->durable_sequence(), 2u);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
  EXPECT_NE(rig.journal->error().find("damaged"), std::string::npos);
  // A crash in between: nobody was told.
  rig.disk = without_seal;
  while (rig.disk.pending() > 0) rig.disk.Complete(0, DiskStatus::kIoError);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->state(), Journal::State::kOpen);
  EXPECT_EQ(rig.Records(), std::vector<std::string>{"first"});
}

TEST(Journal, ALieAboutTheProofIsHarmless) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("first");
  rig.CompleteAll();
  rig.Append("second");
  rig.Complete(0);
  rig.CompleteNot(0);
  EXPECT_EQ(rig.journal->durable_sequence(), 2u);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->state(), Journal::State::kOpen) << rig.journal->error();
  EXPECT_EQ(rig.Records().size(), 2u);
}

// An earlier process was told that its write failed; the bytes are in a cache that no flush empties
// any more.
TEST(Journal, ABatchThatNothingProvesIsWrittenAgain) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("first");
  rig.CompleteAll();
  rig.Append("second");
  rig.Complete(0);
  rig.disk.Complete(0, DiskStatus::kIoError);  // the seal
  rig.Restart();
  for (int i = 0; i < 3; ++i) rig.Complete(0);  // flush, seals, areas
  EXPECT_FALSE(rig.opened);
  ASSERT_EQ(rig.disk.pending(), 1u);
  EXPECT_EQ(rig.disk.pending_op(0), DiskOp::kDurableWrite);
  EXPECT_EQ(rig.disk.pending_offset(0), kAreasBegin + kBlock);
  const std::vector<std::byte> before = rig.disk.Content(0, kSmallDevice);
  rig.Complete(0);
  EXPECT_EQ(rig.disk.Content(0, kSmallDevice), before) << "with the same bytes";
  EXPECT_FALSE(rig.opened) << "nor does it count before it is proven";
  ASSERT_EQ(rig.disk.pending(), 1u);
  rig.Complete(0);
  EXPECT_TRUE(rig.opened);
  rig.CompleteAll();
  EXPECT_EQ(rig.Records().size(), 2u);
  const uint64_t writes = rig.disk.writes();
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.disk.writes(), writes) << "there is a seal now";
}

TEST(Journal, ASnapshotThatNothingProvesIsWrittenAgain) {
  Rig rig(kAreasBegin + (uint64_t{6} << 20));
  rig.CompleteAll();
  rig.WriteSnapshot(std::string(2'500'000, 's'));
  for (int i = 0; i < 3; ++i) rig.Complete(0);
  ASSERT_EQ(rig.disk.pending(), 1u);
  rig.disk.Complete(0, DiskStatus::kIoError);  // the seal
  const uint64_t writes = rig.disk.writes();
  rig.Restart();
  while (!rig.opened) rig.Complete(0);
  EXPECT_EQ(rig.disk.writes(), writes + 4);  // and a seal
  EXPECT_TRUE(AsText(rig.journal->snapshot()) == std::string(2'500'000, 's'));
}

TEST(Journal, ASnapshotReplacesTheRecordsAndWhatWaited) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("in flight");
  rig.Append("waits");
  rig.WriteSnapshot("state");
  rig.Append("later");
  EXPECT_EQ(rig.snapshots_durable, 0);
  rig.CompleteAll();
  EXPECT_EQ(rig.snapshots_durable, 1);
  EXPECT_EQ(rig.journal->durable_sequence(), 3u);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(AsText(rig.journal->snapshot()), "state");
  EXPECT_EQ(rig.Records(), std::vector<std::string>{"later"});
}

TEST(Journal, AsksForASnapshotBeforeTheAreaIsFullAndWaitsForItAfterwards) {
  Rig rig;
  rig.CompleteAll();
  const std::string record(3000, 'r');
  int asked_after = 0;
  for (int i = 0; i < 40; ++i) {
    if (asked_after == 0 && rig.journal->needs_snapshot()) asked_after = i;
    rig.Append(record);
    rig.CompleteAll();
  }
  EXPECT_GE(asked_after, 7);
  EXPECT_LE(asked_after, 10);
  EXPECT_EQ(rig.journal->durable_sequence(), 16u);  // a block each
  rig.WriteSnapshot("all forty");
  EXPECT_FALSE(rig.journal->needs_snapshot());
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->durable_sequence(), 40u);
  EXPECT_FALSE(rig.journal->needs_snapshot());
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(AsText(rig.journal->snapshot()), "all forty");
}

TEST(Journal, ASnapshotOfSeveralTransfersSurvives) {
  Rig rig(kAreasBegin + (uint64_t{6} << 20));
  rig.CompleteAll();
  std::string snapshot(2'500'000, '?');
  for (size_t i = 0; i < snapshot.size(); ++i) snapshot[i] = static_cast<char>(i * 31 >> 3);
  rig.WriteSnapshot(snapshot);
  EXPECT_EQ(rig.disk.pending(), 3u);
  rig.CompleteAll();
  rig.Restart();
  rig.CompleteAll();
  EXPECT_TRUE(AsText(rig.journal->snapshot()) == snapshot);
}

TEST(Journal, ASnapshotThatDoesNotFitFailsWithTheLimit) {
  Rig rig;
  rig.CompleteAll();
  rig.WriteSnapshot(std::string(rig.journal->snapshot_bytes_max(), 's'));
  EXPECT_EQ(rig.journal->state(), Journal::State::kOpen);
  rig.WriteSnapshot(std::string(rig.journal->snapshot_bytes_max() + 1, 's'));
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
  EXPECT_NE(rig.journal->error().find("larger state device"), std::string::npos);
}

TEST(Journal, AWriteErrorFailsItForGood) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("lost");
  rig.Complete(0, DiskStatus::kIoError);
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
  rig.Append("more");
  EXPECT_EQ(rig.disk.pending(), 0u);
  EXPECT_EQ(rig.journal->durable_sequence(), 0u);
}

TEST(Journal, AReadErrorIsNotAnEmptyJournal) {
  Rig rig;
  rig.Complete(0);
  rig.Complete(0, DiskStatus::kIoError);
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
  EXPECT_FALSE(rig.opened);
  EXPECT_NE(rig.journal->error().find("cannot be read"), std::string::npos);
}

TEST(Journal, RefusesForeignContentAndLeavesItAlone) {
  Rig rig;
  const std::vector<std::byte> foreign = Bytes("somebody's data");
  rig.disk.Overwrite(30000, foreign);
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
  EXPECT_NE(rig.journal->error().find("no journal of this program"), std::string::npos);
  EXPECT_EQ(rig.disk.writes(), 0u);
}

TEST(Journal, RefusesATruncatedDeviceAndALaterVersion) {
  Rig rig;
  rig.CompleteAll();
  Rig smaller(kSmallDevice - 2 * kBlock);
  smaller.disk.Overwrite(0, rig.disk.Content(0, kBlock));
  smaller.CompleteAll();
  EXPECT_EQ(smaller.journal->state(), Journal::State::kFailed);
  EXPECT_NE(smaller.journal->error().find("truncated"), std::string::npos);

  std::vector<std::byte> seal = rig.disk.Content(0, 64);
  StoreLe(seal.data() + 8, uint32_t{2});
  StoreLe(seal.data() + 12, uint32_t{0});
  StoreLe(seal.data() + 12, Crc32c(seal));
  Rig later;
  later.disk.Overwrite(0, seal);
  later.CompleteAll();
  EXPECT_EQ(later.journal->state(), Journal::State::kFailed);
  EXPECT_NE(later.journal->error().find("version 2"), std::string::npos);
}

TEST(Journal, RefusesADeviceThatIsTooSmall) {
  Rig rig(4 * kBlock);
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
}

TEST(Journal, ATornTailEndsTheRecordsAndRotDoesNot) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("first");
  rig.CompleteAll();
  const std::vector<std::byte> sealed = rig.disk.Content(0, kSmallDevice);
  rig.Append("second");
  rig.Complete(0);  // durable; its seal is still on the way
  ASSERT_EQ(rig.disk.pending(), 1u);
  // The seal is lost with the power, so damage to the last batch looks like a torn write ...
  RandomStream random(1, 1, 1);
  rig.disk.PowerCut(random);
  const uint64_t second = kAreasBegin + kBlock;
  std::vector<std::byte> with_seal(sealed.begin(), sealed.begin() + kAreasBegin);
  rig.disk.Overwrite(0, with_seal);
  rig.disk.FlipBit((second + 70) * 8);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->state(), Journal::State::kOpen);
  EXPECT_EQ(rig.Records(), std::vector<std::string>{"first"});
  // ... while the same damage under a seal is damage.
  rig.Append("second again");
  rig.CompleteAll();
  rig.disk.FlipBit((second + 70) * 8);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
  EXPECT_NE(rig.journal->error().find("damaged"), std::string::npos);
}

TEST(Journal, AnOlderAreaIsNoSubstituteForADamagedSnapshot) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("old");
  rig.CompleteAll();
  rig.WriteSnapshot("new");
  rig.CompleteAll();
  rig.disk.FlipBit((kAreasBegin + 16 * kBlock + 65) * 8);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
}

TEST(Journal, ABatchBehindDamageProvesItWithoutASeal) {
  Rig rig;
  rig.CompleteAll();
  const std::vector<std::byte> first_seals = rig.disk.Content(0, kAreasBegin);
  for (int i = 0; i < 3; ++i) {
    rig.Append("record");
    rig.CompleteAll();
  }
  rig.disk.Overwrite(0, first_seals);
  rig.disk.FlipBit((kAreasBegin + kBlock + 20) * 8);
  rig.Restart();
  rig.CompleteAll();
  EXPECT_EQ(rig.journal->state(), Journal::State::kFailed);
}

// Two pasts of one device: a mirror of the hardware below that was split and joined again.
TEST(Journal, ABatchThatContinuesAnotherPastEndsTheRecords) {
  Rig base;
  base.CompleteAll();
  base.Append("both know this");
  base.CompleteAll();
  std::vector<std::byte> sealed;
  Rig one;
  Rig two;
  for (Rig* rig : {&one, &two}) {
    rig->disk = base.disk;
    rig->Restart();
    rig->CompleteAll();
    rig->Append(rig == &one ? "one" : "two");
    rig->CompleteAll();
    if (rig == &one) sealed = rig->disk.Content(0, kAreasBegin);
    rig->Append(rig == &one ? "one more" : "two more");
    rig->CompleteAll();
  }
  one.disk.Overwrite(0, sealed);
  one.disk.Overwrite(kAreasBegin + 2 * kBlock, two.disk.Content(kAreasBegin + 2 * kBlock, kBlock));
  one.Restart();
  one.CompleteAll();
  EXPECT_EQ(one.journal->state(), Journal::State::kOpen) << one.journal->error();
  EXPECT_EQ(one.Records(), (std::vector<std::string>{"both know this", "one"}));
}

// The bytes that docs/journal.md shows.
TEST(Journal, WritesTheBytesOfTheFormatPage) {
  Rig rig;
  rig.CompleteAll();
  rig.Append("hi");
  rig.disk.Complete(0);  // only to see the bytes of the first batch
  const std::vector<uint8_t> expected = {
      0x47, 0x41, 0x42, 0x4a, 0x42, 0x41, 0x54, 0x43, 0x01, 0x00, 0x00, 0x00, 0xb7, 0xb1,
      0xb8, 0x46, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x59, 0x72, 0x5a, 0x88,
      0x00, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x68, 0x69,
      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  EXPECT_EQ(AsText(rig.disk.Content(kAreasBegin, expected.size())),
            AsText(std::as_bytes(std::span(expected))));
  const std::vector<std::byte> seal = rig.disk.Content(0, 64);
  EXPECT_EQ(AsText(std::span(seal).first(8)), "GABJSEAL");
  EXPECT_EQ(LoadLe<uint64_t>(&seal[16]), 1u);
  EXPECT_EQ(LoadLe<uint64_t>(&seal[40]), 16u * kBlock);
}

// ---- Crash at any point
// ---------------------------------------------------------------------------

// Drives a journal with random operations and compares it, after every recovery, with all that was
// ever appended.
class Machine {
 public:
  explicit Machine(uint64_t seed, bool garbage)
      : random_(seed, 0, 0), rig_(kSmallDevice, garbage) {}

  void Run(int steps) {
    for (int i = 0; i < steps; ++i) Step();
  }

  void Quiesce() {
    while (rig_.disk.pending() > 0) CompleteOne();
  }

  // Reopens and compares. False: the journal says that it is damaged.
  bool Reopen() {
    rig_.Restart();
    verified_ = false;
    while (rig_.disk.pending() > 0) CompleteOne();
    return rig_.journal->state() == Journal::State::kOpen;
  }

  // Some steps, in which one write is a lie, then a crash. Whether there was a write.
  bool LieThenCrash() {
    lie_next_ = true;
    for (uint64_t left = random_.Below(40); left > 0; --left) Step(/*may_crash=*/false);
    const bool lied = !lie_next_;
    lie_next_ = false;
    Crash(random_.Chance(1, 2));
    return lied;
  }

  Rig& rig() { return rig_; }
  RandomStream& draws() { return random_; }
  int recoveries() const { return recoveries_; }

 private:
  void Step(bool may_crash = true) {
    const bool open = rig_.journal->state() == Journal::State::kOpen;
    RC_ASSERT(rig_.journal->state() != Journal::State::kFailed);
    const uint64_t choice = random_.Below(100);
    if (choice < 4) {
      if (may_crash) Crash(choice < 2);
    } else if (choice < 40 && open) {
      Append();
    } else if (open && (rig_.journal->needs_snapshot() ? choice < 60 : choice < 43)) {
      Snapshot();
    } else if (rig_.disk.pending() > 0) {
      CompleteOne();
    }
  }

  void CompleteOne() {
    const size_t index = random_.Below(rig_.disk.pending());
    if (lie_next_ && rig_.disk.pending_op(index) == DiskOp::kDurableWrite) {
      lie_next_ = false;
      rig_.CompleteNot(index);
    } else {
      rig_.Complete(index);
    }
    if (rig_.journal->state() != Journal::State::kOpen) return;
    if (!verified_) Verify();
    const uint64_t durable = rig_.journal->durable_sequence();
    RC_ASSERT(durable >= reported_);
    RC_ASSERT(durable <= appended_.size());
    reported_ = durable;
  }

  void Append() {
    std::string record(random_.Chance(1, 10) ? random_.Below(9000) : random_.Below(200), 'x');
    for (char& c : record) c = static_cast<char>(random_.Next());
    appended_.push_back(record);
    RC_ASSERT(rig_.Append(record) == appended_.size());
  }

  // (count, CRC of that many records), and padding to make it long.
  std::string SnapshotOf(size_t count) const {
    uint32_t crc = 0;
    for (size_t i = 0; i < count; ++i) crc = Crc32c(AsBytes(appended_[i] + "|"), crc);
    return std::to_string(count) + ":" + std::to_string(crc) + ":" +
           std::string(count * 131 % 20000, 'p');
  }

  void Snapshot() { rig_.WriteSnapshot(SnapshotOf(appended_.size())); }

  void Crash(bool power_cut) {
    if (power_cut) {
      rig_.disk.PowerCut(random_);
    } else {
      rig_.disk.Kill(random_);
    }
    rig_.Restart();
    verified_ = false;
  }

  void Verify() {
    verified_ = true;
    ++recoveries_;
    const std::string snapshot(AsText(rig_.journal->snapshot()));
    const size_t count = snapshot.empty() ? 0 : std::stoul(snapshot);
    RC_ASSERT(count <= appended_.size());
    if (!snapshot.empty()) RC_ASSERT(snapshot == SnapshotOf(count));
    const std::vector<std::string> records = rig_.Records();
    RC_ASSERT(count + records.size() <= appended_.size());
    RC_ASSERT(std::equal(records.begin(), records.end(),
                         appended_.begin() + static_cast<ptrdiff_t>(count)));
    RC_ASSERT(count + records.size() >= reported_);
    appended_.resize(count + records.size());
    RC_ASSERT(rig_.journal->durable_sequence() == appended_.size());
  }

  RandomStream random_;
  Rig rig_;
  std::vector<std::string> appended_;
  uint64_t reported_ = 0;
  bool verified_ = false;
  bool lie_next_ = false;
  int recoveries_ = 0;
};

TEST(JournalProperty, EverythingReportedDurableSurvivesEveryCrashAndNothingIsInvented) {
  int recoveries = 0;
  EXPECT_TRUE(rc::check([&](uint64_t seed) {
    for (uint64_t i = 0; i < 10; ++i) {
      Machine machine(Draw(seed, 0, 0, i), i % 2 == 0);
      machine.Run(400);
      machine.Quiesce();
      RC_ASSERT(machine.Reopen());
      recoveries += machine.recoveries();
    }
  }));
  EXPECT_GT(recoveries, 5'000);
}

TEST(JournalProperty, OneLieAboutAWriteIsNoticedOrHarmless) {
  int noticed = 0;
  int harmless = 0;
  EXPECT_TRUE(rc::check([&](uint64_t seed) {
    for (uint64_t i = 0; i < 20; ++i) {
      Machine machine(Draw(seed, 0, 0, i), i % 2 == 0);
      machine.Run(60);
      if (!machine.LieThenCrash()) continue;
      machine.Quiesce();
      (machine.Reopen() ? harmless : noticed)++;  // Reopen compares the content
    }
  }));
  EXPECT_GT(noticed, 50);
  EXPECT_GT(harmless, 50);
}

TEST(JournalProperty, OneFlippedBitAtRestIsNoticedOrHarmless) {
  int noticed = 0;
  int harmless = 0;
  EXPECT_TRUE(rc::check([&](uint64_t seed) {
    for (uint64_t i = 0; i < 10; ++i) {
      Machine machine(Draw(seed, 0, 0, i), false);
      machine.Run(60);
      machine.Quiesce();
      RC_ASSERT(machine.Reopen());
      // The first bytes of a block are often a header, where it hurts.
      RandomStream& random = machine.draws();
      const uint64_t block = random.Below(kSmallDevice / kBlock);
      const uint64_t bit = random.Below(random.Chance(1, 2) ? 2000 : kBlock * 8);
      machine.rig().disk.FlipBit(block * kBlock * 8 + bit);
      (machine.Reopen() ? harmless : noticed)++;  // Reopen compares the content
    }
  }));
  EXPECT_GT(noticed, 50);
  EXPECT_GT(harmless, 50);
}

}  // namespace
}  // namespace gabion::store
