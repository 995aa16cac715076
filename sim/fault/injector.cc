#include "sim/fault/injector.h"

#include <algorithm>
#include <iterator>

#include "core/base/check.h"
#include "core/wire/management.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Fault kScheduled[] = {
    Fault::kClog,
    Fault::kCutOneWay,
    Fault::kCutTwoWay,
    Fault::kIsolate,
    Fault::kSplit,
    Fault::kKill,
    Fault::kPowerCut,
    Fault::kPowerCutAll,
    Fault::kPause,
    Fault::kCleanRestart,
    Fault::kSlowDisk,
    Fault::kRot,
    Fault::kLatent,
    Fault::kWriteError,
    Fault::kFlushError,
    Fault::kStuck,
    Fault::kFull,
    Fault::kReadOnly,
    Fault::kVanish,
    Fault::kSizeChange,
    Fault::kSwapped,
    Fault::kWiped,
    Fault::kRolledBack,
    Fault::kLogPhantom,
    Fault::kLogMiswrite,
    Fault::kStateRot,
    Fault::kStateLatent,
    Fault::kStatePhantom,
    Fault::kStateFlushError,
};

// Steps of the protocol that are worth an interruption.
template <class Body>
constexpr uint16_t kTypeOf = static_cast<uint16_t>(wire::Body(Body()).index());
constexpr uint16_t kTriggerTypes[] = {
    kTypeOf<wire::ManagementBody>, kTypeOf<wire::Replicate>,  kTypeOf<wire::TailQuery>,
    kTypeOf<wire::TailReply>,      kTypeOf<wire::EpochStart>, kTypeOf<wire::EpochStartReply>,
    kTypeOf<wire::CopyRequests>,   kTypeOf<wire::JoinAck>,    kTypeOf<wire::ChangedReply>,
};
constexpr uint32_t kTriggeredMax = 8;  // in one run

bool SaysJoinComplete(const wire::Message& message) {
  if (!std::holds_alternative<wire::ManagementBody>(message.body)) return false;
  const Result<proto::Management> management = wire::ParseManagement(message);
  if (!management.has_value()) return false;
  for (const proto::SliceReport& report : management->sds_heartbeat().reports()) {
    if (report.kind() == proto::SliceReport::JOIN_COMPLETE) return true;
  }
  return false;
}

Duration Mean(Fault fault, Choices& choices, Stream stream) {
  switch (fault) {
    case Fault::kKill:
    case Fault::kPowerCut:
      return seconds(choices.Range(stream, Site::kRate, 8, 40));
    case Fault::kPowerCutAll:
      return seconds(choices.Range(stream, Site::kRate, 30, 90));
    case Fault::kClog:
    case Fault::kSlowDisk:
      return seconds(choices.Range(stream, Site::kRate, 3, 30));
    case Fault::kRot:
    case Fault::kLatent:
      return seconds(choices.Range(stream, Site::kRate, 1, 10));
    case Fault::kRolledBack:  // the first time only an image is taken
    case Fault::kLogPhantom:
    case Fault::kLogMiswrite:
    case Fault::kStateRot:
    case Fault::kStateLatent:
    case Fault::kStatePhantom:
    case Fault::kStateFlushError:
      return seconds(choices.Range(stream, Site::kRate, 4, 15));
    default:
      return seconds(choices.Range(stream, Site::kRate, 10, 60));
  }
}

// Streams of their own: a class more leaves what the others draw as it was.
void DrawDiskFaults(Choices& choices, FaultPlan& plan) {
  const Stream stream = choices.Open(StreamKind::kPlan, 10);
  const bool breaks = choices.Below(stream, Site::kSwarm, 4) == 3 || plan.over_budget;
  for (size_t i = static_cast<size_t>(kFirstOfDisks); i < kFaultCount; ++i) {
    const auto fault = static_cast<Fault>(i);
    const bool of_crash = fault == Fault::kGarbage || fault == Fault::kUnacknowledged;
    plan.enabled[fault] = choices.Chance(stream, Site::kSwarm, 1, 2) && (breaks || of_crash);
    plan.mean[fault] = Mean(fault, choices, stream);
    const auto rate = static_cast<uint32_t>(choices.Range(stream, Site::kRate, 2'000, 100'000));
    if (plan.enabled[fault]) plan.world.per_million[fault] = rate;
  }
  // Nobody can tell an older content of a whole device from the truth, once its twin is gone, too.
  if (plan.over_budget) plan.enabled[Fault::kRolledBack] = false;
  plan.world.leave_garbage = plan.enabled[Fault::kGarbage];
  plan.world.complete_unacknowledged = plan.enabled[Fault::kUnacknowledged];
}

}  // namespace

bool MayLose(const FaultPlan& plan) {
  constexpr Fault kLoses[] = {Fault::kWriteError, Fault::kFlushError, Fault::kFull,
                              Fault::kReadOnly,   Fault::kWiped,      Fault::kRolledBack,
                              Fault::kLogPhantom, Fault::kLogMiswrite};
  return std::any_of(std::begin(kLoses), std::end(kLoses),
                     [&plan](Fault fault) { return plan.enabled[fault]; });
}

bool MayDamage(const FaultPlan& plan) {
  constexpr Fault kDamages[] = {Fault::kRot,      Fault::kLatent,  Fault::kMisread,
                                Fault::kMiswrite, Fault::kPhantom, Fault::kStaleRead};
  return std::any_of(std::begin(kDamages), std::end(kDamages),
                     [&plan](Fault fault) { return plan.enabled[fault]; });
}

FaultPlan DrawFaultPlan(Choices& choices, bool over_budget) {
  FaultPlan plan;
  plan.over_budget = over_budget;
  const Stream stream = choices.Open(StreamKind::kPlan, 2);
  // 0: a run without faults.
  const uint64_t swarm = choices.Below(stream, Site::kSwarm, 20);
  if (swarm == 0) return plan;
  plan.any = true;
  for (size_t i = 0; i < static_cast<size_t>(kFirstOfDisks); ++i) {
    const auto fault = static_cast<Fault>(i);
    plan.enabled[fault] = choices.Chance(stream, Site::kSwarm, 1, 2);
    plan.mean[fault] = Mean(fault, choices, stream);
  }
  const auto rate = [&](Fault fault, uint64_t lo, uint64_t hi) {
    const auto drawn = static_cast<uint32_t>(choices.Range(stream, Site::kRate, lo, hi));
    plan.world.per_million[fault] = plan.enabled[fault] ? drawn : 0;
  };
  rate(Fault::kDrop, 20, 3'000);
  rate(Fault::kDelayTail, 20, 5'000);
  rate(Fault::kReset, 10, 1'000);
  rate(Fault::kHalfOpen, 100'000, 700'000);
  rate(Fault::kRefuse, 10'000, 300'000);
  if (choices.Below(stream, Site::kSwarm, 3) != 0) {
    plan.trigger_type =
        kTriggerTypes[choices.Below(stream, Site::kSwarm, std::size(kTriggerTypes))];
    // Frequent messages would use the run's triggers up at once.
    const bool frequent = plan.trigger_type <= kTriggerTypes[1];
    plan.trigger_per_thousand =
        static_cast<uint32_t>(frequent ? choices.Range(stream, Site::kRate, 1, 8)
                                       : choices.Range(stream, Site::kRate, 20, 300));
  }
  if (choices.Below(stream, Site::kSwarm, 4) == 3) {
    plan.join_complete_per_thousand =
        static_cast<uint32_t>(choices.Range(stream, Site::kRate, 50, 500));
  }
  plan.world.reorder_disk = plan.enabled[Fault::kReorder];
  plan.world.lose_unflushed = plan.enabled[Fault::kUnflushedLost];
  plan.world.tear_writes = plan.enabled[Fault::kTornWrite];
  if (plan.enabled[Fault::kClockDrift]) {
    // Leases assume 1 %; the last bit is left to rounding.
    plan.drift_ppm_max = static_cast<uint32_t>(choices.Range(stream, Site::kRate, 1, 3) * 3'300);
  }
  if (plan.enabled[Fault::kWallOffset]) plan.wall_offset_max = std::chrono::hours(24);
  DrawDiskFaults(choices, plan);
  return plan;
}

FaultInjector::FaultInjector(World* world, const FaultPlan& plan, Targets targets)
    : world_(world),
      plan_(plan),
      targets_(std::move(targets)),
      restarts_(world->choices().Open(StreamKind::kFault, 100)),
      triggers_(world->choices().Open(StreamKind::kFault, 101)),
      kept_down_(world->node_count(), false),
      state_hit_(world->node_count(), false) {
  for (size_t i = 0; i < kFaultCount; ++i) {
    streams_.values[i] = world->choices().Open(StreamKind::kFault, static_cast<uint32_t>(i));
  }
  world_->Observe(this);
}

std::vector<NodeIndex> FaultInjector::Everybody() const {
  std::vector<NodeIndex> all = targets_.mdms;
  all.insert(all.end(), targets_.sdss.begin(), targets_.sdss.end());
  all.insert(all.end(), targets_.sdcs.begin(), targets_.sdcs.end());
  return all;
}

void FaultInjector::Run(TrueTime end) {
  end_ = end;
  healed_ = false;
  world_->faults() = plan_.world;
  StartLies();
  KeepOldStates();
  for (const Fault fault : kScheduled) {
    if (plan_.enabled[fault]) Schedule(fault);
  }
}

void FaultInjector::Schedule(Fault fault) {
  const Duration pause = world_->choices().TailOf(StreamOf(fault), Site::kFaultWhen,
                                                  plan_.mean[fault], plan_.mean[fault] * 5);
  const TrueTime when = world_->now() + pause.count() + 1;
  if (when >= end_) return;
  world_->At(when, [this, fault] {
    if (healed_) return;
    if (!Idle()) Happen(fault);
    Schedule(fault);
  });
}

NodeIndex FaultInjector::Victim(Stream stream) {
  Choices& choices = world_->choices();
  const uint64_t kind = choices.Below(stream, Site::kFaultWhat, 10);
  const std::vector<NodeIndex>& group = kind < 7   ? targets_.sdss
                                        : kind < 9 ? targets_.mdms
                                                   : targets_.sdcs;
  return group[choices.Below(stream, Site::kFaultWhat, group.size())];
}

void FaultInjector::Crash(Fault fault, Stream stream) {
  Choices& choices = world_->choices();
  const NodeIndex victim = Victim(stream);
  CrashVictim(fault, stream, victim);
  FollowUp(stream, victim,
           targets_.sdss[choices.Below(stream, Site::kFaultWhat, targets_.sdss.size())]);
}

void FaultInjector::FollowUp(Stream stream, NodeIndex a, NodeIndex b) {
  Choices& choices = world_->choices();
  if (!plan_.enabled[Fault::kKill] && !plan_.enabled[Fault::kPowerCut]) return;
  const Fault fault = plan_.enabled[Fault::kKill] ? Fault::kKill : Fault::kPowerCut;
  const uint64_t kind = choices.Below(stream, Site::kFaultWhat, 8);
  if (kind < 4) return;
  const NodeIndex sdc =
      targets_.sdcs[choices.Below(stream, Site::kFaultWhat, targets_.sdcs.size())];
  const Duration delay =
      choices.TailOf(stream, Site::kFaultWhen, milliseconds(150), milliseconds(2000));
  world_->After(delay, [this, fault, stream, a, b, sdc, kind] {
    if (Idle()) return;
    if (kind == 4 || kind == 6) CrashVictim(fault, stream, a);
    if (kind == 5) CrashVictim(fault, stream, b);
    // A write whose client is gone is not sent again.
    if (kind >= 6) CrashVictim(fault, stream, sdc);
  });
}

void FaultInjector::OnSend(NodeIndex from, NodeIndex to, const wire::Message& message) {
  if (Idle() || triggered_ == kTriggeredMax) return;
  if (plan_.join_complete_per_thousand != 0 && SaysJoinComplete(message) &&
      world_->choices().Chance(triggers_, Site::kCrashPoint, plan_.join_complete_per_thousand,
                               1'000)) {
    ++triggered_;
    world_->At(world_->now(), [this, from] {
      if (!Idle()) OnJoinComplete(from);
    });
    return;
  }
  if (message.type() != plan_.trigger_type) return;
  if (std::find(targets_.sdss.begin(), targets_.sdss.end(), to) == targets_.sdss.end()) return;
  if (!world_->choices().Chance(triggers_, Site::kCrashPoint, plan_.trigger_per_thousand, 1'000)) {
    return;
  }
  ++triggered_;
  // Not from within the sender's step.
  world_->At(world_->now(), [this, from, to] {
    if (!Idle()) Trigger(from, to);
  });
}

void FaultInjector::OnJoinComplete(NodeIndex primary) {
  Choices& choices = world_->choices();
  const bool kill = plan_.enabled[Fault::kKill] || plan_.enabled[Fault::kPowerCut];
  if (!kill || !plan_.enabled[Fault::kIsolate]) return;
  std::vector<std::pair<NodeIndex, NodeIndex>> pairs;
  for (const NodeIndex other : targets_.sdss) {
    if (other == primary) continue;
    pairs.push_back({primary, other});
    pairs.push_back({other, primary});
  }
  ++world_->fired()[Fault::kIsolate];
  const Duration length =
      choices.TailOf(triggers_, Site::kFaultLength, seconds(1), seconds(4)) + milliseconds(1);
  CutPairs(std::move(pairs), length);
  const Duration delay =
      choices.TailOf(triggers_, Site::kFaultWhen, milliseconds(200), milliseconds(900));
  const Fault fault = plan_.enabled[Fault::kKill] ? Fault::kKill : Fault::kPowerCut;
  world_->After(delay, [this, fault, primary] {
    if (!Idle()) CrashVictim(fault, triggers_, primary);
  });
}

void FaultInjector::Trigger(NodeIndex from, NodeIndex to) {
  Choices& choices = world_->choices();
  const Duration length =
      choices.TailOf(triggers_, Site::kFaultLength, milliseconds(500), seconds(3));
  const uint64_t kind = choices.Below(triggers_, Site::kFaultWhat, 6);
  if (kind == 0 && plan_.enabled[Fault::kKill]) {
    CrashVictim(Fault::kKill, triggers_, from);
  } else if (kind == 1 && plan_.enabled[Fault::kKill]) {
    CrashVictim(Fault::kKill, triggers_, to);
  } else if (kind == 2 && plan_.enabled[Fault::kPowerCut]) {
    CrashVictim(Fault::kPowerCut, triggers_, from);
  } else if (kind == 3 && plan_.enabled[Fault::kCutTwoWay]) {
    ++world_->fired()[Fault::kCutTwoWay];
    CutPairs({{from, to}, {to, from}}, length + milliseconds(1));
    FollowUp(triggers_, from, to);
  } else if (kind == 4 && plan_.enabled[Fault::kClog]) {
    ++world_->fired()[Fault::kClog];
    world_->Clog(from, to, world_->now() + length.count());
    FollowUp(triggers_, from, to);
  } else if (kind == 5 && plan_.enabled[Fault::kPause] && world_->Running(from)) {
    ++world_->fired()[Fault::kPause];
    world_->Pause(from, world_->now() + length.count() + 1);
  }
}

void FaultInjector::CrashVictim(Fault fault, Stream stream, NodeIndex victim) {
  Choices& choices = world_->choices();
  if (!world_->Running(victim)) return;
  const bool power = fault == Fault::kPowerCut;
  ++world_->fired()[fault];
  // Now, or in the middle of the effects of some step soon.
  const uint64_t countdown = choices.Below(stream, Site::kCrashPoint, 60);
  if (power && plan_.enabled[Fault::kUnflushedLost] &&
      choices.Chance(stream, Site::kCrashPoint, 1, 2)) {
    world_->ArmPowerCutWhenDirty(victim, static_cast<uint32_t>(countdown / 6));
  } else if (countdown != 0 && choices.Chance(stream, Site::kCrashPoint, 2, 3)) {
    world_->ArmCrash(victim, static_cast<uint32_t>(countdown), power);
  } else if (power) {
    world_->PowerCut(victim);
  } else {
    world_->Kill(victim);
  }
}

void FaultInjector::CutPairs(std::vector<std::pair<NodeIndex, NodeIndex>> pairs, Duration length) {
  for (const auto& [from, to] : pairs) world_->Cut(from, to);
  if (world_->tracing()) {
    for (const auto& [from, to] : pairs) {
      world_->Trace(from, "CUT to " + world_->node(to).options.name);
    }
  }
  const std::vector<std::pair<NodeIndex, NodeIndex>> key = pairs;
  cuts_.push_back(std::move(pairs));
  world_->After(length, [this, key] {
    const auto at = std::find(cuts_.begin(), cuts_.end(), key);
    if (at == cuts_.end()) return;
    cuts_.erase(at);
    for (const auto& [from, to] : key) {
      world_->Heal(from, to);
      if (world_->tracing()) {
        world_->Trace(from, "HEALED to " + world_->node(to).options.name);
      }
    }
  });
}

void FaultInjector::Partition(Fault fault, Stream stream) {
  Choices& choices = world_->choices();
  const std::vector<NodeIndex> all = Everybody();
  std::vector<std::pair<NodeIndex, NodeIndex>> pairs;
  const auto both = [&pairs](NodeIndex a, NodeIndex b) {
    pairs.push_back({a, b});
    pairs.push_back({b, a});
  };
  const NodeIndex a = Victim(stream);
  if (fault == Fault::kIsolate) {
    for (const NodeIndex other : all) {
      if (other != a) both(a, other);
    }
  } else if (fault == Fault::kSplit) {
    const uint64_t sides = choices.Below(stream, Site::kFaultWhat, uint64_t{1} << all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      for (size_t j = i + 1; j < all.size(); ++j) {
        if ((sides >> i & 1) != (sides >> j & 1)) both(all[i], all[j]);
      }
    }
  } else {
    const NodeIndex b = all[choices.Below(stream, Site::kFaultWhat, all.size())];
    if (a == b) return;
    if (fault == Fault::kCutOneWay) {
      pairs.push_back({a, b});
    } else {
      both(a, b);
    }
  }
  if (pairs.empty()) return;
  ++world_->fired()[fault];
  // Shorter than a lease, about a lease, or long.
  constexpr Duration kLengths[] = {milliseconds(300), milliseconds(1500), seconds(5)};
  const Duration mean = kLengths[choices.Below(stream, Site::kFaultLength, 3)];
  const Duration length = choices.TailOf(stream, Site::kFaultLength, mean, mean * 4);
  const NodeIndex other = pairs[0].second;
  CutPairs(std::move(pairs), length + milliseconds(1));
  FollowUp(stream, a, other);
}

void FaultInjector::Happen(Fault fault) {
  Choices& choices = world_->choices();
  const Stream stream = StreamOf(fault);
  switch (fault) {
    case Fault::kKill:
    case Fault::kPowerCut:
      Crash(fault, stream);
      return;
    case Fault::kPowerCutAll:
      ++world_->fired()[fault];
      for (const NodeIndex node : targets_.mdms) world_->PowerCut(node);
      for (const NodeIndex node : targets_.sdss) world_->PowerCut(node);
      return;
    case Fault::kPause: {
      const NodeIndex victim = Victim(stream);
      if (!world_->Running(victim)) return;
      ++world_->fired()[fault];
      constexpr Duration kLengths[] = {milliseconds(100), milliseconds(900), seconds(3),
                                       seconds(30)};
      const Duration mean = kLengths[choices.Below(stream, Site::kFaultLength, 4)];
      const Duration length = choices.TailOf(stream, Site::kFaultLength, mean, mean * 3);
      world_->Pause(victim, world_->now() + length.count() + 1);
      return;
    }
    case Fault::kCleanRestart: {
      const NodeIndex victim = Victim(stream);
      if (!world_->Running(victim)) return;
      ++world_->fired()[fault];
      world_->Stop(victim);
      return;
    }
    case Fault::kClog: {
      const std::vector<NodeIndex> all = Everybody();
      const NodeIndex from = all[choices.Below(stream, Site::kFaultWhat, all.size())];
      const NodeIndex to = all[choices.Below(stream, Site::kFaultWhat, all.size())];
      if (from == to) return;
      ++world_->fired()[fault];
      const Duration length =
          choices.TailOf(stream, Site::kFaultLength, milliseconds(400), seconds(4));
      world_->Clog(from, to, world_->now() + length.count());
      return;
    }
    case Fault::kSlowDisk: {
      const NodeIndex victim = Victim(stream);
      std::vector<Node::NamedDisk>& disks = world_->node(victim).disks;
      Disk& disk = *disks[choices.Below(stream, Site::kFaultWhat, disks.size())].disk;
      const Duration extra =
          choices.TailOf(stream, Site::kFaultLength, milliseconds(30), seconds(2));
      const Duration length = choices.TailOf(stream, Site::kFaultLength, seconds(2), seconds(10));
      disk.SlowDown(world_->now() + length.count(), extra);
      return;
    }
    case Fault::kRot:
    case Fault::kLatent:
    case Fault::kWriteError:
    case Fault::kFlushError:
    case Fault::kStuck:
    case Fault::kFull:
    case Fault::kReadOnly:
    case Fault::kVanish:
    case Fault::kSizeChange:
    case Fault::kSwapped:
    case Fault::kWiped:
    case Fault::kRolledBack:
    case Fault::kLogPhantom:
    case Fault::kLogMiswrite:
      HappenToDisk(fault, stream);
      return;
    case Fault::kStateRot:
    case Fault::kStateLatent:
    case Fault::kStatePhantom:
    case Fault::kStateFlushError:
      HappenToState(fault, stream);
      return;
    case Fault::kCutOneWay:
    case Fault::kCutTwoWay:
    case Fault::kIsolate:
    case Fault::kSplit:
      Partition(fault, stream);
      return;
    case Fault::kDrop:
    case Fault::kDelayTail:
    case Fault::kReset:
    case Fault::kHalfOpen:
    case Fault::kRefuse:
    case Fault::kUnflushedLost:
    case Fault::kTornWrite:
    case Fault::kReorder:
    case Fault::kClockDrift:
    case Fault::kWallOffset:
    case Fault::kGarbage:
    case Fault::kUnacknowledged:
    case Fault::kMisread:
    case Fault::kMiswrite:
    case Fault::kPhantom:
    case Fault::kStaleRead:
    case Fault::kCount:
      break;
  }
  CHECK(false) << "a fault that is not scheduled";
}

void FaultInjector::OnStopped(NodeIndex node) {
  ++kills_;
  Choices& choices = world_->choices();
  // At once, within a lease, or long enough for a fail-over.
  constexpr Duration kLengths[] = {milliseconds(20), milliseconds(700), seconds(3), seconds(4)};
  Duration mean = milliseconds(100);
  if (!healed_) mean = kLengths[choices.Below(restarts_, Site::kFaultLength, 4)];
  const Duration down =
      choices.TailOf(restarts_, Site::kFaultLength, mean, mean * 4) + milliseconds(1);
  world_->After(down, [this, node] {
    if (!kept_down_[node]) world_->Start(node);
  });
}

void FaultInjector::HealAll() {
  healed_ = true;
  world_->faults() = WorldFaults();
  std::vector<std::vector<std::pair<NodeIndex, NodeIndex>>> cuts;
  cuts.swap(cuts_);
  for (const auto& pairs : cuts) {
    for (const auto& [from, to] : pairs) world_->Heal(from, to);
  }
  HealDisks();
  for (const NodeIndex node : Everybody()) {
    world_->node(node).crash_countdown = 0;
    world_->node(node).countdown_when_dirty = 0;
    world_->Resume(node);
    for (Node::NamedDisk& disk : world_->node(node).disks) {
      disk.disk->SlowDown(0, Duration(0));
    }
    if (!kept_down_[node]) world_->Start(node);
  }
}

}  // namespace gabion::sim
