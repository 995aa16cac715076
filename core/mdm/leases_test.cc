#include "core/mdm/leases.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr SdsId kSds(1);
constexpr Instant kStart{seconds(100)};
constexpr Leases::Options kOptions{.lease = seconds(1), .drift_permille = 10};
constexpr Duration kLeaseHere(1'020'202'021);  // 1 s * 1.01 / 0.99, rounded up

Leases::Fence FenceAt(Instant when) { return {.lacking = true, .committed_at = when}; }

TEST(LeaseOnOtherClock, CountsTheDriftOfBothSidesAndRoundsUp) {
  EXPECT_EQ(LeaseOnOtherClock(seconds(1), 10), kLeaseHere);
  EXPECT_EQ(LeaseOnOtherClock(seconds(1), 0), seconds(1));
  EXPECT_EQ(LeaseOnOtherClock(Duration(0), 10), Duration(0));
}

// The holder's clock runs slow by the bound and the manager's fast: still nobody acts when the
// manager says that the lease is over, and a nanosecond less would be too little.
RC_GTEST_PROP(LeaseOnOtherClock, CoversOppositeEndsOfTheDriftBound, ()) {
  const auto lease = *rc::gen::inRange<int64_t>(1, 100'000'000'000);
  const auto drift = *rc::gen::inRange<int64_t>(0, 100);
  const auto here = LeaseOnOtherClock(Duration(lease), static_cast<uint32_t>(drift)).count();
  // True time for the holder to count `lease`: lease / (1 - d). For the manager to count `here`:
  // here / (1 + d). Compared without fractions.
  const auto holder = static_cast<__int128>(lease) * (1000 + drift);
  RC_ASSERT(static_cast<__int128>(here) * (1000 - drift) >= holder);
  RC_ASSERT(static_cast<__int128>(here - 1) * (1000 - drift) < holder);
}

TEST(Leases, AreOverExactlyWhenTheTimeHasPassedSinceTheAnswer) {
  Leases leases(kOptions);
  EXPECT_TRUE(leases.IsOver(kSds, kStart));
  ASSERT_TRUE(leases.TryGrant(kSds, {}, kStart));
  EXPECT_FALSE(leases.IsOver(kSds, kStart + kLeaseHere - Duration(1)));
  EXPECT_TRUE(leases.IsOver(kSds, kStart + kLeaseHere));
  EXPECT_EQ(leases.NextEnd(kStart), kStart + kLeaseHere);
  ASSERT_TRUE(leases.TryGrant(kSds, {}, kStart + milliseconds(200)));
  EXPECT_FALSE(leases.IsOver(kSds, kStart + kLeaseHere));
}

TEST(Leases, ARestartedManagerAssumesThatAllAreHeld) {
  Leases leases(kOptions);
  leases.AssumeGranted(kSds, false, kStart);
  EXPECT_FALSE(leases.IsOver(kSds, kStart + seconds(1)));
  EXPECT_FALSE(leases.IsOldOver(kSds, kStart + seconds(1)));
  // What it finds committed is old: no grace, though a lease is assumed to run.
  EXPECT_FALSE(leases.TryGrant(kSds, FenceAt(kStart), kStart));
  EXPECT_TRUE(leases.TryGrant(kSds, {}, kStart + milliseconds(1)));
}

TEST(Leases, AFenceHasGraceOnlyWhileTheLeaseRunsOnSinceBefore) {
  Leases leases(kOptions);
  // Newly registered: nothing before everything is applied.
  EXPECT_FALSE(leases.TryGrant(kSds, FenceAt(kStart), kStart));
  ASSERT_TRUE(leases.TryGrant(kSds, {}, kStart));
  const Instant fence = kStart + milliseconds(100);
  EXPECT_TRUE(leases.TryGrant(kSds, FenceAt(fence), fence + milliseconds(250)));
  EXPECT_FALSE(leases.TryGrant(kSds, FenceAt(fence), fence + milliseconds(251)));
  // Out of lease: the grace of a later fence is not for it.
  const Instant later = kStart + seconds(10);
  EXPECT_FALSE(leases.TryGrant(kSds, FenceAt(later), later));
  ASSERT_TRUE(leases.TryGrant(kSds, {}, later + milliseconds(1)));
  EXPECT_FALSE(leases.TryGrant(kSds, FenceAt(later), later + milliseconds(2)));
}

TEST(Leases, NothingIsRenewedWhileAPrimaryIsTaken) {
  Leases leases(kOptions);
  ASSERT_TRUE(leases.TryGrant(kSds, {}, kStart));
  leases.SetTaking(kSds, true);
  EXPECT_FALSE(leases.TryGrant(kSds, {}, kStart + milliseconds(10)));
  leases.OnNewIncarnation(kSds, true);
  EXPECT_FALSE(leases.TryGrant(kSds, {}, kStart + milliseconds(20)));
  leases.SetTaking(kSds, false);
  EXPECT_TRUE(leases.TryGrant(kSds, {}, kStart + milliseconds(30)));
}

TEST(Leases, AHandBackIsIrrevocableForItsIncarnation) {
  Leases leases(kOptions);
  ASSERT_TRUE(leases.TryGrant(kSds, {}, kStart));
  leases.HandBack(kSds);
  EXPECT_TRUE(leases.IsOver(kSds, kStart));
  EXPECT_FALSE(leases.TryGrant(kSds, {}, kStart));
  leases.OnNewIncarnation(kSds, true);
  EXPECT_TRUE(leases.IsOldOver(kSds, kStart));
  EXPECT_TRUE(leases.TryGrant(kSds, {}, kStart));
}

TEST(Leases, TheOldLeaseOutlivesTheNewIncarnationUnlessItIsVoid) {
  Leases leases(kOptions);
  ASSERT_TRUE(leases.TryGrant(kSds, {}, kStart));
  leases.OnNewIncarnation(kSds, true);
  EXPECT_TRUE(leases.IsOver(kSds, kStart));
  EXPECT_FALSE(leases.IsOldOver(kSds, kStart + seconds(1)));
  // A second new one does not shorten the first one's.
  leases.OnNewIncarnation(kSds, true);
  EXPECT_FALSE(leases.IsOldOver(kSds, kStart + seconds(1)));
  EXPECT_TRUE(leases.IsOldOver(kSds, kStart + kLeaseHere));
  leases.VoidOld(kSds);
  EXPECT_TRUE(leases.IsOldOver(kSds, kStart));
}

TEST(Leases, WhatRanUnderAnotherLockRunsOutWhateverANewOneProves) {
  Leases leases(kOptions);
  ASSERT_TRUE(leases.TryGrant(kSds, {}, kStart));
  leases.OnNewIncarnation(kSds, false);
  leases.VoidOld(kSds);
  EXPECT_FALSE(leases.IsOldOver(kSds, kStart + seconds(1)));
  // A third one, on the host of the second, proves nothing about the first.
  leases.OnNewIncarnation(kSds, true);
  leases.VoidOld(kSds);
  EXPECT_FALSE(leases.IsOldOver(kSds, kStart + kLeaseHere - Duration(1)));
  EXPECT_EQ(leases.NextEnd(kStart), kStart + kLeaseHere);
  EXPECT_TRUE(leases.IsOldOver(kSds, kStart + kLeaseHere));
}

TEST(Leases, ARestartedManagerKnowsWhoseLocksNeverChanged) {
  Leases same(kOptions);
  same.AssumeGranted(kSds, false, kStart);
  same.VoidOld(kSds);
  EXPECT_TRUE(same.IsOldOver(kSds, kStart));
  Leases changed(kOptions);
  changed.AssumeGranted(kSds, true, kStart);
  changed.VoidOld(kSds);
  EXPECT_FALSE(changed.IsOldOver(kSds, kStart + seconds(1)));
}

}  // namespace
}  // namespace gabion::mdm
