// Scripts about devices: rot, failures, and space that runs out. Numbers are those of
// docs/scenarios.md.
#include <cerrno>
#include <functional>
#include <memory>

#include "sim/scenario/scenario.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = 1 << 20;

void RottenBlocksAreReadFromTheOtherCopy(Stage& stage) {
  for (uint64_t i = 0; i < 4; ++i) stage.WriteAndWait(i * kChunk, 256 << 10);
  stage.Sleep(seconds(4));  // everything is in its place
  const NodeIndex a = stage.Primary();
  Disk& disk = *stage.world().node(a).disks[1].disk;
  disk.RotAll(stage.cluster().FirstDataByte());
  stage.Expect(disk.damaged() > 0, "there is something to rot");
  // A part of a block, and everything.
  stage.WriteAndWait(512, 1024);
  stage.ReadEverything();
  stage.Sleep(seconds(4));
  stage.ReadEverything();
  stage.world().Kill(stage.Secondary());
  stage.ReadAndWait(0, 256 << 10);  // its own copy is good again
}

// Everything on the devices of both nodes is scanned once, from now on.
void ScanEverything(Stage& stage) {
  const auto passes = [](const proto::ClusterStatus& status) {
    uint64_t finished = 0;
    for (const proto::Device& device : status.devices()) {
      finished += device.scan().last().finished_unix_ms() != 0 ? 1 : 0;
    }
    return finished;
  };
  const proto::ClusterStatus before = stage.cluster().last_status();
  for (const proto::Device& device : before.devices()) {
    proto::AdminRequest request;
    request.mutable_device_scan()->set_device(std::to_string(device.id()));
    request.mutable_device_scan()->set_bytes_per_second(64 << 20);
    stage.cluster().Command(std::move(request));
  }
  const auto devices = static_cast<uint64_t>(before.devices_size());
  stage.Expect(stage.cluster().WaitForStatus(
                   stage.world().now() + Duration(seconds(30)).count(),
                   [&](const proto::ClusterStatus& status) { return passes(status) == devices; }),
               "every pass comes to its end");
}

uint64_t Unresolved(const proto::ClusterStatus& status) {
  uint64_t count = 0;
  for (const proto::Device& device : status.devices()) {
    count += device.scan().last().extents_unresolved();
  }
  return count;
}

uint64_t Repaired(const proto::ClusterStatus& status) {
  uint64_t count = 0;
  for (const proto::Device& device : status.devices()) {
    count += device.scan().last().blocks_repaired();
  }
  return count;
}

// One side is damaged where nobody looks, and the other side then dies.
void ScanThenLose(Stage& stage, NodeIndex damaged, NodeIndex lost) {
  for (uint64_t i = 0; i < 4; ++i) stage.WriteAndWait(i * kChunk, 256 << 10);
  stage.Sleep(seconds(4));  // everything is in its place
  Disk& disk = *stage.world().node(damaged).disks[1].disk;
  disk.RotAll(stage.cluster().FirstDataByte());
  stage.Expect(disk.damaged() > 0, "there is something to rot");
  ScanEverything(stage);
  stage.Expect(Repaired(stage.cluster().last_status()) >= 4 * 64, "it is found and made good");
  stage.Expect(Unresolved(stage.cluster().last_status()) == 0, "all of it");
  stage.world().Kill(lost);
  stage.ReadEverything();
}

void ScanRepairsTheSecondary(Stage& stage) {
  ScanThenLose(stage, stage.Secondary(), stage.Primary());
}

void ScanRepairsThePrimary(Stage& stage) {
  ScanThenLose(stage, stage.Primary(), stage.Secondary());
}

bool RotBlock(Stage& stage, NodeIndex node, uint64_t offset_bytes) {
  return stage.world().node(node).disks[1].disk->Damage(Fault::kRot, offset_bytes,
                                                        offset_bytes + 4096);
}

void ScanRepairsBothSides(Stage& stage) {
  for (uint64_t i = 0; i < 4; ++i) stage.WriteAndWait(i * kChunk, 256 << 10);
  stage.Sleep(seconds(4));
  const uint64_t first = stage.cluster().FirstDataByte();
  // The second and the third block of the same extents.
  bool rotten = true;
  for (uint64_t i = 0; i < 8; ++i) {
    const uint64_t extent = first + i * (64 << 10);
    rotten = RotBlock(stage, stage.Primary(), extent + 4096) && rotten;
    rotten = RotBlock(stage, stage.Secondary(), extent + 8192) && rotten;
  }
  stage.Expect(rotten, "there is something to rot");
  ScanEverything(stage);
  stage.Expect(Repaired(stage.cluster().last_status()) >= 8, "both sides are made good");
  stage.Expect(Unresolved(stage.cluster().last_status()) == 0, "all of it");
  const NodeIndex a = stage.Primary();
  stage.world().Kill(stage.Secondary());
  stage.ReadEverything();
  stage.Expect(stage.Primary() == a, "the other side served");
}

void FullDevicesAnswerEnospc(Stage& stage) {
  const uint64_t epochs = stage.watch().epochs();
  uint64_t written = 0;
  uint64_t full = 0;
  for (uint64_t i = 0; i < 256 && !stage.failed(); ++i) {
    auto error = std::make_shared<int>(-1);
    stage.workload().Write(0, 0, i * 65536, 65536, [error](int e, const Slice&) { *error = e; });
    stage.WaitFor("a write is answered", seconds(10), [error] { return *error != -1; });
    stage.Expect(*error == 0 || *error == ENOSPC, "a write succeeds, or there is no space");
    if (*error == 0) ++written;
    if (*error == ENOSPC) ++full;
  }
  stage.Expect(written > 60, "what fits is written");
  stage.Expect(full > 10, "the devices become full");
  // What is there can be changed.
  for (uint64_t i = 0; i < 32; ++i) stage.WriteAndWait(i * 65536, 65536);
  stage.Sleep(seconds(3));
  stage.Expect(stage.watch().epochs() == epochs, "nobody lost a copy for it");
  stage.ReadEverything();
}

// A request in flight in each of many slices is more than the log of either device holds.
void SmallLogsMakeWritersWait(Stage& stage) {
  constexpr uint64_t kBytes = 256 << 10;
  const ClusterOptions& options = stage.cluster().options();
  const uint64_t epochs = stage.watch().epochs();
  for (int round = 0; round < 3 && !stage.failed(); ++round) {
    auto left = std::make_shared<uint64_t>(options.volume_bytes / kBytes);
    for (uint64_t at = 0; at < options.volume_bytes; at += kBytes) {
      const auto client = static_cast<uint32_t>(at / kBytes % options.sdc_count);
      stage.workload().Write(client, 0, at, kBytes, [left](int error, const Slice&) {
        if (error == 0) --*left;
      });
    }
    stage.WaitFor("all writes succeed", seconds(30), [left] { return *left == 0; });
  }
  stage.Expect(stage.watch().epochs() == epochs, "nobody lost a copy for it");
  stage.ReadEverything();
}

// Room in the log that was promised to a primary is there, whoever else wants it: two servers with
// small logs are each other's secondary in many slices, and one fails while both are full.
void PromisedRoomIsThere(Stage& stage) {
  constexpr uint64_t kLarge = 256 << 10;
  const ClusterOptions& options = stage.cluster().options();
  const auto write_all = [&](uint64_t bytes, const std::function<void()>& meanwhile) {
    auto left = std::make_shared<uint64_t>(options.volume_bytes / kLarge);
    for (uint64_t at = 0; at < options.volume_bytes; at += kLarge) {
      const auto client = static_cast<uint32_t>(at / kLarge % options.sdc_count);
      stage.workload().Write(client, 0, at, bytes, [left](int error, const Slice&) {
        if (error == 0) --*left;
      });
    }
    meanwhile();
    stage.WaitFor("all writes succeed", seconds(60), [left] { return *left == 0; });
  };
  const uint64_t epochs = stage.watch().epochs();
  // Every primary is promised something, for many small writes, and keeps what it does not need.
  for (int round = 0; round < 3; ++round) write_all(32 << 10, [] {});
  // Each needs all that a log has to promise; the others give it back.
  for (uint64_t chunk = 0; chunk < options.volume_bytes / kChunk; ++chunk) {
    stage.WriteAndWait(chunk * kChunk, kLarge);
  }
  stage.Expect(stage.watch().epochs() == epochs, "nobody lost a copy for it");
  for (int round = 0; round < 3 && !stage.failed(); ++round) {
    const NodeIndex victim = round == 1 ? stage.Secondary() : stage.Primary();
    write_all(kLarge, [&] {
      stage.Sleep(milliseconds(30 + 20 * round));
      stage.world().Kill(victim);
      stage.Sleep(milliseconds(200 * round));
      stage.world().Start(victim);
    });
    stage.WaitMirrored();
  }
  stage.ReadEverything();
}

// Its copies are made anew elsewhere while it is away; it learns what to forget while its device is
// still being opened.
void AnOutageGivesTheSpaceBack(Stage& stage) {
  const NodeIndex b = stage.Secondary();
  const auto used = [&stage, b](const proto::ClusterStatus& status) {
    for (const proto::Device& device : status.devices()) {
      if (stage.cluster().NodeOfSds(device.sds()) == b) return device.used_bytes();
    }
    return UINT64_MAX;
  };
  const auto seconds_from_now = [&stage](int64_t n) {
    return stage.world().now() + Duration(seconds(n)).count();
  };
  stage.cluster().WaitForStatus(seconds_from_now(1), [](const auto&) { return true; });
  const uint64_t before = used(stage.cluster().last_status());
  for (uint64_t i = 0; i < 64; ++i) stage.WriteAndWait(i * 65536, 65536);
  stage.Sleep(seconds(4));
  stage.cluster().WaitForStatus(seconds_from_now(1), [](const auto&) { return true; });
  stage.Expect(used(stage.cluster().last_status()) >= before + kChunk, "it holds something");
  stage.world().Kill(b);
  for (uint64_t i = 0; i < 4; ++i) stage.WriteAndWait(i * kChunk);
  stage.Sleep(seconds(5));
  stage.WaitMirrored();
  stage.world().node(b).disks[1].disk->SlowDown(seconds_from_now(30), seconds(1));
  stage.world().Start(b);
  stage.Sleep(seconds(20));
  stage.Expect(stage.cluster().WaitForStatus(
                   seconds_from_now(20),
                   [&](const proto::ClusterStatus& status) { return used(status) <= before; }),
               "it has its space back");
  stage.WaitMirrored();
  stage.ReadEverything();
}

void FailedFlushFailsTheDevice(Stage& stage) {
  const NodeIndex a = stage.Primary();
  stage.WriteAndWait(0);
  // Whichever comes first makes the device lie about durability.
  Disk& disk = *stage.world().node(a).disks[1].disk;
  disk.FailNext(DiskOp::kDurableWrite, 1);
  for (uint64_t i = 0; i < 100; ++i) {
    stage.WriteAndWait(i % 16 * 4096);
    stage.Sleep(milliseconds(20));
  }
  stage.world().PowerCut(a);
  stage.ReadEverything();
  stage.world().Start(a);
  stage.Sleep(seconds(5));
  stage.ReadEverything();
  stage.Expect(stage.Primary() != a, "the failed device has no slice");
}

ClusterOptions WithSmallDevices(ClusterOptions options) {
  options.device_bytes = 24 << 20;
  options.volume_bytes = 16 << 20;
  return options;
}

ClusterOptions WithSmallLogs(ClusterOptions options) {
  options.slice_count = 32;
  options.log_bytes = 4 << 20;
  options.device_bytes = 96 << 20;
  options.volume_bytes = 32 << 20;
  return options;
}

ClusterOptions WithManySlices(ClusterOptions options) {
  options = WithSmallLogs(options);
  options.slice_count = 64;
  options.volume_bytes = 64 << 20;
  options.device_bytes = 160 << 20;
  return options;
}

}  // namespace

std::span<const Scenario> DeviceScenarios() {
  static const Scenario kScenarios[] = {
      {"s16d-rotten-blocks", "blocks that rot on one copy are read from the other, and made good",
       RottenBlocksAreReadFromTheOtherCopy, SmallCluster(2)},
      {"s16e-full-devices", "full devices answer ENOSPC, and nobody loses a copy for it",
       FullDevicesAnswerEnospc, WithSmallDevices(SmallCluster(2))},
      {"s16f-small-logs", "writers wait for room in small logs, and no device is given up for it",
       SmallLogsMakeWritersWait, WithSmallLogs(SmallCluster(2, 4))},
      {"s16g-space-after-an-outage", "after a long outage a device forgets what is elsewhere now",
       AnOutageGivesTheSpaceBack, SmallCluster(3)},
      {"s16h-promised-room", "room in a log that was promised is there, whatever fails",
       PromisedRoomIsThere, WithManySlices(SmallCluster(2, 4))},
      {"s16i-scan-secondary", "damage of a second copy is found and made good before it is needed",
       ScanRepairsTheSecondary, SmallCluster(2)},
      {"s16j-scan-primary", "damage of cold data is found and made good from the second copy",
       ScanRepairsThePrimary, SmallCluster(2)},
      {"s16k-scan-both-sides",
       "different blocks of one extent, damaged on both sides, are made good", ScanRepairsBothSides,
       SmallCluster(2)},
      {"s49-failed-flush", "a device whose flush failed is never trusted again",
       FailedFlushFailsTheDevice, SmallCluster(3)},
  };
  return kScenarios;
}

}  // namespace gabion::sim
