#include "core/base/time.h"

#include <gtest/gtest.h>

namespace gabion {
namespace {

using namespace std::chrono_literals;

TEST(Time, DurationsPrintInTheirLargestUnit) {
  EXPECT_EQ(ToString(Duration(0)), "0 s");
  EXPECT_EQ(ToString(Duration(7)), "7 ns");
  EXPECT_EQ(ToString(Duration(999)), "999 ns");
  EXPECT_EQ(ToString(Duration(1'500)), "1.5 us");
  EXPECT_EQ(ToString(Duration(12'300'000)), "12.3 ms");
  EXPECT_EQ(ToString(Duration(1'234'567'890)), "1.234 s");
  EXPECT_EQ(ToString(Duration(1'000'000'001)), "1 s");
  EXPECT_EQ(ToString(Duration(100s)), "100 s");
  EXPECT_EQ(ToString(Duration(-1500ms)), "-1.5 s");
  EXPECT_EQ(ToString(Duration::min()), "-9223372036.854 s");
}

TEST(Time, InstantsPrintEveryDigit) {
  EXPECT_EQ(ToString(Instant(Duration(12'345'678'901))), "12.345678901 s");
  EXPECT_EQ(ToString(Instant()), "0.000000000 s");
  EXPECT_EQ(ToString(kNever), "never");
}

TEST(Time, WallTimesPrintAsUtc) {
  EXPECT_EQ(ToString(WallTime()), "1970-01-01 00:00:00.000");
  EXPECT_EQ(ToString(WallTime(1709251199123ms)), "2024-02-29 23:59:59.123");
  EXPECT_EQ(ToString(WallTime(-1ms)), "1969-12-31 23:59:59.999");
}

TEST(Time, ConversionsRoundTowardsZero) {
  EXPECT_EQ(ToMillis(1999us), 1);
  EXPECT_EQ(ToMillis(-1999us), -1);
  EXPECT_EQ(ToMicros(1999ns), 1);
}

TEST(Time, NothingIsLaterThanNever) {
  const Instant start(5s);
  EXPECT_EQ(SaturatingAdd(start, 1s), Instant(6s));
  EXPECT_EQ(SaturatingAdd(start, Duration::max()), kNever);
  EXPECT_EQ(SaturatingAdd(kNever, Duration(0)), kNever);
  EXPECT_EQ(SaturatingAdd(kNever, 1s), kNever);
}

TEST(Time, InstantsAndWallTimesDoNotMix) {
  static_assert(!std::is_convertible_v<Instant, WallTime>);
  static_assert(!std::is_convertible_v<int64_t, Duration>);
  static_assert(sizeof(Now) == 16);
}

}  // namespace
}  // namespace gabion
