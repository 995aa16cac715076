#include "core/sds/range_lock.h"

#include <gtest/gtest.h>

namespace gabion::sds {
namespace {

using Mode = RangeLock::Mode;

RangeLock::Range Blocks(uint16_t first, uint16_t count, uint32_t chunk = 0) {
  return {.vtree = VtreeId(1), .chunk = chunk, .first_block = first, .block_count = count};
}

TEST(RangeLock, OverlappingWritersGoInOrderOthersDoNotWait) {
  RangeLock locks;
  RangeLock::Handle a, b, c, d;
  EXPECT_TRUE(locks.Acquire(Blocks(0, 4), Mode::kExclusive, 1, &a));
  EXPECT_FALSE(locks.Acquire(Blocks(3, 4), Mode::kExclusive, 2, &b));
  EXPECT_TRUE(locks.Acquire(Blocks(8, 4), Mode::kExclusive, 3, &c));
  EXPECT_TRUE(locks.Acquire(Blocks(0, 4, 64), Mode::kExclusive, 4, &d));
  std::vector<RangeLock::Owner> granted;
  locks.Release(&a, &granted);
  EXPECT_EQ(granted, std::vector<RangeLock::Owner>{2});
  locks.CheckInvariants();
}

TEST(RangeLock, ReadersShareAndAWriterIsNotOvertaken) {
  RangeLock locks;
  RangeLock::Handle r1, r2, w, r3;
  EXPECT_TRUE(locks.Acquire(Blocks(0, 4), Mode::kShared, 1, &r1));
  EXPECT_TRUE(locks.Acquire(Blocks(0, 4), Mode::kShared, 2, &r2));
  EXPECT_FALSE(locks.Acquire(Blocks(2, 1), Mode::kExclusive, 3, &w));
  EXPECT_FALSE(locks.Acquire(Blocks(0, 4), Mode::kShared, 4, &r3));
  std::vector<RangeLock::Owner> granted;
  locks.Release(&r1, &granted);
  EXPECT_TRUE(granted.empty());
  locks.Release(&r2, &granted);
  EXPECT_EQ(granted, std::vector<RangeLock::Owner>{3});
  locks.Release(&w, &granted);
  EXPECT_EQ(granted, (std::vector<RangeLock::Owner>{3, 4}));
}

TEST(RangeLock, GivingUpAPlaceLetsTheNextOneGo) {
  RangeLock locks;
  RangeLock::Handle held, waits, next;
  locks.Acquire(Blocks(0, 2), Mode::kShared, 1, &held);
  locks.Acquire(Blocks(0, 2), Mode::kExclusive, 2, &waits);
  locks.Acquire(Blocks(0, 2), Mode::kShared, 3, &next);
  std::vector<RangeLock::Owner> granted;
  locks.Release(&waits, &granted);
  EXPECT_EQ(granted, std::vector<RangeLock::Owner>{3});
  EXPECT_EQ(locks.held_or_waiting(), 2u);
}

TEST(RangeLock, EntriesOfATailOverlapEachOtherAndBlockTheRest) {
  RangeLock locks;
  RangeLock::Handle first = locks.AcquireInPlace(Blocks(0, 4));
  RangeLock::Handle second = locks.AcquireInPlace(Blocks(2, 4));
  RangeLock::Handle read;
  EXPECT_FALSE(locks.Acquire(Blocks(3, 1), Mode::kShared, 7, &read));
  std::vector<RangeLock::Owner> granted;
  locks.Release(&first, &granted);
  EXPECT_TRUE(granted.empty());
  locks.Release(&second, &granted);
  EXPECT_EQ(granted, std::vector<RangeLock::Owner>{7});
}

TEST(RangeLock, TellsWhatIsHeldForWriting) {
  RangeLock locks;
  RangeLock::Handle reader, writer, waiter, elsewhere;
  EXPECT_TRUE(locks.Acquire(Blocks(0, 4), Mode::kShared, 1, &reader));
  EXPECT_TRUE(locks.Acquire(Blocks(62, 4), Mode::kExclusive, 2, &writer));
  EXPECT_FALSE(locks.Acquire(Blocks(3, 2), Mode::kExclusive, 3, &waiter));
  EXPECT_TRUE(locks.Acquire(Blocks(0, 4, 64), Mode::kExclusive, 4, &elsewhere));
  wire::ChunkPresence blocks{{0, 0, 1, 0}};
  locks.AddExclusive(VtreeId(1), 0, &blocks);
  EXPECT_EQ(blocks, (wire::ChunkPresence{{uint64_t{3} << 62, 3, 1, 0}}));
}

}  // namespace
}  // namespace gabion::sds
