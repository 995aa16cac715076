#include "core/role/accept.h"

#include <gtest/gtest.h>

namespace gabion {
namespace {

using wire::Hello;
using wire::PeerRole;
using wire::Status;

const Acceptor kMdm{PeerRole::kMdm, ClusterId(9), 1, Incarnation(4)};
const Acceptor kSds{PeerRole::kSds, ClusterId(9), 3, Incarnation(7)};

Hello FromSds() {
  Hello hello;
  hello.cluster = ClusterId(9);
  hello.sender = 2;
  hello.target = 3;
  hello.incarnation = Incarnation(5);
  hello.target_incarnation = Incarnation(7);
  hello.connection = ConnectionNumber(1);
  hello.role = PeerRole::kSds;
  return hello;
}

Status AtSds(const Hello& hello) {
  return AnswerHello(kSds, hello, {PeerRole::kSds, PeerRole::kSdc}).status;
}
Status AtMdm(const Hello& hello) {
  return AnswerHello(kMdm, hello, {PeerRole::kSds, PeerRole::kSdc, PeerRole::kAdmin}).status;
}

TEST(Accept, TellsWhoAnswersAndWhichVersionToSpeak) {
  const wire::HelloReply reply = AnswerHello(kSds, FromSds(), {PeerRole::kSds});
  EXPECT_EQ(reply.status, Status::kOk);
  EXPECT_EQ(reply.cluster, ClusterId(9));
  EXPECT_EQ(reply.responder, 3u);
  EXPECT_EQ(reply.incarnation, Incarnation(7));
  EXPECT_EQ(reply.role, PeerRole::kSds);
  EXPECT_EQ(reply.version, wire::kVersionMax);
}

TEST(Accept, VersionRangesMustOverlap) {
  Hello hello = FromSds();
  hello.version_max = 9;
  EXPECT_EQ(AtSds(hello), Status::kOk);
  hello.version_min = wire::kVersionMax + 1;
  EXPECT_EQ(AtSds(hello), Status::kUnsupportedVersion);
  hello.version_min = 10;
  EXPECT_EQ(AtSds(hello), Status::kMalformed);
  hello.version_min = hello.version_max = 0;
  EXPECT_EQ(AtSds(hello), Status::kUnsupportedVersion);
}

TEST(Accept, OnlyAllowedRolesSpeak) {
  Hello hello = FromSds();
  hello.role = PeerRole::kAdmin;
  EXPECT_EQ(AtSds(hello), Status::kUnknownPeer);
  EXPECT_EQ(AtMdm([&] {
              Hello admin = hello;
              admin.target = 0;
              admin.target_incarnation = Incarnation();
              admin.sender = 0;
              admin.cluster = ClusterId();
              admin.incarnation = Incarnation();
              admin.connection = ConnectionNumber();
              return admin;
            }()),
            Status::kOk);
  hello.role = static_cast<PeerRole>(77);
  EXPECT_EQ(AtMdm(hello), Status::kUnknownPeer);
}

TEST(Accept, AnotherClusterIsRefused) {
  Hello hello = FromSds();
  hello.cluster = ClusterId(8);
  EXPECT_EQ(AtSds(hello), Status::kWrongCluster);
  hello.cluster = ClusterId();
  EXPECT_EQ(AtSds(hello), Status::kWrongCluster);
}

TEST(Accept, OnlyAnMdmLetsANewPeerLearnItsCluster) {
  Hello hello = FromSds();
  hello.target = 0;
  hello.target_incarnation = Incarnation();
  hello.sender = 0;
  hello.cluster = ClusterId();
  EXPECT_EQ(AtMdm(hello), Status::kOk);
  EXPECT_EQ(AtSds(hello), Status::kUnknownPeer);
  hello.sender = 2;  // has an id, so it has a cluster
  EXPECT_EQ(AtMdm(hello), Status::kWrongCluster);
}

TEST(Accept, TheDialledPeerMustBeThisProcess) {
  Hello hello = FromSds();
  hello.target = 4;
  EXPECT_EQ(AtSds(hello), Status::kWrongPeer);
  hello.target = 0;
  hello.target_incarnation = Incarnation(6);
  EXPECT_EQ(AtSds(hello), Status::kWrongPeer);
  hello.target_incarnation = Incarnation();
  EXPECT_EQ(AtSds(hello), Status::kOk);
}

TEST(Accept, ServersNeedAnIncarnationAndAConnectionNumber) {
  Hello hello = FromSds();
  hello.incarnation = Incarnation();
  EXPECT_EQ(AtSds(hello), Status::kMalformed);
  hello = FromSds();
  hello.connection = ConnectionNumber();
  EXPECT_EQ(AtSds(hello), Status::kMalformed);
}

TEST(Accept, AnUnregisteredSdsServesNobody) {
  const Acceptor fresh{PeerRole::kSds, ClusterId(), 0, Incarnation(1)};
  Hello hello = FromSds();
  EXPECT_EQ(AnswerHello(fresh, hello, {PeerRole::kSds}).status, Status::kUnavailable);
}

}  // namespace
}  // namespace gabion
