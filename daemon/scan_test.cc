// A cluster of real daemons in which blocks rot: the scanner finds them while everybody works.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/store/layout.h"
#include "daemon/testing/cluster.h"
#include "daemon/testing/nbd_client.h"

namespace gabion::daemon {
namespace {

using std::chrono::steady_clock;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kDeviceBytes = 256 * kMiB;

std::vector<std::byte> Pattern(uint64_t seed) {
  std::vector<std::byte> block(4096);
  for (size_t i = 0; i < block.size(); ++i) {
    block[i] = static_cast<std::byte>((seed * 2654435761 + i * 40503) >> 7);
  }
  return block;
}

// Flips a byte of a block that holds `block`, in its home; how many blocks that were.
int Damage(const std::string& path, const std::vector<std::byte>& block) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return 0;
  int damaged = 0;
  std::vector<std::byte> extent(64 << 10);
  const uint64_t first = store::ComputeGeometry(kDeviceBytes, 0)->extents_offset();
  for (uint64_t at = first; at + extent.size() <= kDeviceBytes; at += extent.size()) {
    if (::pread(fd, extent.data(), extent.size(), static_cast<off_t>(at)) <= 0) break;
    for (size_t i = 0; i < extent.size(); i += block.size()) {
      if (std::memcmp(extent.data() + i, block.data(), block.size()) != 0) continue;
      const std::byte wrong = ~block[100];
      if (::pwrite(fd, &wrong, 1, static_cast<off_t>(at + i + 100)) == 1) ++damaged;
    }
  }
  ::fsync(fd);
  ::close(fd);
  return damaged;
}

const proto::Device* DeviceOf(const proto::ClusterStatus& status, const std::string& path) {
  for (const proto::Device& device : status.devices()) {
    if (device.path() == path) return &device;
  }
  return nullptr;
}

TEST(ScanProcess, ADamagedBlockOfARunningServerIsFoundAndMadeGood) {
  const TestCluster cluster("--sds=2 --devices=1 --device-size=256M --slices=16");
  ASSERT_TRUE(cluster.up()) << cluster.up_result().output << cluster.Logs();
  ASSERT_EQ(cluster.AddVolume("v1", "64M").exit_code, 0);
  NbdClient client(cluster.Port("sdc1", "nbd-listen"), "v1");
  ASSERT_TRUE(client.ok());
  for (uint64_t i = 0; i < 64; ++i) ASSERT_EQ(client.Write(i * kMiB, Pattern(i)), 0);
  const std::string path = cluster.dir() + "/devices/sds2-1.img";
  // Of four slices at least, so that this server is primary of some and secondary of others.
  int damaged = 0;
  for (uint64_t i = 0; i < 6; ++i) {
    int found = 0;
    for (int tries = 0; tries < 300 && found == 0; ++tries) {  // until it is in its home
      found = Damage(path, Pattern(i));
      if (found == 0) ::poll(nullptr, 0, 100);
    }
    damaged += found;
  }
  ASSERT_GE(damaged, 6) << cluster.Logs();

  const proto::ClusterStatus before = cluster.Status();
  const proto::Device* device = DeviceOf(before, path);
  ASSERT_NE(device, nullptr);
  const std::string id = std::to_string(device->id());
  const CommandResult started = cluster.Gabion("device scan " + id + " --rate=256M");
  ASSERT_EQ(started.exit_code, 0) << started.output;
  proto::ScanStatus scan;
  ASSERT_TRUE(cluster.WaitFor([&](const proto::ClusterStatus& status) {
    scan = DeviceOf(status, path)->scan();
    return scan.last().finished_unix_ms() != 0;
  })) << cluster.Logs();
  EXPECT_GE(scan.last().blocks_damaged(), static_cast<uint64_t>(damaged)) << cluster.Logs();
  EXPECT_EQ(scan.last().blocks_repaired(), scan.last().blocks_damaged()) << cluster.Logs();
  EXPECT_EQ(scan.last().extents_unresolved(), 0u);
  EXPECT_EQ(scan.last().blocks_differing(), 0u);
  const CommandResult show = cluster.Gabion("device show " + id);
  EXPECT_NE(show.output.find(" damaged blocks on device " + id), std::string::npos) << show.output;
  EXPECT_NE(cluster.Gabion("device show " + id + " --output=json").output.find("blocks_repaired"),
            std::string::npos);
  EXPECT_EQ(cluster.Gabion("device scan 99999").exit_code, 1);
  EXPECT_EQ(cluster.Gabion("device show 99999").exit_code, 1);

  // The other server dies, and everything is there.
  ASSERT_EQ(cluster.Gabion("dev kill sds1").exit_code, 0);
  std::vector<std::byte> block(4096);
  for (uint64_t i = 0; i < 64; ++i) {
    ASSERT_EQ(client.Read(i * kMiB, block), 0) << i << cluster.Logs();
    EXPECT_EQ(block, Pattern(i)) << i;
  }
  ASSERT_EQ(cluster.Gabion("dev stop sds2").exit_code, 0);
  const CommandResult check = RunShell(Program("cli/gabion") + " store check " + path);
  EXPECT_EQ(check.exit_code, 0) << check.output;
}

TEST(ScanProcess, PassesAtTheirUsualRateCostLittle) {
  const TestCluster cluster("--sds=3 --devices=1 --device-size=256M --slices=16");
  ASSERT_TRUE(cluster.up()) << cluster.up_result().output << cluster.Logs();
  ASSERT_EQ(cluster.AddVolume("v1", "128M").exit_code, 0);
  const CommandResult filled =
      RunShell("head -c 128M /dev/urandom > " + cluster.dir() + "/image && nbdcopy " +
               cluster.dir() + "/image " + cluster.NbdUri("v1"));
  ASSERT_EQ(filled.exit_code, 0) << filled.output << cluster.Logs();
  ::poll(nullptr, 0, 5'000);  // what was written goes home
  const proto::ClusterStatus idle = cluster.Status();
  for (const proto::Device& device : idle.devices()) {
    ASSERT_EQ(cluster.Gabion("device scan " + std::to_string(device.id())).exit_code, 0);
  }
  const TestCluster::Cost before = cluster.ReadCost();
  const auto start = steady_clock::now();
  ::poll(nullptr, 0, 10'000);
  const TestCluster::Cost after = cluster.ReadCost();
  const double seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
  const double share = (after.cpu_seconds - before.cpu_seconds) / seconds;
  const proto::ClusterStatus status = cluster.Status();
  uint64_t bytes = 0;
  for (const proto::Device& device : status.devices()) {
    EXPECT_EQ(device.scan().state(), proto::ScanStatus::RUNNING) << device.ShortDebugString();
    EXPECT_EQ(device.scan().bytes_per_second(), kMiB / 4);
    bytes += device.scan().pass().bytes_read();
  }
  std::printf("three scans at 256 KiB/s, %.1f MiB read: %.2f %% of a core\n",
              static_cast<double>(bytes) / static_cast<double>(kMiB), 100 * share);
  EXPECT_GE(bytes, 4 * kMiB) << cluster.Logs();
  EXPECT_LT(share, 0.02);
}

}  // namespace
}  // namespace gabion::daemon
