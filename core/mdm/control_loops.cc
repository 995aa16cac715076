// What the manager does by itself: it looks, decides (failover.h, rebuild.h, role_switch.h,
// moves.h), and proposes one command.
#include <algorithm>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/mdm/failover.h"
#include "core/mdm/mdm_role.h"
#include "core/mdm/moves.h"

namespace gabion::mdm {
namespace {

constexpr size_t kSlicesPerCommandMax = 1024;
constexpr size_t kForgottenPerCommandMax = 1024;
constexpr Duration kPositionsEvery = std::chrono::seconds(60);

void AddPosition(const View& view, DeviceId device,
                 google::protobuf::RepeatedPtrField<proto::DevicePosition>* positions) {
  const uint64_t position = view.device(device).log_position;
  if (position <= view.repository.FindDevice(device)->log_position()) return;
  proto::DevicePosition* noted = positions->Add();
  noted->set_device(device.value());
  noted->set_log_position(position);
}

}  // namespace

View MdmRole::MakeView(const Now& now) const {
  View view = registrar_.MakeView(repository_, leases_, now.boot);
  maps_.AddAccusers(view);
  role_switch_.Annotate(view);
  return view;
}

bool MdmRole::ProposeSlices(const Now& now, const View& view, std::vector<SliceState> slices,
                            Effects& effects) {
  if (slices.empty()) return false;
  proto::Command command;
  absl::btree_set<DeviceId> devices;
  for (const SliceState& slice : slices) {
    for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
      if (*member && devices.insert(member->device).second) {
        AddPosition(view, member->device, command.mutable_change_slices()->mutable_positions());
      }
    }
    *command.mutable_change_slices()->add_slices() = ToProto(slice);
    const SliceState& old = *repository_.FindSlice(slice.id);
    if (old.joining && !slice.joining && view.facts(slice.id).joining_useless) {
      proto::StaleReplica* useless = command.mutable_change_slices()->add_useless();
      useless->set_slice(slice.id.value());
      useless->set_device(old.joining.device.value());
    }
    const Member& before = old.primary;
    if (slice.primary.device == before.device) continue;
    StopRenewing(before.sds);
  }
  Propose(now, std::move(command), {}, effects);
  return true;
}

// Fail-over goes first, then those who register, then people, then what only improves.
void MdmRole::Pump(const Now& now, Effects& effects) {
  if (!registrar_.outdated().empty()) return;  // R23: its decisions are about what was
  bool may_improve = false;
  while (!in_flight_ && phase_ == Phase::kServing) {
    if (look_again_) {
      look_again_ = false;
      may_improve = true;
      const View view = MakeView(now);
      if (ProposeSlices(now, view, DecideSlices(view, kSlicesPerCommandMax), effects)) return;
      if (proto::ReportDevices outcomes = registrar_.NewOutcomes(repository_);
          outcomes.devices_size() != 0) {
        proto::Command command;
        *command.mutable_report_devices() = std::move(outcomes);
        Propose(now, std::move(command), {}, effects);
        return;
      }
      if (ProposeRollBack(now, view, effects)) return;
    }
    if (!sds_registrations_.empty()) {
      SdsRegistration next = std::move(sds_registrations_.front());
      sds_registrations_.pop_front();
      BeginSdsRegistration(now, std::move(next), effects);
    } else if (!sdc_registrations_.empty()) {
      SdcRegistration next = std::move(sdc_registrations_.front());
      sdc_registrations_.pop_front();
      BeginSdcRegistration(now, std::move(next), effects);
    } else if (!admin_commands_.empty()) {
      AdminCommand next = std::move(admin_commands_.front());
      admin_commands_.pop_front();
      BeginAdminCommand(now, std::move(next), effects);
    } else if (may_improve && !look_again_) {
      may_improve = false;
      if (Improve(now, effects)) return;
    } else if (!look_again_) {
      return;
    }
  }
}

// Lost redundancy first.
bool MdmRole::Improve(const Now& now, Effects& effects) {
  const View view = MakeView(now);
  rebuild_.Observe(view);
  role_switch_.Observe(view);
  if (ProposeSlices(now, view, rebuild_.Decide(view, kSlicesPerCommandMax), effects)) return true;
  RoleSwitch::Decision roles = role_switch_.Decide(view);
  if (ProposeSlices(now, view, std::move(roles.call_off), effects)) return true;
  proto::Command command;
  if (!roles.ask.empty()) {
    for (const SliceId id : roles.ask) command.mutable_ask_release()->add_slices(id.value());
    Propose(now, std::move(command), {}, effects);
    return true;
  }
  if (ProposeMoves(now, view, effects)) return true;
  if (ProposePositions(now, view, effects)) return true;
  const auto forgotten = config_.Forgotten(repository_, kForgottenPerCommandMax);
  if (forgotten.empty()) return false;
  for (const auto& [slice, device] : forgotten) {
    proto::StaleReplica* replica = command.mutable_forget_replicas()->add_replicas();
    replica->set_slice(slice.value());
    replica->set_device(device.value());
  }
  Propose(now, std::move(command), {}, effects);
  return true;
}

bool MdmRole::ProposeMoves(const Now& now, const View& view, Effects& effects) {
  MoveOptions options;
  // Half of the joinings at most, so that a lost copy finds a place at once.
  options.joins_per_device_max = std::max(1u, options_.joins_per_device_max / 2);
  options.max = kSlicesPerCommandMax;
  options.calm = role_switch_.CalmPools(now.boot);
  if (ProposeSlices(now, view, DecideMoves(view, rebuild_, options), effects)) return true;
  proto::Command command;
  if (const auto devices = EmptiedDevices(repository_); !devices.empty()) {
    command.mutable_remove_device()->set_device(devices.front().value());
  } else if (const auto sdss = EmptiedSdss(repository_); !sdss.empty()) {
    command.mutable_remove_sds()->set_sds(sdss.front().value());
  } else {
    return false;
  }
  effects.Log(Severity::kInfo, absl::StrCat("emptied: ", command.ShortDebugString()));
  Propose(now, std::move(command), {}, effects);
  return true;
}

bool MdmRole::ProposeRollBack(const Now& now, const View& view, Effects& effects) {
  for (const auto& [id, device] : view.devices) {
    const proto::Device* known = repository_.FindDevice(id);
    if (!device.behind) continue;
    effects.Log(Severity::kError,
                absl::StrCat("device ", id.value(), " (", known->path(),
                             ") went back to an older content: its log ends at ",
                             device.log_position, ", and ", known->log_position(),
                             " was durable. What it holds is not used, and copied anew"));
    proto::Command command;
    command.mutable_roll_back_device()->set_device(id.value());
    command.mutable_roll_back_device()->set_log_position(device.log_position);
    Propose(now, std::move(command), {}, effects);
    return true;
  }
  return false;
}

bool MdmRole::ProposePositions(const Now& now, const View& view, Effects& effects) {
  if (now.boot < positions_at_) return false;
  positions_at_ = now.boot + kPositionsEvery;
  proto::Command command;
  for (const auto& [id, device] : view.devices) {
    if (repository_.FindDevice(id) == nullptr) continue;
    AddPosition(view, id, command.mutable_note_positions()->mutable_positions());
  }
  if (command.note_positions().positions_size() == 0) return false;
  Propose(now, std::move(command), {}, effects);
  return true;
}

}  // namespace gabion::mdm
