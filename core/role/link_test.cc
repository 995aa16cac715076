#include "core/role/link.h"

#include <gtest/gtest.h>

namespace gabion {
namespace {

using std::chrono::milliseconds;
using wire::Status;

const Address kFirst = Address::V4(10, 0, 0, 1, 7000);
const Address kSecond = Address::V4(10, 0, 0, 2, 7000);

// A link to SDS 3 with two addresses, and the world around it.
class LinkTest : public testing::Test {
 protected:
  static constexpr TimerTag kTimer = 5;
  static constexpr DialTag kBase = uint64_t{7} << 32;

  LinkTest() : link_({.dial_base = kBase, .timer = kTimer}) {}

  Link::Peer Peer() {
    return {.role = wire::PeerRole::kSds,
            .id = 3,
            .incarnation = Incarnation(8),
            .addresses = {kFirst, kSecond}};
  }

  wire::Hello Self() {
    wire::Hello hello;
    hello.cluster = ClusterId(1);
    hello.sender = 2;
    hello.incarnation = Incarnation(4);
    hello.role = wire::PeerRole::kSds;
    connection_ = connection_.next();
    hello.connection = connection_;
    return hello;
  }

  wire::HelloReply GoodReply() {
    return {.cluster = ClusterId(1),
            .responder = 3,
            .incarnation = Incarnation(8),
            .status = Status::kOk,
            .version = wire::kVersionMax,
            .role = wire::PeerRole::kSds};
  }

  // The dial of this step; the link made exactly one.
  ConnectEffect Dialled() {
    EXPECT_EQ(effects_.connects.size(), 1u);
    const ConnectEffect dial = effects_.connects.at(0);
    effects_.Clear();
    return dial;
  }

  // When the timer of this step fires, from now.
  Duration TimerDelay() {
    EXPECT_FALSE(effects_.timers.empty());
    EXPECT_EQ(effects_.timers.back().tag, kTimer);
    return effects_.timers.back().when - now_.boot;
  }

  void Pass(Duration d) {
    now_.boot += d;
    effects_.Clear();
    link_.OnTimer(now_, effects_);
    link_.CheckInvariants();
  }

  ConnId Connect(DialTag dial) {
    const ConnId conn(++last_conn_);
    effects_.Clear();
    link_.OnConnected(now_, {.conn = conn, .dial = dial, .peer = kFirst}, Self(), effects_);
    link_.CheckInvariants();
    return conn;
  }

  void FailDial(DialTag dial) {
    effects_.Clear();
    link_.OnConnectFailed(now_, {dial}, effects_);
    link_.CheckInvariants();
  }

  void BringUp() {
    link_.Start(now_, Peer(), effects_);
    const ConnId conn = Connect(Dialled().dial);
    ASSERT_EQ(link_.OnHelloReply(now_, conn, GoodReply(), effects_), Link::Change::kUp);
    effects_.Clear();
  }

  Link link_;
  Now now_{Instant(std::chrono::hours(1)), {}};
  Effects effects_;
  ConnectionNumber connection_;
  uint64_t last_conn_ = 100;
};

TEST_F(LinkTest, SendsAHelloThatNamesThePeerItWants) {
  link_.Start(now_, Peer(), effects_);
  const ConnectEffect dial = Dialled();
  EXPECT_EQ(dial.address, kFirst);
  EXPECT_TRUE(link_.Owns(dial.dial));
  const ConnId conn = Connect(dial.dial);
  ASSERT_EQ(effects_.sends.size(), 1u);
  EXPECT_EQ(effects_.sends[0].conn, conn);
  const auto& hello = std::get<wire::Hello>(effects_.sends[0].message.body);
  EXPECT_EQ(hello.target, 3u);
  EXPECT_EQ(hello.target_incarnation, Incarnation(8));
  EXPECT_EQ(hello.connection, ConnectionNumber(1));
  EXPECT_EQ(link_.state(), Link::State::kAwaitingHello);
  EXPECT_EQ(link_.OnHelloReply(now_, conn, GoodReply(), effects_), Link::Change::kUp);
  EXPECT_TRUE(link_.up());
  EXPECT_EQ(link_.conn(), conn);
  link_.CheckInvariants();
}

TEST_F(LinkTest, TriesAddressesInTurnWithAPauseThatDoublesPerRoundUpToOneSecond) {
  link_.Start(now_, Peer(), effects_);
  ConnectEffect dial = Dialled();
  const int pauses_ms[] = {50, 50, 100, 100, 200, 200, 400, 400, 800, 800, 1000, 1000, 1000};
  const Address* expected = &kFirst;
  for (const int pause_ms : pauses_ms) {
    EXPECT_EQ(dial.address, *expected);
    FailDial(dial.dial);
    EXPECT_EQ(TimerDelay(), milliseconds(pause_ms));
    EXPECT_TRUE(effects_.connects.empty());
    Pass(milliseconds(pause_ms));
    dial = Dialled();
    expected = expected == &kFirst ? &kSecond : &kFirst;
  }
}

TEST_F(LinkTest, PausesStartAgainAtTheLeastAfterASuccess) {
  link_.Start(now_, Peer(), effects_);
  ConnectEffect dial = Dialled();
  for (int i = 0; i < 8; ++i) {
    FailDial(dial.dial);
    Pass(std::chrono::seconds(1));
    dial = Dialled();
  }
  const ConnId conn = Connect(dial.dial);
  ASSERT_EQ(link_.OnHelloReply(now_, conn, GoodReply(), effects_), Link::Change::kUp);
  effects_.Clear();
  EXPECT_EQ(link_.OnDisconnected(now_, {conn}, effects_), Link::Change::kDown);
  EXPECT_EQ(TimerDelay(), milliseconds(50));
  EXPECT_TRUE(effects_.closes.empty());
  Pass(milliseconds(50));
  EXPECT_EQ(Dialled().address, dial.address);  // where it worked last
}

TEST_F(LinkTest, GivesUpAPeerThatDoesNotAnswerTheHello) {
  link_.Start(now_, Peer(), effects_);
  const ConnId conn = Connect(Dialled().dial);
  EXPECT_EQ(TimerDelay(), std::chrono::seconds(1));
  Pass(milliseconds(999));
  EXPECT_EQ(link_.state(), Link::State::kAwaitingHello);
  Pass(milliseconds(1));
  EXPECT_EQ(link_.state(), Link::State::kBackoff);
  ASSERT_EQ(effects_.closes, std::vector<ConnId>{conn});
  // The end of the old connection is no news.
  EXPECT_EQ(link_.OnDisconnected(now_, {conn}, effects_), Link::Change::kNone);
  EXPECT_EQ(link_.OnHelloReply(now_, conn, GoodReply(), effects_), Link::Change::kNone);
  EXPECT_EQ(link_.state(), Link::State::kBackoff);
}

TEST_F(LinkTest, ClosesALateConnectionOfADialThatWasGivenUp) {
  link_.Start(now_, Peer(), effects_);
  const DialTag late = Dialled().dial;
  Pass(std::chrono::seconds(1));
  EXPECT_EQ(link_.state(), Link::State::kBackoff);
  Pass(milliseconds(50));
  const DialTag second = Dialled().dial;
  EXPECT_NE(late, second);
  const ConnId conn = Connect(late);
  EXPECT_EQ(effects_.closes, std::vector<ConnId>{conn});
  EXPECT_TRUE(effects_.sends.empty());
  EXPECT_EQ(link_.state(), Link::State::kDialling);
  FailDial(late);
  EXPECT_EQ(link_.state(), Link::State::kDialling);
}

TEST_F(LinkTest, RemembersWhyTheHelloWasRefusedAndSaysItOnce) {
  link_.Start(now_, Peer(), effects_);
  ConnId conn = Connect(Dialled().dial);
  wire::HelloReply refusal = GoodReply();
  refusal.status = Status::kUnknownPeer;
  effects_.Clear();
  EXPECT_EQ(link_.OnHelloReply(now_, conn, refusal, effects_), Link::Change::kNone);
  EXPECT_EQ(link_.refusal(), Status::kUnknownPeer);
  EXPECT_EQ(link_.error(), "10.0.0.1:7000: hello refused: unknown peer");
  EXPECT_EQ(effects_.logs.size(), 1u);
  EXPECT_EQ(effects_.closes, std::vector<ConnId>{conn});
  Pass(milliseconds(50));
  conn = Connect(Dialled().dial);
  effects_.Clear();
  link_.OnHelloReply(now_, conn, refusal, effects_);
  EXPECT_TRUE(effects_.logs.empty());
  Pass(milliseconds(100));
  conn = Connect(Dialled().dial);
  EXPECT_EQ(link_.OnHelloReply(now_, conn, GoodReply(), effects_), Link::Change::kUp);
  EXPECT_EQ(link_.refusal(), Status::kOk);
  EXPECT_EQ(link_.error(), "");
}

TEST_F(LinkTest, RefusesAnAnswerThatIsNotThePeerItDialled) {
  const auto refusal_of = [this](const wire::HelloReply& reply) {
    Effects effects;
    Link link({.dial_base = kBase, .timer = kTimer});
    link.Start(now_, Peer(), effects);
    const ConnectedEvent event{
        .conn = ConnId(1), .dial = effects.connects.at(0).dial, .peer = kFirst};
    link.OnConnected(now_, event, Self(), effects);
    EXPECT_EQ(link.OnHelloReply(now_, ConnId(1), reply, effects), Link::Change::kNone);
    EXPECT_EQ(effects.closes.size(), 1u);
    return link.refusal();
  };
  wire::HelloReply reply = GoodReply();
  reply.cluster = ClusterId(2);
  EXPECT_EQ(refusal_of(reply), Status::kWrongCluster);
  reply = GoodReply();
  reply.cluster = ClusterId();
  EXPECT_EQ(refusal_of(reply), Status::kMalformed);
  reply = GoodReply();
  reply.role = wire::PeerRole::kMdm;
  EXPECT_EQ(refusal_of(reply), Status::kWrongPeer);
  reply = GoodReply();
  reply.responder = 4;
  EXPECT_EQ(refusal_of(reply), Status::kWrongPeer);
  reply = GoodReply();
  reply.incarnation = Incarnation(9);
  EXPECT_EQ(refusal_of(reply), Status::kWrongPeer);
  reply = GoodReply();
  reply.version = wire::kVersionMax + 1;
  EXPECT_EQ(refusal_of(reply), Status::kUnsupportedVersion);
}

TEST_F(LinkTest, AnotherIncarnationOfThePeerEndsTheConnection) {
  BringUp();
  const ConnId old = link_.conn();
  EXPECT_EQ(link_.Start(now_, Peer(), effects_), Link::Change::kNone);
  EXPECT_TRUE(effects_.empty());
  Link::Peer restarted = Peer();
  restarted.incarnation = Incarnation(9);
  EXPECT_EQ(link_.Start(now_, restarted, effects_), Link::Change::kDown);
  EXPECT_EQ(effects_.closes, std::vector<ConnId>{old});
  EXPECT_EQ(effects_.connects.size(), 1u);
  link_.CheckInvariants();
}

TEST_F(LinkTest, NewAddressesLeaveAConnectionAloneAndServeTheNextDial) {
  BringUp();
  Link::Peer moved = Peer();
  moved.addresses = {kSecond};
  EXPECT_EQ(link_.Start(now_, moved, effects_), Link::Change::kNone);
  EXPECT_TRUE(link_.up());
  EXPECT_TRUE(effects_.empty());
  EXPECT_EQ(link_.Reconnect(now_, effects_), Link::Change::kDown);
  EXPECT_EQ(effects_.closes.size(), 1u);
  Pass(milliseconds(50));
  EXPECT_EQ(Dialled().address, kSecond);
}

TEST_F(LinkTest, StopsForGoodAndStartsAgain) {
  BringUp();
  EXPECT_EQ(link_.Stop(effects_), Link::Change::kDown);
  EXPECT_EQ(effects_.closes.size(), 1u);
  Pass(std::chrono::seconds(10));
  EXPECT_TRUE(effects_.empty());
  EXPECT_EQ(link_.state(), Link::State::kIdle);
  link_.Start(now_, Peer(), effects_);
  EXPECT_EQ(effects_.connects.size(), 1u);
}

TEST_F(LinkTest, ASecondHelloReplyEndsTheConnection) {
  BringUp();
  EXPECT_EQ(link_.OnHelloReply(now_, link_.conn(), GoodReply(), effects_), Link::Change::kDown);
  EXPECT_EQ(effects_.closes.size(), 1u);
}

TEST_F(LinkTest, WithoutAnAddressItWaitsForOne) {
  link_.Start(now_, {.role = wire::PeerRole::kSds, .id = 3, .incarnation = {}, .addresses = {}},
              effects_);
  EXPECT_EQ(link_.state(), Link::State::kIdle);
  EXPECT_EQ(link_.error(), "no address known");
  link_.CheckInvariants();
  link_.Start(now_, Peer(), effects_);
  EXPECT_EQ(link_.state(), Link::State::kDialling);
}

TEST_F(LinkTest, EqualHistoriesHaveEqualHashes) {
  BringUp();
  const Link copy = link_;
  EXPECT_EQ(copy.StateHash(), link_.StateHash());
  link_.Reconnect(now_, effects_);
  EXPECT_NE(copy.StateHash(), link_.StateHash());
}

}  // namespace
}  // namespace gabion
