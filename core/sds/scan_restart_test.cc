// What a scanner knows after a restart of its SDS: how far it was, and when it is due again.
#include <gtest/gtest.h>

#include <vector>

#include "core/base/bytes.h"
#include "core/sds/scan_memory.h"
#include "core/sds/test_cluster.h"
#include "core/store/journal.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using wire::Status;

constexpr uint32_t kExtent = 64 << 10;
constexpr uint32_t kChunks = 5;
// An extent in 64 s.
constexpr uint64_t kSlow = 1 << 10;

// Five chunks of one extent each, on both copies.
void Prepare(TestCluster& cluster) {
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  for (uint32_t i = 0; i < kChunks; ++i) {
    const uint64_t write =
        cluster.WriteExtent(client, i * wire::kExtentsPerChunk, static_cast<uint8_t>(i + 1));
    EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
  }
  cluster.Run(seconds(3));
}

void RestartPrimary(TestCluster& cluster) {
  cluster.Restart(0);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(500));
}

const Scanner::Totals& TotalsOf(TestCluster& cluster) {
  return cluster.node(0).devices.Find(DeviceId(TestCluster::DeviceOf(0)))->scan.totals();
}

TEST(ScanRestart, APassGoesOnWhereItWas) {
  TestCluster cluster(2);
  Prepare(cluster);
  cluster.OrderScan(0, kSlow);
  cluster.Run(seconds(210));  // four chunks
  const proto::ScanPass before = cluster.ScanOf(0).pass();
  EXPECT_EQ(before.bytes_read(), 4 * kExtent) << cluster.Dump();
  RestartPrimary(cluster);
  EXPECT_EQ(cluster.ScanOf(0).state(), proto::ScanStatus::WAITING) << cluster.Dump();
  cluster.Run(minutes(12));
  const proto::ScanPass pass = cluster.ScanOf(0).last();
  EXPECT_NE(pass.finished_unix_ms(), 0u) << cluster.Dump();
  EXPECT_EQ(pass.started_unix_ms(), before.started_unix_ms());
  EXPECT_EQ(pass.bytes_read(), kChunks * kExtent);
  EXPECT_EQ(pass.extents_compared(), kChunks);
  EXPECT_EQ(TotalsOf(cluster).bytes_read, kExtent) << cluster.Dump();
}

TEST(ScanRestart, WhatIsDueIsDueAWeekAfterTheLastPassBegan) {
  TestCluster cluster(2);
  Prepare(cluster);
  cluster.Run(minutes(12));
  const proto::ScanPass first = cluster.ScanOf(0).last();
  EXPECT_EQ(first.extents_compared(), kChunks) << cluster.Dump();
  RestartPrimary(cluster);
  EXPECT_EQ(cluster.ScanOf(0).last().finished_unix_ms(), first.finished_unix_ms());
  cluster.Run(minutes(30));
  EXPECT_EQ(TotalsOf(cluster).bytes_read, 0u);
  EXPECT_EQ(cluster.ScanOf(0).state(), proto::ScanStatus::WAITING);
}

TEST(ScanRestart, APassThatAnAdministratorEndsDoesNotGoOn) {
  TestCluster cluster(2);
  Prepare(cluster);
  cluster.OrderScan(0, kSlow);
  cluster.Run(seconds(210));
  RestartPrimary(cluster);
  cluster.OrderScan(0, 0, /*cancel=*/true);
  cluster.Run(minutes(2));
  RestartPrimary(cluster);
  cluster.Run(minutes(11));
  EXPECT_EQ(cluster.ScanOf(0).last().bytes_read(), kChunks * kExtent) << cluster.Dump();
  EXPECT_EQ(TotalsOf(cluster).bytes_read, kChunks * kExtent);  // a pass of its own
}

TEST(ScanRestart, HowFarItIsBecomesDurableOnceAMinute) {
  TestCluster cluster(2);
  Prepare(cluster);
  cluster.OrderScan(0, kExtent);  // one a second
  std::vector<std::byte> image = cluster.StateImage(0);
  int changes = 0;
  for (int i = 0; i < 50; ++i) {
    cluster.Run(milliseconds(1000));
    std::vector<std::byte> now = cluster.StateImage(0);
    if (now != image) ++changes;
    image = std::move(now);
  }
  EXPECT_EQ(changes, 1);
  cluster.Run(seconds(20));
  EXPECT_NE(cluster.StateImage(0), image);
}

TEST(ScanRestart, AFailedStateDeviceEndsNobodyWhoOnlyScans) {
  TestCluster cluster(2);
  Prepare(cluster);
  cluster.FailState(0);
  cluster.OrderScan(0);
  cluster.Run(minutes(3));
  EXPECT_TRUE(cluster.LogHas("the state device failed")) << cluster.Dump();
  ASSERT_TRUE(cluster.alive(0)) << cluster.exit_reason(0);
  EXPECT_EQ(cluster.ScanOf(0).last().extents_compared(), kChunks);
  // What has to be remembered cannot be.
  cluster.SetDevice(0, proto::DEVICE_FAILED, proto::TEST_NONE);
  cluster.Run(seconds(1));
  EXPECT_FALSE(cluster.alive(0));
  EXPECT_NE(cluster.exit_reason(0).find("the state device failed"), std::string::npos);
}

TEST(ScanRestart, WhatIsRememberedComesBack) {
  ScanMemory memory;
  memory.running = true;
  memory.pass.set_started_unix_ms(1);
  memory.pass.set_bytes_read(2);
  memory.pass.set_extents_unresolved(3);
  memory.slice = SliceId(4);
  memory.chunk = store::ChunkKey{VtreeId(5), VolumeVersion(6), 7};
  memory.ordered_rate = 8;
  memory.last.set_finished_unix_ms(9);
  std::vector<std::byte> bytes;
  ByteWriter writer(&bytes);
  memory.Encode(&writer);
  ScanMemory().Encode(&writer);
  ByteReader reader(bytes);
  const ScanMemory same = ScanMemory::Decode(&reader);
  EXPECT_TRUE(same.running);
  EXPECT_EQ(same.pass.SerializeAsString(), memory.pass.SerializeAsString());
  EXPECT_EQ(same.slice, memory.slice);
  EXPECT_EQ(same.chunk, memory.chunk);
  EXPECT_EQ(same.ordered_rate, 8u);
  EXPECT_EQ(same.last.SerializeAsString(), memory.last.SerializeAsString());
  const ScanMemory none = ScanMemory::Decode(&reader);
  EXPECT_FALSE(none.running);
  EXPECT_EQ(none.chunk, std::nullopt);
  EXPECT_TRUE(reader.done());
  ScanMemory::Decode(&reader);
  EXPECT_FALSE(reader.ok());
}

// Before scans were remembered, devices were all that followed.
TEST(ScanRestart, AStateDirectoryOfAnEarlierVersionIsRead) {
  std::vector<std::byte> record;
  ByteWriter writer(&record);
  writer.U32(2);
  writer.Of(ClusterId(kTestCluster));
  writer.Of(SdsId(1));
  writer.Of(Incarnation(40));
  writer.U64(1);
  writer.Of(DeviceId(TestCluster::DeviceOf(0)));
  writer.SizedText("disk");
  TestCluster cluster(1);
  store::TestDisk disk({.device = DeviceIndex::kState, .size_bytes = 1 << 20});
  store::Journal journal({.device = DeviceIndex::kState, .pool = &cluster.pool()});
  Effects effects;
  const auto settle = [&] {
    disk.Submit(effects);
    effects.Clear();
    while (disk.pending() > 0) {
      bool handled = false;
      journal.OnDiskDone(disk.Complete(0), effects, &handled);
      disk.Submit(effects);
      effects.Clear();
    }
  };
  journal.Open(disk.info(), effects);
  settle();
  journal.Append(record, effects);
  settle();
  cluster.Kill(0);
  cluster.PutStateBack(0, disk.Content(0, disk.info().size_bytes));
  cluster.Start(0);
  cluster.Run(milliseconds(300));
  ASSERT_TRUE(cluster.alive(0)) << cluster.exit_reason(0);
  EXPECT_EQ(cluster.incarnation(0), 41u);
  EXPECT_EQ(cluster.registered_devices(0), 1u);
}

}  // namespace
}  // namespace gabion::sds
