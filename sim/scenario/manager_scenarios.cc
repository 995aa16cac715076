// Scripts about what the MDM decides: who is primary, and where copies are. Numbers are those of
// docs/scenarios.md.
#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "sim/scenario/scenario.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = 1 << 20;

ClusterOptions Servers(uint32_t sds_count, uint32_t slice_count = 4) {
  ClusterOptions options;
  options.sds_count = sds_count;
  options.slice_count = slice_count;
  options.volume_bytes = 8 << 20;
  options.rebuild_delay = seconds(2);
  return options;
}

// How long one write of chunk 0 takes.
Duration TimeOfWrite(Stage& stage) {
  const TrueTime begin = stage.world().now();
  stage.WriteAndWait(0);
  return Duration(stage.world().now() - begin);
}

// Primaries minus secondaries, the worst of all devices.
int WorstImbalance(Stage& stage) {
  std::map<uint64_t, int> surplus;
  for (const auto& [id, slice] : stage.watch().slices()) {
    ++surplus[slice.primary().device()];
    --surplus[slice.secondary().device()];
  }
  int worst = 0;
  for (const auto& [device, count] : surplus) worst = std::max(worst, std::abs(count));
  return worst;
}

void DeafPrimaryIsReplaced(Stage& stage) {
  const NodeIndex a = stage.Primary();
  stage.WriteAndWait(0);
  stage.world().Cut(stage.cluster().mdm(), a);
  Duration longest{};
  for (int i = 0; i < 100; ++i) {
    longest = std::max(longest, TimeOfWrite(stage));
    stage.Sleep(milliseconds(50));
  }
  stage.Expect(stage.Primary() != a, "another SDS is primary");
  stage.Expect(longest < milliseconds(2500), "the pause is bounded");
  stage.world().Heal(stage.cluster().mdm(), a);
  stage.WaitMirrored();
  stage.ReadEverything();
}

void PrimaryThatClientsMissHandsOver(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex client = stage.cluster().sdc()[0];
  stage.WriteAndWait(0);
  stage.CutBoth(client, a);
  stage.WriteAndWait(0);  // at the latest after 10 s
  stage.ReadAndWait(0);
  stage.Expect(stage.Primary() != a, "another SDS is primary");
  for (int i = 0; i < 100; ++i) {
    stage.Expect(TimeOfWrite(stage) < milliseconds(500), "and stays it");
    stage.Sleep(milliseconds(200));
  }
  stage.WaitMirrored();  // A is well, and still has its copies
  stage.Expect(stage.watch().role_switches() <= stage.cluster().options().slice_count,
               "each slice is switched once at most");
  stage.HealBoth(client, a);
  stage.ReadEverything();
}

// Its requests wait for one SDS after the other, wherever the roles go.
void ClientThatReachesNobodyMovesLittle(Stage& stage) {
  const NodeIndex client = stage.cluster().sdc()[0];
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  for (const NodeIndex sds : stage.cluster().sds()) stage.CutBoth(client, sds);
  auto left = std::make_shared<int>(8);
  for (uint64_t i = 0; i < 8; ++i) {
    stage.workload().Write(0, 0, i * kChunk, 4096,
                           [left](int error, const Slice&) { *left -= error == 0 ? 1 : 0; });
  }
  stage.Sleep(seconds(60));
  stage.Expect(stage.watch().role_switches() <= stage.cluster().options().slice_count,
               "roles do not follow a client that reaches nobody");
  for (const NodeIndex sds : stage.cluster().sds()) stage.HealBoth(client, sds);
  stage.WaitFor("its writes complete", seconds(10), [left] { return *left == 0; });
  stage.WaitMirrored();
  stage.ReadEverything();
}

// A hears the MDM and the clients, but none of the other SDSs.
void PrimaryThatPeersMissHandsOver(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  for (const NodeIndex other : stage.cluster().sds()) {
    if (other != a) stage.CutBoth(a, other);
  }
  auto left = std::make_shared<int>(8);
  for (uint64_t i = 0; i < 8; ++i) {
    stage.workload().Write(0, 0, i * kChunk, 4096,
                           [left](int error, const Slice&) { *left -= error == 0 ? 1 : 0; });
  }
  stage.WaitFor("every chunk takes writes again", seconds(6), [left] { return *left == 0; });
  stage.Expect(stage.Primary() == b, "the copy that is not cut off serves");
  stage.Sleep(seconds(4));
  for (const NodeIndex other : stage.cluster().sds()) {
    if (other != a) stage.HealBoth(a, other);
  }
  stage.WaitMirrored();
  stage.ReadEverything();
}

void PrimariesAreSpreadAgain(Stage& stage) {
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  stage.Expect(WorstImbalance(stage) <= 1, "primaries are even at first");
  const NodeIndex a = stage.cluster().sds()[0];
  stage.world().Kill(a);
  stage.Sleep(milliseconds(1500));
  stage.world().Start(a);
  stage.WaitMirrored();
  stage.Expect(WorstImbalance(stage) > 1, "they have piled up");
  const uint64_t epochs = stage.watch().epochs();
  for (int i = 0; i < 200 && !stage.failed(); ++i) {
    const TrueTime begin = stage.world().now();
    stage.WriteAndWait(static_cast<uint64_t>(i % 8) * kChunk);
    stage.ReadAndWait(static_cast<uint64_t>((i + 3) % 8) * kChunk);
    stage.Expect(Duration(stage.world().now() - begin) < milliseconds(400),
                 "nobody notices the switches");
    stage.Sleep(milliseconds(100));
  }
  stage.Expect(WorstImbalance(stage) <= 1, "primaries are even again");
  stage.Expect(stage.watch().epochs() - epochs <= stage.cluster().options().slice_count,
               "one epoch per slice at most");
  stage.WaitMirrored();
  stage.ReadEverything();
}

// Both copies were there; one comes back alone, as it was a while ago.
void RolledBackDeviceServesNothing(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  Disk& disk = *stage.world().node(b).disks[1].disk;
  const DiskImage image = disk.durable_image();
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  stage.Sleep(seconds(65));  // positions of logs are noted once a minute
  stage.world().PowerCut(b);
  stage.world().PowerCut(a);
  disk.RollBackTo(image);
  stage.world().Start(b);
  auto read = std::make_shared<bool>(false);
  stage.workload().Read(0, 0, 0, 4096, [read](int, const Slice&) { *read = true; });
  stage.Sleep(seconds(8));
  stage.Expect(!*read, "the old copy serves nothing");
  stage.world().Start(a);
  stage.WaitFor("the good copy serves", seconds(10), [read] { return *read; });
  stage.WaitMirrored();
  stage.ReadEverything();
  stage.world().Kill(a);
  stage.ReadEverything();  // from the copy that was made anew
  stage.world().Start(a);
  stage.WaitMirrored();
}

// The MDM is restored from a copy that knows A and B as good. Since then A was lost, C took its
// place, and both were written. A comes back first.
void RestoredRepositoryWaitsForTheNewestCopies(Stage& stage) {
  World& world = stage.world();
  const NodeIndex mdm = stage.cluster().mdm();
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  const NodeIndex c = stage.Bystander();
  Disk& state = *world.node(mdm).disks[0].disk;
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  const DiskImage backup = state.durable_image();
  world.Kill(a);
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  stage.Sleep(seconds(10));
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  for (const NodeIndex node : {mdm, b, c}) world.PowerCut(node);
  state.RollBackTo(backup);
  stage.cluster().HoldMdm(true);
  world.Start(mdm);
  world.Start(a);
  stage.Sleep(seconds(3));
  stage.AcceptOlderRepository();
  auto done = std::make_shared<bool>(false);
  stage.workload().Read(0, 0, 0, 4096, [done](int, const Slice&) { *done = true; });
  stage.Sleep(seconds(8));
  stage.Expect(!*done, "the old copy serves nothing");
  // The MDM may end at any time meanwhile.
  stage.cluster().HoldMdm(false);
  world.PowerCut(mdm);
  world.Start(mdm);
  stage.Sleep(seconds(2));
  world.Start(b);
  stage.Sleep(seconds(5));
  stage.Expect(!*done, "one of two that may have the newest data is not enough");
  world.Start(c);
  stage.WaitFor("the newest copies serve", seconds(20), [done] { return *done; });
  stage.WaitMirrored();
  stage.ReadEverything();
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  stage.Expect(stage.cluster().last_status().generation() == 1, "the generation is a new one");
  world.Kill(b);
  stage.ReadEverything();
  world.Start(b);
  stage.WaitMirrored();
}

// Everybody but the MDM goes on running; roles have changed, and a device was emptied, since.
void RestoredRepositoryUnderLoad(Stage& stage) {
  World& world = stage.world();
  const NodeIndex mdm = stage.cluster().mdm();
  const NodeIndex a = stage.Primary();
  Disk& state = *world.node(mdm).disks[0].disk;
  const DiskImage backup = state.durable_image();
  world.Kill(a);
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  world.Start(a);
  stage.WaitMirrored();
  proto::AdminRequest removal;
  removal.mutable_sds_remove()->set_sds("sds1");
  stage.cluster().Command(removal);
  stage.Sleep(seconds(15));
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  auto left = std::make_shared<int>(8);
  world.PowerCut(mdm);
  for (uint64_t i = 0; i < 8; ++i) {
    stage.workload().Write(0, 0, i * kChunk, 64 << 10,
                           [left](int error, const Slice&) { *left -= error == 0 ? 1 : 0; });
  }
  state.RollBackTo(backup);
  stage.cluster().HoldMdm(true);
  world.Start(mdm);
  stage.Sleep(seconds(2));
  stage.AcceptOlderRepository();
  stage.cluster().HoldMdm(false);
  stage.WaitFor("writes go on", seconds(20), [left] { return *left == 0; });
  stage.WaitMirrored();
  stage.ReadEverything();
}

// The state folder of the MDM comes from a backup.
void OldRepositoryIsNotFollowed(Stage& stage) {
  World& world = stage.world();
  const NodeIndex mdm = stage.cluster().mdm();
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  Disk& state = *world.node(mdm).disks[0].disk;
  const DiskImage backup = state.durable_image();
  // Epochs that the backup does not know; the newest data is on B alone for a while.
  world.Kill(a);
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk);
  world.Start(a);
  stage.WaitMirrored();
  stage.Expect(stage.Primary() == b, "the roles have changed");
  const DiskImage newest = state.durable_image();
  world.PowerCut(mdm);
  state.RollBackTo(backup);
  world.Start(mdm);
  stage.Sleep(seconds(5));
  auto done = std::make_shared<bool>(false);
  stage.workload().Read(0, 0, 0, 4096, [done](int, const Slice&) { *done = true; });
  stage.Sleep(seconds(8));
  stage.Expect(!*done, "nothing is served by order of an old repository");
  stage.Expect(stage.cluster().WaitForStatus(
                   world.now() + Duration(seconds(2)).count(),
                   [](const proto::ClusterStatus& status) { return !status.problem().empty(); }),
               "the status says what is wrong");
  world.PowerCut(mdm);
  state.RollBackTo(newest);
  world.Start(mdm);
  stage.WaitFor("the newest repository is followed again", seconds(20), [done] { return *done; });
  stage.WaitMirrored();
  stage.ReadEverything();
}

void DeviceIsEmptiedInUse(Stage& stage) {
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk, 65536);
  const NodeIndex a = stage.Primary();
  const std::string name = stage.world().node(a).options.name;
  const auto remove = [&] {
    proto::AdminRequest request;
    request.mutable_sds_remove()->set_sds(name);
    auto answered = std::make_shared<bool>(false);
    stage.cluster().Command(request, [answered](const proto::AdminReply& reply) {
      *answered = reply.code() == proto::AdminReply::OK;
    });
    stage.WaitFor("the removal is accepted", seconds(5), [answered] { return *answered; });
  };
  remove();
  for (int i = 0; i < 150 && !stage.failed(); ++i) {
    const TrueTime begin = stage.world().now();
    stage.WriteAndWait(static_cast<uint64_t>(i % 8) * kChunk +
                       static_cast<uint64_t>(i % 16) * 4096);
    stage.ReadAndWait(static_cast<uint64_t>((i + 5) % 8) * kChunk, 65536);
    stage.Expect(Duration(stage.world().now() - begin) < milliseconds(500), "I/O goes on");
    stage.Sleep(milliseconds(50));
  }
  const size_t servers = stage.cluster().sds().size();
  stage.Expect(stage.cluster().WaitForStatus(stage.world().now() + Duration(seconds(30)).count(),
                                             [&](const proto::ClusterStatus& status) {
                                               return status.sdss_size() ==
                                                      static_cast<int>(servers) - 1;
                                             }),
               "the server is gone");
  stage.world().Kill(a);
  stage.WaitMirrored();
  stage.ReadEverything();
}

}  // namespace

std::span<const Scenario> ManagerScenarios() {
  static const Scenario kScenarios[] = {
      {"s73-deaf-primary",
       "a primary that hears no grants is replaced within two leases and a half",
       DeafPrimaryIsReplaced, Servers(3)},
      {"s74-clients-miss-primary", "a primary that clients cannot reach hands its role over",
       PrimaryThatClientsMissHandsOver, Servers(3)},
      {"s75-peers-miss-primary", "a primary that no other SDS reaches does not push them out",
       PrimaryThatPeersMissHandsOver, Servers(4, 8)},
      {"s76-primaries-spread-again", "primaries that piled up are spread again, and nobody notices",
       PrimariesAreSpreadAgain, Servers(3, 16)},
      {"s77-device-rolled-back", "a device that went back to an older content serves nothing",
       RolledBackDeviceServesNothing, Servers(2)},
      {"s78-old-repository", "an MDM that runs from an old backup is not followed, and says so",
       OldRepositoryIsNotFollowed, Servers(3)},
      {"s78b-restored-repository",
       "a restored repository serves nothing before the newest copies have reported",
       RestoredRepositoryWaitsForTheNewestCopies, Servers(3)},
      {"s78c-restored-under-load", "clients go on when the MDM is restored from an old copy",
       RestoredRepositoryUnderLoad, Servers(4)},
      {"s79-server-emptied-in-use", "a server is emptied and removed while its data is in use",
       DeviceIsEmptiedInUse, Servers(4, 8)},
      {"s80-client-reaches-nobody", "a client that no SDS is reached by does not move roles about",
       ClientThatReachesNobodyMovesLittle, Servers(3, 8)},
  };
  return kScenarios;
}

}  // namespace gabion::sim
