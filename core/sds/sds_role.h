// Routes events to the components of one SDS, and settles what they left to do before a step ends.
#pragma once

#include <string>
#include <vector>

#include "core/role/role.h"
#include "core/sds/node.h"
#include "core/sds/sds.h"

namespace gabion::sds {

class SdsRole : public Role {
 public:
  SdsRole(const Options& options, const RoleResources& resources);

  void Step(const Now& now, const Event& event, Effects& effects) override;
  void CheckInvariants() const override;
  std::string Dump() const override;
  void Collect(MetricList& metrics) const override;  // metrics.cc
  uint64_t StateHash() const override;

  const Node& node() const { return node_; }

 private:
  void On(Context& ctx, const StartEvent& event);
  void On(Context& ctx, const ConnectedEvent& event);
  void On(Context& ctx, const ConnectFailedEvent& event);
  void On(Context& ctx, const DisconnectedEvent& event);
  void On(Context& ctx, const MessageEvent& event);
  void On(Context& ctx, const DiskDoneEvent& event);
  void On(Context& ctx, const DeviceOpenedEvent& event);
  void On(Context& ctx, const TimerEvent& event);
  void On(Context& ctx, const UserRequestEvent& event);
  void On(Context& ctx, const StopEvent& event);

  void Settle(Context& ctx);
  void OnDone(Context& ctx, const store::Done& done);
  void AdvanceReplica(Context& ctx, const ReplicaKey& key);
  void OnWake(Context& ctx);
  void SetWakeTimer(Context& ctx);
  void SendCommitPoints(Context& ctx);
  void AdvanceStop(Context& ctx, bool late);

  enum class Stop : uint8_t { kNo, kDraining, kClosing };

  Node node_;
  Stop stop_ = Stop::kNo;
  Instant wake_at_ = kNever;
  std::vector<store::Done> done_;  // being handled; keeps its memory
};

}  // namespace gabion::sds
