// Stories of a few SDSs with real stores: what clients see, and what a copy holds afterwards.
#include <gtest/gtest.h>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::Status;
using Io = TestCluster::Io;
using Report = proto::SliceReport;

constexpr uint32_t kChunkPart = 64 << 10;

TEST(Sds, OneCopyServesWhatWasWritten) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 5, {.offset_bytes = 8192})), Status::kOk);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 8192})), 5);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 0})), 0);
}

TEST(Sds, APartOfABlockLeavesTheRestOfItAsItWas) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  cluster.Write(client, 5, {.offset_bytes = 0, .length_bytes = 16384});
  const uint64_t write = cluster.Write(client, 6, {.offset_bytes = 3584, .length_bytes = 9216});
  EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 0, .length_bytes = 3584})), 5);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 3584, .length_bytes = 9216})), 6);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {.offset_bytes = 12800, .length_bytes = 3584})),
            5);
}

TEST(Sds, NothingIsAnsweredOrReadBeforeBothHaveIt) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {})), Status::kOk) << cluster.Dump();
  cluster.CutPeers(1, true);
  const uint64_t write = cluster.Write(client, 2, {});
  const uint64_t read = cluster.Read(client, {});
  const uint64_t other = cluster.Read(client, {.offset_bytes = 40960});
  EXPECT_EQ(cluster.Find(write), nullptr);
  EXPECT_EQ(cluster.Find(read), nullptr);
  EXPECT_EQ(cluster.StampOf(other), 0);
  cluster.Run(milliseconds(900));
  EXPECT_EQ(cluster.Find(write), nullptr);
  EXPECT_TRUE(cluster.Reported(0, Report::MEMBER_NEEDED));
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(100));
  EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
  EXPECT_EQ(cluster.StampOf(read), 2);
}

TEST(Sds, TheSecondaryTakesOverWithEverythingAcknowledged) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  for (uint8_t i = 1; i <= 20; ++i) {
    cluster.Write(client, i, {.offset_bytes = uint32_t{i} * 4096});
  }
  cluster.Kill(0);
  cluster.Configure(1, 0, -1, /*secondary_present=*/false);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(1);
  const uint64_t write = cluster.Write(other, 99, {.offset_bytes = 4096});
  // The other copy is away: what was in flight, and the new write, wait for the MDM.
  EXPECT_EQ(cluster.Find(write), nullptr);
  cluster.Run(milliseconds(300));
  EXPECT_TRUE(cluster.Reported(1, Report::MEMBER_NEEDED)) << cluster.Dump();
  cluster.SameReign();
  cluster.Configure(1, -1);
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StatusOf(write), Status::kOk) << cluster.Dump();
  for (uint8_t i = 2; i <= 20; ++i) {
    const uint64_t read = cluster.Read(other, {.offset_bytes = uint32_t{i} * 4096});
    EXPECT_EQ(cluster.StampOf(read), i) << cluster.Dump();
  }
}

TEST(Sds, AReturningPrimaryKeepsWhatItHasAndTakesWhatItLacks) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {})), Status::kOk);
  // Acknowledged, but the secondary does not know that it is committed.
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 2, {})), Status::kOk);
  cluster.CutPeers(1, true);
  const uint64_t lost = cluster.Write(client, 3, {.offset_bytes = 8192});
  EXPECT_EQ(cluster.Find(lost), nullptr);
  cluster.Kill(0);
  cluster.CutPeers(1, false);
  cluster.Configure(1, 0, -1, /*secondary_present=*/false);
  cluster.Run(milliseconds(300));
  cluster.Restart(0);
  cluster.Configure(1, 0);
  cluster.Run(milliseconds(300));
  const ConnId second = cluster.Client(1);
  EXPECT_EQ(cluster.StampOf(cluster.Read(second, {})), 2) << cluster.Dump();
  EXPECT_EQ(cluster.StampOf(cluster.Read(second, {.offset_bytes = 8192})), 0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(second, 4, {.offset_bytes = 12288})), Status::kOk);
  cluster.Kill(1);
  cluster.Configure(0, 1, -1, /*secondary_present=*/false);
  cluster.Run(milliseconds(300));
  cluster.SameReign();
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId third = cluster.Client(0);
  EXPECT_EQ(cluster.StampOf(cluster.Read(third, {})), 2) << cluster.Dump();
  EXPECT_EQ(cluster.StampOf(cluster.Read(third, {.offset_bytes = 8192})), 0);
  EXPECT_EQ(cluster.StampOf(cluster.Read(third, {.offset_bytes = 12288})), 4);
}

TEST(Sds, ACopyThatMissedAStartAloneStillHasWhatWasAcknowledged) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 7, {})), Status::kOk);
  cluster.Kill(0);
  cluster.Configure(1, 0, -1, /*secondary_present=*/false);
  cluster.Run(milliseconds(300));
  cluster.Restart(0);
  cluster.Configure(1, 0);
  cluster.Run(milliseconds(20));
  cluster.Kill(0);
  cluster.Kill(1);
  cluster.Restart(0);
  cluster.Configure(0, 1, -1, /*secondary_present=*/false);
  cluster.Run(milliseconds(300));
  cluster.SameReign();
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(0);
  EXPECT_EQ(cluster.StampOf(cluster.Read(other, {})), 7) << cluster.Dump();
}

TEST(Sds, WhatIsInFlightSurvivesANewEpochOfTheSamePrimary) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  cluster.CutPeers(1, true);
  const uint64_t first = cluster.Write(client, 1, {});
  const uint64_t second = cluster.Write(client, 2, {});
  cluster.Kill(1);
  cluster.SameReign();
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(200));
  EXPECT_EQ(cluster.StatusOf(first), Status::kOk);
  EXPECT_EQ(cluster.StatusOf(second), Status::kOk);
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {})), 2);
}

TEST(Sds, ARepeatedRequestTakesEffectOnce) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  cluster.CutPeers(1, true);
  const uint64_t first = cluster.Write(client, 1, {.request = 41});
  const ConnId again = cluster.Client(0);
  EXPECT_FALSE(cluster.Open(client));
  const uint64_t repeated = cluster.Write(again, 1, {.request = 41});
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(100));
  EXPECT_EQ(cluster.Find(first), nullptr) << "its connection is closed";
  EXPECT_EQ(cluster.StatusOf(repeated), Status::kOk);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(again, 1, {.request = 41})), Status::kOk);
  EXPECT_EQ(cluster.StoreOf(0).counters().entries, 1u);
  EXPECT_EQ(cluster.StoreOf(1).counters().entries, 1u);
}

TEST(Sds, ARepeatedRequestIsKnownToTheNextPrimary) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {.request = 41})), Status::kOk);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 2, {.request = 42})), Status::kOk);
  cluster.Kill(0);
  cluster.Configure(1, -1);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(1);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(other, 1, {.request = 41})), Status::kOk);
  EXPECT_EQ(cluster.StampOf(cluster.Read(other, {})), 2);
}

TEST(Sds, AHelloThatIsNotHigherIsRefusedAndAHigherIncarnationWaits) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  cluster.CutPeers(1, true);
  const uint64_t write = cluster.Write(client, 1, {});
  cluster.ReplaceClient();
  EXPECT_FALSE(cluster.Open(client));
  const ConnId next = cluster.Connect(0);
  EXPECT_EQ(cluster.Greeted(next), std::nullopt) << "a write of the old incarnation is admitted";
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(100));
  EXPECT_EQ(cluster.Greeted(next), Status::kOk);
  EXPECT_EQ(cluster.Find(write), nullptr);
}

TEST(Sds, WithoutALeaseNothingIsAdmitted) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  cluster.Write(client, 1, {});
  cluster.SetLease(0, false);
  cluster.Run(milliseconds(700));
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {})), 1);
  cluster.Run(milliseconds(400));
  EXPECT_EQ(cluster.StatusOf(cluster.Read(client, {})), Status::kNoLease);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 2, {})), Status::kNoLease);
}

TEST(Sds, OldReignsAndUnmappedClientsAreRefused) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {.reign = 1})), Status::kWrongReign);
  cluster.Unmap();
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {})), Status::kNotMapped);
  EXPECT_EQ(cluster.StatusOf(cluster.Read(client, {})), Status::kNotMapped);
}

TEST(Sds, AnUnmapIsDrainedWhenWhatWasAdmittedIsSettled) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  cluster.CutPeers(1, true);
  const uint64_t write = cluster.Write(client, 1, {});
  cluster.Unmap();
  cluster.Run(milliseconds(50));
  EXPECT_LT(cluster.DrainedVersion(0), cluster.AppliedVersion(0));
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 2, {})), Status::kNotMapped);
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
  EXPECT_EQ(cluster.DrainedVersion(0), cluster.AppliedVersion(0));
}

TEST(Sds, ANewCopyGetsEverythingAndThenCounts) {
  TestCluster cluster(2);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  for (uint8_t i = 1; i <= 16; ++i) {
    cluster.Write(client, i, {.offset_bytes = (i - 1u) * kChunkPart, .length_bytes = 8192});
  }
  cluster.SameReign();
  cluster.Configure(0, -1, 1);
  cluster.Run(milliseconds(1000));
  ASSERT_TRUE(cluster.Reported(0, Report::JOIN_COMPLETE)) << cluster.Dump();
  // R19: what it does not have is not acknowledged any more.
  cluster.CutPeers(1, true);
  const uint64_t write = cluster.Write(client, 77, {});
  cluster.Run(milliseconds(100));
  EXPECT_EQ(cluster.Find(write), nullptr);
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(100));
  EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
  cluster.SameReign();
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  cluster.Kill(0);
  cluster.Configure(1, -1);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(1);
  EXPECT_EQ(cluster.StampOf(cluster.Read(other, {})), 77) << cluster.Dump();
  for (uint8_t i = 2; i <= 16; ++i) {
    const uint64_t read =
        cluster.Read(other, {.offset_bytes = (i - 1u) * kChunkPart, .length_bytes = 8192});
    EXPECT_EQ(cluster.StampOf(read), i) << cluster.Dump();
  }
}

TEST(Sds, ACopyThatWasAwayGetsOnlyWhatChanged) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  for (uint8_t i = 1; i <= 16; ++i) {
    cluster.Write(client, i, {.offset_bytes = (i - 1u) * kChunkPart, .length_bytes = 8192});
  }
  cluster.Run(milliseconds(300));
  cluster.Kill(1);
  cluster.SameReign();
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 50, {.offset_bytes = 3 * kChunkPart})),
            Status::kOk);
  cluster.Restart(1);
  cluster.SameReign();
  cluster.Configure(0, -1, 1);
  // A write in the middle of it all.
  const uint64_t write = cluster.Write(client, 51, {.offset_bytes = 4 * kChunkPart});
  cluster.Run(milliseconds(1000));
  EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
  ASSERT_TRUE(cluster.Reported(0, Report::JOIN_COMPLETE)) << cluster.Dump();
  EXPECT_LE(cluster.node(0).counters.extents_copied, 3u) << cluster.Dump();
  cluster.SameReign();
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  cluster.Kill(0);
  cluster.Configure(1, -1);
  cluster.Run(milliseconds(300));
  const ConnId other = cluster.Client(1);
  EXPECT_EQ(cluster.StampOf(cluster.Read(other, {.offset_bytes = 3 * kChunkPart})), 50);
  EXPECT_EQ(cluster.StampOf(cluster.Read(other, {.offset_bytes = 4 * kChunkPart})), 51);
  EXPECT_EQ(cluster.StampOf(cluster.Read(other, {.offset_bytes = 4 * kChunkPart + 4096})), 5);
  EXPECT_EQ(cluster.StampOf(cluster.Read(other, {.offset_bytes = 0})), 1);
}

// Each refusal had eight questions as its answer, at once (seed 616000169).
TEST(Sds, ARefusedFetchIsNotAskedForAgain) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {})), Status::kOk);
  cluster.CutPeers(1, true);
  for (uint32_t i = 1; i < 4; ++i) cluster.Write(client, 2, {.offset_bytes = i * 4096});
  uint32_t asked = 0;
  cluster.Tamper([&](wire::Message& message) {
    if (std::holds_alternative<wire::FetchEntry>(message.body)) ++asked;
    if (auto* reply = std::get_if<wire::FetchReply>(&message.body)) {
      message = {.body = wire::FetchReply{.pair = reply->pair, .status = Status::kWrongEpoch},
                 .payload = {}};
    }
    return asked < 1000;
  });
  cluster.Configure(1, 0);
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(300));
  EXPECT_EQ(asked, 3u) << cluster.Dump();
  cluster.Tamper({});
  cluster.Configure(1, 0);
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StampOf(cluster.Read(cluster.Client(1), {.offset_bytes = 8192})), 2);
}

TEST(Sds, AReleasedPrimaryServesNothingMore) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  cluster.Write(client, 1, {});
  cluster.SameReign();
  cluster.Configure(0, 1, -1, true, /*release=*/true);
  cluster.Run(milliseconds(300));
  EXPECT_TRUE(cluster.Reported(0, Report::RELEASED));
  const uint64_t read = cluster.Read(client, {});
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.Find(read), nullptr);
  cluster.Configure(1, 0);
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StatusOf(read), Status::kNotPrimary);
  const ConnId other = cluster.Client(1);
  EXPECT_EQ(cluster.StampOf(cluster.Read(other, {})), 1) << cluster.Dump();
  EXPECT_EQ(cluster.StatusOf(cluster.Write(other, 2, {})), Status::kOk);
}

TEST(Sds, NonsenseClosesItsConnectionAndNothingElse) {
  TestCluster cluster(1);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 3, {})), Status::kOk);
  cluster.Write(client, 4, {.offset_bytes = 100});
  EXPECT_FALSE(cluster.Open(client));
  const ConnId replicator = cluster.Client(0);
  cluster.SendRaw(replicator, {.body = wire::Replicate{}, .payload = {}});
  cluster.Run(milliseconds(10));
  EXPECT_FALSE(cluster.Open(replicator));
  const ConnId good = cluster.Client(0);
  EXPECT_EQ(cluster.StampOf(cluster.Read(good, {})), 3);
}

}  // namespace
}  // namespace gabion::sds
