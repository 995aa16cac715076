// Scripts about servers that fail, freeze, return or are there twice. Numbers are those of
// docs/scenarios.md.
#include <memory>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = 1 << 20;

void StaleCopyRefuses(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.world().Kill(b);
  stage.WriteAndWait(0);  // degraded: on A alone
  stage.world().Kill(a);
  stage.world().Start(b);
  auto read = std::make_shared<bool>(false);
  stage.workload().Read(0, 0, 0, 4096, [read](int, const Slice&) { *read = true; });
  stage.Sleep(seconds(8));
  stage.Expect(!*read, "the stale copy serves nothing");
  stage.world().Start(a);
  stage.WaitFor("the fresh copy serves", seconds(10), [read] { return *read; });
  stage.WaitMirrored();
  stage.ReadEverything();
}

void NoAckBeforeDegradeIsRecorded(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.CutBoth(a, b);
  stage.CutBoth(a, stage.cluster().mdm());
  auto done = std::make_shared<bool>(false);
  stage.workload().Write(0, 0, 0, 4096, [done](int error, const Slice&) { *done = error == 0; });
  stage.Sleep(milliseconds(700));
  stage.Expect(!*done, "no acknowledgement by a primary that is alone");
  stage.WaitFor("the other copy takes over", seconds(10), [done] { return *done; });
  stage.Expect(stage.Primary() == b, "the other copy is primary now");
  stage.ReadAndWait(0);
  stage.HealBoth(a, b);
  stage.HealBoth(a, stage.cluster().mdm());
  stage.WaitMirrored();
  stage.ReadEverything();
}

void OnePrimaryWhenCutFromTheMdm(Stage& stage) {
  const NodeIndex a = stage.Primary();
  stage.WriteAndWait(0);
  stage.CutBoth(a, stage.cluster().mdm());
  for (int i = 0; i < 40; ++i) {
    stage.WriteAndWait(0, 4096, i % 2);
    stage.ReadAndWait(0, 4096, (i + 1) % 2);
    stage.Sleep(milliseconds(100));
  }
  stage.Expect(stage.Primary() != a, "another SDS is primary");
  stage.HealBoth(a, stage.cluster().mdm());
  stage.WaitMirrored();
  stage.ReadEverything();
}

// The first client can reach only the old primary, the second everybody else.
void NoStaleReadsFromACutPrimary(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0, 4096, 1);
  stage.ReadAndWait(0, 4096, 0);
  stage.CutBoth(a, b);
  stage.CutBoth(a, stage.cluster().mdm());
  stage.CutBoth(a, stage.cluster().sdc()[1]);
  bool reading = false;
  bool writing = false;
  uint32_t writes = 0;
  for (int i = 0; i < 400 && !stage.failed(); ++i) {
    if (!reading) {
      reading = true;
      stage.workload().Read(0, 0, 0, 4096, [&reading](int, const Slice&) { reading = false; });
    }
    if (!writing) {
      writing = true;
      stage.workload().Write(1, 0, 0, 4096, [&](int error, const Slice&) {
        writing = false;
        writes += error == 0 ? 1 : 0;
      });
    }
    stage.Sleep(milliseconds(10));
  }
  stage.Expect(writes > 10, "the other side goes on");
  stage.HealBoth(a, b);
  stage.HealBoth(a, stage.cluster().mdm());
  stage.HealBoth(a, stage.cluster().sdc()[1]);
  stage.WaitFor("all I/O completes", seconds(10), [&] { return stage.workload().Idle(); });
  stage.WaitMirrored();
  stage.ReadEverything();
}

void RestartedPrimaryKnowsWhatItsPeerLacks(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.world().Kill(b);
  stage.WriteAndWait(0);
  stage.world().Kill(a);
  stage.world().Start(a);
  stage.world().Start(b);
  stage.WaitMirrored();
  stage.world().Kill(a);
  stage.ReadAndWait(0);
  stage.world().Start(a);
  stage.WaitMirrored();
  stage.ReadEverything();
}

void SecondProcessWithTheSameIdDoesNoHarm(Stage& stage) {
  const NodeIndex original = stage.cluster().sds()[0];
  const NodeIndex twin = stage.cluster().twin();
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk / 2);
  std::vector<Node::NamedDisk>& from = stage.world().node(original).disks;
  std::vector<Node::NamedDisk>& to = stage.world().node(twin).disks;
  for (size_t i = 0; i < from.size(); ++i) to[i].disk->CloneFrom(*from[i].disk);
  stage.world().Start(twin);
  for (uint64_t i = 0; i < 40; ++i) {
    stage.WriteAndWait(i % 8 * kChunk / 2);
    stage.ReadAndWait((i + 3) % 8 * kChunk / 2);
    stage.Sleep(milliseconds(50));
  }
  stage.WaitMirrored();
  stage.ReadEverything();
}

// Both begin with the state directory of the run before, and so come to the same incarnation.
void SameIncarnationTwiceDoesNoHarm(Stage& stage) {
  const NodeIndex original = stage.cluster().sds()[0];
  const NodeIndex twin = stage.cluster().twin();
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk / 2);
  stage.world().Kill(original);
  std::vector<Node::NamedDisk>& from = stage.world().node(original).disks;
  std::vector<Node::NamedDisk>& to = stage.world().node(twin).disks;
  for (size_t i = 0; i < from.size(); ++i) to[i].disk->CloneFrom(*from[i].disk);
  stage.world().Start(original);
  stage.Sleep(seconds(1));
  stage.world().Start(twin);
  for (uint64_t i = 0; i < 40; ++i) {
    stage.WriteAndWait(i % 8 * kChunk / 2);
    stage.ReadAndWait((i + 3) % 8 * kChunk / 2);
    stage.Sleep(milliseconds(50));
  }
  stage.Expect(stage.world().Running(original), "the one that was first goes on");
  stage.Expect(!stage.world().Running(twin), "the other one has ended");
  stage.WaitMirrored();
  stage.ReadEverything();
}

void OldStateDirectoryCatchesUp(Stage& stage) {
  const NodeIndex victim = stage.Primary();
  stage.WriteAndWait(0);
  Disk& state = *stage.world().node(victim).disks[0].disk;
  Disk& backup = *stage.world().node(stage.cluster().twin()).disks[0].disk;
  backup.CloneFrom(state);
  for (int i = 0; i < 5; ++i) {
    stage.world().Kill(victim);
    stage.world().Start(victim);
    stage.Sleep(seconds(1));
  }
  stage.WaitMirrored();
  stage.world().Kill(victim);
  stage.WriteAndWait(0);
  state.CloneFrom(backup);
  // It finds on its devices how far it was, ends, and goes on from there when it is started again.
  stage.world().Start(victim);
  stage.WaitFor("it ends", seconds(5), [&] { return !stage.world().Running(victim); });
  stage.world().Start(victim);
  stage.WaitMirrored();
  stage.Expect(stage.world().Running(victim), "it goes on");
  stage.ReadEverything();
}

void FrozenPrimaryWakesUp(Stage& stage) {
  const NodeIndex a = stage.Primary();
  stage.WriteAndWait(0);
  bool done = false;
  stage.WriteLater(0, 4096, 0, &done);
  stage.Sleep(std::chrono::microseconds(100));  // the write is on its way in A
  stage.world().Pause(a, stage.world().now() + Duration(seconds(60)).count());
  for (int i = 0; i < 20; ++i) {
    stage.WriteAndWait(0, 4096, 1);
    stage.Sleep(seconds(1));
  }
  stage.Sleep(seconds(45));
  for (int i = 0; i < 20; ++i) {
    stage.ReadAndWait(0, 4096, 0);
    stage.WriteAndWait(0, 4096, 1);
  }
  stage.WaitMirrored();
  stage.ReadEverything();
}

void WritesDuringJoiningAreOnBoth(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  for (uint64_t i = 0; i < 16; ++i) stage.WriteAndWait(i * 65536, 65536);
  stage.world().Kill(b);
  for (uint64_t i = 0; i < 16; i += 2) stage.WriteAndWait(i * 65536, 65536);
  stage.world().Start(b);
  for (uint64_t i = 0; i < 200; ++i) {
    stage.WriteAndWait(i % 16 * 65536 + i % 5 * 4096, 4096 + i % 3 * 512);
    stage.Sleep(milliseconds(2));
  }
  stage.WaitMirrored();
  stage.world().Kill(a);
  stage.ReadEverything();
  stage.world().Start(a);
  stage.WaitMirrored();
}

void PowerLossOfBothDuringAWrite(Stage& stage) {
  for (uint32_t countdown = 1; countdown <= 12 && !stage.failed(); ++countdown) {
    const NodeIndex a = stage.Primary();
    const NodeIndex b = stage.Secondary();
    bool done = false;
    stage.WriteLater(0, 16384, 0, &done);
    stage.world().ArmCrash(a, countdown, true);
    stage.world().ArmCrash(b, countdown, true);
    stage.Sleep(milliseconds(50));
    stage.world().PowerCut(a);
    stage.world().PowerCut(b);
    stage.world().Start(a);
    stage.world().Start(b);
    stage.WaitMirrored();
    stage.WaitFor("all I/O completes", seconds(10), [&] { return stage.workload().Idle(); });
    stage.ReadAndWait(0, 16384);
    // The same from the other copy.
    stage.world().Kill(stage.Primary());
    stage.ReadAndWait(0, 16384);
    for (const NodeIndex node : {a, b}) stage.world().Start(node);
    stage.WaitMirrored();
    stage.ReadAndWait(0, 16384);
  }
}

void AcknowledgedMeansDurableOnBoth(Stage& stage) {
  for (int round = 0; round < 5; ++round) {
    for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk / 2, 8192);
    for (const NodeIndex node : stage.cluster().sds()) stage.world().PowerCut(node);
    stage.world().PowerCut(stage.cluster().mdm());
    stage.world().Start(stage.cluster().mdm());
    for (const NodeIndex node : stage.cluster().sds()) stage.world().Start(node);
    stage.WaitMirrored();
    stage.ReadEverything();
  }
}

void SitePowerLossAndOneNeverReturns(Stage& stage) {
  for (uint64_t i = 0; i < 8; ++i) stage.WriteAndWait(i * kChunk / 2, 65536);
  for (const NodeIndex node : stage.cluster().sds()) stage.world().PowerCut(node);
  stage.world().PowerCut(stage.cluster().mdm());
  const std::vector<NodeIndex>& sds = stage.cluster().sds();
  stage.Sleep(seconds(60));
  stage.world().Start(sds[2]);
  stage.Sleep(seconds(90));
  stage.world().Start(stage.cluster().mdm());
  stage.Sleep(seconds(30));
  stage.world().Start(sds[0]);
  stage.Sleep(seconds(200));
  stage.world().Start(sds[3]);  // and sds[1] never
  stage.ReadEverything();       // every slice has one of its copies back
  stage.WaitMirrored(seconds(90));
  stage.ReadEverything();
}

// B carries a write over that A knows to be committed, then A goes on alone, and B joins.
void CarriedOverEntriesOutliveAJoining(Stage& stage) {
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  stage.WriteAndWait(0);
  stage.Sleep(seconds(1));
  stage.WriteAndWait(0);  // B has not heard yet that it is committed
  stage.CutFromAll(a);
  stage.WaitFor("B takes over", seconds(10), [&] { return stage.Primary() == b; });
  // Nobody is there to make B go on alone.
  stage.world().Kill(stage.cluster().mdm());
  stage.Sleep(milliseconds(200));
  stage.world().Kill(b);
  stage.HealFromAll(a);
  stage.world().Start(stage.cluster().mdm());
  stage.WaitFor("A is back", seconds(10), [&] { return stage.Primary() == a; });
  stage.WriteAndWait(kChunk / 2);  // elsewhere in the chunk, alone
  stage.world().Start(b);
  stage.WaitMirrored();
  stage.world().Kill(a);
  stage.ReadAndWait(0);
  stage.world().Start(a);
  stage.WaitMirrored();
  stage.ReadEverything();
}

// The old primary's wall clock goes back and forth while it is cut off: R4.
void WallClockJumpsExtendNoRight(Stage& stage) {
  const NodeIndex a = stage.Primary();
  for (const NodeIndex node : {a, stage.cluster().mdm()}) {
    for (const auto& [after, jump] : {std::pair(milliseconds(300), -seconds(3600)),
                                      std::pair(milliseconds(900), seconds(7200))}) {
      stage.world().After(after, [&stage, node, jump] {
        stage.world().node(node).clock.wall_offset += Duration(jump).count();
      });
    }
  }
  NoStaleReadsFromACutPrimary(stage);
}

// 20 kills; every second time the process is back at once.
void FailOverIsAsFastAsPromised(Stage& stage) {
  for (int round = 0; round < 20 && !stage.failed(); ++round) {
    const NodeIndex victim = stage.Primary();
    const bool at_once = round % 2 == 1;
    const TrueTime start = stage.world().now();
    stage.world().Kill(victim);
    if (at_once) {
      stage.world().After(milliseconds(20), [&stage, victim] { stage.world().Start(victim); });
    }
    stage.WriteAndWait(0);
    stage.ReadAndWait(0);
    const Duration bound =
        at_once ? Duration(seconds(1)) : stage.cluster().options().lease + milliseconds(500);
    stage.Expect(Duration(stage.world().now() - start) <= bound,
                 at_once ? "a restart at once is felt for less than 1 s"
                         : "a fail-over takes at most the lease and 0.5 s");
    stage.Sleep(milliseconds(100));
    stage.world().Start(victim);
    stage.WaitMirrored();
    stage.Sleep(milliseconds(37) * round);
  }
}

ClusterOptions WithDrift(ClusterOptions options) {
  // The MDM's clock is fast, so that leases seem over early; the SDSs' clocks are slow.
  options.drift_ppm = {9'900};
  options.drift_ppm.resize(1 + options.sds_count, -9'900);
  return options;
}

ClusterOptions WithTwin(ClusterOptions options) {
  options.twin = true;
  return options;
}

}  // namespace

std::span<const Scenario> ServerScenarios() {
  static const Scenario kScenarios[] = {
      {"s01-stale-copy-refuses", "a copy that missed writes serves nothing when it returns alone",
       StaleCopyRefuses, SmallCluster(2)},
      {"s02-no-ack-before-degrade", "a primary alone acknowledges nothing before the MDM knows",
       NoAckBeforeDegradeIsRecorded, SmallCluster(2)},
      {"s03-primary-cut-from-mdm", "a primary that only the MDM cannot reach is replaced safely",
       OnePrimaryWhenCutFromTheMdm, SmallCluster(3, 2)},
      {"s04-no-stale-reads", "a primary that is cut off serves no stale reads",
       NoStaleReadsFromACutPrimary, SmallCluster(2, 2)},
      {"s12-restart-forgets-nothing", "a restarted primary knows what its peer lacks",
       RestartedPrimaryKnowsWhatItsPeerLacks, SmallCluster(2)},
      {"s16-second-process", "a second process with the same id and disks does no harm",
       SecondProcessWithTheSameIdDoesNoHarm, WithTwin(SmallCluster(3))},
      {"s16b-same-incarnation-twice", "two runs that came to the same incarnation do no harm",
       SameIncarnationTwiceDoesNoHarm, WithTwin(SmallCluster(3))},
      {"s16c-old-state-directory", "an SDS whose state directory is an old copy catches up",
       OldStateDirectoryCatchesUp, WithTwin(SmallCluster(2))},
      {"s18-drifting-clocks", "clocks at the ends of the bound give no two primaries",
       NoStaleReadsFromACutPrimary, WithDrift(SmallCluster(2, 2))},
      {"s18-wall-clock-jumps", "a wall clock that jumps an hour gives no two primaries",
       WallClockJumpsExtendNoRight, SmallCluster(2, 2)},
      {"s19-frozen-primary",
       "a primary that was frozen for a minute acknowledges nothing it may not",
       FrozenPrimaryWakesUp, SmallCluster(3, 2)},
      {"s20-writes-while-joining", "writes during joining are on both copies",
       WritesDuringJoiningAreOnBoth, SmallCluster(2)},
      {"s25-power-loss-of-both", "after a power loss of both in a write, both copies are the same",
       PowerLossOfBothDuringAWrite, SmallCluster(2)},
      {"s50-rack-power-loss", "what is acknowledged survives a power loss of everybody",
       AcknowledgedMeansDurableOnBoth, SmallCluster(3)},
      {"s71-site-power-loss",
       "after a site power loss, fresh copies serve as soon as they are proven",
       SitePowerLossAndOneNeverReturns, SmallCluster(4)},
      {"carried-over-then-joined",
       "a write that a copy carried over alone is on it after a joining (seed 205414)",
       CarriedOverEntriesOutliveAJoining, SmallCluster(2)},
      {"fail-over-time", "a killed SDS is felt for the lease and 0.5 s at most",
       FailOverIsAsFastAsPromised, SmallCluster(3)},
  };
  return kScenarios;
}

}  // namespace gabion::sim
