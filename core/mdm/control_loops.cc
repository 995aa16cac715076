// What the manager does by itself: it looks, decides (failover.h, rebuild.h, role_switch.h,
// moves.h), and proposes one command.
#include <algorithm>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/mdm/failover.h"
#include "core/mdm/mdm_role.h"
#include "core/mdm/moves.h"
#include "core/mdm/reopening.h"

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
  view.are_old_leases_over = IsEveryOldLeaseOver(now);
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
  NoteOutdated(now, effects);
  bool may_improve = false;
  while (!in_flight_ && phase_ == Phase::kServing) {
    if (!registrar_.outdated().empty()) return PumpOutdated(now, effects);
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
      if (ProposeReopening(now, view, effects)) return;
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

// Its decisions would be about what was (R23).
void MdmRole::PumpOutdated(const Now& now, Effects& effects) {
  for (const SdsRegistration& registration : std::exchange(sds_registrations_, {})) {
    const auto connection = connections_.find(registration.conn);
    if (connection == connections_.end()) continue;
    if (connection->second.is_of_cluster) {
      registrar_.NoteRegistration(repository_, registration.request);
    }
    proto::Management answer;
    answer.mutable_sds_register_reply()->set_error(registrar_.outdated());
    answer.mutable_sds_register_reply()->set_cluster(repository_.cluster().value());
    answer.mutable_sds_register_reply()->set_generation(repository_.generation());
    Reply(registration.conn, registration.tag, answer, effects);
  }
  sdc_registrations_.clear();  // they ask again
  while (!in_flight_ && !admin_commands_.empty()) {
    AdminCommand next = std::move(admin_commands_.front());
    admin_commands_.pop_front();
    if (next.request.has_mdm_restored()) {
      BeginAdminCommand(now, std::move(next), effects);
      continue;
    }
    proto::AdminReply reply;
    reply.set_code(proto::AdminReply::UNAVAILABLE);
    reply.set_error(registrar_.outdated());
    ReplyAdmin(next.conn, next.tag, reply, effects);
  }
}

// A restored repository may turn out to be older than another one that was restored before.
void MdmRole::NoteOutdated(const Now& now, Effects& effects) {
  if (!registrar_.outdated().empty() || repository_.generation() == 0 || !look_again_) return;
  std::string why = WhyOutdated(MakeView(now));
  if (why.empty()) return;
  registrar_.NoteOutdated(std::move(why));
  effects.Log(Severity::kCritical, registrar_.outdated());
}

// Devices that the lost repository knew belong to the pool whose slices they hold.
bool MdmRole::ProposeAdoption(const Now& now, Effects& effects) {
  for (const auto& [sds, state] : repository_.sdss()) {
    for (const proto::Device& lost : registrar_.LostDevices(repository_, sds)) {
      const auto reported = registrar_.survey().devices().find(DeviceId(lost.id()));
      if (reported == registrar_.survey().devices().end()) continue;
      PoolId pool;
      for (const auto& [slice, recorded] : reported->second.replicas) {
        if (pool = repository_.PoolOfSlice(slice); pool.valid()) break;
      }
      if (!pool.valid()) continue;
      proto::Command command;
      proto::AdoptDevice* adopt = command.mutable_adopt_device();
      adopt->set_device(lost.id());
      adopt->set_sds(lost.sds());
      adopt->set_pool(pool.value());
      adopt->set_path(lost.path());
      adopt->set_size_bytes(lost.size_bytes());
      effects.Log(Severity::kWarning,
                  absl::StrCat("device ", lost.id(), " (", lost.path(), ") at SDS ", state.name(),
                               " was added after the copy of this repository was made: it is in "
                               "pool ",
                               repository_.FindPool(pool)->name(), " again"));
      Propose(now, std::move(command), {}, effects);
      return true;
    }
  }
  return false;
}

bool MdmRole::ProposeReopening(const Now& now, const View& view, Effects& effects) {
  if (repository_.generation() == 0) return false;
  if (ProposeAdoption(now, effects)) return true;
  if (repository_.closed().empty() || !IsEveryOldLeaseOver(now)) return false;
  proto::Command command;
  *command.mutable_reopen_slices() = DecideReopenings(view, kSlicesPerCommandMax);
  if (command.reopen_slices().slices_size() == 0) return false;
  effects.Log(Severity::kInfo,
              absl::StrCat(command.reopen_slices().slices_size(), " of ",
                           repository_.closed().size(), " slices are served again"));
  Propose(now, std::move(command), {}, effects);
  return true;
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
  // While slices are closed nobody knows what devices hold.
  if (repository_.closed().empty() && ProposeMoves(now, view, effects)) return true;
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
  // What it held of slices that are closed is not known yet, and stays what cannot be believed.
  if (!repository_.closed().empty()) return false;
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
