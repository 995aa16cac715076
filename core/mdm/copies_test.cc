// Stories of a whole MDM about lost copies: which one comes back, which one is made anew, and the
// last one.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Reply = proto::AdminReply;

TEST(Copies, RebuildsElsewhereWhenAMemberStaysAway) {
  Options options;
  options.balance_delay = seconds(60);  // an empty device that comes gets nothing so soon
  TestCluster cluster(options);
  cluster.Build(3, 16);
  cluster.Kill(0);
  cluster.Advance(seconds(5));
  EXPECT_GT(cluster.Status().slices_degraded(), 0u);
  EXPECT_EQ(cluster.Status().slices_joining(), 0u);
  for (int i = 0; i < 20; ++i) {
    cluster.Advance(seconds(1));
    cluster.WriteAll();
  }
  const proto::ClusterStatus status = cluster.Status(true);
  EXPECT_EQ(status.slices_mirrored(), 16u);
  for (const proto::SliceConfig& slice : status.slices()) {
    EXPECT_NE(slice.primary().sds(), cluster.sds(0).id);
    EXPECT_NE(slice.secondary().sds(), cluster.sds(0).id);
  }
  // What the dead device held is given up, and forgotten when it comes back.
  const uint64_t lost = status.devices(0).id();
  EXPECT_FALSE(cluster.device(lost).values.empty());
  cluster.sds(0).drops = false;  // its device takes its time
  cluster.StartSds(0);
  cluster.Advance(seconds(2));
  EXPECT_FALSE(cluster.device(lost).values.empty());
  cluster.Kill(0);
  cluster.sds(0).drops = true;
  cluster.StartSds(0);
  cluster.Advance(seconds(2));
  EXPECT_TRUE(cluster.device(lost).values.empty());
}

TEST(Copies, AMemberThatReturnsInTimeJoinsAgainWhereItWas) {
  TestCluster cluster;
  cluster.Build(3, 16);
  const proto::ClusterStatus before = cluster.Status(true);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  cluster.Kill(0);
  cluster.Advance(seconds(2));
  cluster.WriteAll();
  cluster.Advance(seconds(2));
  EXPECT_EQ(cluster.WriteAll(), 16u);
  EXPECT_GT(cluster.Status().slices_degraded(), 0u);
  cluster.StartSds(0);
  cluster.Advance(seconds(3));
  const proto::ClusterStatus after = cluster.Status(true);
  EXPECT_EQ(after.slices_mirrored(), 16u);
  for (int i = 0; i < 16; ++i) {
    const auto devices = [](const proto::SliceConfig& slice) {
      return std::set<uint64_t>{slice.primary().device(), slice.secondary().device()};
    };
    EXPECT_EQ(devices(before.slices(i)), devices(after.slices(i)));
  }
  EXPECT_EQ(cluster.WriteAll(), 16u);
}

TEST(Copies, AReplicaThatCannotBeBuiltUponIsForgottenAndMadeAnew) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  cluster.Kill(0);
  cluster.Advance(seconds(2));
  cluster.WriteAll();
  cluster.Advance(seconds(1));
  ASSERT_EQ(cluster.WriteAll(), 4u);
  const proto::ClusterStatus status = cluster.Status(true);
  uint64_t epochs = 0;
  for (const auto& slice : status.slices()) epochs += slice.epoch();
  for (const auto& device : status.devices()) cluster.device(device.id()).spoiled = true;
  cluster.StartSds(0);
  cluster.Advance(seconds(4));
  EXPECT_EQ(cluster.Status().slices_mirrored(), 4u);
  EXPECT_EQ(cluster.WriteAll(), 4u);
  const proto::ClusterStatus after = cluster.Status(true);
  for (const auto& slice : after.slices()) epochs -= slice.epoch();
  EXPECT_EQ(epochs, static_cast<uint64_t>(-4 * 4));  // join, give up, join, in sync
}

TEST(Copies, IdleSlicesKeepBothNamesSoThatEitherCopyComesBackFirst) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  cluster.Kill(0);
  cluster.Advance(seconds(3));  // nobody writes
  cluster.Kill(1);
  cluster.Advance(seconds(3));
  cluster.StartSds(0);
  cluster.Advance(seconds(2));
  // SDS 0 missed nothing: nothing was acknowledged without it.
  cluster.WriteAll();
  cluster.Advance(seconds(1));
  EXPECT_EQ(cluster.WriteAll(), 4u);
}

TEST(Copies, TheOnlyCopyStaysTheOnlyCopyUntilItReturns) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  cluster.Kill(0);
  cluster.Advance(seconds(2));
  cluster.WriteAll();
  cluster.Advance(seconds(1));
  ASSERT_EQ(cluster.WriteAll(), 4u);  // alone on SDS 1
  cluster.Kill(1);
  cluster.StartSds(0);
  cluster.Advance(seconds(30));
  EXPECT_EQ(cluster.WriteAll(), 0u);  // R13
  EXPECT_EQ(cluster.Status().slices_unavailable(), 4u);
  cluster.StartSds(1);
  cluster.Advance(seconds(5));
  EXPECT_EQ(cluster.WriteAll(), 4u);
  EXPECT_EQ(cluster.Status().slices_mirrored(), 4u);
}

TEST(Copies, AForcedCopyServesUnderANewIssuer) {
  TestCluster cluster;
  cluster.Build(2, 1);
  ASSERT_EQ(cluster.WriteAll(), 1u);
  cluster.Kill(0);
  cluster.Advance(seconds(2));
  cluster.WriteAll();
  cluster.Advance(seconds(1));
  cluster.Kill(1);
  cluster.StartSds(0);
  cluster.Advance(seconds(3));
  const proto::ClusterStatus status = cluster.Status(true);
  ASSERT_EQ(status.slices_unavailable(), 1u);
  const uint64_t lost = status.slices(0).primary().device();
  const uint64_t other =
      status.devices(0).id() == lost ? status.devices(1).id() : status.devices(0).id();
  proto::AdminRequest request = cluster.Request();
  request.mutable_slice_force()->set_slice(status.slices(0).slice());
  request.mutable_slice_force()->set_device(other);
  EXPECT_EQ(cluster.Admin(request)->code(), Reply::INVALID);
  request.mutable_slice_force()->set_accept_data_loss(true);
  ASSERT_EQ(cluster.Admin(request)->code(), Reply::OK);
  cluster.Advance(seconds(1));
  const proto::ClusterStatus after = cluster.Status(true);
  EXPECT_EQ(after.slices(0).primary().device(), other);
  EXPECT_NE(after.slices(0).issuer(), status.slices(0).issuer());
  EXPECT_EQ(after.slices_degraded(), 1u);
}

TEST(Copies, APrimaryThatWakesWhileItsSliceIsForcedGetsNoLease) {
  TestCluster cluster;
  cluster.Build(2, 1);
  ASSERT_EQ(cluster.WriteAll(), 1u);
  const bool first = cluster.Status(true).slices(0).primary().sds() == cluster.sds(0).id;
  const size_t primary = first ? 0 : 1;
  cluster.Kill(1 - primary);
  cluster.Advance(seconds(2));
  cluster.WriteAll();
  cluster.Advance(seconds(1));
  ASSERT_EQ(cluster.WriteAll(), 1u);  // alone
  cluster.sds(primary).paused = true;
  cluster.StartSds(1 - primary);
  cluster.Advance(seconds(3));
  const proto::ClusterStatus status = cluster.Status(true);
  ASSERT_EQ(status.slices_unavailable(), 1u);
  const uint64_t lost = status.slices(0).primary().device();
  const uint64_t other =
      status.devices(0).id() == lost ? status.devices(1).id() : status.devices(0).id();
  proto::AdminRequest request = cluster.Request();
  request.mutable_slice_force()->set_slice(status.slices(0).slice());
  request.mutable_slice_force()->set_device(other);
  request.mutable_slice_force()->set_accept_data_loss(true);
  cluster.hold_disk = true;  // the command is proposed, and not durable
  EXPECT_FALSE(cluster.Admin(request).has_value());
  cluster.sds(primary).paused = false;
  cluster.Advance(milliseconds(700));
  EXPECT_EQ(cluster.WriteAll(), 0u);
  cluster.hold_disk = false;
  cluster.Settle();
  cluster.Advance(seconds(1));
  EXPECT_EQ(cluster.Status(true).slices(0).primary().device(), other);
}

}  // namespace
}  // namespace gabion::mdm
