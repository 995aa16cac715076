#include "sim/checker/register.h"

#include <gtest/gtest.h>

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

// Found by exhaustive_test: 3 was read when 2, which is there later, could not come any more.
TEST(Register, RemembersWhatWasThereAfterAFence) {
  for (const bool forget : {false, true}) {
    SectorRegister r;
    r.OnWriteStart(3, false, 1, 1);
    r.OnWriteStart(2, false, 2, 1);
    EXPECT_EQ(r.OnWriteEnd(3, 2), "");
    r.OnWriteStart(1, false, 3, 2);
    r.OnWriteFenced(2, 3);
    EXPECT_EQ(r.OnWriteEnd(1, 4), "");
    EXPECT_EQ(r.OnRead(1, 2, 6), "");
    EXPECT_EQ(r.OnRead(3, 4, 7), "");
    if (forget) r.Forget(5);
    EXPECT_NE(r.OnRead(2, 5, 8), "");
  }
}

TEST(Register, RefusesAWriteThatBeganWhenItsClientHadNoRightToIt) {
  for (const bool allowed : {false, true}) {
    SectorRegister r;
    r.OnWriteStart(1, false, 10, 10);
    r.OnWriteFenced(1, 5);
    EXPECT_NE(r.MayHold(1), "");
    if (allowed) r.OnWriteAllowed(1);
    EXPECT_EQ(r.MayHold(1).empty(), allowed);
    EXPECT_EQ(r.OnRead(1, 20, 30).empty(), allowed);
  }
}

}  // namespace
}  // namespace gabion::sim
