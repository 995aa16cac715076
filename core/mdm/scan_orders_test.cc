// Orders to scanners, and what the status says of what they found.
#include "core/mdm/scan_orders.h"

#include <gtest/gtest.h>

#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

using std::chrono::seconds;
using Reply = proto::AdminReply;

std::optional<Reply> Scan(TestCluster& cluster, const std::string& device, uint64_t rate = 0) {
  proto::AdminRequest request = cluster.Request();
  request.mutable_device_scan()->set_device(device);
  request.mutable_device_scan()->set_bytes_per_second(rate);
  return cluster.Admin(request);
}

TEST(ScanOrders, EachIsCarriedOutOnceAndItsEndIsInTheStatus) {
  TestCluster cluster;
  cluster.Build(2, 4);
  const uint64_t id = cluster.Status().devices(0).id();
  EXPECT_EQ(cluster.Status().devices(0).scan().last().finished_unix_ms(), 0u);
  ASSERT_EQ(Scan(cluster, std::to_string(id), 5 << 20)->code(), Reply::OK);
  cluster.Advance(seconds(2));
  EXPECT_EQ(cluster.device(id).scans, 1u);
  EXPECT_EQ(cluster.device(id).scan.bytes_per_second(), 5u << 20);
  EXPECT_EQ(cluster.Status().devices(0).scan().last().finished_unix_ms(), 1000u);
  EXPECT_EQ(cluster.Status().devices(1).scan().last().finished_unix_ms(), 0u);
  // Another manager starts with numbers above those that were carried out.
  cluster.CrashMdm(false);
  cluster.Advance(seconds(5));
  ASSERT_EQ(Scan(cluster, std::to_string(id))->code(), Reply::OK);
  cluster.Advance(seconds(2));
  EXPECT_EQ(cluster.device(id).scans, 2u);
}

TEST(ScanOrders, TheLastPassIsKnownWhenTheServerHasForgottenIt) {
  TestCluster cluster;
  cluster.Build(2, 4);
  const uint64_t id = cluster.Status().devices(0).id();
  ASSERT_EQ(Scan(cluster, std::to_string(id))->code(), Reply::OK);
  cluster.Advance(seconds(2));
  cluster.Kill(0);
  cluster.device(id).scan.Clear();
  cluster.Advance(seconds(3));
  EXPECT_EQ(cluster.Status().devices(0).scan().last().finished_unix_ms(), 1000u);
  EXPECT_EQ(Scan(cluster, std::to_string(id))->code(), Reply::UNAVAILABLE);
  cluster.StartSds(0);
  cluster.Advance(seconds(3));
  EXPECT_EQ(cluster.Status().devices(0).scan().last().finished_unix_ms(), 1000u);
  ASSERT_EQ(Scan(cluster, std::to_string(id))->code(), Reply::OK);
  cluster.Advance(seconds(2));
  EXPECT_EQ(cluster.device(id).scans, 2u);
}

TEST(ScanOrders, UnknownDevicesAreRefused) {
  TestCluster cluster;
  cluster.Build(2, 4);
  EXPECT_EQ(Scan(cluster, "999")->code(), Reply::NOT_FOUND);
  EXPECT_EQ(Scan(cluster, "sds1")->code(), Reply::NOT_FOUND);
}

TEST(ScanOrders, WhatCouldNotBeMadeGoodIsANotice) {
  TestCluster cluster;
  cluster.Build(2, 4);
  const uint64_t id = cluster.Status().devices(0).id();
  cluster.device(id).scan.mutable_last()->set_blocks_damaged(3);
  cluster.device(id).scan.mutable_last()->set_blocks_repaired(3);
  cluster.Advance(seconds(1));
  EXPECT_EQ(cluster.Status().notices_size(), 0);
  cluster.device(id).scan.mutable_last()->set_extents_unresolved(2);
  cluster.device(id).scan.set_last_finding("volume 5");
  cluster.Advance(seconds(1));
  const proto::ClusterStatus status = cluster.Status();
  ASSERT_EQ(status.notices_size(), 1);
  EXPECT_NE(status.notices(0).find("2 extents of 64 KiB that no copy could make good"),
            std::string::npos)
      << status.notices(0);
  EXPECT_NE(status.notices(0).find("volume 5"), std::string::npos);
}

}  // namespace
}  // namespace gabion::mdm
