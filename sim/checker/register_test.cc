#include "sim/checker/register.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/base/random.h"

namespace gabion::sim {
namespace {

TEST(Register, AcceptsAReadOfTheLastWrite) {
  SectorRegister r;
  r.OnWriteStart(1, false, 10, 10);
  EXPECT_EQ(r.OnWriteEnd(1, 20), "");
  EXPECT_EQ(r.OnRead(1, 30, 40), "");
}

TEST(Register, RefusesAStaleReadAfterAnAcknowledgedWrite) {
  SectorRegister r;
  r.OnWriteStart(1, false, 10, 10);
  EXPECT_EQ(r.OnWriteEnd(1, 20), "");
  r.OnWriteStart(2, false, 30, 30);
  EXPECT_EQ(r.OnWriteEnd(2, 40), "");
  EXPECT_NE(r.OnRead(1, 50, 60), "");
}

TEST(Register, RefusesZeroesAfterAnAcknowledgedWrite) {
  SectorRegister r;
  r.OnWriteStart(1, false, 10, 10);
  EXPECT_EQ(r.OnWriteEnd(1, 20), "");
  EXPECT_NE(r.OnRead(kZeroStamp, 30, 40), "");
}

TEST(Register, AcceptsZeroesAfterATrim) {
  SectorRegister r;
  r.OnWriteStart(1, false, 10, 10);
  EXPECT_EQ(r.OnWriteEnd(1, 20), "");
  r.OnWriteStart(2, true, 30, 30);
  EXPECT_EQ(r.OnRead(1, 31, 32), "");
  EXPECT_EQ(r.OnRead(kZeroStamp, 33, 34), "");
  EXPECT_EQ(r.OnWriteEnd(2, 40), "");
  EXPECT_NE(r.OnRead(1, 50, 60), "");
}

TEST(Register, RefusesAStampThatNobodyWrote) {
  SectorRegister r;
  EXPECT_NE(r.OnRead(7, 1, 2), "");
}

TEST(Register, RefusesAReadThatEndsBeforeItsWriteBegins) {
  SectorRegister r;
  r.OnWriteStart(1, false, 50, 50);
  EXPECT_NE(r.OnRead(1, 10, 20), "");
}

TEST(Register, AWriteThatNeverFinishedMayOrMayNotBeThere) {
  SectorRegister r;
  r.OnWriteStart(1, false, 10, 10);
  EXPECT_EQ(r.OnWriteEnd(1, 20), "");
  r.OnWriteStart(2, false, 30, 30);
  EXPECT_EQ(r.OnRead(1, 40, 50), "");
  EXPECT_EQ(r.OnRead(2, 60, 70), "");
  EXPECT_NE(r.OnRead(1, 80, 90), "") << "once seen, it stays";
}

TEST(Register, SaysWhatACopyMayHold) {
  SectorRegister r;
  EXPECT_EQ(r.MayHold(kZeroStamp), "");
  r.OnWriteStart(1, false, 10, 10);
  EXPECT_EQ(r.MayHold(kZeroStamp), "");
  EXPECT_EQ(r.MayHold(1), "");
  EXPECT_EQ(r.OnWriteEnd(1, 20), "");
  EXPECT_NE(r.MayHold(kZeroStamp), "");
  r.OnWriteStart(2, false, 30, 30);
  EXPECT_EQ(r.OnWriteEnd(2, 40), "");
  EXPECT_NE(r.MayHold(1), "");
  EXPECT_EQ(r.MayHold(2), "");
}

TEST(Register, RefusesAFailedWriteThatTakesEffectLater) {
  SectorRegister r;
  r.OnWriteStart(1, false, 10, 10);
  r.OnWriteFailed(1, 20);
  r.OnWriteStart(2, false, 30, 30);
  EXPECT_EQ(r.OnWriteEnd(2, 40), "");
  EXPECT_NE(r.MayHold(1), "");
  EXPECT_NE(r.OnRead(1, 50, 60), "");
}

TEST(Register, RefusesAFencedWriteThatTakesEffectUntilItIsAllowedAgain) {
  for (const bool allowed : {false, true}) {
    SectorRegister r;
    r.OnWriteStart(1, false, 10, 10);
    r.OnWriteFenced(1, 20);
    r.OnWriteStart(2, false, 30, 10);
    EXPECT_EQ(r.OnWriteEnd(2, 40), "");
    r.Forget(45);
    if (allowed) r.OnWriteAllowed(1);
    EXPECT_EQ(r.OnRead(1, 50, 60).empty(), allowed);
  }
}

TEST(Register, AcceptsAFailedWriteThatTookEffectInTime) {
  SectorRegister r;
  r.OnWriteStart(1, false, 10, 10);
  r.OnWriteFailed(1, 20);
  EXPECT_EQ(r.OnRead(1, 50, 60), "");
  EXPECT_NE(r.OnRead(kZeroStamp, 70, 80), "");
}

TEST(Register, RefusesAFailedWriteThatAppearsAfterAReadMissedIt) {
  SectorRegister r;
  r.OnWriteStart(1, false, 10, 10);
  r.OnWriteFailed(1, 20);
  EXPECT_EQ(r.OnRead(kZeroStamp, 30, 40), "");
  EXPECT_NE(r.OnRead(1, 50, 60), "");
}

TEST(Register, ForgetsWhatNobodyMayReadAnyMore) {
  SectorRegister r;
  for (TrueTime time = 10; time < 10'000; time += 10) {
    r.OnWriteStart(static_cast<Stamp>(time), false, time, time);
    EXPECT_EQ(r.OnWriteEnd(static_cast<Stamp>(time), time + 1), "");
  }
  EXPECT_LT(r.versions(), 20u);
  EXPECT_NE(r.OnRead(10, 20'000, 20'001), "");
  EXPECT_NE(r.MayHold(10), "");
}

struct Op {
  bool write = false;
  bool failed = false;  // took effect before its end, or never
  Stamp stamp = 0;
  TrueTime start = 0;
  TrueTime end = 0;
};

// Tries every order: the definition itself.
bool LinearizableByDefinition(std::vector<Op>& ops, std::vector<bool>& used, Stamp value,
                              size_t done) {
  if (done == ops.size()) return true;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (used[i]) continue;
    const bool must_wait = std::any_of(ops.begin(), ops.end(), [&](const Op& other) {
      return !used[static_cast<size_t>(&other - ops.data())] && other.end < ops[i].start;
    });
    if (must_wait || (!ops[i].write && ops[i].stamp != value)) continue;
    used[i] = true;
    const Stamp next = ops[i].write ? ops[i].stamp : value;
    const bool found = LinearizableByDefinition(ops, used, next, done + 1);
    used[i] = false;
    if (found) return true;
  }
  return false;
}

// Each failed write may have taken effect or not.
bool LinearizableByDefinition(const std::vector<Op>& ops) {
  for (uint32_t dropped = 0; dropped < 1u << ops.size(); ++dropped) {
    std::vector<Op> kept;
    bool possible = true;
    for (size_t i = 0; i < ops.size(); ++i) {
      if ((dropped >> i & 1) == 0) {
        kept.push_back(ops[i]);
      } else {
        possible = possible && ops[i].failed;
      }
    }
    std::vector<bool> used(kept.size(), false);
    if (possible && LinearizableByDefinition(kept, used, kZeroStamp, 0)) return true;
  }
  return false;
}

// The register is told of starts and ends in order of time.
bool LinearizableByZones(const std::vector<Op>& ops) {
  struct Point {
    TrueTime time;
    bool end;
    const Op* op;
  };
  std::vector<Point> points;
  for (const Op& op : ops) {
    points.push_back({op.start, false, &op});
    points.push_back({op.end, true, &op});
  }
  std::sort(points.begin(), points.end(),
            [](const Point& a, const Point& b) { return a.time < b.time; });
  SectorRegister r;
  for (const Point& point : points) {
    TrueTime oldest = point.time;
    for (const Op& op : ops) {
      if (op.start <= point.time && op.end >= point.time) oldest = std::min(oldest, op.start);
    }
    if (point.op->write) {
      if (!point.end) {
        r.OnWriteStart(point.op->stamp, false, point.time, oldest);
      } else if (point.op->failed) {
        r.OnWriteFailed(point.op->stamp, point.time);
      } else if (!r.OnWriteEnd(point.op->stamp, point.time).empty()) {
        return false;
      }
    } else if (point.end && !r.OnRead(point.op->stamp, point.op->start, point.time).empty()) {
      return false;
    }
    r.Forget(oldest);
  }
  return true;
}

TEST(Register, AgreesWithExhaustiveSearchOnSmallRandomHistories) {
  RandomStream random(1, 2, 3);
  int wrong = 0;
  int right = 0;
  for (int round = 0; round < 40'000; ++round) {
    const size_t count = random.Range(2, 6);
    std::vector<TrueTime> times(2 * count);
    std::iota(times.begin(), times.end(), 1);
    for (size_t i = times.size(); i-- > 1;) std::swap(times[i], times[random.Below(i + 1)]);
    std::vector<Op> ops(count);
    const size_t writes = random.Range(1, count);
    for (size_t i = 0; i < count; ++i) {
      const auto [start, end] = std::minmax(times[2 * i], times[2 * i + 1]);
      ops[i] = {.write = i < writes, .stamp = i + 1, .start = start, .end = end};
      if (i < writes) ops[i].failed = random.Below(4) == 0;
      if (i >= writes) ops[i].stamp = random.Below(writes + 1);
    }
    const bool expected = LinearizableByDefinition(ops);
    ++(expected ? right : wrong);
    ASSERT_EQ(LinearizableByZones(ops), expected) << "round " << round;
  }
  EXPECT_GT(wrong, 1'000);
  EXPECT_GT(right, 1'000);
}

}  // namespace
}  // namespace gabion::sim
