// Registration, the map stream, attaching, and stopping.
#include <cerrno>

#include "core/sdc/test_world.h"

namespace gabion::sdc {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Session, RegistersByNameFirstAndByIdAfterARestartWithAHigherIncarnation) {
  TestWorld world;
  world.Register();
  EXPECT_EQ(world.last_register.sdc(), 0u);
  EXPECT_EQ(world.last_register.name(), "client");
  EXPECT_EQ(world.last_register.incarnation(), 1u);
  EXPECT_EQ(world.last_hello.cluster, ClusterId());
  world.StartRole();
  world.Register();
  EXPECT_EQ(world.last_register.sdc(), 77u);
  EXPECT_EQ(world.last_register.incarnation(), 2u);
  EXPECT_EQ(world.last_hello.cluster, ClusterId(5));
  EXPECT_EQ(world.last_hello.sender, 77u);
}

TEST(Session, ARefusedRegistrationIsAskedAgainAndLoggedOnce) {
  TestWorld world;
  world.mdm = world.Accept();
  world.AnswerHello(world.mdm, wire::PeerRole::kMdm, 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(world.ExpectManagement().has_sdc_register());
    proto::Management reply;
    reply.mutable_sdc_register_reply()->set_error("no client of that name; gabion sdc add client");
    world.DeliverManagement(reply);
    EXPECT_TRUE(world.Quiet(world.mdm));
    world.Advance(seconds(1));
  }
  EXPECT_TRUE(world.Logged("gabion sdc add"));
  EXPECT_EQ(world.logs.size(), 1u);
}

TEST(Session, ARegistrationUnderAnotherIdIsNotAccepted) {
  TestWorld world;
  world.Register();
  world.StartRole();
  world.mdm = world.Accept();
  world.AnswerHello(world.mdm, wire::PeerRole::kMdm, 1);
  proto::Management reply;
  reply.mutable_sdc_register_reply()->set_cluster(5);
  reply.mutable_sdc_register_reply()->set_sdc(78);
  world.DeliverManagement(reply);
  world.DeliverManagement(world.FullMap());
  const UserTag attach = world.Attach("vol");
  EXPECT_FALSE(world.Replied(attach));
  EXPECT_TRUE(world.Logged("its own state says"));
}

TEST(Session, ANewerRunOfTheSameClientEndsThisOne) {
  TestWorld world;
  world.mdm = world.Accept();
  world.AnswerHello(world.mdm, wire::PeerRole::kMdm, 1, wire::Status::kStaleIncarnation);
  ASSERT_TRUE(world.exit_reason.has_value());
  EXPECT_NE(world.exit_reason->find("newer run"), std::string::npos);
}

TEST(Session, AttachWaitsForTheFirstMapAndTellsTheSize) {
  TestWorld world;
  const UserTag by_name = world.Attach("vol");
  const UserTag by_id = world.Attach(kVolume);
  world.Register();
  EXPECT_FALSE(world.Replied(by_name));
  world.DeliverManagement(world.FullMap());
  for (UserTag tag : {by_name, by_id}) {
    ASSERT_EQ(world.ErrorOf(tag), 0);
    EXPECT_EQ(world.replies[tag].volume, kVolume);
    EXPECT_EQ(world.replies[tag].size_bytes, 64 * kMiB);
    EXPECT_FALSE(world.replies[tag].read_only);
  }
}

TEST(Session, AttachOfAnUnknownVolumeFailsOnceTheMdmHasConfirmedTheMap) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Attach("none");
  EXPECT_FALSE(world.Replied(tag));
  world.ConfirmMap();
  EXPECT_EQ(world.ErrorOf(tag), ENODEV);
  EXPECT_TRUE(world.Logged("volume \"none\" cannot be opened"));
}

TEST(Session, AVolumeThatWasMappedAMomentAgoIsFound) {
  TestWorld world;
  world.Register();
  proto::Management map = world.FullMap();
  map.mutable_map_update()->clear_volumes();
  map.mutable_map_update()->clear_mappings();
  world.DeliverManagement(map);
  const UserTag tag = world.Attach("vol");
  // The MDM is ahead of this client, and says so before its update arrives.
  const proto::Management heartbeat = world.ExpectManagement();
  proto::Management update = world.Increment();
  proto::Management reply;
  reply.mutable_sdc_heartbeat_reply()->set_number(heartbeat.sdc_heartbeat().number());
  reply.mutable_sdc_heartbeat_reply()->set_map_version(world.version);
  world.DeliverManagement(reply);
  EXPECT_FALSE(world.Replied(tag));
  TestWorld::AddVolume(update.mutable_map_update(), kMiB);
  world.DeliverManagement(update);
  EXPECT_EQ(world.ErrorOf(tag), 0);
}

TEST(Session, AQuestionThatWasLostWithItsConnectionIsAskedAgain) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Attach("none");
  (void)world.ExpectManagement();
  world.Disconnect(world.mdm);
  world.Advance(milliseconds(50));
  world.Register();
  world.DeliverManagement(world.FullMap());
  EXPECT_FALSE(world.Replied(tag));
  world.ConfirmMap();
  EXPECT_EQ(world.ErrorOf(tag), ENODEV);
}

TEST(Session, ListNamesTheMappedVolumes) {
  TestWorld world;
  world.Ready();
  const UserTag tag = world.Submit(UserOp::kList, 0, 0);
  ASSERT_EQ(world.ErrorOf(tag), 0);
  const Slice& names = world.replies[tag].payload;
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(names.data()), names.size()), "vol\n");
}

TEST(Session, AttachedVolumesAreToldOfTheirGrowthAndOfTheirEnd) {
  TestWorld world;
  world.Ready();
  world.Attach("vol");
  proto::Management grow = world.Increment();
  TestWorld::AddVolume(grow.mutable_map_update(), 65 * kMiB);
  world.DeliverManagement(grow);
  ASSERT_EQ(world.notices.size(), 1u);
  EXPECT_EQ(world.notices[0].size_bytes, 65 * kMiB);
  world.Unmap();
  ASSERT_EQ(world.notices.size(), 2u);
  EXPECT_EQ(world.notices[1].size_bytes, 0u);
  EXPECT_EQ(world.notices[1].volume, kVolume);
  const UserTag detach = world.Submit(UserOp::kDetach, 0, 0);
  EXPECT_EQ(world.ErrorOf(detach), 0);
  world.DeliverManagement(world.FullMap());
  EXPECT_EQ(world.notices.size(), 2u) << "nobody has it open";
}

TEST(Session, AGapInTheMapLeadsToANewConnectionAndAFullMap) {
  TestWorld world;
  world.Ready();
  ++world.version;  // lost
  world.DeliverManagement(world.Increment());
  EXPECT_TRUE(world.Closed(world.mdm));
  world.Advance(milliseconds(50));
  world.Register();
  proto::Management map = world.FullMap();
  world.DeliverManagement(map);
  const UserTag attach = world.Attach("vol");
  EXPECT_EQ(world.ErrorOf(attach), 0);
}

TEST(Session, IoGoesOnWhileTheMdmIsAway) {
  TestWorld world;
  world.Ready();
  world.Disconnect(world.mdm);
  const UserTag tag = world.Write(0, 4096);
  const ConnId sds = world.AcceptSds(kSds1);
  world.Answer(sds, world.Expect<wire::WriteRequest>(sds));
  EXPECT_EQ(world.ErrorOf(tag), 0);
}

TEST(Session, ASilentMdmIsGivenUp) {
  TestWorld world;
  world.Ready();
  world.Advance(seconds(5));
  EXPECT_TRUE(world.Closed(world.mdm));
}

TEST(Session, AnMdmThatAnswersHeartbeatsIsKept) {
  TestWorld world;
  world.Ready();
  for (int i = 0; i < 10; ++i) {
    world.Advance(seconds(1));
    world.ConfirmMap();
  }
  EXPECT_FALSE(world.Closed(world.mdm));
}

TEST(Session, GarbageFromTheMdmEndsTheConnectionOnly) {
  TestWorld world;
  world.Ready();
  world.Deliver(world.mdm, wire::ManagementBody{}, world.Data(100));
  EXPECT_TRUE(world.Closed(world.mdm));
  EXPECT_FALSE(world.exit_reason.has_value());
}

TEST(Session, AClientAcceptsNoConnections) {
  TestWorld world;
  world.Step(ConnectedEvent{.conn = ConnId(500), .dial = 0, .peer = {}});
  EXPECT_TRUE(world.Closed(ConnId(500)));
}

TEST(Session, StopWithNothingInFlightExitsAtOnce) {
  TestWorld world;
  world.Ready();
  world.Step(StopEvent{});
  ASSERT_TRUE(world.exit_reason.has_value());
  EXPECT_EQ(*world.exit_reason, "");
}

TEST(Session, StopFinishesWhatIsInFlightAndRefusesTheRest) {
  TestWorld world;
  world.Ready();
  const UserTag write = world.Write(0, 4096);
  const ConnId sds = world.AcceptSds(kSds1);
  const UserTag waiting = world.Attach("none");
  world.Step(StopEvent{});
  EXPECT_EQ(world.ErrorOf(waiting), ESHUTDOWN);
  EXPECT_EQ(world.ErrorOf(world.Write(0, 512)), ESHUTDOWN);
  EXPECT_FALSE(world.exit_reason.has_value());
  world.Answer(sds, world.Expect<wire::WriteRequest>(sds));
  EXPECT_EQ(world.ErrorOf(write), 0);
  EXPECT_TRUE(world.exit_reason.has_value());
}

TEST(Session, StopWaitsNoLongerThanItsLimit) {
  TestWorld world;
  world.Ready();
  world.Write(0, 4096);
  world.Step(StopEvent{});
  world.Advance(milliseconds(4999));
  EXPECT_FALSE(world.exit_reason.has_value());
  world.Advance(milliseconds(1));
  EXPECT_TRUE(world.exit_reason.has_value());
}

TEST(Session, EqualHistoriesGiveEqualStates) {
  uint64_t hashes[2];
  for (uint64_t& hash : hashes) {
    TestWorld world;
    world.Ready();
    world.Write(0, 8192);
    world.AcceptSds(kSds1);
    hash = world.role().StateHash();
    EXPECT_NE(world.role().Dump().find("sent"), std::string::npos) << world.role().Dump();
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

}  // namespace
}  // namespace gabion::sdc
