#include "core/sdc/request_ids.h"

#include <gtest/gtest.h>

#include <set>

#include "core/base/random.h"

namespace gabion::sdc {
namespace {

TEST(RequestIds, StartAtOneAndGrowWithoutGaps) {
  RequestIds ids;
  EXPECT_EQ(ids.low_water(), RequestId(1));
  for (uint64_t i = 1; i <= 5; ++i) EXPECT_EQ(ids.Assign(), RequestId(i));
  EXPECT_EQ(ids.outstanding(), 5u);
}

TEST(RequestIds, LowWaterStopsAtTheOldestUnsettledId) {
  RequestIds ids;
  for (int i = 0; i < 4; ++i) ids.Assign();
  ids.Settle(RequestId(2));
  ids.Settle(RequestId(4));
  EXPECT_EQ(ids.low_water(), RequestId(1));
  ids.Settle(RequestId(1));
  EXPECT_EQ(ids.low_water(), RequestId(3));
  ids.Settle(RequestId(3));
  EXPECT_EQ(ids.low_water(), RequestId(5));
  EXPECT_EQ(ids.outstanding(), 0u);
}

TEST(RequestIds, TheWindowClosesAboveAnUnsettledId) {
  RequestIds ids;
  const RequestId first = ids.Assign();
  while (ids.CanAssign()) ids.Settle(ids.Assign());
  EXPECT_EQ(ids.next() - first.value(), wire::kRequestWindow);
  EXPECT_EQ(ids.outstanding(), 1u);
  ids.Settle(first);
  EXPECT_TRUE(ids.CanAssign());
  EXPECT_EQ(ids.low_water(), RequestId(ids.next()));
}

TEST(RequestIds, AgreeWithASetThroughRandomHistories) {
  RandomStream random(7, 0, 0);
  RequestIds ids;
  std::set<uint64_t> unsettled;
  for (int step = 0; step < 20000; ++step) {
    if (ids.CanAssign() && random.Chance(1, 2)) {
      unsettled.insert(ids.Assign().value());
    } else if (!unsettled.empty()) {
      auto it = unsettled.begin();
      std::advance(it, random.Below(std::min<size_t>(unsettled.size(), 8)));
      ids.Settle(RequestId(*it));
      unsettled.erase(it);
    }
    ids.CheckInvariants();
    ASSERT_EQ(ids.low_water().value(), unsettled.empty() ? ids.next() : *unsettled.begin());
    ASSERT_EQ(ids.outstanding(), unsettled.size());
  }
}

TEST(RequestIdsDeathTest, AnIdSettlesOnce) {
  RequestIds ids;
  ids.Assign();
  const RequestId second = ids.Assign();
  ids.Settle(second);
  EXPECT_DEATH(ids.Settle(second), "settled twice");
  EXPECT_DEATH(ids.Settle(RequestId(3)), "CHECK failed");
}

}  // namespace
}  // namespace gabion::sdc
