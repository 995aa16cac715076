#include "sim/world/disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
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

}  // namespace
}  // namespace gabion::sim
