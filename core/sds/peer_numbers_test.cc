// Numbers that another SDS or the MDM sends, and that cannot be: each is refused with a reason, and
// nothing else is harmed.
#include <gtest/gtest.h>

#include <variant>

#include "core/sds/test_cluster.h"

namespace gabion::sds {
namespace {

using std::chrono::milliseconds;
using wire::Status;
using Report = proto::SliceReport;

constexpr uint64_t kHuge = UINT64_MAX - 2;

// Changes the first message of a kind with `change`; the connection is closed for `reason`, and
// when it is there again everything goes on.
template <class Message, class Change>
void SendOnce(TestCluster& cluster, size_t receiver, std::string_view reason, Change change) {
  bool done = false;
  cluster.Tamper([&](wire::Message& message) {
    if (auto* body = std::get_if<Message>(&message.body); body != nullptr && !done) {
      done = true;
      change(message, *body);
    }
    return true;
  });
  const uint64_t before = cluster.node(receiver).sessions.violations();
  const ConnId client = cluster.Client(0);
  const uint64_t write = cluster.Write(client, 3, {});
  cluster.Run(milliseconds(1000));
  EXPECT_TRUE(done);
  EXPECT_EQ(cluster.node(receiver).sessions.violations(), before + 1);
  EXPECT_TRUE(cluster.LogHas(reason)) << cluster.Dump();
  EXPECT_EQ(cluster.StatusOf(write), Status::kOk) << cluster.Dump();
  EXPECT_EQ(cluster.StampOf(cluster.Read(client, {})), 3);
  cluster.Tamper({});
}

TEST(PeerNumbers, AReplicateTakesNoMoreThanWasPromised) {
  for (const uint64_t number : {kHuge, UINT64_MAX, uint64_t{1} << 40}) {
    TestCluster cluster(2);
    cluster.Configure(0, 1);
    cluster.Run(milliseconds(300));
    SendOnce<wire::Replicate>(cluster, 1, "takes what was not promised",
                              [&](auto&, auto& body) { body.extents_used = number; });
    SendOnce<wire::Replicate>(cluster, 1, "takes what was not promised",
                              [&](auto&, auto& body) { body.log_used = number; });
    SendOnce<wire::Replicate>(cluster, 1, "takes what was not promised",
                              [&](auto&, auto& body) { body.log_used = 0; });
  }
}

TEST(PeerNumbers, ARequestForCreditsIsForWhatAnEntryMayTake) {
  for (const bool wanted : {true, false}) {
    TestCluster cluster(2);
    cluster.Configure(0, 1);
    cluster.Run(milliseconds(300));
    SendOnce<wire::Replicate>(cluster, 1, "a request for credits that makes no sense",
                              [&](wire::Message& message, const wire::Replicate& body) {
                                wire::CreditsRequest request{.pair = body.pair};
                                (wanted ? request.log_wanted : request.log_used) = kHuge;
                                message = {.body = request, .payload = {}};
                              });
  }
}

TEST(PeerNumbers, ATailIsNoLongerThanAStartCanName) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  EXPECT_EQ(cluster.StatusOf(cluster.Write(cluster.Client(0), 1, {})), Status::kOk);
  bool done = false;
  cluster.Tamper([&](wire::Message& message) {
    if (auto* tail = std::get_if<wire::TailReply>(&message.body); tail != nullptr && !done) {
      done = true;
      tail->tail_count = UINT32_MAX;
    }
    return true;
  });
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(500));
  EXPECT_TRUE(done);
  EXPECT_EQ(cluster.node(0).sessions.violations(), 1u);
  EXPECT_TRUE(cluster.LogHas("a tail reply that makes no sense")) << cluster.Dump();
  EXPECT_EQ(cluster.StatusOf(cluster.Write(cluster.Client(0), 2, {})), Status::kOk);
}

TEST(PeerNumbers, AnEpochStartsWithNumbersThatCanBe) {
  for (const bool joining : {false, true}) {
    TestCluster cluster(2);
    bool done = false;
    cluster.Tamper([&](wire::Message& message) {
      if (auto* start = std::get_if<wire::EpochStart>(&message.body); start != nullptr && !done) {
        done = true;
        if (joining) {
          start->start = Seq(kHuge);
        } else {
          start->renamed_count = UINT32_MAX;
        }
      }
      return true;
    });
    cluster.Configure(0, joining ? -1 : 1, joining ? 1 : -1);
    cluster.Run(milliseconds(500));
    EXPECT_TRUE(done);
    EXPECT_EQ(cluster.node(1).sessions.violations(), 1u);
    EXPECT_TRUE(cluster.LogHas("an epoch start that makes no sense")) << cluster.Dump();
    EXPECT_EQ(cluster.StatusOf(cluster.Write(cluster.Client(0), 2, {})), Status::kOk);
  }
}

TEST(PeerNumbers, ACopyIsOfNoLaterEpoch) {
  TestCluster cluster(2);
  cluster.Configure(0, -1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.WriteExtent(client, 0, 1)), Status::kOk);
  bool done = false;
  cluster.Tamper([&](wire::Message& message) {
    if (auto* copy = std::get_if<wire::CopyExtent>(&message.body); copy != nullptr && !done) {
      done = true;
      copy->modified_epoch = Epoch(kHuge);
    }
    return true;
  });
  cluster.SameReign();
  cluster.Configure(0, -1, 1);
  cluster.Run(milliseconds(900));
  EXPECT_TRUE(done);
  EXPECT_EQ(cluster.node(1).sessions.violations(), 1u);
  EXPECT_TRUE(cluster.LogHas("a copy that makes no sense")) << cluster.Dump();
  EXPECT_TRUE(cluster.Reported(0, Report::JOIN_COMPLETE)) << cluster.Dump();
}

// The start record of the next epoch names every undecided entry, and can name only so many.
TEST(PeerNumbers, APrimaryThatDecidesNothingIsStopped) {
  TestCluster cluster(2);
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  cluster.Tamper([](wire::Message& message) {
    if (auto* entry = std::get_if<wire::Replicate>(&message.body)) entry->commit_point = {};
    return !std::holds_alternative<wire::CommitPoints>(message.body);
  });
  const ConnId client = cluster.Client(0);
  uint64_t trims = 0;
  for (; trims < 2 * store::kTailEntriesMax; ++trims) {
    const uint64_t trim = cluster.Write(
        client, 0, {.length_bytes = 4096, .kind = wire::EntryKind::kTrim, .low_water = trims + 1});
    if (cluster.Find(trim) == nullptr) break;
    ASSERT_EQ(cluster.StatusOf(trim), Status::kOk) << trims << cluster.Dump();
  }
  EXPECT_EQ(trims, store::kTailEntriesMax);
  EXPECT_TRUE(cluster.LogHas("more undecided entries than a slice may have"));
  cluster.Tamper({});
  cluster.Run(milliseconds(500));
  EXPECT_EQ(cluster.StatusOf(cluster.last_tag()), Status::kOk) << cluster.Dump();
  cluster.Kill(0);
  cluster.Configure(1, -1);
  cluster.Run(milliseconds(300));
  const uint64_t write = cluster.Write(cluster.Client(1), 2, {.low_water = trims});
  EXPECT_EQ(cluster.StatusOf(write), Status::kOk);
}

TEST(PeerNumbers, ADeviceThatTheMdmNeverGaveIsLeftAlone) {
  for (const size_t node : {0u, 1u}) {
    TestCluster cluster(2);
    cluster.Configure(0, 1);
    cluster.Run(milliseconds(300));
    cluster.NameUnknownDevice(node);
    cluster.Run(milliseconds(300));
    EXPECT_TRUE(cluster.LogHas("the MDM names device 00000000000003e7, which it has not given"))
        << cluster.Dump();
    cluster.Configure(0, 1);
    cluster.Run(milliseconds(300));
    EXPECT_EQ(cluster.StatusOf(cluster.Write(cluster.Client(0), 2, {})), Status::kOk);
  }
}

size_t InFlight(const TestCluster& cluster) {
  const std::string text = cluster.Dump();
  const size_t at = text.find(" in flight ");
  return at == std::string::npos ? 999 : std::stoul(text.substr(at + 11));
}

// Answers that do not come from the replica itself say nothing about its room (seed 424000355).
TEST(PeerNumbers, ARefusalSaysNothingAboutRoom) {
  TestCluster cluster(2);
  bool refuse = false;
  cluster.Tamper([&](wire::Message& message) {
    if (auto* reply = std::get_if<wire::EpochStartReply>(&message.body)) {
      reply->credits.window_bytes = 20'000;  // four entries of a block
    } else if (auto* ack = std::get_if<wire::ReplicateAck>(&message.body)) {
      ack->credits.window_bytes = 20'000;
      // As from an SDS that has not applied the configuration yet.
      if (refuse) message.body = wire::ReplicateAck{.pair = ack->pair, .status = Status::kBehind};
      refuse = false;
    }
    return true;
  });
  cluster.Configure(0, 1);
  cluster.Run(milliseconds(300));
  const ConnId client = cluster.Client(0);
  EXPECT_EQ(cluster.StatusOf(cluster.Write(client, 1, {})), Status::kOk);
  refuse = true;
  const uint64_t refused = cluster.Write(client, 2, {});
  EXPECT_EQ(cluster.Find(refused), nullptr);
  cluster.CutPeers(1, true);
  for (uint32_t i = 1; i < 20; ++i) cluster.Write(client, 3, {.offset_bytes = i * 4096});
  EXPECT_EQ(InFlight(cluster), 4u) << cluster.Dump();
  cluster.CutPeers(1, false);
  cluster.Run(milliseconds(100));
  EXPECT_EQ(cluster.StatusOf(refused), Status::kOk) << cluster.Dump();
  EXPECT_EQ(cluster.StatusOf(cluster.last_tag()), Status::kOk) << cluster.Dump();
}

}  // namespace
}  // namespace gabion::sds
