// Incarnations on devices (R22), the history of a slice, and ids of clients that are gone.
#include <gtest/gtest.h>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::Status;
using Report = proto::SliceReport;

TEST(Identity, AnOldCopyOfTheStateDirectoryIsNoticedOnTheDevices) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 5, {})), Status::kOk);
  const std::vector<std::byte> old = cluster.StateImage(0);
  for (int i = 0; i < 4; ++i) cluster.Restart(0);
  const uint64_t highest = cluster.incarnation(0);
  cluster.Kill(0);
  cluster.PutStateBack(0, old);
  cluster.Start(0);
  cluster.Run(milliseconds(300));
  EXPECT_FALSE(cluster.alive(0));
  EXPECT_NE(cluster.exit_reason(0).find("old copy"), std::string::npos) << cluster.exit_reason(0);
  EXPECT_EQ(cluster.incarnation(0), highest) << "it registered";
  cluster.Start(0);
  cluster.Run(milliseconds(300));
  ASSERT_TRUE(cluster.alive(0)) << cluster.exit_reason(0);
  EXPECT_GT(cluster.incarnation(0), highest);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  client = cluster.Client(0);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {})), 5);
}

TEST(Identity, DevicesAreOpenedBeforeTheSdsRegisters) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  cluster.Restart(0);
  EXPECT_EQ(cluster.registered_devices(0), 1u) << cluster.Dump();
}

TEST(Identity, ASliceOutlivesItsHistory) {
  TestCluster cluster(2);
  for (uint32_t i = 0; i < 300; ++i) {
    cluster.Configure(i % 2, 1 - i % 2);
    cluster.Run(milliseconds(5));
    if (i % 3 != 0) continue;
    const ConnId client = cluster.Client(i % 2);
    EXPECT_EQ(cluster.StatusOf(cluster.Write(client, static_cast<uint8_t>(i / 3 + 1),
                                             {.offset_bytes = i / 3 * 4096})),
              Status::kOk)
        << i;
  }
  // Alone for longer than a history lasts; then the other one is copied in full.
  for (uint32_t i = 0; i < 150; ++i) {
    cluster.SameReign();
    cluster.Configure(0, -1);
    cluster.Run(milliseconds(5));
  }
  cluster.Configure(0, -1, 1);
  cluster.Run(milliseconds(2000));
  ASSERT_TRUE(cluster.Reported(0, Report::JOIN_COMPLETE)) << cluster.Dump();
  cluster.Configure(1, -1);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(1);
  for (uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(cluster.StampOf(cluster.Read(other, {.offset_bytes = i * 4096})),
              static_cast<uint8_t>(i + 1));
  }
}

// An idle pair: both names stay, and the present one starts more epochs than a history holds.
TEST(Identity, AMemberThatMissedMoreEpochsThanAHistoryHoldsIsMadeAnew) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 7, {})), Status::kOk);
  cluster.Run(milliseconds(100));
  cluster.Kill(1);
  for (uint32_t i = 0; i < 150; ++i) {
    cluster.SameReign();
    cluster.Configure(0, 1, -1, /*secondary_present=*/false);
    cluster.Run(milliseconds(5));
  }
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {})), 7) << cluster.Dump();
  cluster.Restart(1);
  cluster.SameReign();
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  EXPECT_TRUE(cluster.Reported(0, Report::NEEDS_RESYNC)) << cluster.Dump();
  cluster.SameReign();
  cluster.Configure(0, -1, 1);
  cluster.Run(milliseconds(500));
  ASSERT_TRUE(cluster.Reported(0, Report::JOIN_COMPLETE)) << cluster.Dump();
  cluster.Configure(1, 0);
  cluster.Run(milliseconds(300));
  client = cluster.Client(1);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {})), 7);
}

TEST(Identity, IdsOfAReplacedClientAreDroppedOnEveryCopy) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 5, {})), Status::kOk);
  for (size_t node = 0; node < 2; ++node) {
    EXPECT_FALSE(cluster.StoreOf(node).Requests(SliceId(kTestSlice)).empty());
  }
  cluster.ReplaceClient();
  cluster.Run(milliseconds(100));
  for (size_t node = 0; node < 2; ++node) {
    EXPECT_TRUE(cluster.StoreOf(node).Requests(SliceId(kTestSlice)).empty()) << node;
  }
}

TEST(Identity, IdsOfAClientReplacedMeanwhileGoWhenTheDeviceIsBack) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 5, {})), Status::kOk);
  cluster.Kill(1);
  cluster.ReplaceClient();
  cluster.Restart(1);
  EXPECT_TRUE(cluster.StoreOf(1).Requests(SliceId(kTestSlice)).empty());
}

}  // namespace
}  // namespace gabion::sds
