#include "core/sds/lease.h"

#include <gtest/gtest.h>

#include "core/sds/requests.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;

Now At(int64_t boot_ms, int64_t wall_ms) {
  return {.boot = Instant(milliseconds(boot_ms)), .wall = WallTime(milliseconds(wall_ms))};
}

TEST(Lease, CountsFromTheSendingOfTheRequest) {
  Lease lease;
  lease.OnSent(1, At(100, 5000));
  EXPECT_FALSE(lease.Valid(At(100, 5000)));
  lease.OnGrant(1, milliseconds(1000));
  EXPECT_TRUE(lease.Valid(At(1099, 5999)));
  EXPECT_FALSE(lease.Valid(At(1100, 6000)));
}

TEST(Lease, UnknownAndOldGrantsGiveNothing) {
  Lease lease;
  lease.OnSent(1, At(100, 100));
  lease.OnGrant(2, milliseconds(1000));
  EXPECT_FALSE(lease.Valid(At(101, 101)));
  lease.OnSent(2, At(300, 300));
  lease.OnGrant(2, milliseconds(1000));
  lease.OnGrant(1, milliseconds(1000));
  EXPECT_EQ(lease.end(), Instant(milliseconds(1300)));
}

TEST(Lease, AWallClockThatDisagreesEndsItEarly) {
  Lease lease;
  lease.OnSent(1, At(100, 100));
  lease.OnGrant(1, milliseconds(1000));
  EXPECT_TRUE(lease.Valid(At(200, 290)));
  EXPECT_FALSE(lease.Valid(At(200, 400)));
  EXPECT_FALSE(lease.Valid(At(400, 200)));
}

TEST(Lease, WhatWasGivenUpIsNotRevivedByALateGrant) {
  Lease lease;
  lease.OnSent(1, At(100, 100));
  lease.GiveUp();
  lease.OnGrant(1, milliseconds(1000));
  EXPECT_FALSE(lease.Valid(At(101, 101)));
}

TEST(Outstanding, IsDrainedUpToTheOldestThatIsNotSettled) {
  Outstanding outstanding;
  EXPECT_EQ(outstanding.Drained(ConfigVersion(9)), ConfigVersion(9));
  outstanding.Add(ConfigVersion(5));
  outstanding.Add(ConfigVersion(7));
  outstanding.Add(ConfigVersion(5));
  EXPECT_EQ(outstanding.Drained(ConfigVersion(9)), ConfigVersion(5));
  outstanding.Remove(ConfigVersion(5));
  EXPECT_EQ(outstanding.Drained(ConfigVersion(9)), ConfigVersion(5));
  outstanding.Remove(ConfigVersion(5));
  EXPECT_EQ(outstanding.Drained(ConfigVersion(9)), ConfigVersion(7));
  EXPECT_EQ(outstanding.count(), 1u);
}

}  // namespace
}  // namespace gabion::sds
