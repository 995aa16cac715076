#include "sim/world/disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace gabion::sim {
namespace {

struct Fixture {
  explicit Fixture(uint64_t seed = 1)
      : choices(seed), pool({}), disk(Options(), &arena, &choices, Stream1(), &faults, &fired) {}

  static Disk::Options Options() {
    Disk::Options options;
    options.info.size_bytes = 1 << 20;
    options.info.block_bytes = 512;
    return options;
  }
  Stream Stream1() { return choices.Open(StreamKind::kDevice, 1); }

  Slice Filled(uint32_t size, int value) {
    Slice slice = pool.Allocate(size);
    std::memset(slice.mutable_span().data(), value, size);
    return slice;
  }
  uint32_t Submit(DiskOp op, uint64_t offset, std::vector<Slice> slices, TrueTime now = 0) {
    DiskEffect effect{.op = op, .offset_bytes = offset, .tag = 7};
    for (const Slice& slice : slices) effect.length_bytes += slice.size();
    return disk.Submit(now, effect, slices, &done_at);
  }
  void Do(DiskOp op, uint64_t offset, std::vector<Slice> slices) {
    EXPECT_EQ(disk.Complete(Submit(op, offset, std::move(slices))), 7u);
  }
  int At(uint64_t offset) {
    std::vector<std::byte> sector(512);
    disk.current().Read(offset, sector);
    const bool whole =
        std::all_of(sector.begin(), sector.end(), [&](std::byte b) { return b == sector[0]; });
    return whole ? std::to_integer<int>(sector[0]) : -1;
  }

  PageArena arena;
  Choices choices;
  BufferPool pool;
  WorldFaults faults;
  PerFault<uint64_t> fired;
  Disk disk;
  TrueTime done_at = 0;
};

TEST(Disk, ReadsBackWhatWasWritten) {
  Fixture f;
  f.Do(DiskOp::kWrite, 512, {f.Filled(512, 3), f.Filled(8192, 4)});
  EXPECT_EQ(f.At(0), 0);
  EXPECT_EQ(f.At(512), 3);
  EXPECT_EQ(f.At(1024), 4);
  EXPECT_EQ(f.At(1024 + 8192 - 512), 4);
  EXPECT_EQ(f.At(1024 + 8192), 0);
  Slice into = f.pool.Allocate(1024);
  f.Do(DiskOp::kRead, 512, {into});
  EXPECT_EQ(std::to_integer<int>(into.data()[0]), 3);
  EXPECT_EQ(std::to_integer<int>(into.data()[512]), 4);
}

TEST(Disk, AWriteIsInvisibleUntilItCompletes) {
  Fixture f;
  const uint32_t slot = f.Submit(DiskOp::kWrite, 0, {f.Filled(4096, 5)});
  EXPECT_EQ(f.At(0), 0);
  f.disk.Complete(slot);
  EXPECT_EQ(f.At(0), 5);
}

TEST(Disk, APowerCutKeepsDurableWritesAndWhatWasFlushed) {
  for (uint64_t seed = 1; seed < 30; ++seed) {
    Fixture f(seed);
    f.Do(DiskOp::kDurableWrite, 0, {f.Filled(4096, 1)});
    f.Do(DiskOp::kWrite, 4096, {f.Filled(512, 2)});
    f.Do(DiskOp::kFlush, 0, {});
    f.Do(DiskOp::kDurableWrite, 4096 + 512, {f.Filled(512, 3)});
    f.disk.OnPowerCut();
    EXPECT_EQ(f.At(0), 1);
    EXPECT_EQ(f.At(4096), 2);
    EXPECT_EQ(f.At(4096 + 512), 3);
  }
}

TEST(Disk, APowerCutMayLoseUnflushedWritesInPart) {
  int kept = 0;
  int lost = 0;
  int mixed = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Fixture f(seed);
    f.Do(DiskOp::kDurableWrite, 0, {f.Filled(4096, 1)});
    f.Do(DiskOp::kWrite, 0, {f.Filled(4096, 2)});
    f.disk.OnPowerCut();
    int twos = 0;
    for (uint64_t at = 0; at < 4096; at += 512) {
      EXPECT_TRUE(f.At(at) == 1 || f.At(at) == 2);
      twos += f.At(at) == 2 ? 1 : 0;
    }
    ++(twos == 8 ? kept : twos == 0 ? lost : mixed);
  }
  EXPECT_GT(kept, 5);
  EXPECT_GT(lost, 5);
  EXPECT_GT(mixed, 5);
}

TEST(Disk, AKillKeepsTheCache) {
  Fixture f;
  f.Do(DiskOp::kWrite, 0, {f.Filled(4096, 2)});
  f.disk.OnKill();
  EXPECT_EQ(f.At(0), 2);
}

TEST(Disk, ADurableWriteInFlightAtAPowerCutIsThereOrNotOrTorn) {
  int whole = 0;
  int none = 0;
  int torn = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Fixture f(seed);
    f.Submit(DiskOp::kDurableWrite, 0, {f.Filled(4096, 2)});
    f.disk.OnPowerCut();
    int twos = 0;
    for (uint64_t at = 0; at < 4096; at += 512) twos += f.At(at) == 2 ? 1 : 0;
    ++(twos == 8 ? whole : twos == 0 ? none : torn);
  }
  EXPECT_GT(whole, 5);
  EXPECT_GT(none, 5);
  EXPECT_GT(torn, 5);
}

TEST(Disk, AFlushCoversOnlyWhatHadCompletedWhenItWasSubmitted) {
  int lost = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Fixture f(seed);
    const uint32_t flush = f.Submit(DiskOp::kFlush, 0, {});
    f.Do(DiskOp::kWrite, 0, {f.Filled(4096, 2)});
    f.disk.Complete(flush);
    f.disk.OnPowerCut();
    lost += f.At(0) == 0 ? 1 : 0;
  }
  EXPECT_GT(lost, 3);
}

TEST(Disk, ALaterDurableWriteOfPartOfAPageSurvivesTheLossOfTheRest) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Fixture f(seed);
    f.Do(DiskOp::kWrite, 0, {f.Filled(4096, 2)});
    f.Do(DiskOp::kDurableWrite, 1024, {f.Filled(512, 9)});
    f.disk.OnPowerCut();
    EXPECT_EQ(f.At(1024), 9);
    EXPECT_TRUE(f.At(0) == 0 || f.At(0) == 2);
  }
}

TEST(Disk, CompletesInOrderUnlessReorderingIsOn) {
  Fixture f;
  TrueTime last = 0;
  for (int i = 0; i < 100; ++i) {
    f.Submit(DiskOp::kWrite, 0, {f.Filled(i % 7 == 0 ? 65536 : 512, 1)}, i * 1'000);
    EXPECT_GT(f.done_at, last);
    last = f.done_at;
  }
  f.faults.reorder_disk = true;
  bool reordered = false;
  for (int i = 0; i < 100; ++i) {
    f.Submit(DiskOp::kWrite, 0, {f.Filled(i % 7 == 0 ? 65536 : 512, 1)}, 10'000'000 + i * 1'000);
    reordered = reordered || f.done_at < last;
    last = f.done_at;
  }
  EXPECT_TRUE(reordered);
  EXPECT_GT(f.fired[Fault::kReorder], 0u);
}

TEST(Disk, GivesAllPagesBack) {
  PageArena arena;
  {
    Choices choices(1);
    BufferPool pool({});
    WorldFaults faults;
    PerFault<uint64_t> fired;
    Disk disk(Fixture::Options(), &arena, &choices, choices.Open(StreamKind::kDevice, 1), &faults,
              &fired);
    for (int i = 0; i < 50; ++i) {
      Slice slice = pool.Allocate(8192);
      std::memset(slice.mutable_span().data(), 1, 8192);
      DiskEffect effect{.op = i % 3 == 0 ? DiskOp::kDurableWrite : DiskOp::kWrite,
                        .offset_bytes = static_cast<uint64_t>(i % 5) * 2560,
                        .length_bytes = 8192};
      TrueTime at = 0;
      const uint32_t slot = disk.Submit(i, effect, {&slice, 1}, &at);
      if (i % 4 != 0) disk.Complete(slot);
    }
    disk.OnPowerCut();
    EXPECT_GT(arena.in_use(), 0u);
  }
  EXPECT_EQ(arena.in_use(), 0u);
}

// ---- Lies about single durable writes
// ---------------------------------------------------------------

constexpr uint64_t kLog = 16 << 10;
constexpr uint64_t kLogEnd = 64 << 10;

Disk::DurableLie LieInLog(Disk::LieStays stays, Fault kind = Fault::kLogPhantom) {
  return {.kind = kind, .from_bytes = kLog, .to_bytes = kLogEnd, .stays = stays};
}

// What a read brings.
int Shown(Fixture& f, uint64_t offset) {
  const Slice into = f.pool.Allocate(4096);
  f.Do(DiskOp::kRead, offset, {into});
  return std::to_integer<int>(into.data()[0]);
}

TEST(DiskLies, APhantomWriteIsAcknowledgedAndTheOldBytesStay) {
  Fixture f;
  f.Do(DiskOp::kDurableWrite, kLog, {f.Filled(8192, 1)});
  int told = 0;
  Disk::DurableLie lie = LieInLog(Disk::LieStays::kAlways);
  lie.skip = 1;
  lie.then = [&told] { ++told; };
  f.disk.LieOnce(std::move(lie));
  f.Do(DiskOp::kDurableWrite, kLogEnd, {f.Filled(4096, 2)});  // not in the log
  f.Do(DiskOp::kDurableWrite, kLog + 8192, {f.Filled(4096, 2)});
  EXPECT_EQ(told, 0);
  f.Do(DiskOp::kDurableWrite, kLog, {f.Filled(8192, 2)});
  EXPECT_EQ(told, 1);
  EXPECT_EQ(f.fired[Fault::kLogPhantom], 1u);
  EXPECT_EQ(Shown(f, kLog), 1);
  EXPECT_EQ(Shown(f, kLog + 4096), 1);
  EXPECT_EQ(Shown(f, kLog + 8192), 2);
  f.disk.OnPowerCut();
  EXPECT_EQ(Shown(f, kLog), 1);
  f.Do(DiskOp::kDurableWrite, kLog + 4096, {f.Filled(4096, 3)});
  EXPECT_EQ(f.At(kLog), 1) << "for good";
  EXPECT_EQ(Shown(f, kLog), 1);
  EXPECT_EQ(Shown(f, kLog + 4096), 3) << "the next write is honest";
  f.disk.HealDamage();
  EXPECT_EQ(Shown(f, kLog), 1);
}

TEST(DiskLies, AMisdirectedWriteIsALittleFurtherOn) {
  Fixture f;
  f.Do(DiskOp::kDurableWrite, kLog, {f.Filled(static_cast<uint32_t>(kLogEnd - kLog), 1)});
  f.disk.LieOnce(LieInLog(Disk::LieStays::kAlways, Fault::kLogMiswrite));
  f.Do(DiskOp::kDurableWrite, kLogEnd - 4096, {f.Filled(4096, 2)});
  EXPECT_EQ(Shown(f, kLogEnd - 4096), 1);
  int found = 0;
  for (uint64_t at = kLog; at < kLogEnd; at += 4096) found += Shown(f, at) == 2 ? 1 : 0;
  EXPECT_EQ(found, 1) << "behind the end of the log is its beginning";
}

TEST(DiskLies, OneThatNothingProvesComesTrueInTheCrash) {
  for (const bool power : {false, true}) {
    Fixture f;
    f.disk.LieOnce(LieInLog(Disk::LieStays::kIfProven));
    f.Do(DiskOp::kDurableWrite, kLog, {f.Filled(4096, 2)});
    EXPECT_EQ(Shown(f, kLog), 0);
    power ? f.disk.OnPowerCut() : f.disk.OnKill();
    EXPECT_EQ(Shown(f, kLog), 2);
  }
}

TEST(DiskLies, AWriteThatWasOnItsWayWithTheLieProvesNothing) {
  Fixture f;
  f.disk.LieOnce(LieInLog(Disk::LieStays::kIfProven));
  const uint32_t first = f.Submit(DiskOp::kDurableWrite, kLog, {f.Filled(4096, 2)});
  const uint32_t lie = f.Submit(DiskOp::kDurableWrite, kLog + 4096, {f.Filled(4096, 2)});
  f.disk.Complete(lie);
  // Begun before all up to the lie was done, it cannot say that it was.
  const uint32_t early = f.Submit(DiskOp::kDurableWrite, kLog + 8192, {f.Filled(4096, 2)});
  f.disk.Complete(early);
  f.disk.Complete(first);
  f.disk.OnKill();
  EXPECT_EQ(Shown(f, kLog + 4096), 2);
}

TEST(DiskLies, OneThatALaterWriteProvesStays) {
  Fixture f;
  f.disk.LieOnce(LieInLog(Disk::LieStays::kIfProven));
  f.Do(DiskOp::kDurableWrite, kLog, {f.Filled(4096, 2)});
  f.Do(DiskOp::kDurableWrite, 0, {f.Filled(4096, 2)});  // says nothing of the log
  EXPECT_TRUE(f.disk.may_come_true());
  f.Do(DiskOp::kDurableWrite, kLog + 4096, {f.Filled(4096, 2)});
  EXPECT_FALSE(f.disk.may_come_true());
  f.disk.OnPowerCut();
  EXPECT_EQ(Shown(f, kLog), 0);
}

TEST(DiskLies, ACheckpointTakesBackOneThatIsToStayWithoutIt) {
  Fixture f;
  f.disk.LieOnce(LieInLog(Disk::LieStays::kWithoutCheckpoint));
  f.Do(DiskOp::kDurableWrite, kLog, {f.Filled(4096, 2)});
  f.Do(DiskOp::kDurableWrite, kLog + 4096, {f.Filled(4096, 2)});
  EXPECT_EQ(Shown(f, kLog), 0);
  f.Do(DiskOp::kDurableWrite, 0, {f.Filled(4096, 2)});
  EXPECT_EQ(Shown(f, kLog), 2);
  f.disk.LieOnce(LieInLog(Disk::LieStays::kWithoutCheckpoint));
  f.Do(DiskOp::kDurableWrite, kLog, {f.Filled(4096, 3)});
  f.disk.OnPowerCut();
  f.Do(DiskOp::kDurableWrite, 0, {f.Filled(4096, 3)});
  EXPECT_EQ(Shown(f, kLog), 2) << "after the crash it is too late";
}

TEST(DiskLies, AWriteThatFailedMayBeReadUntilThePowerIsCut) {
  bool was_read = false;
  bool was_not = false;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Fixture f(seed);
    f.Do(DiskOp::kDurableWrite, 0, {f.Filled(4096, 1)});
    f.disk.trouble().unkept_writes = 1;
    DiskStatus status{};
    f.disk.Complete(f.Submit(DiskOp::kDurableWrite, 0, {f.Filled(4096, 2)}), &status);
    EXPECT_EQ(status, DiskStatus::kIoError);
    (Shown(f, 0) == 2 ? was_read : was_not) = true;
    f.Do(DiskOp::kFlush, 0, {});
    f.disk.OnPowerCut();
    EXPECT_EQ(Shown(f, 0), 1) << "a flush that is good does not bring it back";
  }
  EXPECT_TRUE(was_read && was_not);
}

}  // namespace
}  // namespace gabion::sim
