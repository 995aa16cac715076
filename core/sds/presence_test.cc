// What a primary says about which blocks have data.
#include <gtest/gtest.h>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::ChunkPresence;
using wire::Status;

TEST(Presence, BlocksThatWereWrittenAndNotZeroedSinceHaveData) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.PresenceOf(cluster.AskPresence(client)), ChunkPresence());
  cluster.Write(client, 5, {.offset_bytes = 65 * 4096, .length_bytes = 3 * 4096});
  cluster.Write(client, 5, {.offset_bytes = 512, .length_bytes = 512});
  EXPECT_EQ(cluster.PresenceOf(cluster.AskPresence(client)), (ChunkPresence{{0b1, 0b1110, 0, 0}}));
  cluster.Zero(client, {.offset_bytes = 66 * 4096});
  EXPECT_EQ(cluster.PresenceOf(cluster.AskPresence(client)), (ChunkPresence{{0b1, 0b1010, 0, 0}}));
  // The same when the log has moved to the homes.
  cluster.Run(milliseconds(3000));
  EXPECT_EQ(cluster.PresenceOf(cluster.AskPresence(client)), (ChunkPresence{{0b1, 0b1010, 0, 0}}));
}

TEST(Presence, ZeroesInPartsOfAHoleLeaveAHole) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  const auto zero = [&](uint32_t offset, uint32_t length) {
    const uint64_t tag = cluster.Zero(client, {.offset_bytes = offset, .length_bytes = length});
    EXPECT_EQ(cluster.StatusOf(tag), Status::kOk) << offset;
    return cluster.PresenceOf(cluster.AskPresence(client));
  };
  EXPECT_EQ(zero(512, 4096), ChunkPresence());
  cluster.Write(client, 5, {.offset_bytes = 0});
  EXPECT_EQ(zero(512, 4096), (ChunkPresence{{3, 0, 0, 0}}))
      << "one entry, and a part of it is data";
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 0, .length_bytes = 512})), 5);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 512, .length_bytes = 3584})), 0);
  EXPECT_EQ(zero(0, 512), (ChunkPresence{{2, 0, 0, 0}})) << "block 0 is zeroes altogether";
  EXPECT_EQ(zero(4096, 512), ChunkPresence());
}

TEST(Presence, WhatIsNotDecidedYetCountsAsData) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {})), Status::kOk);
  cluster.CutPeers(1, true);
  // The next primary may never hear of these zeroes: then the old data is there.
  const uint64_t zero = cluster.Zero(client, {});
  EXPECT_EQ(cluster.Find(zero), nullptr);
  EXPECT_EQ(cluster.PresenceOf(cluster.AskPresence(client)), (ChunkPresence{{1, 0, 0, 0}}));
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StatusOf(zero), Status::kOk);
  EXPECT_EQ(cluster.PresenceOf(cluster.AskPresence(client)), ChunkPresence());
}

TEST(Presence, IsRefusedWhereAReadIs) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.AskPresence(client, 16)), Status::kOk);
  EXPECT_EQ(cluster.StatusOf(cluster.AskPresence(client, 17)), Status::kOutOfRange)
      << "the volume has sixteen chunks";
  EXPECT_EQ(cluster.StatusOf(cluster.AskPresence(client, 1, /*reign=*/1)), Status::kWrongReign);
  EXPECT_EQ(cluster.StatusOf(cluster.AskPresence(client, 1, /*reign=*/99)), Status::kUnavailable);
  cluster.SetLease(0, false);
  cluster.Run(milliseconds(1100));
  EXPECT_EQ(cluster.StatusOf(cluster.AskPresence(client)), Status::kNoLease);
  cluster.SetLease(0, true);
  cluster.Run(milliseconds(500));
  EXPECT_EQ(cluster.StatusOf(cluster.AskPresence(client)), Status::kOk);
  cluster.Unmap();
  EXPECT_EQ(cluster.StatusOf(cluster.AskPresence(client)), Status::kNotMapped);
}

TEST(Presence, NonsenseClosesTheConnection) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  for (const uint32_t count : {0u, wire::kPresenceChunksMax + 1}) {
    const ConnId client = cluster.Client(0);
    const uint64_t tag = cluster.AskPresence(client, count);
    EXPECT_EQ(cluster.Find(tag), nullptr);
    EXPECT_FALSE(cluster.Open(client));
  }
}

}  // namespace
}  // namespace gabion::sds
