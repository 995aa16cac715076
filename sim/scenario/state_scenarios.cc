// Scripts about damaged state devices: the journals of the MDM and of SDSs. Numbers are those of
// docs/scenarios.md.
#include <memory>
#include <string>

#include "sim/scenario/scenario.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = 1 << 20;
constexpr uint64_t kChunks = 4;
constexpr uint64_t kSealBytes = 8192;

Disk& StateOf(Stage& stage, NodeIndex node) { return *stage.world().node(node).disks[0].disk; }

void WriteEveryChunk(Stage& stage) {
  for (uint64_t i = 0; i < kChunks; ++i) stage.WriteAndWait(i * kChunk);
}

bool ExitSays(Stage& stage, NodeIndex node, std::string_view what) {
  return stage.exit_reason(node).find(what) != std::string::npos;
}

// Starts it some times; it ends each time, and says why.
void ExpectRefusal(Stage& stage, NodeIndex node) {
  for (int i = 0; i < 3; ++i) {
    stage.world().Start(node);
    stage.Sleep(milliseconds(500));
    stage.Expect(!stage.world().Running(node), "a damaged journal is refused");
    stage.Expect(ExitSays(stage, node, "damaged") || ExitSays(stage, node, "cannot be read"),
                 "the process says why it ends");
    stage.Expect(ExitSays(stage, node, "copy of the state folder"), "and what is to be done");
  }
}

// The MDM is gone for good with its journal, and the copy of its folder is older: roles have
// changed since it was taken.
void DamagedRepository(Stage& stage, void (*damage)(Disk&)) {
  World& world = stage.world();
  const NodeIndex mdm = stage.cluster().mdm();
  Disk& state = StateOf(stage, mdm);
  WriteEveryChunk(stage);
  const DiskImage backup = state.durable_image();
  const NodeIndex a = stage.Primary();
  world.Kill(a);
  WriteEveryChunk(stage);
  world.Start(a);
  stage.WaitMirrored();
  WriteEveryChunk(stage);
  world.PowerCut(mdm);
  damage(state);
  ExpectRefusal(stage, mdm);
  stage.Sleep(seconds(3));
  auto done = std::make_shared<bool>(false);
  stage.workload().Read(0, 0, 0, 4096, [done](int, const Slice&) { *done = true; });
  stage.Sleep(seconds(5));
  stage.Expect(!*done, "nobody acts without the manager when leases are over");
  state.RollBackTo(backup);
  stage.cluster().HoldMdm(true);
  world.Start(mdm);
  stage.Sleep(seconds(2));
  stage.Expect(world.Running(mdm) && !*done, "the copy is taken, and grants nothing yet");
  stage.AcceptOlderRepository();
  stage.cluster().HoldMdm(false);
  stage.WaitFor("the newest copies serve", seconds(20), [done] { return *done; });
  stage.WaitMirrored();
  stage.ReadEverything();
  WriteEveryChunk(stage);
}

void RotInTheRepository(Stage& stage) {
  DamagedRepository(stage, [](Disk& state) { state.RotAll(kSealBytes); });
}

void UnreadableRepository(Stage& stage) {
  DamagedRepository(stage, [](Disk& state) {
    state.Damage(Fault::kStateLatent, kSealBytes, kSealBytes + kPageBytes);
  });
}

void BothSealsOfTheRepository(Stage& stage) {
  DamagedRepository(stage, [](Disk& state) { state.RotAll(0, kSealBytes); });
}

// The state device of the MDM says that the command which makes B the only copy is durable, and it
// is not. Then the power fails, and A, which knows no better, returns first.
void LieAboutTheLastCommand(Stage& stage) {
  World& world = stage.world();
  const NodeIndex mdm = stage.cluster().mdm();
  Disk& state = StateOf(stage, mdm);
  WriteEveryChunk(stage);
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  world.Kill(a);
  stage.WaitFor("the other copy takes over", seconds(10), [&] { return stage.Primary() == b; });
  auto lied = std::make_shared<bool>(false);
  state.LieOnce(
      {.kind = Fault::kStatePhantom, .from_bytes = kSealBytes, .then = [&world, &state, lied] {
         *lied = true;
         // What would prove it is long in coming.
         state.SlowDown(world.now() + Duration(seconds(60)).count(), seconds(10));
       }});
  auto done = std::make_shared<bool>(false);
  stage.workload().Write(0, 0, 0, 4096, [done](int error, const Slice&) { *done = error == 0; });
  stage.WaitFor("the manager is lied to", seconds(10), [lied] { return *lied; });
  stage.Sleep(seconds(3));
  const bool was_acknowledged = *done;
  world.PowerCut(mdm);
  world.PowerCut(b);
  world.Start(mdm);
  world.Start(a);
  stage.Sleep(seconds(10));
  // Checked against everything that was acknowledged.
  if (was_acknowledged) stage.ReadAndWait(0);
  stage.Expect(!was_acknowledged, "the manager tells nobody what a crash would take back");
  stage.WaitFor("the write goes on", seconds(20), [done] { return *done; });
  world.Start(b);
  stage.WaitMirrored();
  stage.ReadEverything();
}

// The same without a crash in between: the lie is in the journal.
void LieInTheRepository(Stage& stage) {
  World& world = stage.world();
  const NodeIndex mdm = stage.cluster().mdm();
  Disk& state = StateOf(stage, mdm);
  WriteEveryChunk(stage);
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  state.LieOnce({.kind = Fault::kStatePhantom});
  world.Kill(a);
  WriteEveryChunk(stage);
  stage.Expect(world.fired()[Fault::kStatePhantom] == 1, "the manager is lied to");
  world.PowerCut(mdm);
  world.PowerCut(b);
  ExpectRefusal(stage, mdm);
  world.Start(a);
  auto done = std::make_shared<bool>(false);
  stage.workload().Read(0, 0, 0, 4096, [done](int, const Slice&) { *done = true; });
  stage.Sleep(seconds(8));
  stage.Expect(!*done, "the older copy serves nothing");
  state.HealDamage();  // the newest copy of the folder is put in its place
  world.Start(mdm);
  world.Start(b);
  stage.WaitFor("the newest copy serves", seconds(20), [done] { return *done; });
  stage.WaitMirrored();
  stage.ReadEverything();
}

void DamagedServerState(Stage& stage) {
  World& world = stage.world();
  const NodeIndex a = stage.Primary();
  const NodeIndex b = stage.Secondary();
  Disk& state = StateOf(stage, a);
  const DiskImage backup = state.durable_image();
  for (int i = 0; i < 3; ++i) {  // later incarnations than the copy's
    world.Kill(a);
    stage.Sleep(milliseconds(100));
    world.Start(a);
    stage.WaitMirrored();
  }
  WriteEveryChunk(stage);
  world.PowerCut(a);
  state.RotAll(kSealBytes);
  ExpectRefusal(stage, a);
  WriteEveryChunk(stage);  // others go on
  world.PowerCut(a);
  state.RollBackTo(backup);
  world.Start(a);
  stage.WaitFor("an old state ends its process once", seconds(5),
                [&] { return !world.Running(a); });
  stage.Expect(ExitSays(stage, a, "Started again it takes a higher one"), "and says so");
  world.Start(a);
  stage.WaitMirrored();
  stage.Expect(world.Running(a), "the next one goes on");
  stage.ReadEverything();
  world.Kill(b);
  stage.ReadEverything();  // from its devices
  world.Start(b);
  stage.WaitMirrored();
}

// A write of the journal fails, and what it left is gone with the power.
void ServerStateNotKept(Stage& stage) {
  World& world = stage.world();
  const NodeIndex a = stage.Primary();
  WriteEveryChunk(stage);
  for (int i = 0; i < 6; ++i) {
    world.Kill(a);
    StateOf(stage, a).trouble().unkept_writes = 1;
    world.Start(a);
    stage.WaitFor("a failed write ends the process", seconds(5), [&] { return !world.Running(a); });
    world.Start(a);
    stage.WaitMirrored();
    world.PowerCut(a);
    world.Start(a);
    stage.Sleep(milliseconds(500));
    stage.Expect(world.Running(a), "the next one goes on");
    stage.WaitMirrored();
  }
  stage.ReadEverything();
}

}  // namespace

std::span<const Scenario> StateScenarios() {
  static const Scenario kScenarios[] = {
      {"s81-damaged-repository",
       "an MDM whose repository is rotten refuses to start, and goes on from an older copy",
       RotInTheRepository, SmallCluster(3)},
      {"s81b-unreadable-repository",
       "an MDM that cannot read its repository refuses to start, and goes on from an older copy",
       UnreadableRepository, SmallCluster(3)},
      {"s81c-seals-of-repository", "both seals lost: refused, not taken for a new repository",
       BothSealsOfTheRepository, SmallCluster(3)},
      {"s81d-lie-about-last-command",
       "an MDM that its state device lied to has told nobody what it then forgets",
       LieAboutTheLastCommand, SmallCluster(2)},
      {"s81e-lie-in-repository", "a command that is not there is noticed at the next start",
       LieInTheRepository, SmallCluster(2)},
      {"s82-damaged-server-state",
       "an SDS whose state is damaged refuses to start, and comes back with an old copy of it",
       DamagedServerState, SmallCluster(2)},
      {"s82b-server-state-not-kept", "an SDS outlives failed writes of its state",
       ServerStateNotKept, SmallCluster(2)},
  };
  return kScenarios;
}

}  // namespace gabion::sim
