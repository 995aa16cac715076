// Joinings that were interrupted go on where they stopped.
#include <gtest/gtest.h>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::Status;
using Report = proto::SliceReport;

constexpr uint32_t kExtents = 200;

void WriteExtent(TestCluster& cluster, ConnId client, uint32_t extent, uint8_t stamp) {
  EXPECT_EQ(cluster.StatusOf(cluster.WriteExtent(client, extent, stamp)), Status::kOk);
}

uint8_t StampAt(TestCluster& cluster, ConnId client, uint32_t extent) {
  const uint64_t tag = cluster.Read(client, {.offset_bytes = extent % 16 * wire::kExtentBytes,
                                             .length_bytes = wire::kExtentBytes,
                                             .chunk = extent / 16});
  return cluster.StampOf(tag).value_or(255);
}

// A joining that is more than half done when T is cut off, and given up.
ConnId Interrupted(TestCluster& cluster) {
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  for (uint32_t i = 0; i < kExtents; ++i) {
    WriteExtent(cluster, client, i, static_cast<uint8_t>(i % 100 + 1));
  }
  cluster.SameReign();
  cluster.Configure(0, -1, 1);
  for (int i = 0; i < 200 && cluster.node(0).counters.extents_copied < 150; ++i) {
    cluster.Run(milliseconds(1));
  }
  EXPECT_GE(cluster.node(0).counters.extents_copied, 150u);
  EXPECT_LT(cluster.node(0).counters.extents_copied, kExtents);
  cluster.CutPeers(1, true);
  cluster.Run(milliseconds(2500));
  EXPECT_TRUE(cluster.Reported(0, Report::JOIN_FAILED)) << cluster.Dump();
  cluster.SameReign();
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(100));
  return client;
}

void ExpectJoined(TestCluster& cluster, uint64_t copied_max, const std::vector<uint32_t>& changed) {
  const uint64_t before = cluster.node(0).counters.extents_copied;
  cluster.SameReign();
  cluster.Configure(0, -1, 1);
  cluster.Run(milliseconds(2000));
  ASSERT_TRUE(cluster.Reported(0, Report::JOIN_COMPLETE)) << cluster.Dump();
  EXPECT_LE(cluster.node(0).counters.extents_copied - before, copied_max);
  cluster.SameReign();
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  cluster.Kill(0);
  cluster.Configure(1, -1);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(1);
  for (uint32_t i = 0; i < kExtents; ++i) {
    const bool is_changed = std::find(changed.begin(), changed.end(), i) != changed.end();
    EXPECT_EQ(StampAt(cluster, other, i), is_changed ? 201 : i % 100 + 1) << i;
  }
  EXPECT_FALSE(cluster.StoreOf(1).Find(SliceId(kTestSlice))->cursor.epoch.valid());
}

TEST(Resume, AnInterruptedJoiningCopiesOnlyTheRestAndWhatChanged) {
  TestCluster cluster(2);
  const ConnId client = Interrupted(cluster);
  EXPECT_TRUE(cluster.StoreOf(1).Find(SliceId(kTestSlice))->cursor.epoch.valid());
  WriteExtent(cluster, client, 3, 201);
  WriteExtent(cluster, client, 190, 201);
  cluster.CutPeers(1, false);
  ExpectJoined(cluster, kExtents - 64, {3, 190});
}

TEST(Resume, AfterARestartOfTheJoiningMember) {
  TestCluster cluster(2);
  const ConnId client = Interrupted(cluster);
  WriteExtent(cluster, client, 17, 201);
  cluster.CutPeers(1, false);
  cluster.Restart(1);
  ExpectJoined(cluster, kExtents - 64, {17});
}

TEST(Resume, WritesInTheInterruptedEpochAreNotMissed) {
  TestCluster cluster(2);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  for (uint32_t i = 0; i < kExtents; ++i) {
    WriteExtent(cluster, client, i, static_cast<uint8_t>(i % 100 + 1));
  }
  cluster.SameReign();
  cluster.Configure(0, -1, 1);
  for (int i = 0; i < 200 && cluster.node(0).counters.extents_copied < 150; ++i) {
    cluster.Run(milliseconds(1));
  }
  // T gets this one, does not get the next, and is given up.
  WriteExtent(cluster, client, 5, 201);
  cluster.CutPeers(1, true);
  WriteExtent(cluster, client, 6, 201);
  cluster.Run(milliseconds(2500));
  WriteExtent(cluster, client, 7, 201);
  cluster.SameReign();
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(100));
  cluster.CutPeers(1, false);
  ExpectJoined(cluster, kExtents - 64, {5, 6, 7});
}

}  // namespace
}  // namespace gabion::sds
