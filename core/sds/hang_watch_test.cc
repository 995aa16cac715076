#include "core/sds/hang_watch.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr DeviceIndex kDevice{3};
constexpr DeviceIndex kOther{1};

class HangWatchTest : public testing::Test {
 protected:
  HangWatchTest() {
    watch_.OnOpened(kDevice);
    watch_.Look(now_);
  }

  void Begin(DeviceIndex device) {
    Effects effects;
    effects.Flush(device, 1);
    watch_.OnStarted(effects);
  }
  Duration SilentAfter(Duration time) {
    for (Duration step = milliseconds(200); time > Duration(); time -= step) {
      now_ += std::min<Duration>(step, time);
      watch_.Look(now_);
    }
    return watch_.SilentFor(kDevice);
  }

  HangWatch watch_;
  Instant now_{seconds(100)};
};

TEST_F(HangWatchTest, ADeviceWithoutWorkDoesNotHang) {
  EXPECT_EQ(SilentAfter(seconds(60)), Duration());
  Begin(kOther);  // not opened: nobody's
  EXPECT_EQ(SilentAfter(seconds(60)), Duration());
}

TEST_F(HangWatchTest, ADeviceThatCompletesNothingIsSilentSinceThen) {
  Begin(kDevice);
  Begin(kDevice);
  EXPECT_EQ(SilentAfter(seconds(10)), seconds(10));
  EXPECT_EQ(SilentAfter(seconds(10)), seconds(20));
}

TEST_F(HangWatchTest, AnyCompletionIsProgress) {
  Begin(kDevice);
  Begin(kDevice);
  SilentAfter(seconds(10));
  watch_.OnDone(kDevice);
  EXPECT_EQ(SilentAfter(milliseconds(200)), Duration());
  EXPECT_EQ(SilentAfter(seconds(10)), seconds(10));  // one is left
  watch_.OnDone(kDevice);
  EXPECT_EQ(SilentAfter(seconds(10)), Duration());
}

TEST_F(HangWatchTest, TimeInWhichTheProcessStoodStillIsNotTheDevices) {
  Begin(kDevice);
  now_ += seconds(60);
  watch_.Look(now_);
  EXPECT_EQ(watch_.SilentFor(kDevice), HangWatch::kLookMax);
}

TEST_F(HangWatchTest, WhatIsOpenedAgainBeginsAnew) {
  Begin(kDevice);
  SilentAfter(seconds(10));
  watch_.OnOpened(kDevice);
  EXPECT_EQ(watch_.SilentFor(kDevice), Duration());
  EXPECT_EQ(SilentAfter(seconds(10)), Duration());
}

}  // namespace
}  // namespace gabion::sds
