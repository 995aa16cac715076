// What the usual tools make of a volume over NBD: which parts are holes, sparse copies, read-only
// mappings, both kinds of sockets, IPv6.
#include <gtest/gtest.h>

#include <sstream>

#include "daemon/testing/cluster.h"

namespace gabion::daemon {
namespace {

constexpr const char* kSmall = "--sds=3 --devices=1 --device-size=512M --slices=16";

class NbdTools : public testing::Test {
 protected:
  NbdTools() : cluster_(kSmall) {}
  void SetUp() override {
    ASSERT_TRUE(cluster_.up()) << cluster_.up_result().output << cluster_.Logs();
    ASSERT_EQ(cluster_.AddVolume("v1", "1536M").exit_code, 0);
    uri_ = cluster_.NbdUri("v1");
  }

  std::string Run(const std::string& command) {
    const CommandResult result = RunShell(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output << cluster_.Logs();
    return result.output;
  }
  // Offset, length and meaning of each extent, without the columns' padding.
  std::string Map() {
    std::istringstream lines(Run("nbdinfo --map " + uri_));
    std::string map;
    uint64_t offset = 0;
    uint64_t length = 0;
    std::string type;
    std::string meaning;
    while (lines >> offset >> length >> type >> meaning) {
      map += std::to_string(offset) + "+" + std::to_string(length) + " " + meaning + "\n";
    }
    return map;
  }

  TestCluster cluster_;
  std::string uri_;
};

TEST_F(NbdTools, WhatWasNeverWrittenOrWasTrimmedIsAHole) {
  EXPECT_EQ(Map(), "0+1610612736 hole,zero\n");
  Run("qemu-io -f raw -c 'write -P 7 1M 64k' -c 'write -P 8 1G 4k' " + uri_);
  EXPECT_EQ(Map(),
            "0+1048576 hole,zero\n1048576+65536 data\n1114112+1072627712 hole,zero\n"
            "1073741824+4096 data\n1073745920+536866816 hole,zero\n");
  Run("qemu-io -f raw -c 'discard 1M 32k' -c 'write -z 1G 4k' " + uri_);
  EXPECT_EQ(Map(), "0+1081344 hole,zero\n1081344+32768 data\n1114112+1609498624 hole,zero\n");
  EXPECT_NE(Run("qemu-img map -f raw --output=json " + uri_)
                .find("\"start\": 1081344, \"length\": 32768, \"depth\": 0, \"present\": true, "
                      "\"zero\": false, \"data\": true"),
            std::string::npos);
}

TEST_F(NbdTools, AThinVolumeIsCopiedThin) {
  const std::string file = cluster_.dir() + "/image";
  Run("truncate -s 1536M " + file + " && dd if=/dev/urandom of=" + file +
      " bs=1M count=20 seek=1000 conv=notrunc status=none");
  Run("qemu-img convert -n -f raw -O raw " + file + " " + uri_);
  EXPECT_EQ(Map(),
            "0+1048576000 hole,zero\n1048576000+20971520 data\n1069547520+541065216 hole,zero\n");
  // Back again, by two tools: the holes stay holes.
  for (const std::string& copy :
       {"nbdcopy " + uri_ + " " + file + ".copy",
        "qemu-img convert -f raw -O raw " + uri_ + " " + file + ".copy"}) {
    Run(copy);
    Run("cmp " + file + " " + file + ".copy");
    const std::string used = Run("du --block-size=1M " + file + ".copy | cut -f1");
    EXPECT_LE(std::stoi(used), 40) << copy;
    Run("rm " + file + ".copy");
  }
  Run("rm " + file);
}

TEST_F(NbdTools, AReadOnlyMappingSaysSoAndRefusesWrites) {
  ASSERT_EQ(cluster_.Gabion("volume create ro --size=64M").exit_code, 0);
  ASSERT_EQ(cluster_.Gabion("volume map ro --sdc=sdc1 --read-only").exit_code, 0);
  const std::string uri = cluster_.NbdUri("ro");
  EXPECT_NE(Run("nbdinfo " + uri).find("is_read_only: true"), std::string::npos);
  EXPECT_NE(RunShell("qemu-io -f raw -c 'write 0 4k' " + uri).exit_code, 0);
  Run("qemu-io -f raw -r -c 'read -P 0 0 1M' " + uri);
}

TEST_F(NbdTools, UnixSocketsAndListsWork) {
  const std::string socket = cluster_.dir() + "/sdc1/nbd.sock";
  EXPECT_EQ(Run("nbdinfo --size 'nbd+unix:///v1?socket=" + socket + "'"), "1610612736\n");
  const std::string list = Run("nbdinfo --list 'nbd+unix:///?socket=" + socket + "'");
  EXPECT_NE(list.find("export=\"v1\""), std::string::npos) << list;
}

TEST_F(NbdTools, EverythingListensOnIpv6AsWell) {
  // The same daemons with other addresses: the client over [::1], an SDS that announces [::1].
  ASSERT_EQ(cluster_.Gabion("dev stop sdc1 sds2").exit_code, 0);
  const auto port = std::to_string(cluster_.Port("sds2", "listen"));
  const auto nbd_port = std::to_string(cluster_.Port("sdc1", "nbd-listen"));
  Run("sed -i 's/^listen = .*/listen = [::1]:" + port + "/' " + cluster_.dir() +
      "/sds2/gabion-sds.conf");
  Run("sed -i -e 's/^nbd-listen = .*/nbd-listen = [::1]:" + nbd_port +
      "/' -e 's/^metrics-listen = 127.0.0.1:/metrics-listen = [::1]:/' " + cluster_.dir() +
      "/sdc1/gabion-sdc.conf");
  ASSERT_EQ(cluster_.Gabion("dev start sds2 sdc1").exit_code, 0);
  ASSERT_TRUE(cluster_.WaitMirrored()) << cluster_.Logs();
  ASSERT_TRUE(cluster_.WaitFor([](const auto& status) { return status.sdcs(0).up(); }));
  const std::string uri = "nbd://[::1]:" + nbd_port + "/v1";
  // Chunks of all slices, so also of those that sds2 is primary of.
  Run("qemu-io -f raw -c 'write -P 9 0 16M' -c 'read -P 9 0 16M' " + uri);
  bool announced = false;
  const proto::ClusterStatus status = cluster_.Status();
  for (const proto::Sds& sds : status.sdss()) {
    announced = announced || (sds.addresses_size() > 0 && sds.addresses(0) == "[::1]:" + port);
  }
  EXPECT_TRUE(announced);
}

}  // namespace
}  // namespace gabion::daemon
