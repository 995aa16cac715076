// Stories of a whole MDM about what clients are told, and when.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Reply = proto::AdminReply;

TEST(Clients, UnmapIsAnsweredAtOnceWhenAllHaveDrained) {
  TestCluster cluster;
  cluster.Build(3, 8);
  cluster.MustSdcAdd("client");
  ASSERT_EQ(cluster.Admin(cluster.MapRequest("client"))->code(), Reply::OK);
  proto::AdminRequest unmap = cluster.Request();
  unmap.mutable_volume_unmap()->set_volume("vol");
  unmap.mutable_volume_unmap()->set_sdc("client");
  const Instant asked = cluster.now();
  ASSERT_EQ(cluster.Admin(unmap)->code(), Reply::OK);
  EXPECT_LE(cluster.now() - asked, milliseconds(100));
}

TEST(Clients, AClientSeesItsVolumeOnlyWhenTheServersKnowIt) {
  TestCluster cluster;
  cluster.Build(3, 8);
  cluster.MustSdcAdd("client");
  const ConnId conn = cluster.ConnectSdc("client", 1);
  cluster.Advance(milliseconds(300));
  auto messages = cluster.TakeMessages(conn);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].sdc_register_reply().error(), "");
  EXPECT_TRUE(messages[1].map_update().full());
  EXPECT_EQ(messages[1].map_update().volumes_size(), 0);

  cluster.CutOff(1, true);
  const Instant asked = cluster.now();
  ASSERT_EQ(cluster.Admin(cluster.MapRequest("client"))->code(), Reply::OK);
  EXPECT_GE(cluster.now() - asked, milliseconds(750));
  EXPECT_LE(cluster.now() - asked, milliseconds(1100));
  messages = cluster.TakeMessages(conn);
  const auto full = std::find_if(messages.begin(), messages.end(),
                                 [](const auto& message) { return message.map_update().full(); });
  ASSERT_NE(full, messages.end());
  const proto::MapUpdate& map = full->map_update();
  EXPECT_EQ(map.volumes_size(), 1);
  EXPECT_EQ(map.slices_size(), 8);
  EXPECT_EQ(map.endpoints_size(), 3);
}

TEST(Clients, AClientLearnsOfAnotherPrimaryAndOfNone) {
  TestCluster cluster;
  cluster.Build(2, 4);
  cluster.MustSdcAdd("client");
  ASSERT_EQ(cluster.Admin(cluster.MapRequest("client"))->code(), Reply::OK);
  const ConnId conn = cluster.ConnectSdc("client", 1);
  cluster.Advance(milliseconds(300));
  std::map<uint64_t, proto::SliceRoute> routes;
  uint64_t version = 0;
  const auto learn = [&] {
    for (const proto::Management& message : cluster.TakeMessages(conn)) {
      if (!message.has_map_update()) continue;
      EXPECT_EQ(message.map_update().version(), ++version);
      for (const auto& route : message.map_update().slices()) routes[route.slice()] = route;
    }
  };
  learn();
  ASSERT_EQ(routes.size(), 4u);
  cluster.Kill(0);
  cluster.Advance(seconds(2));
  learn();
  for (const auto& [slice, route] : routes) EXPECT_EQ(route.sds(), cluster.sds(1).id);
  const auto devices = cluster.Status().devices();
  for (const auto& device : devices) {
    if (device.sds() == cluster.sds(1).id) {
      cluster.device(device.id()).state = proto::DEVICE_DOWN;
    }
  }
  cluster.Advance(seconds(1));
  learn();
  for (const auto& [slice, route] : routes) EXPECT_EQ(route.sds(), 0u);
}

TEST(Clients, ANewRunOfAClientIsAnsweredWhenTheOldOneIsFenced) {
  TestCluster cluster;
  cluster.Build(2, 4);
  cluster.MustSdcAdd("client");
  ASSERT_EQ(cluster.Admin(cluster.MapRequest("client"))->code(), Reply::OK);
  const ConnId first = cluster.ConnectSdc("client", 1);
  cluster.Advance(milliseconds(300));
  EXPECT_FALSE(cluster.TakeMessages(first).empty());
  cluster.sds(0).obeys = false;
  const ConnId second = cluster.ConnectSdc("client", 2);
  EXPECT_FALSE(cluster.IsOpen(first));
  cluster.Advance(milliseconds(900));
  EXPECT_TRUE(cluster.TakeMessages(second).empty());
  cluster.Advance(milliseconds(600));
  EXPECT_EQ(cluster.TakeMessages(second).size(), 2u);
  const ConnId third = cluster.ConnectSdc("client", 1);
  const auto messages = cluster.TakeMessages(third);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].sdc_register_reply().error(), "");
}

}  // namespace
}  // namespace gabion::mdm
