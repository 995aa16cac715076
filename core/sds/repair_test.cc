// What happens to blocks that rot on a device.
#include <gtest/gtest.h>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::Status;
using Report = proto::SliceReport;

constexpr uint32_t kExtent = 64 << 10;

// Five extents, each with its own stamp, on both copies and in their homes.
ConnId Prepare(TestCluster& cluster) {
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  for (uint8_t i = 0; i < 5; ++i) {
    const uint64_t write = cluster.Write(client, static_cast<uint8_t>(i + 1),
                                         {.offset_bytes = i * kExtent, .length_bytes = kExtent});
    EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
  }
  cluster.Run(milliseconds(3000));
  return client;
}

TEST(Repair, ARottenBlockIsReadFromTheOtherCopyAndMadeGood) {
  TestCluster cluster(2);
  const ConnId client = Prepare(cluster);
  ASSERT_GE(cluster.Rot(0, 3), 16u);
  const uint64_t read =
      cluster.Read(client, {.offset_bytes = kExtent, .length_bytes = 3 * kExtent});
  cluster.Run(milliseconds(10));
  ASSERT_EQ(cluster.StatusOf(read), Status::kOk) << cluster.Dump();
  EXPECT_EQ(cluster.Find(read)->data.span()[kExtent], std::byte{3});
  EXPECT_EQ(cluster.node(0).counters.blocks_repaired, 16u);
  EXPECT_EQ(cluster.node(0).counters.copies_differ, 0u);
  // It stays good without the other copy, and after a restart.
  cluster.SameReign();
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const uint64_t again =
      cluster.Read(client, {.offset_bytes = 2 * kExtent, .length_bytes = kExtent});
  EXPECT_EQ(cluster.StampOf(again), 3) << cluster.Dump();
  cluster.Run(milliseconds(3000));
  cluster.Restart(0);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(0);
  const uint64_t last = cluster.Read(other, {.offset_bytes = 2 * kExtent, .length_bytes = kExtent});
  EXPECT_EQ(cluster.StampOf(last), 3) << cluster.Dump();
  EXPECT_EQ(cluster.node(0).counters.blocks_repaired, 0u);
}

TEST(Repair, BlocksOfAnExtentThatHasFewAreMadeGood) {
  TestCluster cluster(2);
  const ConnId client = Prepare(cluster);
  constexpr uint32_t kBegin = 5 * kExtent;
  for (const uint32_t block : {2u, 5u, 9u}) {
    const uint64_t write = cluster.Write(client, static_cast<uint8_t>(40 + block),
                                         {.offset_bytes = kBegin + block * wire::kBlockBytes});
    EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
  }
  cluster.Run(milliseconds(3000));
  ASSERT_GE(cluster.Rot(0, 45), 1u);
  ASSERT_GE(cluster.Rot(1, 42), 1u);  // it comes with the others, and does not matter here
  const uint64_t read = cluster.Read(client, {.offset_bytes = kBegin + 5 * wire::kBlockBytes});
  cluster.Run(milliseconds(10));
  EXPECT_EQ(cluster.StampOf(read), 45) << cluster.Dump();
  EXPECT_EQ(cluster.node(0).counters.blocks_repaired, 1u);
  EXPECT_EQ(cluster.node(0).counters.copies_differ, 0u);
  cluster.SameReign();
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  for (const uint32_t block : {2u, 5u, 9u}) {
    const uint64_t alone =
        cluster.Read(client, {.offset_bytes = kBegin + block * wire::kBlockBytes});
    EXPECT_EQ(cluster.StampOf(alone), 40 + block) << cluster.Dump();
  }
}

TEST(Repair, APartialWriteKeepsTheRestOfARottenBlock) {
  TestCluster cluster(2);
  const ConnId client = Prepare(cluster);
  ASSERT_GE(cluster.Rot(0, 2), 16u);
  const uint64_t write =
      cluster.Write(client, 9, {.offset_bytes = kExtent + 512, .length_bytes = 1024});
  cluster.Run(milliseconds(10));
  ASSERT_EQ(cluster.StatusOf(write), Status::kOk) << cluster.Dump();
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = kExtent, .length_bytes = 512})),
            2);
  EXPECT_EQ(
      cluster.StampOf(cluster.Read(client, {.offset_bytes = kExtent + 512, .length_bytes = 1024})),
      9);
  EXPECT_EQ(
      cluster.StampOf(cluster.Read(client, {.offset_bytes = kExtent + 1536, .length_bytes = 2560})),
      2);
}

TEST(Repair, WithoutAGoodCopyTheseBlocksFailAndNoOthers) {
  TestCluster cluster(2);
  const ConnId client = Prepare(cluster);
  cluster.Rot(0, 4);
  cluster.Rot(1, 4);
  const uint64_t bad = cluster.Read(client, {.offset_bytes = 3 * kExtent, .length_bytes = 4096});
  const uint64_t write =
      cluster.Write(client, 8, {.offset_bytes = 3 * kExtent, .length_bytes = 512});
  cluster.Run(milliseconds(10));
  EXPECT_EQ(cluster.StatusOf(bad), Status::kIoError);
  EXPECT_EQ(cluster.StatusOf(write), Status::kIoError);
  EXPECT_GE(cluster.node(0).counters.repairs_failed, 2u);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 2 * kExtent})), 3);
  // A whole block that is written anew is good.
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 7, {.offset_bytes = 3 * kExtent})), Status::kOk);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 3 * kExtent})), 7);
}

TEST(Repair, ASoleCopyIsNotAnsweredFrom) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 5, {})), Status::kOk);
  cluster.Run(milliseconds(3000));
  cluster.Rot(0, 5);
  EXPECT_EQ(cluster.StatusOf(cluster.Read(client, {})), Status::kIoError);
}

TEST(Repair, AnOtherCopyThatDoesNotAnswerIsNotWaitedForForEver) {
  TestCluster cluster(2);
  const ConnId client = Prepare(cluster);
  cluster.Rot(0, 1);
  cluster.CutPeers(1, true);
  const uint64_t read = cluster.Read(client, {});
  cluster.Run(milliseconds(1500));
  EXPECT_EQ(cluster.Find(read), nullptr);
  cluster.Run(milliseconds(1500));
  EXPECT_EQ(cluster.StatusOf(read), Status::kIoError);
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(100));
  const uint64_t again = cluster.Read(client, {});
  cluster.Run(milliseconds(10));
  EXPECT_EQ(cluster.StampOf(again), 1) << cluster.Dump();
}

TEST(Repair, ANewEpochBeginsAgain) {
  TestCluster cluster(2);
  const ConnId client = Prepare(cluster);
  cluster.Rot(0, 1);
  cluster.CutPeers(1, true);
  const uint64_t read = cluster.Read(client, {});
  cluster.Run(milliseconds(100));
  EXPECT_EQ(cluster.Find(read), nullptr);
  cluster.SameReign();
  cluster.Configure(0, 1);
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(500));
  EXPECT_EQ(cluster.StampOf(read), 1) << cluster.Dump();
}

TEST(Repair, AJoiningCopiesWhatTheOtherCopyHas) {
  TestCluster cluster(3);
  Prepare(cluster);
  cluster.Rot(0, 2);
  cluster.SameReign();
  cluster.Configure(0, 1, 2);
  cluster.Run(milliseconds(2000));
  ASSERT_TRUE(cluster.Reported(0, Report::JOIN_COMPLETE)) << cluster.Dump();
  EXPECT_EQ(cluster.node(0).counters.blocks_repaired, 16u);
  cluster.Configure(2, -1);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(2);
  EXPECT_EQ(
      cluster.StampOf(cluster.Read(other, {.offset_bytes = kExtent, .length_bytes = kExtent})), 2)
      << cluster.Dump();
}

}  // namespace
}  // namespace gabion::sds
