// What the client does when servers refuse, vanish, or move: the rules of R10.
#include <cerrno>

#include "core/sdc/test_world.h"

namespace gabion::sdc {
namespace {

using std::chrono::milliseconds;
using wire::Status;

struct Retry : testing::Test {
  // One write and one read under way at SDS 11.
  void Begin(Options options = {}) {
    world = std::make_unique<TestWorld>(options);
    world->Ready();
    write = world->Write(0, 4096);
    sds = world->AcceptSds(kSds1);
    request = world->Expect<wire::WriteRequest>(sds);
  }
  std::unique_ptr<TestWorld> world;
  UserTag write = 0;
  ConnId sds;
  wire::WriteRequest request;
};

TEST_F(Retry, ATransientRefusalIsSentAgainAfterAPauseWithTheSameId) {
  for (Status status :
       {Status::kNoLease, Status::kUnavailable, Status::kBusy, Status::kNeedsResync}) {
    Begin();
    world->Answer(sds, request, status);
    EXPECT_TRUE(world->Quiet(sds)) << "no pause";
    world->Advance(milliseconds(19));
    EXPECT_TRUE(world->Quiet(sds));
    world->Advance(milliseconds(1));
    const auto again = world->Expect<wire::WriteRequest>(sds);
    EXPECT_EQ(again.request, request.request);
    EXPECT_NE(again.tag, request.tag);
    world->Answer(sds, again);
    EXPECT_EQ(world->ErrorOf(write), 0);
  }
}

TEST_F(Retry, ThePauseDoublesUpToItsLimit) {
  Begin();
  for (int expected_ms : {20, 40, 80, 160, 200, 200}) {
    world->Answer(sds, request, Status::kNoLease);
    world->Advance(milliseconds(expected_ms - 1));
    EXPECT_TRUE(world->Quiet(sds)) << expected_ms;
    world->Advance(milliseconds(1));
    request = world->Expect<wire::WriteRequest>(sds);
  }
}

TEST_F(Retry, AWrongReignAsksTheMdmAndGoesOnWithTheNewMap) {
  for (Status status : {Status::kWrongReign, Status::kNotPrimary}) {
    Begin();
    world->Answer(sds, request, status);
    EXPECT_TRUE(world->Quiet(sds));
    EXPECT_TRUE(world->ExpectManagement().has_sdc_heartbeat());
    world->MoveAll(4, kSds2);
    const ConnId other = world->AcceptSds(kSds2);
    const auto again = world->Expect<wire::WriteRequest>(other);
    EXPECT_EQ(again.request, request.request);
    EXPECT_EQ(again.target.reign, Reign(4));
    world->Answer(other, again);
    EXPECT_EQ(world->ErrorOf(write), 0);
  }
}

TEST_F(Retry, AWrongReignWithoutANewMapIsTriedAgainForTheServerMayBeBehind) {
  Begin();
  world->Answer(sds, request, Status::kWrongReign);
  world->Advance(milliseconds(20));
  EXPECT_EQ(world->Expect<wire::WriteRequest>(sds).target.reign, Reign(3));
}

TEST_F(Retry, AStaleSnapshotNumberIsReplacedByTheMapsAtOnce) {
  Begin();
  world->Answer(sds, request, Status::kStaleSnapshot);
  proto::Management message = world->Increment();
  TestWorld::AddVolume(message.mutable_map_update(), 64 * kMiB, 2);
  world->DeliverManagement(message);
  const auto again = world->Expect<wire::WriteRequest>(sds);
  EXPECT_EQ(again.snap_number, SnapNumber(2));
  EXPECT_EQ(again.request, request.request);
}

TEST_F(Retry, NotMappedFailsOnlyWhenTheMdmSaysSoToo) {
  Begin();
  world->Answer(sds, request, Status::kNotMapped);
  EXPECT_FALSE(world->Replied(write));
  world->ConfirmMap();
  EXPECT_FALSE(world->Replied(write)) << "the MDM still maps it: the server is behind";
  world->Advance(milliseconds(20));
  world->Answer(sds, world->Expect<wire::WriteRequest>(sds), Status::kNotMapped);
  world->Unmap();
  world->ConfirmMap();
  EXPECT_EQ(world->ErrorOf(write), EIO);
}

TEST_F(Retry, ReadOnlyFailsOnlyWhenTheMdmSaysSoToo) {
  Begin();
  world->Answer(sds, request, Status::kReadOnly);
  proto::Management message = world->Increment();
  TestWorld::AddVolume(message.mutable_map_update(), 64 * kMiB, 1, true);
  world->DeliverManagement(message);
  EXPECT_FALSE(world->Replied(write));
  world->ConfirmMap();
  EXPECT_EQ(world->ErrorOf(write), EROFS);
}

TEST_F(Retry, FinalAnswersFailAtOnce) {
  for (Status status : {Status::kIoError, Status::kStaleRequest, Status::kMalformed,
                        Status::kStaleIncarnation, static_cast<Status>(999)}) {
    Begin();
    world->Answer(sds, request, status);
    EXPECT_EQ(world->ErrorOf(write), EIO) << wire::StatusName(status);
    EXPECT_TRUE(world->Logged("write failed"));
  }
  Begin();
  world->Answer(sds, request, Status::kNoSpace);
  EXPECT_EQ(world->ErrorOf(write), ENOSPC);
}

TEST_F(Retry, DoubtfulAnswersAreTriedSomeTimesAndThenFail) {
  for (Status status : {Status::kBadChecksum, Status::kOutOfRange}) {
    Begin();
    int attempts = 1;
    while (!world->Replied(write)) {
      ASSERT_LT(attempts, 100);
      world->Answer(sds, request, status);
      if (world->Replied(write)) break;
      world->Advance(milliseconds(200));
      request = world->Expect<wire::WriteRequest>(sds);
      ++attempts;
    }
    EXPECT_EQ(attempts, static_cast<int>(kTriesMax));
    EXPECT_EQ(world->ErrorOf(write), EIO);
  }
}

TEST_F(Retry, DataThatDoesNotMatchItsChecksumIsNeverReturned) {
  Begin();
  const UserTag read = world->Read(kMiB, 4096);
  auto ask = world->Expect<wire::ReadRequest>(sds);
  wire::ReadReply reply = TestWorld::Reply(ask, Status::kOk);
  reply.length_bytes = 4096;
  reply.piece_crc[0] = 12345;
  world->Deliver(sds, reply, world->Data(4096));
  EXPECT_FALSE(world->Replied(read));
  world->Advance(milliseconds(20));
  ask = world->Expect<wire::ReadRequest>(sds);
  world->Answer(sds, ask, world->Data(4096));
  EXPECT_EQ(world->ErrorOf(read), 0);
}

TEST_F(Retry, DataThatStaysBadIsAnIoError) {
  Begin();
  const UserTag read = world->Read(kMiB, 4096);
  for (uint32_t i = 0; i < kTriesMax; ++i) {
    const auto ask = world->Expect<wire::ReadRequest>(sds);
    wire::ReadReply reply = TestWorld::Reply(ask, Status::kOk);
    reply.piece_crc[0] = 12345;
    world->Deliver(sds, reply, world->Data(4096));
    world->Advance(milliseconds(200));
  }
  EXPECT_EQ(world->ErrorOf(read), EIO);
}

TEST_F(Retry, ALostConnectionIsConfirmedBeforeAnythingIsSentAgain) {
  Begin();
  const UserTag read = world->Read(kMiB, 4096);
  (void)world->Expect<wire::ReadRequest>(sds);
  world->Disconnect(sds);
  world->Advance(milliseconds(50));
  const ConnId next = world->Accept();
  ASSERT_EQ(world->sent[next].size(), 1u) << "only the hello before its answer";
  const ConnectionNumber before = world->last_hello.connection;
  world->AnswerHello(next, wire::PeerRole::kSds, kSds1.value());
  EXPECT_GT(world->last_hello.connection, before);
  const auto again = world->Expect<wire::WriteRequest>(next);
  EXPECT_EQ(again.request, request.request);
  EXPECT_EQ(again.target.reign, request.target.reign);
  const auto ask = world->Expect<wire::ReadRequest>(next);
  world->Answer(next, again);
  world->Answer(next, ask, world->Data(4096));
  EXPECT_EQ(world->ErrorOf(write), 0);
  EXPECT_EQ(world->ErrorOf(read), 0);
}

TEST_F(Retry, AnswersOfAnEarlierAttemptCountForNothing) {
  Begin();
  world->Disconnect(sds);
  world->Advance(milliseconds(50));
  const ConnId next = world->AcceptSds(kSds1);
  const auto again = world->Expect<wire::WriteRequest>(next);
  world->Answer(sds, request);   // on the lost connection
  world->Answer(next, request);  // on the new one, for the old attempt
  EXPECT_FALSE(world->Replied(write));
  world->Answer(next, again);
  EXPECT_EQ(world->ErrorOf(write), 0);
}

TEST_F(Retry, ALateAnswerWhileTheSliceHasNoPrimaryHarmsNobody) {
  Begin();
  const UserTag read = world->Read(kMiB, 4096);
  const auto ask = world->Expect<wire::ReadRequest>(sds);
  world->MoveAll(4, SdsId());
  world->Answer(sds, request);
  world->Refuse(sds, ask, Status::kWrongReign);
  EXPECT_FALSE(world->Closed(sds));
  EXPECT_FALSE(world->Replied(write));
  EXPECT_FALSE(world->Replied(read));
}

TEST_F(Retry, ANewReignNeedsNoConfirmation) {
  Begin();
  world->Disconnect(sds);
  world->MoveAll(4, kSds2);
  const ConnId other = world->AcceptSds(kSds2);
  const auto again = world->Expect<wire::WriteRequest>(other);
  EXPECT_EQ(again.request, request.request);
  EXPECT_EQ(again.target.reign, Reign(4));
}

TEST_F(Retry, ANewReignAtTheSameServerResendsOnTheLiveConnection) {
  Begin();
  world->MoveAll(4, kSds1);
  const auto again = world->Expect<wire::WriteRequest>(sds);
  EXPECT_EQ(again.request, request.request);
  world->Answer(sds, request, Status::kWrongReign);  // the old attempt, refused late
  EXPECT_TRUE(world->Quiet(sds));
  world->Answer(sds, again);
  EXPECT_EQ(world->ErrorOf(write), 0);
}

TEST_F(Retry, AnotherServerUnderTheSameReignIsNoFence) {
  Begin();
  world->Disconnect(sds);
  proto::Management message = world->Increment();
  for (uint32_t i = 0; i < TestWorld::kSlices; ++i) {
    TestWorld::AddRoute(message.mutable_map_update(), SliceId(TestWorld::kFirstSlice + i), 3,
                        SdsId());
  }
  world->DeliverManagement(message);
  world->Advance(milliseconds(50));
  const ConnId next = world->Accept();
  EXPECT_EQ(world->sent[next].size(), 1u) << "still unconfirmed";
  world->AnswerHello(next, wire::PeerRole::kSds, kSds1.value());
  EXPECT_TRUE(world->Quiet(next)) << "no primary now";
  world->MoveAll(4, kSds1);
  EXPECT_EQ(world->Expect<wire::WriteRequest>(next).request, request.request);
}

TEST_F(Retry, AServerThatMovedBeforeItsHelloReplyIsDialledAnew) {
  Begin();
  world->Disconnect(sds);
  world->Advance(milliseconds(50));
  (void)world->Accept();
  ASSERT_TRUE(world->dials.empty());
  proto::Management message = world->Increment();
  proto::Sds* endpoint = message.mutable_map_update()->add_endpoints();
  endpoint->set_id(kSds1.value());
  endpoint->add_addresses("10.0.9.9:7100");
  world->DeliverManagement(message);
  world->Advance(milliseconds(200));
  ASSERT_FALSE(world->dials.empty());
  (void)world->Accept();
  EXPECT_EQ(world->last_address.ToString(), "10.0.9.9:7100");
}

TEST_F(Retry, ASilentConnectionThatOwesAnswersIsAskedThenGivenUp) {
  Begin();
  world->Advance(milliseconds(750));
  (void)world->Expect<wire::SessionHeartbeat>(sds);
  EXPECT_FALSE(world->Closed(sds));
  world->Advance(milliseconds(1000));
  EXPECT_TRUE(world->Closed(sds));
  world->Disconnect(sds);
  world->Advance(milliseconds(50));
  const ConnId next = world->AcceptSds(kSds1);
  EXPECT_EQ(world->Expect<wire::WriteRequest>(next).request, request.request);
}

TEST_F(Retry, ASlowServerThatAnswersHeartbeatsIsLeftAlone) {
  Begin();
  for (int i = 0; i < 20; ++i) {
    world->Advance(milliseconds(500));
    while (!world->Quiet(sds)) {
      (void)world->Expect<wire::SessionHeartbeat>(sds);
      world->Deliver(sds, wire::SessionHeartbeatReply{});
    }
  }
  EXPECT_FALSE(world->Closed(sds));
}

TEST_F(Retry, AnIdleConnectionIsNotSilent) {
  Begin();
  world->Answer(sds, request);
  world->Advance(std::chrono::seconds(60));
  EXPECT_FALSE(world->Closed(sds));
  world->Write(0, 4096);
  world->Advance(milliseconds(1));
  EXPECT_FALSE(world->Closed(sds));
}

TEST_F(Retry, IdleSlicesTellTheirLowWaterMark) {
  Begin();
  world->Answer(sds, request);
  world->Advance(milliseconds(300));
  Slice payload;
  const auto heartbeat = world->Expect<wire::SessionHeartbeat>(sds, &payload);
  ASSERT_EQ(heartbeat.count, 1u);
  wire::LowWaterItem item;
  ASSERT_EQ(payload.size(), sizeof(item));
  std::memcpy(&item, payload.data(), sizeof(item));
  EXPECT_EQ(item.slice, request.target.slice);
  EXPECT_EQ(item.low_water, RequestId(2));
  world->Advance(std::chrono::seconds(5));
  EXPECT_TRUE(world->Quiet(sds)) << "told once";
}

TEST_F(Retry, AWriteThatTimesOutFailsOnlyBehindTheFence) {
  Begin({.io_timeout = std::chrono::seconds(2), .connection_timeout = std::chrono::seconds(60)});
  world->Advance(milliseconds(2600));
  EXPECT_TRUE(world->Closed(sds)) << "the attempt is fenced by ending its connection";
  EXPECT_FALSE(world->Replied(write)) << "not confirmed yet";
  world->Disconnect(sds);
  world->Advance(milliseconds(100));
  const ConnId next = world->AcceptSds(kSds1);
  EXPECT_EQ(world->ErrorOf(write), EIO);
  EXPECT_TRUE(world->Quiet(next)) << "it is not sent again";
  world->Write(0, 4096);
  const auto later = world->Expect<wire::WriteRequest>(next);
  EXPECT_EQ(later.request, RequestId(2));
  EXPECT_EQ(later.low_water, RequestId(2)) << "the failed id is settled";
}

// The old primary's log may hold it and come back, so only the new one can say what became of it.
TEST_F(Retry, AWriteThatTimedOutGoesToTheNextReign) {
  Begin({.io_timeout = std::chrono::seconds(2), .connection_timeout = std::chrono::seconds(60)});
  world->Advance(milliseconds(2600));
  world->Disconnect(sds);
  EXPECT_FALSE(world->Replied(write));
  world->dials.clear();  // of the old primary
  world->MoveAll(4, kSds2);
  EXPECT_FALSE(world->Replied(write));
  const ConnId next = world->AcceptSds(kSds2);
  const auto again = world->Expect<wire::WriteRequest>(next);
  EXPECT_EQ(again.request, request.request);
  world->Advance(std::chrono::seconds(5));
  EXPECT_FALSE(world->Closed(next)) << "it is not fenced for the same time-out again";
  world->Answer(next, again);
  EXPECT_EQ(world->ErrorOf(write), 0);
}

TEST_F(Retry, AWriteThatTimedOutGoesToTheNextProcessOfItsServer) {
  Begin({.io_timeout = std::chrono::seconds(2), .connection_timeout = std::chrono::seconds(60)});
  world->Advance(milliseconds(2600));
  world->Disconnect(sds);
  world->Advance(milliseconds(100));
  const ConnId next = world->AcceptSds(kSds1, Incarnation(9));
  EXPECT_FALSE(world->Replied(write));
  world->Answer(next, world->Expect<wire::WriteRequest>(next));
  EXPECT_EQ(world->ErrorOf(write), 0);
}

TEST_F(Retry, AnAnswerBeforeTheTimeOutCounts) {
  Begin({.io_timeout = std::chrono::seconds(2), .connection_timeout = std::chrono::seconds(60)});
  world->Advance(milliseconds(1900));
  world->Answer(sds, request);
  world->Advance(std::chrono::seconds(2));
  EXPECT_EQ(world->ErrorOf(write), 0);
  EXPECT_FALSE(world->Closed(sds));
}

TEST_F(Retry, ReadsAndUnsentWritesTimeOutAtOnce) {
  TestWorld alone({.io_timeout = std::chrono::seconds(2)});
  alone.Ready();
  const UserTag unsent = alone.Write(0, 4096);
  const UserTag read = alone.Read(0, 4096);
  alone.Advance(milliseconds(2600));
  EXPECT_EQ(alone.ErrorOf(unsent), EIO);
  EXPECT_EQ(alone.ErrorOf(read), EIO);
  Begin({.io_timeout = std::chrono::seconds(2), .connection_timeout = std::chrono::seconds(60)});
  const UserTag sent_read = world->Read(kMiB, 4096);
  world->Advance(milliseconds(2600));
  EXPECT_EQ(world->ErrorOf(sent_read), EIO);
}

TEST_F(Retry, RequestsThatWaitForTheFirstMapTimeOutToo) {
  TestWorld alone({.io_timeout = std::chrono::seconds(2), .requests_max = 4});
  for (int round = 0; round < 3; ++round) {
    std::vector<UserTag> tags;
    for (int i = 0; i < 4; ++i) tags.push_back(alone.Write(0, 4096));
    alone.Advance(milliseconds(2600));
    for (UserTag tag : tags) EXPECT_EQ(alone.ErrorOf(tag), EIO);
  }
}

TEST_F(Retry, WithoutATimeOutIoWaitsForEver) {
  Begin();
  world->Disconnect(sds);
  world->Advance(std::chrono::hours(1));
  EXPECT_FALSE(world->Replied(write));
}

TEST_F(Retry, UnmappingFailsWaitingIoAtOnceAndSentIoWhenItIsAnswered) {
  Begin();
  const UserTag paused = world->Write(kMiB, 4096);
  world->Answer(sds, world->Expect<wire::WriteRequest>(sds), Status::kNoLease);
  const UserTag read = world->Read(0, 4096);
  (void)world->Expect<wire::ReadRequest>(sds);
  world->Unmap();
  EXPECT_EQ(world->ErrorOf(paused), EIO);
  EXPECT_EQ(world->ErrorOf(read), EIO);
  EXPECT_FALSE(world->Replied(write)) << "its fate is open";
  world->Answer(sds, request, Status::kNotMapped);
  EXPECT_EQ(world->ErrorOf(write), EIO);
  EXPECT_EQ(world->ErrorOf(world->Write(0, 4096)), ENODEV);
}

TEST_F(Retry, AWriteThatWasCommittedBeforeTheUnmapSucceeds) {
  Begin();
  world->Unmap();
  world->Answer(sds, request);
  EXPECT_EQ(world->ErrorOf(write), 0);
}

TEST_F(Retry, AnAnswerThatDoesNotFitItsRequestEndsTheConnection) {
  Begin();
  wire::WriteReply reply;
  reply.tag = request.tag;
  reply.slice = request.target.slice;
  reply.request = RequestId(99);
  world->Deliver(sds, reply);
  EXPECT_TRUE(world->Closed(sds));
  EXPECT_FALSE(world->Replied(write));
  Begin();
  world->Deliver(sds, wire::Replicate{});
  EXPECT_TRUE(world->Closed(sds));
  Begin();
  const UserTag read = world->Read(kMiB, 4096);
  world->Answer(sds, world->Expect<wire::ReadRequest>(sds), world->Data(512));
  EXPECT_TRUE(world->Closed(sds));
  EXPECT_FALSE(world->Replied(read));
}

TEST_F(Retry, AMessageBeforeTheHelloReplyEndsTheConnection) {
  TestWorld alone;
  alone.Ready();
  alone.Write(0, 4096);
  const ConnId conn = alone.Accept();
  alone.Deliver(conn, wire::WriteReply{});
  EXPECT_TRUE(alone.Closed(conn));
}

TEST_F(Retry, SlicesWithoutAPrimaryWaitForOne) {
  TestWorld alone;
  alone.Ready();
  alone.MoveAll(4, SdsId());
  const UserTag tag = alone.Write(0, 4096);
  EXPECT_TRUE(alone.dials.empty());
  alone.MoveAll(5, kSds2);
  const ConnId other = alone.AcceptSds(kSds2);
  alone.Answer(other, alone.Expect<wire::WriteRequest>(other));
  EXPECT_EQ(alone.ErrorOf(tag), 0);
}

TEST_F(Retry, AnUnreachableServerIsReportedToTheMdm) {
  Begin();
  world->Disconnect(sds);
  world->Advance(milliseconds(1001));
  const proto::Management message = world->ExpectManagement();
  ASSERT_TRUE(message.has_sdc_heartbeat());
  ASSERT_EQ(message.sdc_heartbeat().unreachable_sds_size(), 1);
  EXPECT_EQ(message.sdc_heartbeat().unreachable_sds(0), kSds1.value());
}

}  // namespace
}  // namespace gabion::sdc
