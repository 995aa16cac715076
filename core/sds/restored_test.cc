// What an SDS tells a repository that was restored from an older copy, and what it does not do for
// it (R23).
#include <gtest/gtest.h>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::Status;

TEST(Restored, EveryMemberHasRecordedWhomTheEpochNamed) {
  TestCluster cluster(3);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  cluster.SameReign();
  cluster.Configure(0, 1, 2);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Connect(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {})), Status::kOk) << cluster.Dump();
  EXPECT_EQ(cluster.SurveyOf(0), nullptr);  // nobody has asked
  cluster.CloseSlice();
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 2, {})), Status::kNotPrimary);
  // And after a crash, when the device is open again.
  const auto check = [&](size_t node) {
    const proto::SdsSurvey* survey = cluster.SurveyOf(node);
    ASSERT_NE(survey, nullptr) << cluster.Dump();
    EXPECT_EQ(survey->device(), TestCluster::DeviceOf(node));
    ASSERT_EQ(survey->replicas_size(), 1);
    EXPECT_EQ(survey->replicas(0).slice(), kTestSlice);
    EXPECT_EQ(survey->replicas(0).epoch(), cluster.epoch());
    EXPECT_EQ(survey->replicas(0).primary_device(), TestCluster::DeviceOf(0));
    EXPECT_EQ(survey->replicas(0).secondary_device(), TestCluster::DeviceOf(1));
    EXPECT_EQ(survey->replicas(0).joining_device(), TestCluster::DeviceOf(2));
  };
  for (size_t node = 0; node < 3; ++node) check(node);
  for (size_t node = 0; node < 3; ++node) cluster.Restart(node);
  cluster.CloseSlice();
  cluster.Run(milliseconds(500));
  for (size_t node = 0; node < 3; ++node) check(node);
}

// What the old repository wants forgotten may be the good copy by now.
TEST(Restored, AReplicaThatHasStartedALaterEpochIsNotForgotten) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  cluster.Drop(1, cluster.epoch() - 1);
  cluster.Run(milliseconds(300));
  EXPECT_NE(cluster.StoreOf(1).Find(SliceId(kTestSlice)), nullptr);
  EXPECT_TRUE(cluster.ReportedAhead(1, cluster.epoch())) << cluster.Dump();
  cluster.Drop(1, cluster.epoch());
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StoreOf(1).Find(SliceId(kTestSlice)), nullptr);
  EXPECT_FALSE(cluster.ReportedAhead(1, cluster.epoch()));
}

}  // namespace
}  // namespace gabion::sds
