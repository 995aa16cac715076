// Starting, stopping, killing and pausing processes.
#include <algorithm>

#include "core/base/check.h"
#include "sim/world/world.h"

namespace gabion::sim {

void World::Start(NodeIndex index) {
  Node& node = *nodes_[index];
  if (node.role != nullptr) return;
  node.powered = true;
  ++node.boot;
  node.devices.assign(1, 0);
  node.timer_slots.clear();
  node.timers.clear();
  node.timer_tags.clear();
  node.crash_countdown = 0;
  node.countdown_when_dirty = 0;
  node.role = node.options.make_role({.pool = node.pool.get()});
  if (tracer_ != nullptr) Trace(index, "process starts, boot " + std::to_string(node.boot));
  for (Observer* observer : observers_) observer->OnStarted(index);
  StepLater(index, now_, StartEvent{.state_device = node.disks[0].disk->info()});
}

void World::Die(NodeIndex index, bool power) {
  Node& node = *nodes_[index];
  if (node.role != nullptr) {
    if (tracer_ != nullptr) Trace(index, power ? "POWER CUT" : "process dies");
    node.role.reset();
    ++node.boot;
    // What waited in the pause is gone with the process; its slots are given back.
    const std::vector<QueuedEvent> waiting = std::move(node.while_paused);
    node.while_paused.clear();
    node.paused = false;
    for (const QueuedEvent& event : waiting)
      Dispatch({.time = now_,
                .order = event.order,
                .arg = event.arg,
                .boot = event.boot,
                .node = event.node,
                .kind = event.kind});
    DisconnectAll(index, power);
    for (Node::NamedDisk& disk : node.disks) {
      if (power) {
        disk.disk->OnPowerCut();
      } else {
        disk.disk->OnKill();
      }
    }
    for (Observer* observer : observers_) observer->OnStopped(index);
  } else if (power) {
    for (Node::NamedDisk& disk : node.disks) disk.disk->OnPowerCut();
  }
  if (power) {
    node.powered = false;
    // The boot clock starts anew with the machine.
    node.clock.boot_offset =
        1'000'000'000 - node.clock.Boot(now_).time_since_epoch().count() + node.clock.boot_offset;
  }
}

void World::Kill(NodeIndex index) { Die(index, false); }

void World::PowerCut(NodeIndex index) { Die(index, true); }

void World::Stop(NodeIndex index) {
  if (Running(index)) StepLater(index, now_, StopEvent());
}

void World::ArmCrash(NodeIndex index, uint32_t countdown, bool power) {
  if (!Running(index)) return;
  nodes_[index]->crash_countdown = std::max(countdown, 1u);
  nodes_[index]->crash_power = power;
}

void World::ArmPowerCutWhenDirty(NodeIndex index, uint32_t countdown) {
  if (Running(index)) nodes_[index]->countdown_when_dirty = std::max(countdown, 1u);
}

void World::Pause(NodeIndex index, TrueTime until) {
  Node& node = *nodes_[index];
  if (node.role == nullptr || node.paused) return;
  node.paused = true;
  if (tracer_ != nullptr) Trace(index, "PAUSE");
  if (until == kForever) return;
  const uint32_t boot = node.boot;
  At(until, [this, index, boot] {
    if (nodes_[index]->boot == boot && nodes_[index]->paused) Unpause(index);
  });
}

void World::Unpause(NodeIndex index) {
  Node& node = *nodes_[index];
  node.paused = false;
  if (tracer_ != nullptr) Trace(index, "goes on after the pause");
  std::vector<QueuedEvent> waiting;
  waiting.swap(node.while_paused);
  for (QueuedEvent& event : waiting) {
    event.time = now_;
    Dispatch(event);
    if (failure_.happened()) return;
  }
}

}  // namespace gabion::sim
