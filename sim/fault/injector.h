// Draws which fault classes are on in a run and how strong (swarm), makes them happen to a world,
// and takes everything back at the end. It keeps runs in budget: disks lose only what a power cut
// may take, clocks stay within the bound that leases assume, and whatever is broken heals.
//
// The fault atlas of disks: those of one server alone (the last one) damage, lie, and fail, so
// every other copy is well. What is damaged there reads well again when the faults are over
// (before, it may have been the only copy). A disk loses its content only while all else rests and
// every replica on it has an in-sync twin (Targets::may_lose), once or twice in a run. Over budget
// any disk may be hit, at any time, and stays damaged.
//
// A log that lies about a durable write is such a loss: its crash follows before a checkpoint
// could. Over budget only lies stay of which an honest write behind them speaks: nobody could know
// of the last one.
//
// State devices of all SDSs and of the MDM are damaged at any time, in one place each until it is
// replaced: by its newest copy or, at an SDS, by an old one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
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
  bool over_budget = false;
};

// `choices` decide; half of the classes are on in a run, in every twentieth none. Classes of disks
// that damage, lie or break are on in a quarter of the runs, half of them each; over budget always.
FaultPlan DrawFaultPlan(Choices& choices, bool over_budget);

// Whether disks may be lost.
bool MayLose(const FaultPlan& plan);
// Whether reads and partial writes may meet bytes that are lost, or lost for now.
bool MayDamage(const FaultPlan& plan);

class FaultInjector : public Observer {
 public:
  struct Targets {
    std::vector<NodeIndex> mdms;
    std::vector<NodeIndex> sdss;
    std::vector<NodeIndex> sdcs;
    // Where the data begins on a disk: what lies below is damaged over budget only (a damaged log
    // makes all replicas on it void, and both copies of a superblock the device).
    uint64_t rot_from_bytes = 0;
    // Where the log of a store is on a disk.
    uint64_t log_from_bytes = 0;
    uint64_t log_to_bytes = 0;
    enum class State : uint8_t { kNeverDamaged, kNewestCopyBack, kAnyCopyBack };
    State state = State::kNewestCopyBack;
    // Whether a disk of this server may be lost now. Null: always.
    std::function<bool(NodeIndex)> may_lose{};
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

  // A disk is not where the cluster believes it to be, or has lost its content and the copies are
  // not there again: its bytes prove nothing.
  bool disks_unsure() const { return swapped_.has_value() || loss_ != Loss::kNo; }

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

  // device_faults.cc
  //   kNo -> kCalming (all is well for a while) -> kArmed (it shows) -> kCopying -> kNo
  enum class Loss : uint8_t { kNo, kCalming, kArmed, kCopying };
  struct Swapped {
    NodeIndex a = 0;
    NodeIndex b = 0;
  };
  void HappenToDisk(Fault fault, Stream stream);
  NodeIndex DiskVictim(Stream stream);
  std::vector<Node::NamedDisk>& DisksOf(NodeIndex node) { return world_->node(node).disks; }
  size_t DrawDisk(NodeIndex victim, Stream stream);
  // The process that has given up a device gets it back by another start.
  void RestartSoon(NodeIndex victim, Stream stream, Duration at_least);
  void ChangeSize(NodeIndex victim, size_t disk, Stream stream);
  void Swap(NodeIndex victim, Stream stream);
  void SwapBack();
  void BeginLoss(Fault kind, NodeIndex victim, size_t disk);
  void AdvanceLoss(Fault kind, NodeIndex victim, size_t disk);
  void Lose(Fault kind, NodeIndex victim, size_t disk);
  void BecomeLoss(Loss loss);
  void EndLoss();
  void LieInLog(Fault kind, NodeIndex victim, size_t disk);
  void StartLies();
  void HealDisks();

  // state_faults.cc
  void KeepOldStates();
  void HappenToState(Fault fault, Stream stream);
  void CrashSoon(NodeIndex victim, Stream stream);
  // An administrator puts a copy of the state folder in the place of what was damaged.
  void RestoreState(NodeIndex victim, Stream stream, bool may_be_old);
  void HealState(NodeIndex victim);
  void HealStates();

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
  std::optional<Swapped> swapped_;
  std::vector<NodeIndex> to_restart_;  // at the end
  // Of the disk that is to be rolled back: what it held.
  std::optional<DiskImage> old_image_;
  size_t old_image_disk_ = 0;
  Loss loss_ = Loss::kNo;
  TrueTime loss_since_ = 0;  // the present state of it
  uint32_t calm_looks_ = 0;  // in a row, at which all was well
  uint64_t fired_before_ = 0;
  PerFault<bool> lost_;  // once in a run
  // Of state devices, by node.
  std::map<NodeIndex, DiskImage> old_states_;
  std::vector<bool> state_hit_;
};

}  // namespace gabion::sim
