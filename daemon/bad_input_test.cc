// What is wrong in a cluster of real daemons: bad bytes at every port, strangers, damaged devices,
// full disks. Each is refused by name, and the rest of the cluster does not notice.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "core/base/bytes.h"
#include "core/wire/frame.h"
#include "daemon/testing/cluster.h"
#include "daemon/testing/nbd_client.h"
#include "daemon/testing/peer.h"

namespace gabion::daemon {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr const char* kSmall = "--sds=3 --devices=1 --device-size=256M --slices=16";

std::vector<std::byte> Pattern(uint64_t seed) {
  std::vector<std::byte> block(4096);
  for (size_t i = 0; i < block.size(); ++i) {
    block[i] = static_cast<std::byte>((seed * 2654435761 + i * 40503) >> 7);
  }
  return block;
}

Bytes TextBytes(const std::string& text) {
  Bytes bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

Bytes Noise(size_t size) {
  std::mt19937 random(4711);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class BadInput : public testing::Test {
 protected:
  BadInput() : cluster_(kSmall) {}

  void SetUp() override {
    ASSERT_TRUE(cluster_.up()) << cluster_.up_result().output << cluster_.Logs();
    ASSERT_EQ(cluster_.AddVolume("v1", "64M").exit_code, 0);
    client_ = std::make_unique<NbdClient>(Port("sdc1", "nbd-listen"), "v1");
    ASSERT_TRUE(client_->ok()) << cluster_.Logs();
    ASSERT_EQ(client_->Write(0, Pattern(1)), 0);
  }

  uint16_t Port(const char* daemon, const char* key) const { return cluster_.Port(daemon, key); }

  // A client of before still reads what it wrote and writes on; nobody complains loudly.
  void ExpectUnharmed() {
    std::vector<std::byte> block(4096);
    EXPECT_EQ(client_->Read(0, block), 0) << cluster_.Logs();
    EXPECT_EQ(block, Pattern(1));
    EXPECT_EQ(client_->Write(5 * kMiB, Pattern(++writes_)), 0) << cluster_.Logs();
    EXPECT_EQ(client_->Read(5 * kMiB, block), 0) << cluster_.Logs();
    EXPECT_EQ(block, Pattern(writes_));
    for (const char* name : {"mdm1", "sds1", "sds2", "sds3", "sdc1"}) {
      EXPECT_FALSE(Contains(cluster_.Log(name), "critical")) << cluster_.Log(name);
    }
  }

  // The first hello that a daemon of this cluster would send.
  static wire::Hello HelloOf(const proto::ClusterStatus& status, wire::PeerRole role) {
    wire::Hello hello;
    hello.cluster = ClusterId(status.cluster());
    hello.role = role;
    hello.sender = role == wire::PeerRole::kSdc ? status.sdcs(0).id() : status.sdss(1).id();
    hello.incarnation = Incarnation(role == wire::PeerRole::kSdc ? status.sdcs(0).incarnation()
                                                                 : status.sdss(1).incarnation());
    hello.connection = ConnectionNumber(1);
    return hello;
  }

  uint64_t Metric(const char* daemon, const std::string& name) const {
    const CommandResult page =
        RunShell("exec 3<>/dev/tcp/127.0.0.1/" + std::to_string(Port(daemon, "metrics-listen")) +
                 "; printf 'GET /metrics HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3");
    const size_t at = page.output.find("\ngabion_" + name + " ");
    if (at == std::string::npos) return UINT64_MAX;
    return std::strtoull(page.output.c_str() + at + name.size() + 9, nullptr, 10);
  }

  TestCluster cluster_;
  std::unique_ptr<NbdClient> client_;
  uint64_t writes_ = 100;
};

TEST_F(BadInput, BadFramesEndTheirConnectionAndNothingElse) {
  const proto::ClusterStatus status = cluster_.Status();
  const wire::Hello hello = HelloOf(status, wire::PeerRole::kSdc);
  const auto changed = [&](size_t at, uint32_t value, size_t size) {
    Bytes frame = FrameOf({hello, {}});
    std::memcpy(frame.data() + at, &value, size);
    Reseal(&frame);
    return frame;
  };
  Bytes bad_header = FrameOf({hello, {}});
  bad_header[28] ^= std::byte{1};
  Bytes bad_body = FrameOf({hello, {}});
  bad_body[40] ^= std::byte{1};
  wire::Hello no_role = hello;
  no_role.role = static_cast<wire::PeerRole>(77);
  wire::ReadRequest early;
  early.target.length_bytes = 512;
  Bytes twice = FrameOf({hello, {}});
  const Bytes once = twice;
  twice.insert(twice.end(), once.begin(), once.end());
  const std::pair<const char*, Bytes> cases[] = {
      {"noise", Noise(100'000)},
      {"another protocol", TextBytes("GET / HTTP/1.1\r\nHost: somebody.else.example\r\n\r\n")},
      {"a header that does not match its checksum", bad_header},
      {"a body that does not match its checksum", bad_body},
      {"a version of the future", changed(4, 999, 2)},
      {"an unknown type", changed(6, 999, 2)},
      {"a body of 4 GiB", changed(8, 0xfffffff8, 4)},
      {"a payload of 4 GiB", changed(12, 0xffffffff, 4)},
      {"unknown flags", changed(16, 0xfffffffe, 4)},
      {"a role that does not exist", FrameOf({no_role, {}})},
      {"a message before its hello", FrameOf({early, {}})},
      {"a hello twice", twice},
  };
  for (const char* daemon : {"mdm1", "sds1"}) {
    for (const auto& [what, bytes] : cases) {
      Peer peer(Port(daemon, "listen"));
      ASSERT_TRUE(peer.ok());
      peer.Send(bytes);
      EXPECT_TRUE(peer.Ended()) << daemon << ": " << what;
    }
    EXPECT_GE(Metric(daemon, "bad_frames_total"), 8u);
    EXPECT_NE(Metric(daemon, "bad_frames_total"), UINT64_MAX);
  }
  ExpectUnharmed();
}

TEST_F(BadInput, TruncatedFramesAndSilentPeersHoldNobodyUp) {
  const wire::Hello hello = HelloOf(cluster_.Status(), wire::PeerRole::kSdc);
  std::vector<std::unique_ptr<Peer>> silent;
  for (const char* daemon : {"mdm1", "sds1"}) {
    const Bytes whole = FrameOf({hello, {}});
    for (const size_t size : {size_t{1}, size_t{31}, size_t{32}, whole.size() - 1}) {
      Peer peer(Port(daemon, "listen"));
      ASSERT_TRUE(peer.ok());
      peer.Send(std::span(whole).first(size));
      peer.FinishSending();
      EXPECT_TRUE(peer.Ended()) << daemon << " after " << size << " bytes";
      // The same, but the rest never comes.
      silent.push_back(std::make_unique<Peer>(Port(daemon, "listen")));
      silent.back()->Send(std::span(whole).first(size));
    }
  }
  ExpectUnharmed();
}

TEST_F(BadInput, ReplayedHellosOfAClientAreRefusedAndTheClientGoesOn) {
  const proto::ClusterStatus status = cluster_.Status();
  ASSERT_EQ(status.sdcs_size(), 1);
  for (const char* daemon : {"sds1", "sds2", "sds3"}) {
    // Every SDS is connected to after this.
    for (uint64_t i = 0; i < 16; ++i) ASSERT_EQ(client_->Write(i * kMiB + 8192, Pattern(i)), 0);
    Peer peer(Port(daemon, "listen"));
    ASSERT_TRUE(peer.ok());
    peer.Send({HelloOf(status, wire::PeerRole::kSdc), {}});
    const std::optional<wire::Message> reply = peer.Receive();
    ASSERT_TRUE(reply.has_value());
    ASSERT_TRUE(std::holds_alternative<wire::HelloReply>(reply->body));
    EXPECT_EQ(std::get<wire::HelloReply>(reply->body).status, wire::Status::kStaleIncarnation);
    EXPECT_TRUE(peer.Ended());
  }
  ExpectUnharmed();
}

TEST_F(BadInput, PeersOfAnotherClusterAreRefused) {
  const proto::ClusterStatus status = cluster_.Status();
  for (const char* daemon : {"mdm1", "sds1"}) {
    for (const wire::PeerRole role : {wire::PeerRole::kSdc, wire::PeerRole::kSds}) {
      wire::Hello hello = HelloOf(status, role);
      hello.cluster = ClusterId(status.cluster() + 1);
      Peer peer(Port(daemon, "listen"));
      ASSERT_TRUE(peer.ok());
      peer.Send({hello, {}});
      const std::optional<wire::Message> reply = peer.Receive();
      ASSERT_TRUE(reply.has_value() && std::holds_alternative<wire::HelloReply>(reply->body));
      EXPECT_EQ(std::get<wire::HelloReply>(reply->body).status, wire::Status::kWrongCluster);
      EXPECT_TRUE(peer.Ended());
    }
  }
  ExpectUnharmed();
}

TEST_F(BadInput, DaemonsOfAnotherClusterSayWhatIsWrong) {
  const std::string other = cluster_.dir() + "/other";
  ASSERT_TRUE(fs::create_directory(other));
  const std::string mdm_log = other + "/mdm.log";
  Background mdm(
      {Program("daemon/gabion-mdm"), "--state-dir=" + other + "/mdm", "--listen=" + FreeAddress()},
      mdm_log);
  ASSERT_TRUE(AwaitText(mdm_log, "serving cluster"));
  ASSERT_EQ(cluster_.Gabion("dev stop sdc1").exit_code, 0);
  const std::string log = other + "/sdc.log";
  Background sdc(
      {Program("daemon/gabion-sdc"), "--name=sdc1", "--mdm=" + FreeAddress(),
       "--state-dir=" + cluster_.dir() + "/sdc1/state", "--nbd-socket=" + other + "/nbd"},
      log);
  EXPECT_TRUE(AwaitText(log, "belongs to another cluster")) << ReadText(log);
  EXPECT_TRUE(Contains(ReadText(log), FreeAddress())) << ReadText(log);
  sdc.Signal(SIGTERM);
  EXPECT_EQ(sdc.Wait(), 0);
  mdm.Signal(SIGTERM);
  EXPECT_EQ(mdm.Wait(), 0);
  // It has not become a client of the other one.
  ASSERT_EQ(cluster_.Gabion("dev start sdc1").exit_code, 0);
  ASSERT_TRUE(cluster_.WaitFor([](const auto& now) { return now.sdcs(0).up(); }))
      << cluster_.Logs();
  client_ = std::make_unique<NbdClient>(Port("sdc1", "nbd-listen"), "v1");
  ExpectUnharmed();
}

TEST_F(BadInput, BadBytesAtTheNbdAndMetricsPorts) {
  const auto expect_ended = [&](const char* daemon, const char* key, const Bytes& bytes) {
    Peer peer(Port(daemon, key));
    ASSERT_TRUE(peer.ok());
    peer.Send(bytes);
    peer.FinishSending();
    EXPECT_TRUE(peer.Ended()) << daemon << " " << key;
  };
  // Flags, then an option of 4 GiB; flags, then a command that is none.
  Bytes option = TextBytes(std::string("\0\0\0\3IHAVEOPT\0\0\0\7\xff\xff\xff\xff", 20));
  Bytes command = TextBytes(std::string("\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\2v1", 22));
  command.resize(command.size() + 28, std::byte{0x55});
  for (const Bytes& bytes : {Noise(100'000), option, command, Bytes(3), Bytes()}) {
    expect_ended("sdc1", "nbd-listen", bytes);
  }
  const Bytes request = TextBytes("GET /metrics HTTP/1.1\r\n");
  for (const char* daemon : {"mdm1", "sds1", "sdc1"}) {
    for (const Bytes& bytes : {Noise(100'000), TextBytes(std::string(100'000, 'x')), request}) {
      expect_ended(daemon, "metrics-listen", bytes);
    }
    EXPECT_NE(Metric(daemon, "events_total"), UINT64_MAX);
  }
  ExpectUnharmed();
}

TEST_F(BadInput, RequestsBeyondTheEndAndUnknownVolumes) {
  ASSERT_EQ(cluster_.Gabion("volume create unmapped --size=64M").exit_code, 0);
  for (const char* name : {"unmapped", "nosuch", ""}) {
    const NbdClient stranger(Port("sdc1", "nbd-listen"), name);
    EXPECT_FALSE(stranger.ok()) << "'" << name << "'";
  }
  constexpr int kEinval = 22;
  constexpr int kEnospc = 28;
  std::vector<std::byte> block(4096);
  for (const uint64_t offset : {64 * kMiB, 64 * kMiB - 512, UINT64_MAX - 4095, UINT64_MAX - 511}) {
    EXPECT_EQ(client_->Read(offset, block), kEinval) << offset;
    EXPECT_EQ(client_->Write(offset, block), kEnospc) << offset;
  }
  EXPECT_EQ(client_->Read(100, block), kEinval);
  EXPECT_EQ(client_->Write(100, block), kEinval);
  for (const char* size : {"1000000", "1.5K", "0", "-1G", "99999999T", "1X"}) {
    const CommandResult result = cluster_.Gabion("volume create odd --size=" + std::string(size));
    EXPECT_EQ(result.exit_code, 2) << size << ": " << result.output;
    EXPECT_TRUE(Contains(result.output, size)) << result.output;
  }
  EXPECT_EQ(cluster_.Status().volumes_size(), 2);
  ExpectUnharmed();
}

TEST_F(BadInput, ASecondDaemonWithTheSameIdentityIsToldSo) {
  const std::string copy = cluster_.dir() + "/copy";
  ASSERT_EQ(RunShell("cp -r " + cluster_.dir() + "/sds2/state " + copy).exit_code, 0);
  // The state folder in use, and a new one with the name of somebody who is there already.
  const CommandResult same =
      RunShell(Program("daemon/gabion-sds") +
               " --name=sds2 --mdm=127.0.0.1:" + std::to_string(Port("mdm1", "listen")) +
               " --listen=" + FreeAddress() + " --state-dir=" + cluster_.dir() + "/sds2/state");
  EXPECT_EQ(same.exit_code, 1);
  EXPECT_TRUE(Contains(same.output, "in use by process")) << same.output;
  const std::string log = cluster_.dir() + "/second.log";
  Background second({Program("daemon/gabion-sds"), "--name=sds2",
                     "--mdm=127.0.0.1:" + std::to_string(Port("mdm1", "listen")),
                     "--listen=" + FreeAddress(), "--state-dir=" + cluster_.dir() + "/fresh"},
                    log);
  EXPECT_TRUE(AwaitText(log, "sds2")) << ReadText(log);
  second.Signal(SIGTERM);
  second.Wait();
  ExpectUnharmed();
}

TEST_F(BadInput, ADamagedSuperblockTakesOneDeviceOut) {
  ASSERT_TRUE(cluster_.WaitMirrored()) << cluster_.Logs();
  ASSERT_EQ(cluster_.Gabion("dev stop sds3").exit_code, 0);
  const std::string device = cluster_.dir() + "/devices/sds3-1.img";
  // Both superblocks, wherever they are: the first and the last MiB.
  ASSERT_EQ(RunShell("dd if=/dev/urandom of=" + device +
                     " bs=1M count=1 conv=notrunc && "
                     "dd if=/dev/urandom of=" +
                     device + " bs=1M count=1 seek=255 conv=notrunc")
                .exit_code,
            0);
  ASSERT_EQ(cluster_.Gabion("dev start sds3").exit_code, 0);
  ASSERT_TRUE(cluster_.WaitFor([&](const proto::ClusterStatus& status) {
    return std::any_of(status.devices().begin(), status.devices().end(), [&](const auto& one) {
      return one.path() == device && one.state() != proto::DEVICE_UP && !one.error().empty();
    });
  })) << cluster_.Gabion("device list").output
      << cluster_.Logs();
  const std::string list = cluster_.Gabion("device list").output;
  EXPECT_TRUE(Contains(list, "superblock")) << list;
  ExpectUnharmed();
}

TEST_F(BadInput, AFullPoolSaysNoSpaceAndKeepsWhatItHas) {
  ASSERT_EQ(cluster_.AddVolume("big", "1G").exit_code, 0);
  NbdClient big(Port("sdc1", "nbd-listen"), "big");
  ASSERT_TRUE(big.ok());
  constexpr int kEnospc = 28;
  std::vector<std::byte> data(256 << 10);
  int error = 0;
  uint64_t at = 0;
  for (; at < 1024 * kMiB && error == 0; at += data.size()) {
    const std::vector<std::byte> block = Pattern(at);
    for (size_t i = 0; i < data.size(); i += block.size()) {
      std::copy(block.begin(), block.end(), data.begin() + static_cast<std::ptrdiff_t>(i));
    }
    error = big.Write(at, data);
  }
  EXPECT_EQ(error, kEnospc);
  EXPECT_GT(at, 64 * kMiB);
  std::vector<std::byte> block(4096);
  for (uint64_t check = 0; check + 2 * data.size() <= at; check += 7 * data.size()) {
    ASSERT_EQ(big.Read(check, block), 0) << cluster_.Logs();
    ASSERT_EQ(block, Pattern(check)) << check;
  }
  // What was written before can be written again.
  EXPECT_EQ(client_->Write(0, Pattern(1)), 0);
  std::vector<std::byte> first(4096);
  EXPECT_EQ(client_->Read(0, first), 0);
  EXPECT_EQ(first, Pattern(1));
}

}  // namespace
}  // namespace gabion::daemon
