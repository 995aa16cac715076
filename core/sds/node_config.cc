// What the configuration and the devices make of this SDS's replicas.
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/bug.h"
#include "core/sds/node.h"
#include "core/sds/replica.h"

namespace gabion::sds {

namespace {

enum class Part : uint8_t { kNone, kPrimary, kSecondary, kJoining };

// A member entry of another incarnation, or an absent one, means: act in nothing (R20).
bool Acts(const Node& node, const Member& member, DeviceId device) {
  if (member.sds != node.self.sds || member.device != device || !member.present) return false;
  return member.incarnation == node.self.incarnation ||
         PLANTED_BUG("R20-stale-incarnation-accepted");
}

Part PartOf(const Node& node, const SliceConfig* config, DeviceId id) {
  const Device* device = node.devices.Find(id);
  if (config == nullptr || node.stopping || device == nullptr) return Part::kNone;
  if (device->phase == Device::Phase::kFailed || device->phase == Device::Phase::kClosing ||
      device->phase == Device::Phase::kClosed) {
    return Part::kNone;
  }
  if (Acts(node, config->primary, id)) return Part::kPrimary;
  if (config->secondary.has_value() && Acts(node, *config->secondary, id)) {
    return Part::kSecondary;
  }
  if (config->joining.has_value() && Acts(node, *config->joining, id)) return Part::kJoining;
  return Part::kNone;
}

void EndPrimary(Context& ctx, Replica& replica, wire::Status status) {
  if (replica.primary == nullptr) return;
  replica.primary->End(ctx, status);
  replica.primary.reset();
}

void EndSecondary(Context& ctx, Replica& replica) {
  if (replica.secondary == nullptr) return;
  // Devices are never forgotten in a run.
  Device* device = ctx.node.devices.FindAny(replica.key.device);
  CHECK(device != nullptr);
  replica.secondary->End(*device);
  replica.secondary.reset();
}

bool IsInSyncMember(const SliceConfig* config, DeviceId device) {
  return config != nullptr &&
         (config->primary.device == device ||
          (config->secondary.has_value() && config->secondary->device == device));
}

void Assign(Context& ctx, Replica& replica, const SliceConfig* config) {
  Node& node = ctx.node;
  const Part part = PartOf(node, config, replica.key.device);
  const bool newer = config != nullptr && config->epoch > replica.config.epoch;
  if (config != nullptr && config->epoch >= replica.config.epoch) replica.config = *config;
  node.MarkDirty(replica.key);
  if (part != Part::kPrimary) {
    EndPrimary(ctx, replica,
               node.stopping ? wire::Status::kUnavailable : wire::Status::kNotPrimary);
  }
  if (part == Part::kNone || part == Part::kPrimary || newer) EndSecondary(ctx, replica);
  Device* device = node.devices.FindAny(replica.key.device);
  if (device == nullptr) {
    if (newer) {
      ctx.Log(
          Severity::kError,
          absl::StrCat("slice ", ToString(replica.key.slice), " epoch ", ToString(config->epoch),
                       ": the MDM names device ", ToString(replica.key.device),
                       ", which it has not given to this SDS; nothing is done there"));
    }
    return;
  }
  // Who is no member any more is sent nothing of ended epochs.
  if (!IsInSyncMember(config, replica.key.device)) device->credits.Settle(replica.key.slice);
  if (part == Part::kNone) return;
  if (config->epoch < replica.config.epoch) return;
  if (part == Part::kPrimary) {
    if (replica.primary == nullptr) {
      replica.primary =
          std::make_unique<Primary>(replica.key, replica.joined, ++node.last_instance);
    }
    replica.primary->OnConfig(ctx, *config);
    return;
  }
  if (replica.secondary == nullptr) {
    replica.secondary = std::make_unique<Secondary>(replica.key, *config, part == Part::kJoining,
                                                    replica.joined, ++node.last_instance);
    replica.secondary->Begin(*device);
  }
  if (part == Part::kJoining) replica.joined = config->epoch;
}

}  // namespace

bool Node::ApplyConfig(Context& ctx, const proto::ConfigUpdate& update) {
  Config::Changes changes;
  if (config.Apply(update, &changes) != Config::Outcome::kApplied) return false;
  if (changes.devices) {
    devices.Apply(ctx);
    registration.RememberDevices(ctx);
    absl::erase_if(
        drops, [this](const auto& drop) { return !config.devices().contains(drop.first.device); });
  }
  if (update.full()) {
    drops.clear();  // what is still wanted is named again
    survey_wanted = update.survey();
    surveys_due.clear();
    for (const auto& [id, device] : devices.devices()) {
      if (survey_wanted && devices.FindUp(id) != nullptr) surveys_due.insert(id);
    }
  }
  for (const auto& [slice, device, up_to] : changes.dropped) {
    DropReplica(ctx, {slice, device}, up_to);
  }
  for (const SliceId slice : changes.slices) Reconfigure(ctx, slice);
  // R10: nobody admits anything of theirs here any more, and ids are consulted for nobody else.
  for (const auto& [client, below] : changes.fenced_clients) DropClientIds(ctx, client, below);
  if (changes.clients) {
    sessions.OnClientsChanged(ctx);
    MarkPrimariesDirty();  // requests that waited for a snapshot number, or lost their mapping
  }
  CountActing();
  peers.Update(ctx);
  return true;
}

void Node::Reconfigure(Context& ctx, SliceId slice) {
  const SliceConfig* slice_config = config.FindSlice(slice);
  if (slice_config != nullptr) {
    const auto create = [&](const Member& member) {
      if (member.sds != self.sds || !member.device.valid()) return;
      drops.erase(ReplicaKey{slice, member.device});
      std::unique_ptr<Replica>& replica = replicas[ReplicaKey{slice, member.device}];
      if (replica != nullptr) return;
      replica = std::make_unique<Replica>();
      replica->key = {slice, member.device};
    };
    create(slice_config->primary);
    if (slice_config->secondary.has_value()) create(*slice_config->secondary);
    if (slice_config->joining.has_value()) create(*slice_config->joining);
  }
  for (auto it = replicas.lower_bound(ReplicaKey{slice, DeviceId()});
       it != replicas.end() && it->first.slice == slice; ++it) {
    Assign(ctx, *it->second, slice_config);
  }
}

void Node::OnDeviceChange(Context& ctx, DeviceId device) {
  const Device* found = devices.Find(device);
  if (found == nullptr || found->store == nullptr) ops.DropDevice(device);
  if (Device* up = devices.FindUp(device)) {
    if (survey_wanted) surveys_due.insert(device);
    // Fences that were raised while it was away (R10).
    for (const auto& [client, incarnation] : config.clients()) {
      if (incarnation.valid()) up->store->DropClient(ctx.now, client, incarnation, Out(ctx));
    }
  }
  std::vector<ReplicaKey> to_drop;
  for (const auto& [key, operation] : drops) {
    if (key.device == device) to_drop.push_back(key);
  }
  for (const ReplicaKey& key : to_drop) CarryOutDrop(ctx, key);
  std::vector<SliceId> slices;
  for (const auto& [key, replica] : replicas) {
    if (key.device == device) slices.push_back(key.slice);
  }
  for (const SliceId slice : slices) Reconfigure(ctx, slice);
  CountActing();
  peers.Update(ctx);
  HeartbeatSoon(ctx);
}

proto::SdsSurvey Node::SurveyOf(const Device& device) const {
  proto::SdsSurvey survey;
  survey.set_incarnation(self.incarnation.value());
  survey.set_device(device.config.id.value());
  for (const SliceId slice : device.store->slices()) {
    const store::SliceFacts& facts = *device.store->Find(slice);
    proto::RecordedReplica* replica = survey.add_replicas();
    replica->set_slice(slice.value());
    replica->set_epoch(facts.started_epoch.value());
    replica->set_issuer(facts.issuer);
    replica->set_primary_device(facts.members.primary.value());
    replica->set_secondary_device(facts.members.secondary.value());
    replica->set_joining_device(facts.members.joining.value());
  }
  return survey;
}

void Node::DropReplica(Context& ctx, const ReplicaKey& key, Epoch up_to) {
  const auto found = replicas.find(key);
  if (found != replicas.end()) {
    EndPrimary(ctx, *found->second, wire::Status::kNotPrimary);
    EndSecondary(ctx, *found->second);
    replicas.erase(found);
    if (Device* device = devices.FindAny(key.device)) device->credits.Settle(key.slice);
  }
  drops.try_emplace(key).first->second.up_to = up_to;
  CarryOutDrop(ctx, key);
}

// Now, or when the device is up.
void Node::CarryOutDrop(Context& ctx, const ReplicaKey& key) {
  Drop& drop = drops.at(key);
  uint64_t& operation = drop.operation;
  Device* device = devices.FindUp(key.device);
  if (device == nullptr) {
    operation = 0;
    if (PLANTED_BUG("drop-forgotten-while-device-opens")) drops.erase(key);
    return;
  }
  if (operation != 0) return;
  const store::SliceFacts* facts = device->store->Find(key.slice);
  drop.ahead =
      facts != nullptr && facts->started_epoch > drop.up_to ? facts->started_epoch : Epoch();
  if (drop.ahead.valid()) {
    ctx.Log(Severity::kCritical,
            absl::StrCat("slice ", ToString(key.slice), ": epoch ", ToString(drop.ahead),
                         " was started on device ", ToString(key.device),
                         ", and the MDM, which knows epoch ", ToString(drop.up_to),
                         ", has it forgotten. Its repository is an old copy; the replica stays"));
    HeartbeatSoon(ctx);
    return;
  }
  operation = ++last_instance;
  if (facts != nullptr) {
    ctx.Log(Severity::kInfo, absl::StrCat("slice ", ToString(key.slice), ": replica on device ",
                                          ToString(key.device), " dropped"));
  }
  const store::Tag tag = ops.Add({.kind = OpKind::kDrop, .replica = key, .instance = operation});
  device->store->DropSlice(ctx.now, key.slice, tag, Out(ctx));
}

void Node::OnDropped(const Op& op, store::DoneStatus status) {
  const auto found = drops.find(op.replica);
  if (found == drops.end() || found->second.operation != op.instance) return;
  if (status == store::DoneStatus::kOk) drops.erase(found);
}

void Node::EndReplicas(Context& ctx) {
  for (auto& [key, replica] : replicas) {
    EndPrimary(ctx, *replica, wire::Status::kUnavailable);
    EndSecondary(ctx, *replica);
  }
}

void Node::CountActing() {
  absl::btree_map<DeviceId, uint32_t> acting;
  for (const auto& [key, replica] : replicas) {
    if (replica->primary != nullptr || replica->secondary != nullptr) ++acting[key.device];
  }
  for (const auto& [id, device] : devices.devices()) devices.FindAny(id)->acting = acting[id];
}

void Node::AddReports(Context& ctx, proto::SdsHeartbeat* heartbeat) {
  for (const auto& [key, replica] : replicas) {
    if (replica->primary != nullptr) replica->primary->AddReports(ctx, heartbeat);
    // The metadata went back while this process was running (R23).
    const SliceConfig* known = config.FindSlice(key.slice);
    if (known == nullptr || known->epoch >= replica->config.epoch) continue;
    proto::SliceReport* report = heartbeat->add_reports();
    report->set_kind(proto::SliceReport::AHEAD);
    report->set_slice(key.slice.value());
    report->set_epoch(known->epoch.value());
    report->set_seen_epoch(replica->config.epoch.value());
  }
  for (const auto& [key, drop] : drops) {
    if (drop.ahead.valid()) {
      proto::SliceReport* report = heartbeat->add_reports();
      report->set_kind(proto::SliceReport::AHEAD);
      report->set_slice(key.slice.value());
      report->set_epoch(drop.up_to.value());
      report->set_seen_epoch(drop.ahead.value());
    }
    heartbeat->add_undropped_slices(key.slice.value());
    heartbeat->add_undropped_devices(key.device.value());
  }
}

}  // namespace gabion::sds
