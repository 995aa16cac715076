// Scripts about disks that hang, and about damage on both copies at once. Numbers are those of
// docs/scenarios.md.
#include <cerrno>
#include <memory>

#include "core/store/layout.h"
#include "sim/scenario/scenario.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = 1 << 20;
constexpr uint64_t kBlock = 4096;
constexpr uint64_t kVolume = 4 << 20;

Disk& DataDisk(Stage& stage, NodeIndex node) { return *stage.world().node(node).disks[1].disk; }

store::Geometry GeometryOf(Stage& stage) {
  const ClusterOptions& options = stage.cluster().options();
  return *store::ComputeGeometry(options.device_bytes, options.log_bytes);
}

// A disk that hangs blocks its slices until it is given up; then others go on. It comes back by a
// restart, with what it held.
void AHangingDiskIsGivenUp(Stage& stage) {
  for (const bool of_primary : {true, false}) {
    stage.WriteAndWait(0);
    const NodeIndex victim = of_primary ? stage.Primary() : stage.Secondary();
    const Duration timeout = stage.cluster().options().device_timeout;
    DataDisk(stage, victim).trouble().stuck_until =
        stage.world().now() + Duration(seconds(300)).count();
    auto done = std::make_shared<bool>(false);
    stage.workload().Write(0, 0, 0, kBlock,
                           [done](int error, const Slice&) { *done = error == 0; });
    stage.Sleep(timeout - seconds(1));
    // A secondary that acknowledges nothing is left out sooner (R11).
    stage.Expect(*done != of_primary, "the write waits for the primary's disk alone");
    stage.WaitFor("the write goes on without the disk", seconds(5), [done] { return *done; });
    stage.ReadEverything();
    DataDisk(stage, victim).trouble().stuck_until = 0;
    stage.world().Kill(victim);
    stage.Sleep(milliseconds(100));
    stage.world().Start(victim);
    stage.Sleep(seconds(20));  // and its primaries are back
    stage.WaitMirrored();
  }
  stage.ReadEverything();
}

// The only copy is on a disk that was pulled out, and is put back.
void AVanishedDiskComesBack(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.world().Kill(b);
  stage.WriteAndWait(0);  // now it is the only one
  stage.ReadAndWait(0);
  DataDisk(stage, a).trouble().gone = true;
  auto done = std::make_shared<bool>(false);
  stage.workload().Write(0, 0, 0, kBlock, [done](int error, const Slice&) { *done = error == 0; });
  stage.Sleep(seconds(5));
  stage.world().Start(b);
  stage.Sleep(seconds(20));
  stage.Expect(!*done, "nobody takes the older copy for the newest");
  DataDisk(stage, a).trouble().gone = false;
  stage.world().Kill(a);
  stage.Sleep(milliseconds(100));
  stage.world().Start(a);
  stage.WaitFor("the write goes on", seconds(20), [done] { return *done; });
  stage.WaitMirrored();
  stage.ReadEverything();
}

// A process that stood still finds what its disks did meanwhile only after its timers.
void APauseIsNoHangingDisk(Stage& stage) {
  stage.WriteAndWait(0);
  const NodeIndex a = stage.Primary();
  DataDisk(stage, a).SlowDown(stage.world().now() + Duration(seconds(2)).count(), seconds(1));
  auto done = std::make_shared<bool>(false);
  stage.workload().Write(0, 0, 0, kBlock, [done](int error, const Slice&) { *done = error == 0; });
  stage.Sleep(milliseconds(500));  // a heartbeat finds it on its way; so does the next one
  stage.world().Pause(a, stage.world().now() + Duration(seconds(60)).count());
  stage.Sleep(seconds(65));
  stage.WaitMirrored();
  for (const proto::Device& device : stage.cluster().last_status().devices()) {
    stage.Expect(device.state() == proto::DEVICE_UP, "every device is up");
  }
}

// Every block of the volume: right, or EIO. How many were read.
uint64_t ReadBlocks(Stage& stage) {
  auto good = std::make_shared<uint64_t>(0);
  auto left = std::make_shared<uint64_t>(kVolume / kBlock);
  for (uint64_t at = 0; at < kVolume; at += kBlock) {
    stage.workload().Read(0, 0, at, kBlock, [good, left](int error, const Slice&) {
      *good += error == 0 ? 1 : 0;
      --*left;
    });
    if (at % (64 * kBlock) == 0) stage.Sleep(milliseconds(50));
  }
  stage.WaitFor("every read is answered", seconds(60), [left] { return *left == 0; });
  return *good;
}

// `a` is damaged by `damage` while its process is down, one block that `b` holds is rotten, and `a`
// comes back. Nothing wrong is read: of what is good on `b` everything, and of the rest an error.
void DoubleDamage(Stage& stage, void (*damage)(Stage&, Disk&)) {
  stage.workload().AllowAnyError();
  for (uint64_t i = 0; i < 4; ++i) stage.WriteAndWait(i * kChunk, 256 << 10);
  stage.Sleep(seconds(4));  // everything is in its place
  for (uint64_t i = 0; i < 4; ++i) stage.WriteAndWait(i * kChunk, 16 << 10);
  stage.Sleep(milliseconds(300));  // and this in the log, with something behind it
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.world().PowerCut(a);
  damage(stage, DataDisk(stage, a));
  stage.Expect(DataDisk(stage, b).Damage(Fault::kRot, stage.cluster().FirstDataByte()),
               "the other copy has something to rot");
  stage.world().Start(a);
  stage.Sleep(seconds(30));
  const uint64_t all = kVolume / kBlock;
  stage.Expect(ReadBlocks(stage) + 16 >= all, "all but the rotten block's extent is read");
  stage.world().PowerCut(a);
  stage.world().PowerCut(b);
  stage.world().Start(a);
  stage.world().Start(b);
  stage.Sleep(seconds(10));
  stage.Expect(ReadBlocks(stage) + 16 >= all, "and again after a power cut");
}

void RotInTheLogAndInTheOtherCopy(Stage& stage) {
  DoubleDamage(stage, [](Stage& at, Disk& disk) {
    const store::Geometry geometry = GeometryOf(at);
    disk.RotAll(geometry.log_offset(), geometry.extents_offset());
  });
}

void RotInTheTableAndInTheOtherCopy(Stage& stage) {
  DoubleDamage(stage, [](Stage& at, Disk& disk) {
    const store::Geometry geometry = GeometryOf(at);
    disk.RotAll(geometry.leaf_maps_offset(), geometry.log_offset());
  });
}

void RotInBothSuperblocksAndInTheOtherCopy(Stage& stage) {
  DoubleDamage(stage, [](Stage&, Disk& disk) { disk.RotAll(0, store::kHeadBytes); });
}

}  // namespace

std::span<const Scenario> DiskScenarios() {
  static const Scenario kScenarios[] = {
      {"s60-hanging-disk", "a disk that hangs is given up after its time, and others go on",
       AHangingDiskIsGivenUp, SmallCluster(3)},
      {"s60c-vanished-disk", "the only copy comes back with the disk that had vanished",
       AVanishedDiskComesBack, SmallCluster(2)},
      {"s60b-pause-is-no-hanging-disk", "a paused process does not blame its disks",
       APauseIsNoHangingDisk, SmallCluster(3)},
      {"s51b-rot-in-log-and-other-copy",
       "with a damaged log here and a rotten block there all other blocks are read",
       RotInTheLogAndInTheOtherCopy, SmallCluster(2)},
      {"s51c-rot-in-table-and-other-copy",
       "with a damaged table here and a rotten block there all other blocks are read",
       RotInTheTableAndInTheOtherCopy, SmallCluster(2)},
      {"s51d-rot-in-superblocks-and-other-copy",
       "with both superblocks damaged here and a rotten block there all other blocks are read",
       RotInBothSuperblocksAndInTheOtherCopy, SmallCluster(2)},
  };
  return kScenarios;
}

}  // namespace gabion::sim
