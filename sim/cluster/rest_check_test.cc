#include "sim/cluster/rest_check.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>

#include "core/wire/management.h"
#include "sim/world/toy_roles.h"

namespace gabion::sim {
namespace {

using std::chrono::seconds;

constexpr NodeIndex kMdm = 0;

struct Members {
  uint64_t primary = 0;  // devices; the SDS of a device has its number
  uint64_t secondary = 0;
  uint64_t joining = 0;
};

class RestCheckTest : public testing::Test {
 protected:
  RestCheckTest() : choices_(1), world_({}, &choices_, &arena_), watch_(kMdm), pool_({}) {
    AddScript(world_, [](const Now&, const Event&, Effects&) {});
  }

  // As the manager tells it.
  void Configure(uint64_t slice, uint64_t epoch, Members members, NodeIndex from = kMdm,
                 bool release = false) {
    proto::Management management;
    proto::SliceConfig* config = management.mutable_config_update()->add_slices();
    config->set_slice(slice);
    config->set_epoch(epoch);
    config->set_release(release);
    const auto set = [](proto::Member* member, uint64_t device) {
      member->set_sds(device);
      member->set_device(device);
    };
    set(config->mutable_primary(), members.primary);
    if (members.secondary != 0) set(config->mutable_secondary(), members.secondary);
    if (members.joining != 0) set(config->mutable_joining(), members.joining);
    watch_.OnSend(from, 1, wire::ToMessage(management, 0, pool_));
  }

  // Something that moves a slice every so often, for ever.
  void MoveEvery(Duration pause) {
    Configure(1, epoch_++, {1, 2});
    world_.After(pause, [this, pause] { MoveEvery(pause); });
  }

  std::string Check(Duration quiet) { return CheckRest(world_, watch_, quiet); }

  PageArena arena_;
  Choices choices_;
  World world_;
  ConfigWatch watch_;
  BufferPool pool_;
  uint64_t epoch_ = 1;
};

TEST_F(RestCheckTest, AcceptsAClusterThatRests) {
  Configure(1, 1, {1, 2});
  EXPECT_EQ(Check(seconds(10)), "");
  EXPECT_EQ(world_.now(), Duration(seconds(10)).count());
}

TEST_F(RestCheckTest, AcceptsMovesThatEnd) {
  for (uint64_t i = 1; i <= 20; ++i) {
    world_.At(static_cast<TrueTime>(i) * 5'000'000'000, [this, i] { Configure(1, i, {1, 2}); });
  }
  EXPECT_EQ(Check(seconds(10)), "");
  EXPECT_GT(world_.now(), Duration(seconds(109)).count());
}

TEST_F(RestCheckTest, RefusesMovesWithoutEnd) {
  MoveEvery(seconds(9));
  EXPECT_NE(Check(seconds(10)).find("new epochs are issued"), std::string::npos);
}

TEST_F(RestCheckTest, AcceptsPrimariesThatAreEvenWithinOne) {
  Configure(1, 1, {1, 2});
  Configure(2, 1, {2, 1});
  Configure(3, 1, {1, 2});
  EXPECT_EQ(Check(seconds(70)), "");
}

TEST_F(RestCheckTest, RefusesADeviceThatIsPrimaryOfTooMuch) {
  Configure(1, 1, {1, 2});
  Configure(2, 1, {1, 3});
  EXPECT_NE(Check(seconds(70)).find("device 1 is primary of 2"), std::string::npos);
  EXPECT_EQ(Check(seconds(10)), "") << "it is judged when nobody is suspect any more";
}

TEST_F(RestCheckTest, RefusesASliceWithoutASecondaryOrWithAJoiner) {
  Configure(1, 1, {1});
  EXPECT_NE(Check(seconds(70)).find("not at rest"), std::string::npos);
  Configure(1, 2, {1, 2, 3});
  EXPECT_NE(Check(seconds(70)).find("not at rest"), std::string::npos);
  Configure(1, 3, {1, 2});
  EXPECT_EQ(Check(seconds(70)), "");
}

TEST_F(RestCheckTest, TheWatchTakesTheNewestEpochOfTheManager) {
  Configure(1, 5, {1, 2});
  Configure(1, 4, {2, 1});
  Configure(1, 6, {2, 1}, kMdm + 1);
  EXPECT_EQ(watch_.slices().at(1).epoch(), 5u);
  EXPECT_EQ(watch_.epochs(), 1u);
  EXPECT_EQ(watch_.fail_overs(), 0u);
}

TEST_F(RestCheckTest, TheWatchTellsFailOversFromRoleSwitches) {
  Configure(1, 1, {1, 2});
  Configure(1, 2, {2, 1});
  EXPECT_EQ(watch_.fail_overs(), 1u);
  Configure(1, 2, {2, 1}, kMdm, true);
  Configure(1, 3, {1, 2});
  EXPECT_EQ(watch_.fail_overs(), 1u);
  EXPECT_EQ(watch_.role_switches(), 1u);
}

TEST_F(RestCheckTest, TheWatchTellsOfPromotions) {
  uint64_t promoted = 0;
  watch_.OnPromotion([&](uint64_t slice) { promoted = slice; });
  Configure(7, 1, {1, 0, 3});
  EXPECT_EQ(promoted, 0u);
  Configure(7, 2, {1, 3});
  EXPECT_EQ(promoted, 7u);
}

}  // namespace
}  // namespace gabion::sim
