// A repository that was restored from an older copy (R23): what it waits for, and what it may not
// do. That no acknowledged value is lost is checked by every WriteAll.
#include <gtest/gtest.h>

#include "core/mdm/repository.h"
#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Reply = proto::AdminReply;

// Slices fail over from sds1, are made anew on the others, and are written: the backup knows
// nothing of it, and sds1 has what was before.
std::vector<std::byte> BackupBeforeFailOver(TestCluster& cluster, size_t slices) {
  EXPECT_EQ(cluster.WriteAll(), slices);
  std::vector<std::byte> backup = cluster.MdmBackup();
  cluster.Kill(0);
  cluster.Advance(seconds(3));
  cluster.WriteAll();
  cluster.Advance(seconds(20));
  EXPECT_EQ(cluster.WriteAll(), slices);
  EXPECT_EQ(cluster.Status().slices_mirrored(), slices);
  return backup;
}

proto::AdminRequest ForceRequest(TestCluster& cluster, uint64_t slice, uint64_t device) {
  proto::AdminRequest force = cluster.Request();
  force.mutable_slice_force()->set_slice(slice);
  force.mutable_slice_force()->set_device(device);
  force.mutable_slice_force()->set_accept_data_loss(true);
  return force;
}

TEST(Restored, ServesEachSliceWhenTheDevicesOfItsNewestConfigurationHaveReported) {
  TestCluster cluster;
  cluster.Build(3, 8);
  const std::vector<std::byte> backup = BackupBeforeFailOver(cluster, 8);
  cluster.Kill(1);
  cluster.Kill(2);
  cluster.RestoreMdm(backup, /*hold=*/true);
  cluster.StartSds(0);
  cluster.Advance(seconds(5));
  EXPECT_EQ(cluster.WriteAll(), 0u);
  EXPECT_NE(cluster.Status().problem().find("gabion mdm restored"), std::string::npos);

  proto::AdminRequest hasty = cluster.Request();
  hasty.mutable_mdm_restored();
  EXPECT_EQ(cluster.Admin(hasty)->code(), Reply::INVALID);
  EXPECT_EQ(cluster.Status().generation(), 0u);
  const auto reply = cluster.AcceptOlderRepository();
  ASSERT_TRUE(reply && reply->code() == Reply::OK) << reply->error();
  EXPECT_NE(reply->note().find("8 slices wait"), std::string::npos) << reply->note();
  cluster.Advance(seconds(10));
  // The old copies are not served, though the repository thinks that they are good.
  EXPECT_EQ(cluster.WriteAll(), 0u);
  proto::ClusterStatus status = cluster.Status(true);
  EXPECT_EQ(status.problem(), "");
  EXPECT_EQ(status.generation(), 1u);
  EXPECT_EQ(status.slices_closed(), 8u);
  EXPECT_EQ(status.slices_unavailable(), 8u);
  ASSERT_EQ(status.closed_slices_size(), 8);
  ASSERT_GT(status.notices_size(), 0);
  proto::AdminRequest removal = cluster.Request();
  removal.mutable_device_remove()->set_device(std::to_string(status.devices(0).id()));
  EXPECT_EQ(cluster.Admin(removal)->code(), Reply::CONFLICT);

  cluster.CrashMdm(/*power_cut=*/true);  // and is not asked again
  cluster.Advance(seconds(5));
  EXPECT_EQ(cluster.Status().slices_closed(), 8u);
  cluster.StartSds(1);
  cluster.Advance(seconds(5));
  cluster.WriteAll();
  cluster.StartSds(2);
  cluster.Advance(seconds(20));
  EXPECT_EQ(cluster.WriteAll(), 8u);
  status = cluster.Status(true);
  EXPECT_EQ(status.slices_closed(), 0u);
  EXPECT_EQ(status.slices_mirrored(), 8u);
  for (const proto::SliceConfig& slice : status.slices()) {
    EXPECT_EQ(GenerationOf(slice.epoch()), 1u);
    EXPECT_EQ(GenerationOf(slice.reign()), 1u);
  }
  EXPECT_EQ(GenerationOf(cluster.MustVolumeCreate("later", "pool", 1 << 20)), 1u);
  cluster.CrashMdm(/*power_cut=*/true);
  cluster.Advance(seconds(5));
  EXPECT_EQ(cluster.WriteAll(), 8u);
}

TEST(Restored, LeasesOfTheGenerationBeforeRunOutFirst) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  const std::vector<std::byte> backup = cluster.MdmBackup();
  cluster.RestoreMdm(backup, /*hold=*/true);
  cluster.Advance(milliseconds(100));
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(milliseconds(900));
  EXPECT_EQ(cluster.Status().slices_closed(), 4u);
  cluster.Advance(seconds(3));
  EXPECT_EQ(cluster.WriteAll(), 4u);
}

TEST(Restored, AnOldCopyThatWasNotHeldIsFoundOutByAGenerationThatSomebodyHasSeen) {
  TestCluster cluster;
  cluster.Build(2, 4);
  const std::vector<std::byte> backup = cluster.MdmBackup();
  cluster.RestoreMdm(backup, /*hold=*/true);
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(seconds(5));
  ASSERT_EQ(cluster.WriteAll(), 4u);
  // The same copy once more: what generation 1 has issued is unknown to it.
  cluster.RestoreMdm(backup, /*hold=*/false);
  cluster.Advance(seconds(3));
  EXPECT_EQ(cluster.WriteAll(), 0u);
  EXPECT_NE(cluster.Status().problem().find("generation 1"), std::string::npos);
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(seconds(5));
  EXPECT_EQ(cluster.Status().generation(), 2u);
  EXPECT_EQ(cluster.WriteAll(), 4u);
}

// Restored to the moment when the last restoring had just begun: its generation is the same as that
// of epochs which it does not know.
TEST(Restored, EpochsOfTheSameGenerationAskForAHigherOne) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  cluster.RestoreMdm(cluster.MdmBackup(), /*hold=*/true);
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  const std::vector<std::byte> closed = cluster.MdmBackup();
  cluster.Advance(seconds(5));
  ASSERT_EQ(cluster.WriteAll(), 4u);
  cluster.RestoreMdm(closed, /*hold=*/false);
  cluster.Advance(seconds(5));
  EXPECT_EQ(cluster.WriteAll(), 0u);
  EXPECT_NE(cluster.Status().problem().find("has not issued"), std::string::npos)
      << cluster.Status().problem();
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(seconds(5));
  EXPECT_EQ(cluster.Status().generation(), 2u);
  EXPECT_EQ(cluster.WriteAll(), 4u);
}

TEST(Restored, ServersAndDevicesThatWereAddedSinceComeBackWithTheirData) {
  TestCluster cluster;
  cluster.Build(2, 8);
  for (size_t i = 0; i < 2; ++i) cluster.sds(i).names_devices = true;
  ASSERT_EQ(cluster.WriteAll(), 8u);
  const std::vector<std::byte> backup = cluster.MdmBackup();
  cluster.MustSdsAdd("sds3");
  cluster.AddSds("sds3");
  cluster.Advance(seconds(1));
  cluster.sds(2).names_devices = true;
  const uint64_t added = cluster.MustDeviceAdd("sds3", "pool", "/dev/vdc");
  const uint64_t second = cluster.MustDeviceAdd("sds2", "pool", "/dev/vdd");
  cluster.Kill(0);  // for good: its copies are made anew on the new devices
  cluster.Advance(seconds(30));
  ASSERT_EQ(cluster.WriteAll(), 8u);
  ASSERT_FALSE(cluster.device(added).recorded.empty());

  cluster.RestoreMdm(backup, /*hold=*/false);
  cluster.Advance(seconds(3));
  EXPECT_NE(cluster.Status().problem().find("an id that"), std::string::npos)
      << cluster.Status().problem();
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(seconds(5));
  EXPECT_FALSE(cluster.sds(2).registered);
  EXPECT_NE(cluster.sds(2).error.find("gabion sds add sds3"), std::string::npos);
  const uint64_t id = cluster.sds(2).id;
  cluster.MustSdsAdd("sds3");
  cluster.Advance(seconds(30));
  EXPECT_EQ(cluster.sds(2).id, id);
  EXPECT_EQ(cluster.Status().slices_closed(), 0u);
  EXPECT_EQ(cluster.WriteAll(), 8u);
  const proto::ClusterStatus status = cluster.Status();
  size_t adopted = 0;
  for (const proto::Device& device : status.devices()) {
    if (device.id() == added || device.id() == second) ++adopted;
  }
  EXPECT_EQ(adopted, cluster.device(second).recorded.empty() ? 1u : 2u);
}

TEST(Restored, ACopyThatIsLostIsReplacedByForce) {
  TestCluster cluster;
  cluster.Build(3, 8);
  const std::vector<std::byte> backup = BackupBeforeFailOver(cluster, 8);
  cluster.Kill(1);
  cluster.Kill(2);
  cluster.RestoreMdm(backup, /*hold=*/true);
  cluster.StartSds(0);
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(seconds(5));
  const proto::ClusterStatus status = cluster.Status(true);
  const uint64_t old = status.devices(0).id();
  uint64_t slice = 0;
  for (const auto& [id, recorded] : cluster.device(old).recorded) slice = id;
  ASSERT_NE(slice, 0u);
  EXPECT_EQ(cluster.Admin(ForceRequest(cluster, slice, 999))->code(), Reply::NOT_FOUND);
  const auto reply = cluster.Admin(ForceRequest(cluster, slice, old));
  ASSERT_EQ(reply->code(), Reply::OK) << reply->error();
  cluster.Advance(seconds(1));
  EXPECT_EQ(cluster.Status().slices_closed(), 7u);
  EXPECT_EQ(cluster.Status().slices_degraded(), 1u);
}

// The copy with the newest epoch is there; forcing an older one would throw it away.
TEST(Restored, ForceTakesTheNewestCopyThatIsThere) {
  TestCluster cluster;
  cluster.Build(3, 8);
  const std::vector<std::byte> backup = BackupBeforeFailOver(cluster, 8);
  cluster.Kill(2);
  cluster.RestoreMdm(backup, /*hold=*/true);
  cluster.StartSds(0);
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(seconds(5));
  const proto::ClusterStatus status = cluster.Status();
  const uint64_t old = status.devices(0).id();
  const uint64_t newer = status.devices(1).id();
  uint64_t slice = 0;
  for (const auto& [id, recorded] : cluster.device(old).recorded) {
    if (cluster.device(newer).recorded.contains(id)) slice = id;
  }
  ASSERT_NE(slice, 0u);
  EXPECT_EQ(cluster.Admin(ForceRequest(cluster, slice, old))->code(), Reply::CONFLICT);
  EXPECT_EQ(cluster.Admin(ForceRequest(cluster, slice, newer))->code(), Reply::OK);
  cluster.Advance(seconds(1));
  EXPECT_GT(cluster.WriteAll(), 0u);
}

TEST(Restored, ASliceStaysClosedWhenAMemberHasForgottenItsCopy) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  const std::vector<std::byte> backup = cluster.MdmBackup();
  const proto::ClusterStatus before = cluster.Status(true);
  const uint64_t slice = before.slices(0).slice();
  cluster.device(before.slices(0).secondary().device()).recorded.erase(slice);
  cluster.RestoreMdm(backup, /*hold=*/true);
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(seconds(5));
  const proto::ClusterStatus status = cluster.Status(true);
  ASSERT_EQ(status.closed_slices_size(), 1);
  EXPECT_EQ(status.closed_slices(0).slice(), slice);
  EXPECT_NE(status.closed_slices(0).why().find("holds no copy any more"), std::string::npos);
}

TEST(Restored, ASliceStaysClosedWhenTwoDevicesFollowedTwoRepositories) {
  TestCluster cluster;
  cluster.Build(2, 4);
  ASSERT_EQ(cluster.WriteAll(), 4u);
  const std::vector<std::byte> backup = cluster.MdmBackup();
  const proto::ClusterStatus before = cluster.Status(true);
  const uint64_t slice = before.slices(0).slice();
  cluster.device(before.slices(0).secondary().device()).recorded[slice].clear_secondary_device();
  cluster.RestoreMdm(backup, /*hold=*/true);
  ASSERT_EQ(cluster.AcceptOlderRepository()->code(), Reply::OK);
  cluster.Advance(seconds(5));
  const proto::ClusterStatus status = cluster.Status(true);
  ASSERT_EQ(status.closed_slices_size(), 1);
  EXPECT_NE(status.closed_slices(0).why().find("two repositories"), std::string::npos);
}

}  // namespace
}  // namespace gabion::mdm
