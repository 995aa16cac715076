// Stories of a whole MDM, with model SDSs around it.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Reply = proto::AdminReply;

TEST(Mdm, PlacesTheFirstVolumeOfAPoolOnAllDevicesMirrored) {
  TestCluster cluster;
  cluster.Build(3, 16);
  const proto::ClusterStatus status = cluster.Status(true);
  EXPECT_EQ(status.slices_mirrored(), 16u);
  EXPECT_EQ(status.slices_degraded(), 0u);
  std::map<uint64_t, int> replicas;
  for (const proto::SliceConfig& slice : status.slices()) {
    EXPECT_EQ(slice.epoch(), 1u);
    EXPECT_NE(slice.primary().sds(), slice.secondary().sds());
    ++replicas[slice.primary().device()];
    ++replicas[slice.secondary().device()];
  }
  ASSERT_EQ(replicas.size(), 3u);
  for (const auto& [device, count] : replicas) EXPECT_NEAR(count, 11, 1) << device;
  EXPECT_EQ(cluster.WriteAll(), 16u);
}

TEST(Mdm, KeepsEverythingAcrossACrashAtAnyPoint) {
  TestCluster cluster;
  cluster.Build(2, 4);
  for (int i = 0; i < 20; ++i) {
    cluster.MustVolumeCreate("more-" + std::to_string(i), "pool", uint64_t{1} << 20);
    cluster.CrashMdm(i % 2 == 0);
    cluster.Advance(milliseconds(700));
    const proto::ClusterStatus status = cluster.Status();
    EXPECT_EQ(status.volumes_size(), i + 2);
    EXPECT_EQ(status.mdm_incarnation(), static_cast<uint64_t>(i + 2));
    EXPECT_EQ(cluster.WriteAll(), 4u);
  }
}

TEST(Mdm, AnswersNothingBeforeTheCommandIsDurable) {
  TestCluster cluster;
  cluster.Build(2, 4);
  cluster.hold_disk = true;
  wire::Hello hello;
  hello.role = wire::PeerRole::kAdmin;
  const ConnId conn = cluster.Connect(hello);
  proto::Management management;
  *management.mutable_admin_request() = cluster.Request();
  management.mutable_admin_request()->mutable_sdc_add()->set_name("late");
  cluster.SendToMdm(conn, management);
  EXPECT_TRUE(cluster.TakeMessages(conn).empty());
  EXPECT_EQ(cluster.Status().sdcs_size(), 0);
  cluster.hold_disk = false;
  cluster.Settle();
  EXPECT_EQ(cluster.TakeMessages(conn).size(), 1u);
  EXPECT_EQ(cluster.Status().sdcs_size(), 1);
}

TEST(Mdm, GivesARepeatedRequestItsFirstAnswerEvenAfterARestart) {
  TestCluster cluster;
  proto::AdminRequest request = cluster.Request();
  request.mutable_sds_add()->set_name("one");
  const auto first = cluster.Admin(request);
  ASSERT_EQ(first->code(), Reply::OK);
  EXPECT_EQ(cluster.Admin(request)->id(), first->id());
  cluster.CrashMdm(true);
  const auto third = cluster.Admin(request);
  EXPECT_EQ(third->code(), Reply::OK);
  EXPECT_EQ(third->id(), first->id());
  EXPECT_EQ(cluster.Status().sdss_size(), 1);
}

TEST(Mdm, FailsOverWithinALeaseAndHalfASecondAfterAKill) {
  TestCluster cluster;
  cluster.Build(3, 16);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  cluster.Kill(0);
  const Instant killed = cluster.now();
  size_t written = 0;
  while (written < 16 && cluster.now() - killed < seconds(5)) {
    cluster.Advance(milliseconds(10));
    written = cluster.WriteAll();
  }
  EXPECT_LE(cluster.now() - killed, milliseconds(1500));
}

TEST(Mdm, ARestartAtOnceWaitsForNoLease) {
  TestCluster cluster;
  cluster.Build(3, 16);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  cluster.Kill(0);
  cluster.StartSds(0);
  const Instant killed = cluster.now();
  size_t written = 0;
  while (written < 16 && cluster.now() - killed < seconds(5)) {
    cluster.Advance(milliseconds(10));
    written = cluster.WriteAll();
  }
  EXPECT_LE(cluster.now() - killed, milliseconds(300));
}

TEST(Mdm, ARestartWithoutTheStateLockWaitsForTheOldLease) {
  TestCluster cluster;
  cluster.Build(2, 8);
  cluster.sds(0).state_lock.clear();
  const std::string before = cluster.Status(true).DebugString();
  cluster.Kill(0);
  cluster.StartSds(0);
  const Instant killed = cluster.now();
  size_t written = 0;
  while (written < 8 && cluster.now() - killed < seconds(5)) {
    cluster.Advance(milliseconds(10));
    written = cluster.WriteAll();
  }
  EXPECT_GE(cluster.now() - killed, milliseconds(750));
  EXPECT_LE(cluster.now() - killed, milliseconds(1500));
}

TEST(Mdm, AHandedBackLeaseFailsOverAtOnce) {
  TestCluster cluster;
  cluster.Build(3, 16);
  cluster.HandBack(0);
  const Instant stopped = cluster.now();
  size_t written = 0;
  while (written < 16 && cluster.now() - stopped < seconds(5)) {
    cluster.Advance(milliseconds(10));
    written = cluster.WriteAll();
  }
  EXPECT_LE(cluster.now() - stopped, milliseconds(300));
}

TEST(Mdm, NothingIsGrantedToAPrimaryThatIsBeingTaken) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  cluster.sds(0).paused = true;
  cluster.Advance(milliseconds(700));
  cluster.hold_disk = true;  // the epochs that take it are proposed, and not durable
  cluster.Advance(milliseconds(700));
  cluster.sds(0).paused = false;
  cluster.Advance(milliseconds(700));
  EXPECT_TRUE(cluster.sds(0).registered);
  EXPECT_EQ(cluster.WriteAll(), 2u);  // the other one's; what it had is out of lease, and stays so
  cluster.hold_disk = false;
  cluster.Settle();
  cluster.Advance(milliseconds(700));
  EXPECT_EQ(cluster.WriteAll(), 4u);
}

TEST(Mdm, AFailedDeviceReleasesItsSlicesAtOnceWhileItsSdsLives) {
  TestCluster cluster;
  cluster.Build(3, 16);
  ASSERT_EQ(cluster.WriteAll(), 16u);
  const uint64_t failed = cluster.Status().devices(0).id();
  cluster.device(failed).state = proto::DEVICE_FAILED;
  cluster.Advance(milliseconds(400));
  EXPECT_EQ(cluster.WriteAll(), 16u);
  cluster.Advance(seconds(3));
  // Lost for good: the new copy does not wait for it.
  EXPECT_EQ(cluster.Status().slices_mirrored(), 16u);
  EXPECT_EQ(cluster.Status().devices(0).state(), proto::DEVICE_FAILED);
}

TEST(Mdm, ADeviceThatGoesAndComesBackActsAgainOnlyByNewEpochs) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  const uint64_t id = cluster.Status().devices(0).id();
  const uint64_t other = cluster.Status().devices(1).id();
  for (int round = 0; round < 3; ++round) {
    cluster.device(id).state = proto::DEVICE_DOWN;
    cluster.Advance(milliseconds(600));
    cluster.WriteAll();
    cluster.Advance(milliseconds(600));
    EXPECT_EQ(cluster.WriteAll(), 4u);
    cluster.device(other).state = proto::DEVICE_DOWN;  // now it is the only copy
    cluster.Advance(milliseconds(600));
    EXPECT_EQ(cluster.WriteAll(), 0u);
    cluster.device(other).state = proto::DEVICE_UP;
    cluster.Advance(milliseconds(600));
    EXPECT_EQ(cluster.WriteAll(), 4u);
    cluster.device(id).state = proto::DEVICE_UP;
    cluster.Advance(seconds(3));
    EXPECT_EQ(cluster.WriteAll(), 4u);
    EXPECT_EQ(cluster.Status().slices_mirrored(), 4u);
  }
}

TEST(Mdm, RefusesAnOlderIncarnation) {
  TestCluster cluster;
  cluster.Build(2, 4);
  cluster.Kill(0);
  cluster.StartSds(0);
  cluster.Advance(seconds(1));
  cluster.Kill(0);
  cluster.sds(0).incarnation = 0;  // an old copy of the state directory
  cluster.StartSds(0);
  cluster.Advance(seconds(1));
  EXPECT_FALSE(cluster.sds(0).registered);
  EXPECT_NE(cluster.sds(0).error.find("old copy"), std::string::npos) << cluster.sds(0).error;
}

TEST(Mdm, GivesAnIncarnationToOneRunOnly) {
  TestCluster cluster;
  cluster.Build(2, 4);
  cluster.sds(0).run = 5;
  cluster.Kill(0);
  cluster.StartSds(0);
  cluster.Advance(seconds(1));
  ASSERT_TRUE(cluster.sds(0).registered);
  // The same run comes again on another connection.
  cluster.Disconnect(0);
  cluster.Advance(seconds(1));
  EXPECT_TRUE(cluster.sds(0).registered);
  // A copy of the state directory came to the same number.
  cluster.Kill(0);
  --cluster.sds(0).incarnation;
  cluster.sds(0).run = 6;
  cluster.StartSds(0);
  cluster.Advance(seconds(1));
  EXPECT_FALSE(cluster.sds(0).registered);
  EXPECT_TRUE(cluster.sds(0).superseded);
  EXPECT_NE(cluster.sds(0).error.find("is another process"), std::string::npos)
      << cluster.sds(0).error;
}

TEST(Mdm, ARestartOnAnotherHostWaitsForTheOldLease) {
  TestCluster cluster;
  cluster.Build(2, 8);
  cluster.sds(0).state_lock = "another host";  // with a copy of the folder, and of the devices
  cluster.Kill(0);
  cluster.StartSds(0);
  const Instant killed = cluster.now();
  size_t written = 0;
  while (written < 8 && cluster.now() - killed < seconds(5)) {
    cluster.Advance(milliseconds(10));
    written = cluster.WriteAll();
  }
  EXPECT_GE(cluster.now() - killed, milliseconds(750));
  EXPECT_LE(cluster.now() - killed, milliseconds(1500));
}

TEST(Mdm, RefusesAnSdsThatHasSeenALaterGeneration) {
  TestCluster cluster;
  cluster.MustSdsAdd("one");
  wire::Hello hello;
  hello.role = wire::PeerRole::kSds;
  hello.incarnation = Incarnation(1);
  proto::Management management;
  management.mutable_sds_register()->set_name("one");
  management.mutable_sds_register()->set_incarnation(1);
  management.mutable_sds_register()->set_generation_seen(1);
  // One that names no cluster has followed nobody, and proves nothing.
  cluster.SendToMdm(cluster.Connect(hello), management);
  EXPECT_EQ(cluster.Status().problem(), "");
  hello.cluster = ClusterId(cluster.Status().cluster());
  const ConnId conn = cluster.Connect(hello);
  management.mutable_sds_register()->add_addresses("127.0.0.1:7000");
  cluster.SendToMdm(conn, management);
  const auto messages = cluster.TakeMessages(conn);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].sds_register_reply().error().find("old copy"), std::string::npos);
}

TEST(Mdm, RenewsNoLeaseOfAnSdsThatDoesNotApplyItsFences) {
  TestCluster cluster;
  cluster.Build(3, 8);
  cluster.MustSdcAdd("client");
  ASSERT_EQ(cluster.Admin(cluster.MapRequest("client"))->code(), Reply::OK);
  cluster.sds(0).obeys = false;
  proto::AdminRequest unmap = cluster.Request();
  unmap.mutable_volume_unmap()->set_volume("vol");
  unmap.mutable_volume_unmap()->set_sdc("client");
  const Instant asked = cluster.now();
  ASSERT_EQ(cluster.Admin(unmap)->code(), Reply::OK);
  // Answered when the deaf one is out of lease by its own clock, and no sooner.
  EXPECT_GE(cluster.now() - asked, milliseconds(1000));
  EXPECT_LE(cluster.now() - asked, milliseconds(1600));
  EXPECT_LT(cluster.sds(0).lease_end, cluster.now().time_since_epoch().count());
}

TEST(Mdm, ADeviceThatCannotBeUsedSaysWhyAndMayBeTriedAgain) {
  TestCluster cluster;
  cluster.MustPoolAdd("pool", 4);
  cluster.MustSdsAdd("sds1");
  cluster.AddSds("sds1");
  cluster.Advance(milliseconds(300));
  // The next id is known, because ids come from one counter: this is the device's.
  const uint64_t id = cluster.MustDeviceAdd("sds1", "pool", "/dev/good") + 1;
  cluster.device(id).state = proto::DEVICE_FAILED;
  proto::AdminRequest request = cluster.Request();
  request.mutable_device_add()->set_sds("sds1");
  request.mutable_device_add()->set_pool("pool");
  request.mutable_device_add()->set_path("/dev/foreign");
  const auto refused = cluster.Admin(request);
  EXPECT_EQ(refused->code(), Reply::CONFLICT);
  EXPECT_NE(refused->error().find("write error"), std::string::npos) << refused->error();
  cluster.device(id).state = proto::DEVICE_UP;
  request.set_request("again");
  request.mutable_device_add()->set_force(true);
  const auto accepted = cluster.Admin(request);
  EXPECT_EQ(accepted->code(), Reply::OK) << accepted->error();
  EXPECT_EQ(accepted->id(), id);
}

TEST(Mdm, ADeviceThatIsToBeTestedIsUsedWhenItWas) {
  TestCluster cluster;
  cluster.MustPoolAdd("pool", 4);
  cluster.MustSdsAdd("sds1");
  cluster.AddSds("sds1");
  cluster.Advance(milliseconds(300));
  const uint64_t id = cluster.MustDeviceAdd("sds1", "pool", "/dev/other") + 1;
  const auto state = [&] { return cluster.Status().devices(1).state(); };
  proto::AdminRequest request = cluster.Request();
  request.mutable_device_add()->set_sds("sds1");
  request.mutable_device_add()->set_pool("pool");
  request.mutable_device_add()->set_path("/dev/new");
  request.mutable_device_add()->set_test(proto::TEST_ONLY);
  cluster.device(id).state = proto::DEVICE_TESTED;
  cluster.device(id).tested = true;
  const auto tested = cluster.Admin(request);
  ASSERT_EQ(tested->code(), Reply::OK) << tested->error();
  EXPECT_EQ(tested->id(), id);
  EXPECT_NE(tested->note().find("writes 812 MiB/s"), std::string::npos) << tested->note();
  EXPECT_EQ(state(), proto::DEVICE_TESTED);
  EXPECT_EQ(cluster.Status().devices(1).figures().write_bytes_per_second(), uint64_t{812} << 20);
  // Up before it was tested again, as when its SDS restarts: that does not count.
  request.set_request("again");
  request.mutable_device_add()->set_test(proto::TEST_ACTIVATE);
  cluster.device(id).state = proto::DEVICE_UP;
  cluster.device(id).tested = false;
  const auto waiting = cluster.Admin(request);
  EXPECT_TRUE(!waiting || waiting->code() == Reply::UNAVAILABLE);
  EXPECT_EQ(state(), proto::DEVICE_ADDING);
  cluster.device(id).tested = true;
  cluster.Advance(milliseconds(1000));
  EXPECT_EQ(state(), proto::DEVICE_UP);
}

TEST(Mdm, ADeviceThatWasOnlyTestedIsNoCapacityAndCanBeRemoved) {
  TestCluster cluster;
  cluster.MustPoolAdd("pool", 4);
  for (const char* name : {"sds1", "sds2"}) {
    cluster.MustSdsAdd(name);
    cluster.AddSds(name);
  }
  cluster.Advance(milliseconds(300));
  cluster.MustDeviceAdd("sds1", "pool", "/dev/a");
  const uint64_t id = cluster.MustDeviceAdd("sds2", "pool", "/dev/b") + 1;
  const uint64_t capacity = cluster.Status().pools(0).capacity_bytes();
  EXPECT_EQ(capacity, cluster.Status().devices(0).size_bytes() * 2);
  proto::AdminRequest request = cluster.Request();
  request.mutable_device_add()->set_sds("sds2");
  request.mutable_device_add()->set_pool("pool");
  request.mutable_device_add()->set_path("/dev/new");
  request.mutable_device_add()->set_test(proto::TEST_ONLY);
  cluster.device(id).state = proto::DEVICE_TESTED;
  cluster.device(id).tested = true;
  const auto tested = cluster.Admin(request);
  ASSERT_EQ(tested->code(), Reply::OK) << tested->error();
  ASSERT_EQ(tested->id(), id);
  proto::ClusterStatus status = cluster.Status();
  ASSERT_EQ(status.devices_size(), 3);
  EXPECT_GT(status.devices(2).size_bytes(), 0u);
  EXPECT_EQ(status.pools(0).capacity_bytes(), capacity);
  // The pool needs both others, and this one for nothing.
  cluster.MustVolumeCreate("vol", "pool", 8 << 20);
  request = cluster.Request();
  request.mutable_device_remove()->set_device(std::to_string(id));
  const auto removed = cluster.Admin(request);
  ASSERT_EQ(removed->code(), Reply::OK) << removed->error();
  cluster.Advance(seconds(1));
  status = cluster.Status();
  EXPECT_EQ(status.devices_size(), 2);
  EXPECT_EQ(status.pools(0).capacity_bytes(), capacity);
  EXPECT_EQ(cluster.sds(1).devices_of_config.size(), 1u);
  // It may be added again, as another one.
  request = cluster.Request();
  request.mutable_device_add()->set_sds("sds2");
  request.mutable_device_add()->set_pool("pool");
  request.mutable_device_add()->set_path("/dev/new");
  const auto again = cluster.Admin(request);
  ASSERT_EQ(again->code(), Reply::OK) << again->error();
  EXPECT_NE(again->id(), id);
  EXPECT_EQ(cluster.Status().pools(0).capacity_bytes(), capacity / 2 * 3);
}

TEST(Mdm, EmptiesAndRemovesAPool) {
  TestCluster cluster;
  cluster.Build(2, 4);
  proto::AdminRequest request = cluster.Request();
  request.mutable_volume_delete()->set_volume("vol");
  ASSERT_EQ(cluster.Admin(request)->code(), Reply::OK);
  const proto::ClusterStatus status = cluster.Status();
  for (const auto& device : status.devices()) {
    request = cluster.Request();
    request.mutable_device_remove()->set_device(std::to_string(device.id()));
    const auto reply = cluster.Admin(request);
    ASSERT_EQ(reply->code(), Reply::OK) << reply->error();
  }
  request = cluster.Request();
  request.mutable_pool_remove()->set_pool("pool");
  ASSERT_EQ(cluster.Admin(request)->code(), Reply::OK);
  for (const char* name : {"sds1", "sds2"}) {
    request = cluster.Request();
    request.mutable_sds_remove()->set_sds(name);
    ASSERT_EQ(cluster.Admin(request)->code(), Reply::OK);
  }
  cluster.Advance(seconds(1));
  EXPECT_EQ(cluster.Status().sdss_size(), 0);
  EXPECT_NE(cluster.sds(0).error.find("was removed"), std::string::npos);
  cluster.CrashMdm(true);
  EXPECT_EQ(cluster.Status().pools_size(), 0);
}

TEST(Mdm, StrangersAndNonsenseCloseTheirConnectionOnly) {
  TestCluster cluster;
  cluster.Build(2, 4);
  wire::Hello hello;
  hello.role = wire::PeerRole::kSds;
  hello.incarnation = Incarnation(1);
  hello.cluster = ClusterId(0xbad);
  EXPECT_FALSE(cluster.IsOpen(cluster.Connect(hello)));
  hello = wire::Hello();
  hello.role = wire::PeerRole::kAdmin;
  const ConnId garbage = cluster.Connect(hello);
  cluster.SendRaw(garbage, {wire::ManagementBody{1}, {}});
  EXPECT_FALSE(cluster.IsOpen(garbage));
  const ConnId wrong = cluster.Connect(hello);
  proto::Management management;
  management.mutable_sds_heartbeat()->set_number(1);
  cluster.SendToMdm(wrong, management);
  EXPECT_FALSE(cluster.IsOpen(wrong));
  const ConnId data = cluster.Connect(hello);
  cluster.SendRaw(data, {wire::ReadRequest(), {}});
  EXPECT_FALSE(cluster.IsOpen(data));
  EXPECT_EQ(cluster.WriteAll(), 4u);
}

}  // namespace
}  // namespace gabion::mdm
