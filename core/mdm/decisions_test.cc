// Stories of a whole MDM about who is primary and where replicas are: complaints, role switches,
// moves, and what must not be believed.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Reply = proto::AdminReply;

// Advances until every slice takes writes again; how long that took, at most `limit`.
Duration UntilWritable(TestCluster& cluster, size_t slices, Duration limit) {
  const Instant begin = cluster.now();
  while (cluster.WriteAll() < slices && cluster.now() - begin < limit) {
    cluster.Advance(milliseconds(10));
  }
  return cluster.now() - begin;
}

uint64_t SumOfEpochs(TestCluster& cluster) {
  const proto::ClusterStatus status = cluster.Status(true);
  uint64_t epochs = 0;
  for (const proto::SliceConfig& slice : status.slices()) epochs += slice.epoch();
  return epochs;
}

bool AnyReleaseAsked(TestCluster& cluster) {
  const proto::ClusterStatus status = cluster.Status(true);
  return std::any_of(status.slices().begin(), status.slices().end(),
                     [](const proto::SliceConfig& slice) { return slice.release(); });
}

int PrimariesOf(TestCluster& cluster, uint64_t sds) {
  const proto::ClusterStatus status = cluster.Status(true);
  return static_cast<int>(
      std::count_if(status.slices().begin(), status.slices().end(),
                    [&](const proto::SliceConfig& slice) { return slice.primary().sds() == sds; }));
}

// Primaries minus secondaries, the worst of all devices.
int WorstImbalance(TestCluster& cluster) {
  std::map<uint64_t, int> surplus;
  const proto::ClusterStatus status = cluster.Status(true);
  for (const proto::SliceConfig& slice : status.slices()) {
    ++surplus[slice.primary().device()];
    --surplus[slice.secondary().device()];
  }
  int worst = 0;
  for (const auto& [device, count] : surplus) worst = std::max(worst, std::abs(count));
  return worst;
}

TEST(Decisions, AnSdsThatIsHeardButHearsNothingIsFailedOver) {
  TestCluster cluster;
  cluster.Build(3, 16);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  cluster.sds(0).deaf = true;
  cluster.Advance(milliseconds(1100));
  ASSERT_LT(cluster.WriteAll(), 16u);  // its lease has run out
  EXPECT_LE(UntilWritable(cluster, 16, seconds(5)), milliseconds(1500));
  cluster.sds(0).deaf = false;
  cluster.Disconnect(0);
  cluster.Advance(seconds(3));
  EXPECT_EQ(cluster.WriteAll(), 16u);
  EXPECT_EQ(cluster.Status().slices_mirrored(), 16u);
}

TEST(Decisions, AnSdsThatCannotApplyItsFencesIsFailedOver) {
  TestCluster cluster;
  cluster.Build(3, 16);
  cluster.MustSdcAdd("client");
  ASSERT_EQ(cluster.Admin(cluster.MapRequest("client"))->code(), Reply::OK);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  cluster.sds(0).obeys = false;
  proto::AdminRequest unmap = cluster.Request();
  unmap.mutable_volume_unmap()->set_volume("vol");
  unmap.mutable_volume_unmap()->set_sdc("client");
  ASSERT_EQ(cluster.Admin(unmap)->code(), Reply::OK);
  ASSERT_LT(cluster.WriteAll(), 16u);
  EXPECT_LE(UntilWritable(cluster, 16, seconds(5)), milliseconds(2000));
}

TEST(Decisions, PrimariesComeBackToEvenAfterAFailOver) {
  TestCluster cluster;
  cluster.Build(3, 16);
  ASSERT_LE(WorstImbalance(cluster), 1);
  cluster.Kill(0);
  cluster.Advance(seconds(2));
  cluster.StartSds(0);
  cluster.Advance(seconds(3));
  ASSERT_EQ(cluster.Status().slices_mirrored(), 16u);
  EXPECT_GT(WorstImbalance(cluster), 1);
  const uint64_t epochs = SumOfEpochs(cluster);
  Duration pause{};
  for (int i = 0; i < 100; ++i) {
    cluster.Advance(milliseconds(100));
    pause = std::max(pause, UntilWritable(cluster, 16, seconds(5)));
  }
  EXPECT_LE(WorstImbalance(cluster), 1);
  EXPECT_LE(pause, milliseconds(300));
  // One epoch for each slice that was turned, and no more: it ends.
  EXPECT_LE(SumOfEpochs(cluster) - epochs, 16u);
}

TEST(Decisions, ARoleSwitchThatDoesNotComeAboutIsCalledOff) {
  TestCluster cluster;
  cluster.Build(3, 16);
  cluster.Kill(0);
  cluster.Advance(seconds(2));
  cluster.StartSds(0);
  for (size_t i = 0; i < 3; ++i) cluster.sds(i).keeps = true;
  cluster.Advance(seconds(4));
  bool asked = false;
  for (int i = 0; i < 40 && !asked; ++i) {
    cluster.Advance(milliseconds(100));
    asked = AnyReleaseAsked(cluster);
  }
  ASSERT_TRUE(asked);
  cluster.Advance(milliseconds(2500));
  EXPECT_FALSE(AnyReleaseAsked(cluster));
  EXPECT_EQ(cluster.WriteAll(), 16u);
}

TEST(Decisions, APrimaryThatClientsCannotReachHandsItsRoleOver) {
  TestCluster cluster;
  cluster.Build(3, 16);
  cluster.MustSdcAdd("client");
  ASSERT_EQ(cluster.Admin(cluster.MapRequest("client"))->code(), Reply::OK);
  const ConnId conn = cluster.ConnectSdc("client", 1);
  cluster.Advance(milliseconds(300));
  ASSERT_GT(PrimariesOf(cluster, cluster.sds(0).id), 0);
  const auto complain = [&](uint64_t number) {
    proto::Management heartbeat;
    heartbeat.mutable_sdc_heartbeat()->set_number(number);
    heartbeat.mutable_sdc_heartbeat()->add_unreachable_sds(cluster.sds(0).id);
    cluster.SendToMdm(conn, heartbeat);
  };
  complain(1);
  cluster.Advance(milliseconds(600));
  EXPECT_GT(PrimariesOf(cluster, cluster.sds(0).id), 0);  // once may be a moment
  complain(2);
  cluster.Advance(seconds(1));
  EXPECT_EQ(PrimariesOf(cluster, cluster.sds(0).id), 0);
  EXPECT_EQ(cluster.WriteAll(), 16u);
  EXPECT_EQ(cluster.Status().slices_mirrored(), 16u);
  // It does not come back as soon as nobody complains, and it does come back.
  cluster.Advance(seconds(30));
  EXPECT_EQ(PrimariesOf(cluster, cluster.sds(0).id), 0);
  cluster.Advance(seconds(60));
  EXPECT_LE(WorstImbalance(cluster), 1);
}

// Its requests wait for whoever is primary, and for nobody else.
TEST(Decisions, RolesDoNotGoRoundAfterAClientThatReachesNobody) {
  TestCluster cluster;
  cluster.Build(3, 16);
  cluster.MustSdcAdd("client");
  ASSERT_EQ(cluster.Admin(cluster.MapRequest("client"))->code(), Reply::OK);
  const ConnId conn = cluster.ConnectSdc("client", 1);
  cluster.Advance(milliseconds(300));
  const uint64_t slice = cluster.Status(true).slices(0).slice();
  const uint64_t missed_first = cluster.Status(true).slices(0).primary().sds();
  const uint64_t epochs = SumOfEpochs(cluster);
  for (uint64_t second = 1; second <= 90; ++second) {
    const proto::ClusterStatus status = cluster.Status(true);
    proto::Management heartbeat;
    heartbeat.mutable_sdc_heartbeat()->set_number(second);
    for (const proto::SliceConfig& config : status.slices()) {
      if (config.slice() != slice) continue;
      heartbeat.mutable_sdc_heartbeat()->add_unreachable_sds(config.primary().sds());
    }
    cluster.SendToMdm(conn, heartbeat);
    cluster.Advance(seconds(1));
    // Nobody complains about it any more, because nobody needs it.
    const bool is_other_time = second < 5 || second > 55;
    ASSERT_TRUE(is_other_time || PrimariesOf(cluster, missed_first) == 0) << second;
  }
  // The first complaint is as good as any other; after that it has missed everybody for a minute.
  EXPECT_LE(SumOfEpochs(cluster) - epochs, 30u);
  EXPECT_EQ(cluster.WriteAll(), 16u);
}

int HeldBy(TestCluster& cluster, uint64_t device) {
  const proto::ClusterStatus status = cluster.Status();
  for (const proto::Device& found : status.devices()) {
    if (found.id() == device) return static_cast<int>(found.slices());
  }
  return -1;
}

TEST(Decisions, ADeviceThatIsRemovedIsEmptiedFirstAndThenGone) {
  TestCluster cluster;
  cluster.Build(4, 16);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  const uint64_t device = cluster.Status().devices(0).id();
  proto::AdminRequest remove = cluster.Request();
  remove.mutable_device_remove()->set_device(std::to_string(device));
  const auto reply = cluster.Admin(remove);
  ASSERT_EQ(reply->code(), Reply::OK) << reply->error();
  EXPECT_NE(reply->note().find("8 slices move"), std::string::npos) << reply->note();
  Duration pause{};
  int held = 8;
  for (int i = 0; i < 100; ++i) {
    cluster.Advance(milliseconds(100));
    pause = std::max(pause, UntilWritable(cluster, 16, seconds(5)));
    const int now = HeldBy(cluster, device);
    EXPECT_LE(now, held);
    held = now;
    // Never one copy only.
    EXPECT_EQ(cluster.Status().slices_degraded(), 0u);
  }
  EXPECT_LE(pause, milliseconds(300));
  EXPECT_EQ(held, -1);  // it is gone
  EXPECT_EQ(cluster.Status().slices_mirrored(), 16u);
  EXPECT_LE(WorstImbalance(cluster), 1);
}

TEST(Decisions, ARemovalCanBeCancelledAndASecondTimeItIsNoNews) {
  TestCluster cluster;
  cluster.Build(4, 16);
  const uint64_t device = cluster.Status().devices(0).id();
  proto::AdminRequest remove = cluster.Request();
  remove.mutable_device_remove()->set_device(std::to_string(device));
  ASSERT_EQ(cluster.Admin(remove)->code(), Reply::OK);
  proto::AdminRequest again = cluster.Request();
  *again.mutable_device_remove() = remove.device_remove();
  EXPECT_EQ(cluster.Admin(again)->code(), Reply::OK);
  proto::AdminRequest cancel = cluster.Request();
  *cancel.mutable_device_remove() = remove.device_remove();
  cancel.mutable_device_remove()->set_cancel(true);
  ASSERT_EQ(cluster.Admin(cancel)->code(), Reply::OK);
  proto::AdminRequest cancel_again = cluster.Request();
  *cancel_again.mutable_device_remove() = cancel.device_remove();
  EXPECT_EQ(cluster.Admin(cancel_again)->code(), Reply::CONFLICT);
  for (int i = 0; i < 60; ++i) {
    cluster.Advance(milliseconds(500));
    cluster.WriteAll();
  }
  EXPECT_EQ(HeldBy(cluster, device), 8);  // and it has its share again
  EXPECT_EQ(cluster.Status().slices_mirrored(), 16u);
}

TEST(Decisions, ADeviceThatCannotBeEmptiedSaysWhy) {
  TestCluster cluster;
  cluster.Build(3, 16);
  const uint64_t device = cluster.Status().devices(0).id();
  proto::AdminRequest remove = cluster.Request();
  remove.mutable_device_remove()->set_device(std::to_string(device));
  ASSERT_EQ(cluster.Admin(remove)->code(), Reply::OK);
  cluster.Kill(1);
  cluster.Advance(seconds(15));
  EXPECT_GT(HeldBy(cluster, device), 0);
  const std::string why = cluster.Status().devices(0).error();
  EXPECT_NE(why.find("no place for two copies"), std::string::npos) << why;
  EXPECT_NE(why.find("gabion device add"), std::string::npos) << why;
  cluster.StartSds(1);
  cluster.Advance(seconds(30));
  EXPECT_EQ(HeldBy(cluster, device), -1);
  EXPECT_EQ(cluster.WriteAll(), 16u);
  EXPECT_EQ(cluster.Status().slices_mirrored(), 16u);
}

TEST(Decisions, AnSdsIsRemovedWithItsDevicesAndOnlyWhenTheOthersHaveRoom) {
  TestCluster cluster;
  cluster.Build(3, 16);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  const auto remove = [&](const std::string& name) {
    proto::AdminRequest request = cluster.Request();
    request.mutable_sds_remove()->set_sds(name);
    return *cluster.Admin(request);
  };
  ASSERT_EQ(remove("sds1").code(), Reply::OK);
  for (int i = 0; i < 40; ++i) {
    cluster.Advance(milliseconds(500));
    cluster.WriteAll();
  }
  EXPECT_EQ(cluster.Status().sdss_size(), 2);
  EXPECT_EQ(cluster.Status().slices_mirrored(), 16u);
  EXPECT_EQ(cluster.WriteAll(), 16u);
  const Reply refused = remove("sds2");
  EXPECT_EQ(refused.code(), Reply::NO_SPACE);
  EXPECT_NE(refused.error().find("add devices"), std::string::npos) << refused.error();
}

TEST(Decisions, ANewDeviceGetsItsShareOfReplicasAndPrimaries) {
  TestCluster cluster;
  cluster.Build(3, 16);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  cluster.MustSdsAdd("sds4");
  cluster.AddSds("sds4");
  cluster.Advance(seconds(1));
  const uint64_t device = cluster.MustDeviceAdd("sds4", "pool", "/dev/vdb");
  Duration pause{};
  for (int i = 0; i < 200; ++i) {
    cluster.Advance(milliseconds(200));
    pause = std::max(pause, UntilWritable(cluster, 16, seconds(5)));
    EXPECT_EQ(cluster.Status().slices_degraded(), 0u);
  }
  EXPECT_LE(pause, milliseconds(300));
  EXPECT_NEAR(HeldBy(cluster, device), 8, 1);
  EXPECT_LE(WorstImbalance(cluster), 1);
  const uint64_t epochs = SumOfEpochs(cluster);
  cluster.Advance(seconds(60));
  EXPECT_EQ(SumOfEpochs(cluster), epochs);  // it ends
}

TEST(Decisions, ADeviceThatWentBackServesNothingAndIsMadeAnew) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  const uint64_t device = cluster.Status().devices(0).id();
  const ModelDevice old = cluster.device(device);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  cluster.Advance(seconds(61));  // positions are noted
  cluster.Kill(0);
  cluster.Kill(1);
  cluster.device(device) = old;
  cluster.CrashMdm(true);
  cluster.StartSds(0);
  cluster.Advance(seconds(8));
  EXPECT_EQ(cluster.WriteAll(), 0u);
  EXPECT_EQ(cluster.Status().slices_unavailable(), 4u);
  cluster.StartSds(1);
  cluster.Advance(seconds(8));
  EXPECT_EQ(cluster.WriteAll(), 4u);  // the model checks that nothing is lost
  EXPECT_EQ(cluster.Status().slices_mirrored(), 4u);
}

TEST(Decisions, TheOnlyCopyThatWentBackServesByForceAlone) {
  TestCluster cluster;
  cluster.Build(2, 1);
  ASSERT_EQ(cluster.WriteAll(), 1u);
  cluster.Kill(1);
  cluster.Advance(seconds(2));
  cluster.WriteAll();
  cluster.Advance(seconds(1));
  const uint64_t device = cluster.Status(true).slices(0).primary().device();
  const ModelDevice old = cluster.device(device);
  cluster.Advance(seconds(61));
  ASSERT_EQ(cluster.WriteAll(), 1u);
  cluster.Advance(seconds(61));
  cluster.Kill(0);
  cluster.device(device) = old;
  cluster.StartSds(0);
  cluster.Advance(seconds(20));
  EXPECT_EQ(cluster.Status().slices_unavailable(), 1u);
  EXPECT_NE(cluster.Status().devices(0).error().find("older state"), std::string::npos);
  proto::AdminRequest force = cluster.Request();
  force.mutable_slice_force()->set_slice(cluster.Status(true).slices(0).slice());
  force.mutable_slice_force()->set_device(device);
  force.mutable_slice_force()->set_accept_data_loss(true);
  const auto reply = cluster.Admin(force);
  ASSERT_EQ(reply->code(), Reply::OK) << reply->error();
  cluster.Advance(seconds(1));
  EXPECT_EQ(cluster.Status().slices_degraded(), 1u);
  EXPECT_EQ(cluster.Status().devices(0).error(), "");
}

TEST(Decisions, StopsWhenAnSdsHasSeenALaterEpoch) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  ModelSds& sds = cluster.sds(0);
  proto::Management management;
  proto::SdsHeartbeat* heartbeat = management.mutable_sds_heartbeat();
  heartbeat->set_number(++sds.heartbeat);
  heartbeat->set_incarnation(sds.incarnation);
  heartbeat->set_applied_version(sds.applied);
  heartbeat->set_drained_version(sds.drained);
  for (const auto& [id, slice] : sds.slices) {
    if (slice.primary().sds() != sds.id) continue;
    proto::SliceReport* report = heartbeat->add_reports();
    report->set_kind(proto::SliceReport::AHEAD);
    report->set_slice(id);
    report->set_epoch(slice.epoch());
    report->set_primary_incarnation(sds.incarnation);
    report->set_seen_epoch(99);
  }
  ASSERT_GT(heartbeat->reports_size(), 0);
  cluster.SendToMdm(sds.conn, management);
  cluster.Advance(seconds(2));
  EXPECT_EQ(cluster.WriteAll(), 0u);  // no lease is left
  EXPECT_NE(cluster.Status().problem().find("old copy"), std::string::npos);
  proto::AdminRequest request = cluster.Request();
  request.mutable_sdc_add()->set_name("client");
  EXPECT_EQ(cluster.Admin(request)->code(), Reply::UNAVAILABLE);
}

}  // namespace
}  // namespace gabion::mdm
