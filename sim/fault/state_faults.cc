// What the injector does to state devices: the journals of SDSs and of the MDM.
//
// A damaged journal is refused, so its process ends at every start, until an administrator puts a
// copy of the state folder in its place: the newest one, as if it had never been damaged, or at an
// SDS an older one. An older one of the MDM would be another story (replication.md R23), which the
// scenarios tell.
#include <string>

#include "core/base/check.h"
#include "sim/fault/injector.h"

namespace gabion::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

}  // namespace

void FaultInjector::KeepOldStates() {
  if (targets_.state != Targets::State::kAnyCopyBack) return;
  for (const NodeIndex node : targets_.sdss) {
    old_states_.insert_or_assign(node, DisksOf(node)[0].disk->durable_image());
  }
}

void FaultInjector::HappenToState(Fault fault, Stream stream) {
  if (targets_.state == Targets::State::kNeverDamaged) return;
  Choices& choices = world_->choices();
  const bool of_manager = choices.Below(stream, Site::kFaultWhat, 3) == 2;
  const std::vector<NodeIndex>& group = of_manager ? targets_.mdms : targets_.sdss;
  const NodeIndex victim = group[choices.Below(stream, Site::kFaultWhat, group.size())];
  if (state_hit_[victim]) return;
  Disk& disk = *DisksOf(victim)[0].disk;
  const Duration length =
      choices.TailOf(stream, Site::kFaultLength, seconds(4), seconds(20)) + milliseconds(1);
  bool may_be_old = !of_manager;
  switch (fault) {
    case Fault::kStateRot:
    case Fault::kStateLatent:
      if (!disk.Damage(fault, 0)) return;
      break;
    case Fault::kStatePhantom:
      disk.LieOnce({.kind = fault,
                    .skip = static_cast<uint32_t>(choices.Below(stream, Site::kFaultWhat, 2)),
                    .then = [this, victim, stream] { CrashSoon(victim, stream); }});
      break;
    case Fault::kStateFlushError:
      disk.trouble().unkept_writes = 1;
      may_be_old = false;  // nothing is damaged
      break;
    default:
      CHECK(false) << "no fault of state devices";
  }
  if (world_->tracing()) world_->Trace(victim, "STATE: " + std::string(NameOf(fault)));
  state_hit_[victim] = true;
  // Journals are read at the start only, and an SDS hardly writes at any other time.
  const bool writes = fault == Fault::kStatePhantom || fault == Fault::kStateFlushError;
  if (!of_manager || !writes) CrashSoon(victim, stream);
  world_->After(length, [this, victim, stream, may_be_old] {
    if (!healed_) RestoreState(victim, stream, may_be_old);
  });
}

void FaultInjector::CrashSoon(NodeIndex victim, Stream stream) {
  Choices& choices = world_->choices();
  const bool later = choices.Chance(stream, Site::kFaultWhen, 1, 2);
  const Duration pause =
      later ? choices.TailOf(stream, Site::kFaultWhen, milliseconds(20), seconds(1)) : Duration(0);
  const bool power = choices.Chance(stream, Site::kFaultWhat, 1, 2);
  world_->After(pause, [this, victim, power] {
    if (Idle() || !world_->Running(victim)) return;
    power ? world_->PowerCut(victim) : world_->Kill(victim);
  });
}

void FaultInjector::RestoreState(NodeIndex victim, Stream stream, bool may_be_old) {
  const auto old = old_states_.find(victim);
  const bool is_old = may_be_old && old != old_states_.end() && !Idle() &&
                      world_->choices().Chance(stream, Site::kFaultWhat, 1, 2);
  if (world_->tracing()) {
    world_->Trace(victim, is_old ? "STATE: an old copy is put in its place" : "STATE: well again");
  }
  if (is_old) {
    world_->PowerCut(victim);
    DisksOf(victim)[0].disk->RollBackTo(old->second);
  }
  HealState(victim);
}

void FaultInjector::HealState(NodeIndex victim) {
  Disk& disk = *DisksOf(victim)[0].disk;
  disk.StopLying();
  disk.HealDamage();
  disk.trouble().unkept_writes = 0;
  state_hit_[victim] = false;
}

void FaultInjector::HealStates() {
  for (const NodeIndex node : targets_.mdms) HealState(node);
  for (const NodeIndex node : targets_.sdss) HealState(node);
}

}  // namespace gabion::sim
