// Who may come under a name that is taken.
#include <gtest/gtest.h>

#include "core/mdm/test_cluster.h"

namespace gabion::mdm {
namespace {

using std::chrono::milliseconds;

class Identity : public testing::Test {
 protected:
  Identity() {
    cluster_.Build(2, 4);
    proto::AdminRequest request = cluster_.Request();
    request.mutable_sdc_add()->set_name("client");
    EXPECT_EQ(cluster_.Admin(request)->code(), proto::AdminReply::OK);
  }

  // Connects an SDC and gives the error of its registration; nothing: no answer.
  std::optional<std::string> Register(uint64_t incarnation, ConnId* conn = nullptr) {
    const ConnId mine = cluster_.ConnectSdc("client", incarnation);
    cluster_.Advance(milliseconds(100));
    if (conn != nullptr) *conn = mine;
    for (const proto::Management& message : cluster_.TakeMessages(mine)) {
      if (message.has_sdc_register_reply()) return message.sdc_register_reply().error();
    }
    return std::nullopt;
  }
  void Heartbeat(ConnId conn) {
    proto::Management management;
    management.mutable_sdc_heartbeat()->set_number(1);
    cluster_.SendToMdm(conn, management);
    cluster_.Settle();
  }

  TestCluster cluster_;
};

TEST_F(Identity, AClientWhoseAnswerWasLostComesByNameAgain) {
  EXPECT_EQ(Register(1), "");
  EXPECT_EQ(Register(1), "");
}

TEST_F(Identity, ASecondClientWithAFreshStateAndTheSameNameIsRefused) {
  ConnId first;
  EXPECT_EQ(Register(1, &first), "");
  Heartbeat(first);
  const std::optional<std::string> error = Register(1);
  ASSERT_TRUE(error.has_value());
  EXPECT_NE(error->find("SDC client has registered from another state directory"),
            std::string::npos)
      << *error;
  EXPECT_TRUE(cluster_.IsOpen(first)) << "the first one does not notice";
  cluster_.CrashMdm(false);
  cluster_.Advance(milliseconds(700));
  EXPECT_NE(Register(1), "") << "nor is it forgotten when the MDM restarts";
  EXPECT_EQ(Register(2), "") << "one that crashed before it had saved its id";
}

TEST_F(Identity, ASecondSdsWithAFreshStateAndTheSameNameIsRefused) {
  const proto::ClusterStatus status = cluster_.Status();
  wire::Hello hello;
  hello.role = wire::PeerRole::kSds;
  hello.incarnation = Incarnation(status.sdss(0).incarnation());
  hello.connection = ConnectionNumber(1);
  const ConnId conn = cluster_.Connect(hello);
  proto::Management management;
  management.mutable_sds_register()->set_name(status.sdss(0).name());
  management.mutable_sds_register()->set_incarnation(status.sdss(0).incarnation());
  management.mutable_sds_register()->set_run(99);  // each process draws its own
  management.mutable_sds_register()->add_addresses("10.0.0.99:7070");
  cluster_.SendToMdm(conn, management);
  cluster_.Advance(milliseconds(100));
  std::string error;
  for (const proto::Management& message : cluster_.TakeMessages(conn)) {
    if (message.has_sds_register_reply()) error = message.sds_register_reply().error();
  }
  EXPECT_NE(error.find("has registered from another state directory"), std::string::npos) << error;
  EXPECT_NE(cluster_.Status().sdss(0).addresses(0), "10.0.0.99:7070");
  EXPECT_EQ(cluster_.WriteAll(), 4u);
}

}  // namespace
}  // namespace gabion::mdm
