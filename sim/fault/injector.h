// Draws which fault classes are on in a run and how strong (swarm), makes them happen to a world,
// and takes everything back at the end. It keeps runs in budget: disks lose only what a power cut
// may take, clocks stay within the bound that leases assume, and whatever is broken heals.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "sim/fault/classes.h"
#include "sim/world/world.h"

namespace gabion::sim {

struct FaultPlan {
  bool any = false;
  PerFault<bool> enabled;
  // Scheduled classes: mean time between two of them.
  PerFault<Duration> mean;
  // What happens in the middle of a protocol step: a fault follows the sending of this message type
  // with this probability. 0: none.
  uint16_t trigger_type = 0;
  uint32_t trigger_per_thousand = 0;
  // The same for a report that a joining is complete: its sender loses the other SDSs, then dies.
  uint32_t join_complete_per_thousand = 0;
  WorldFaults world;
  uint32_t drift_ppm_max = 0;
  Duration wall_offset_max{0};
};

// `choices` decide; half of the classes are on in a run, in every tenth none.
FaultPlan DrawFaultPlan(Choices& choices);

class FaultInjector : public Observer {
 public:
  struct Targets {
    std::vector<NodeIndex> mdms;
    std::vector<NodeIndex> sdss;
    std::vector<NodeIndex> sdcs;
    // Where the data begins on a disk: what lies below is never rotten (a damaged log is another
    // story, and both copies of a superblock are out of budget).
    uint64_t rot_from_bytes = 0;
  };

  FaultInjector(World* world, const FaultPlan& plan, Targets targets);

  // Faults from now until `end`.
  void Run(TrueTime end);
  // Nothing is broken any more, everybody runs, no faults follow.
  void HealAll();

  // Processes that die are started again after a drawn time; here a supervisor that never does.
  void KeepDown(NodeIndex node, bool keep) { kept_down_[node] = keep; }

  // No new faults for a while.
  void Quiet(Duration length) { quiet_until_ = world_->now() + length.count(); }

  uint64_t kills() const { return kills_; }

  void OnStopped(NodeIndex node) override;
  void OnSend(NodeIndex from, NodeIndex to, const wire::Message& message) override;

 private:
  void Schedule(Fault fault);
  void Happen(Fault fault);
  // Somebody to hurt: mostly an SDS.
  NodeIndex Victim(Stream stream);
  void Crash(Fault fault, Stream stream);
  void CrashVictim(Fault fault, Stream stream, NodeIndex victim);
  // Troubles rarely come alone: perhaps a crash soon after, of one of these or of a client.
  void FollowUp(Stream stream, NodeIndex a, NodeIndex b);
  void Trigger(NodeIndex from, NodeIndex to);
  void OnJoinComplete(NodeIndex primary);
  void CutPairs(std::vector<std::pair<NodeIndex, NodeIndex>> pairs, Duration length);
  void Partition(Fault fault, Stream stream);
  bool Idle() const { return healed_ || world_->now() < quiet_until_; }
  std::vector<NodeIndex> Everybody() const;
  Stream StreamOf(Fault fault) const { return streams_[fault]; }

  World* world_;
  FaultPlan plan_;
  Targets targets_;
  PerFault<Stream> streams_;
  Stream restarts_;
  Stream triggers_;
  uint32_t triggered_ = 0;
  TrueTime end_ = 0;
  TrueTime quiet_until_ = 0;
  bool healed_ = true;
  uint64_t kills_ = 0;
  std::vector<std::vector<std::pair<NodeIndex, NodeIndex>>> cuts_;
  std::vector<bool> kept_down_;
};

}  // namespace gabion::sim
