#include "core/mdm/repository.h"

#include <algorithm>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/mix.h"
#include "core/mdm/lookup.h"

namespace gabion::mdm {
const proto::Sds* Repository::FindSds(SdsId id) const { return FindOrNull(sdss_, id); }
const proto::Device* Repository::FindDevice(DeviceId id) const { return FindOrNull(devices_, id); }
const proto::Pool* Repository::FindPool(PoolId id) const { return FindOrNull(pools_, id); }
const proto::Volume* Repository::FindVolume(VolumeId id) const { return FindOrNull(volumes_, id); }
const proto::Sdc* Repository::FindSdc(SdcId id) const { return FindOrNull(sdcs_, id); }
const SliceState* Repository::FindSlice(SliceId id) const { return FindOrNull(slices_, id); }

Incarnation Repository::IncarnationOf(SdsId id) const {
  const proto::Sds* sds = FindSds(id);
  return Incarnation(sds == nullptr ? 0 : sds->incarnation());
}

std::vector<SdsId> Repository::SdssOfPool(PoolId pool) const {
  std::vector<SdsId> found;
  for (auto at = pool_members_.lower_bound({pool, SdsId()});
       at != pool_members_.end() && at->first.first == pool; ++at) {
    found.push_back(at->first.second);
  }
  return found;
}

bool Repository::HasPool(SdsId sds, PoolId pool) const {
  return pool_members_.contains({pool, sds});
}

std::string Repository::DomainOf(SdsId id) const {
  const proto::Sds* sds = FindSds(id);
  CHECK(sds != nullptr);
  if (sds->fault_set().empty()) return "sds/" + std::to_string(id.value());
  return "fault-set/" + sds->fault_set();
}

std::optional<uint64_t> Repository::AnswerTo(std::string_view request) const {
  for (const proto::AnsweredRequest& answered : requests_) {
    if (answered.request() == request) return answered.id();
  }
  return std::nullopt;
}

uint64_t Repository::NextId() {
  CHECK_LT(next_id_, uint64_t{1} << kGenerationShift);
  return generation_ << kGenerationShift | next_id_++;
}

void Repository::CountPoolMember(SdsId sds, PoolId pool, int delta, Changes& changes) {
  uint32_t& count = pool_members_[{pool, sds}];
  const uint32_t before = count;
  count += static_cast<uint32_t>(delta);
  if ((before == 0) != (count == 0)) changes.pool_sets.push_back(sds);
  if (count == 0) pool_members_.erase({pool, sds});
}

Changes Repository::Apply(const proto::Command& command) {
  Changes changes;
  CHECK(created() || command.has_create_repository());
  switch (command.body_case()) {
    case proto::Command::kCreateRepository:
      Do(command.create_repository(), changes);
      break;
    case proto::Command::kStartMdm:
      Do(command.start_mdm(), changes);
      break;
    case proto::Command::kRegisterSds:
      Do(command.register_sds(), changes);
      break;
    case proto::Command::kRegisterSdc:
      Do(command.register_sdc(), changes);
      break;
    case proto::Command::kReportDevices:
      Do(command.report_devices(), changes);
      break;
    case proto::Command::kChangeSlices:
      Do(command.change_slices(), changes);
      break;
    case proto::Command::kAskRelease:
      Do(command.ask_release(), changes);
      break;
    case proto::Command::kForgetReplicas:
      Do(command.forget_replicas(), changes);
      break;
    case proto::Command::kNotePositions:
      Do(command.note_positions(), changes);
      break;
    case proto::Command::kRollBackDevice:
      Do(command.roll_back_device(), changes);
      break;
    case proto::Command::kAddSds:
      Do(command.add_sds(), changes);
      break;
    case proto::Command::kRemoveSds:
      Do(command.remove_sds(), changes);
      break;
    case proto::Command::kAddPool:
      Do(command.add_pool(), changes);
      break;
    case proto::Command::kRemovePool:
      Do(command.remove_pool(), changes);
      break;
    case proto::Command::kAddDevice:
      Do(command.add_device(), changes);
      break;
    case proto::Command::kRemoveDevice:
      Do(command.remove_device(), changes);
      break;
    case proto::Command::kCreateVolume:
      Do(command.create_volume(), changes);
      break;
    case proto::Command::kDeleteVolume:
      Do(command.delete_volume(), changes);
      break;
    case proto::Command::kGrowVolume:
      Do(command.grow_volume(), changes);
      break;
    case proto::Command::kMapVolume:
      Do(command.map_volume(), changes);
      break;
    case proto::Command::kUnmapVolume:
      Do(command.unmap_volume(), changes);
      break;
    case proto::Command::kAddSdc:
      Do(command.add_sdc(), changes);
      break;
    case proto::Command::kRemoveSdc:
      Do(command.remove_sdc(), changes);
      break;
    case proto::Command::kForceSlice:
      Do(command.force_slice(), changes);
      break;
    case proto::Command::kEvacuateDevices:
      Do(command.evacuate_devices(), changes);
      break;
    case proto::Command::kRaiseGeneration:
      Do(command.raise_generation(), changes);
      break;
    case proto::Command::kReopenSlices:
      Do(command.reopen_slices(), changes);
      break;
    case proto::Command::kAdoptDevice:
      Do(command.adopt_device(), changes);
      break;
    case proto::Command::BODY_NOT_SET:
      UNREACHABLE("a command without a body");
  }
  ++applied_;
  if (!command.request().empty()) {
    proto::AnsweredRequest& answered = requests_.emplace_back();
    answered.set_request(command.request());
    answered.set_id(changes.id);
    if (requests_.size() > kAnsweredRequestsMax) requests_.pop_front();
  }
  return changes;
}

void Repository::Do(const proto::CreateRepository& command, Changes& changes) {
  CHECK(!created());
  cluster_ = ClusterId(command.cluster());
  CHECK(created());
  changes.id = cluster_.value();
}

void Repository::Do(const proto::StartMdm&, Changes&) {
  mdm_incarnation_ = mdm_incarnation_.next();
}

void Repository::Do(const proto::RegisterSds& command, Changes& changes) {
  const SdsId id(command.sds());
  proto::Sds& sds = Get(sdss_, id);
  CHECK_GE(command.incarnation(), sds.incarnation());  // R22
  if (PLANTED_BUG("R20-old-incarnation-kept-present")) {
    for (auto& [slice_id, slice] : slices_) {
      for (Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
        if (member->sds != id || !member->present) continue;
        changes.slices_before.push_back(slice);
        member->incarnation = Incarnation(command.incarnation());
      }
    }
  }
  const bool is_first = sds.incarnation() == 0;
  if (!is_first && sds.state_lock() != command.state_lock()) sds.set_lock_changed(true);
  sds.set_incarnation(command.incarnation());
  sds.set_run(command.run());
  sds.set_state_lock(command.state_lock());
  *sds.mutable_addresses() = command.addresses();
  changes.sdss.push_back(id);
  changes.id = command.sds();
}

void Repository::Do(const proto::RegisterSdc& command, Changes& changes) {
  proto::Sdc& sdc = Get(sdcs_, SdcId(command.sdc()));
  CHECK_GE(command.incarnation(), sdc.incarnation());
  sdc.set_incarnation(command.incarnation());
  changes.sdcs.push_back(SdcId(command.sdc()));
  changes.id = command.sdc();
}

void Repository::Do(const proto::ReportDevices& command, Changes& changes) {
  for (const proto::DeviceOutcome& outcome : command.devices()) {
    proto::Device& device = Get(devices_, DeviceId(outcome.device()));
    CHECK_NE(device.state(), proto::DEVICE_FAILED);
    device.set_state(outcome.state());
    device.set_error(outcome.error());
    if (outcome.size_bytes() != 0) device.set_size_bytes(outcome.size_bytes());
    if (outcome.has_figures()) *device.mutable_figures() = outcome.figures();
    changes.devices.push_back(DeviceId(outcome.device()));
  }
}

void Repository::Do(const proto::EvacuateDevices& command, Changes& changes) {
  for (const uint64_t id : command.devices()) {
    Get(devices_, DeviceId(id)).set_removing(!command.cancel());
    changes.devices.push_back(DeviceId(id));
    changes.id = id;
  }
  if (command.sds() == 0) return;
  Get(sdss_, SdsId(command.sds())).set_removing(!command.cancel());
  changes.id = command.sds();
}

bool Repository::IsLeaving(DeviceId id) const {
  const proto::Device* device = FindDevice(id);
  return device != nullptr && device->removing();
}

bool Repository::HasVolumes(PoolId pool) const {
  return std::any_of(volumes_.begin(), volumes_.end(),
                     [&](const auto& volume) { return PoolId(volume.second.pool()) == pool; });
}

uint32_t Repository::HeldBy(DeviceId id) const {
  const proto::Device* device = FindDevice(id);
  if (device == nullptr || !HasVolumes(PoolId(device->pool()))) return 0;
  return static_cast<uint32_t>(
      std::count_if(slices_.begin(), slices_.end(), [&](const auto& entry) {
        const SliceState& slice = entry.second;
        return slice.primary.device == id || slice.secondary.device == id ||
               slice.joining.device == id;
      }));
}

void Repository::Do(const proto::AddSds& command, Changes& changes) {
  proto::Sds sds;
  sds.set_id(command.id() != 0 ? command.id() : NextId());
  CHECK(!sdss_.contains(SdsId(sds.id())));
  sds.set_name(command.name());
  sds.set_fault_set(command.fault_set());
  sds.set_protection_domain(command.protection_domain());
  changes.id = sds.id();
  changes.sdss.push_back(SdsId(sds.id()));
  sdss_.emplace(SdsId(sds.id()), std::move(sds));
}

void Repository::Do(const proto::RemoveSds& command, Changes& changes) {
  for (const auto& [id, device] : devices_) CHECK_NE(device.sds(), command.sds());
  CHECK_EQ(sdss_.erase(SdsId(command.sds())), 1u);
  changes.removed_sdss.push_back(SdsId(command.sds()));
  changes.id = command.sds();
}

void Repository::Do(const proto::AddPool& command, Changes& changes) {
  CHECK(command.slice_count() > 0 && command.slice_count() <= kSliceCountMax);
  proto::Pool pool;
  pool.set_id(NextId());
  pool.set_name(command.name());
  pool.set_slice_count(command.slice_count());
  pool.set_first_slice(NextId());
  next_id_ += kSliceIdsPerPool - 1;
  changes.id = pool.id();
  changes.pools.push_back(PoolId(pool.id()));
  pools_.emplace(PoolId(pool.id()), std::move(pool));
}

void Repository::Do(const proto::RemovePool& command, Changes& changes) {
  const PoolId id(command.pool());
  for (const auto& [device_id, device] : devices_) CHECK_NE(device.pool(), command.pool());
  for (const auto& [volume_id, volume] : volumes_) CHECK_NE(volume.pool(), command.pool());
  CHECK(!pools_.at(id).placed());  // its last device took the slices with it
  CHECK_EQ(pools_.erase(id), 1u);
  changes.id = command.pool();
}

void Repository::Do(const proto::AddDevice& command, Changes& changes) {
  // A device that never came up, or was only tested, is armed anew.
  for (auto& [id, device] : devices_) {
    if (device.sds() != command.sds() || device.path() != command.path()) continue;
    CHECK(device.state() == proto::DEVICE_TESTED ||
          (device.state() == proto::DEVICE_FAILED && device.size_bytes() == 0));
    CHECK_EQ(device.pool(), command.pool());
    device.set_state(proto::DEVICE_ADDING);
    device.clear_error();
    device.clear_size_bytes();
    device.clear_figures();
    device.set_force(command.force());
    device.set_test(command.test());
    changes.devices.push_back(id);
    changes.id = id.value();
    return;
  }
  proto::Device device;
  device.set_id(NextId());
  device.set_sds(command.sds());
  device.set_pool(command.pool());
  device.set_path(command.path());
  device.set_force(command.force());
  device.set_test(command.test());
  device.set_state(proto::DEVICE_ADDING);
  CHECK(sdss_.contains(SdsId(command.sds())) && pools_.contains(PoolId(command.pool())));
  changes.id = device.id();
  changes.devices.push_back(DeviceId(device.id()));
  CountPoolMember(SdsId(command.sds()), PoolId(command.pool()), 1, changes);
  devices_.emplace(DeviceId(device.id()), std::move(device));
}

void Repository::Do(const proto::RemoveDevice& command, Changes& changes) {
  const DeviceId id(command.device());
  const PoolId pool_id(Get(devices_, id).pool());
  if (!HasVolumes(pool_id) && pools_.at(pool_id).placed()) Unplace(pool_id, changes);
  for (auto& [slice_id, slice] : slices_) {
    for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
      CHECK_NE(member->device, id) << slice_id;
    }
    if (slice.former == id) slice.former = DeviceId();
  }
  for (auto at = stale_.begin(); at != stale_.end();) {
    at = at->second == id ? stale_.erase(at) : std::next(at);
  }
  absl::erase_if(rolled_back_, [&](const auto& replica) { return replica.second == id; });
  proto::Device& device = Get(devices_, id);
  device.set_state(proto::DEVICE_REMOVING);
  changes.id = command.device();
  changes.removed_devices.push_back(device);
  CountPoolMember(SdsId(device.sds()), PoolId(device.pool()), -1, changes);
  devices_.erase(id);
}

// Without volumes a pool needs no slices. Their ids are never used again: devices may still hold
// replicas under them.
void Repository::Unplace(PoolId id, Changes& changes) {
  for (const auto& [slice_id, slice] : closed_) CHECK_NE(slice.pool, id);
  for (auto at = slices_.begin(); at != slices_.end();) {
    const SliceState& slice = at->second;
    if (slice.pool != id) {
      ++at;
      continue;
    }
    for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
      if (*member) MarkStale(slice.id, member->device, changes);
    }
    if (slice.former.valid()) MarkStale(slice.id, slice.former, changes);
    absl::erase_if(rolled_back_, [&](const auto& replica) { return replica.first == slice.id; });
    changes.slices_before.push_back(slice);
    at = slices_.erase(at);
  }
  proto::Pool& pool = Get(pools_, id);
  pool.set_placed(false);
  pool.set_first_slice(NextId());
  next_id_ += kSliceIdsPerPool - 1;
  changes.pools.push_back(id);
}

void Repository::Do(const proto::CreateVolume& command, Changes& changes) {
  proto::Pool& pool = Get(pools_, PoolId(command.pool()));
  CHECK_EQ(command.placement_size(), pool.placed() ? 0 : static_cast<int>(pool.slice_count()));
  if (!pool.placed()) {
    const uint64_t issuer = NextId();
    uint64_t id = pool.first_slice();
    for (const proto::PlacedSlice& placed : command.placement()) {
      SliceState slice;
      slice.id = SliceId(id++);
      slice.pool = PoolId(command.pool());
      const auto member = [&](uint64_t device_id) {
        const proto::Device& device = Get(devices_, DeviceId(device_id));
        return Member{.sds = SdsId(device.sds()),
                      .device = DeviceId(device_id),
                      .incarnation = IncarnationOf(SdsId(device.sds())),
                      .present = true};
      };
      slice.primary = member(placed.primary_device());
      slice.secondary = member(placed.secondary_device());
      slice.epoch = NextEpoch(slice);
      slice.reign = Reign(slice.epoch.value());
      slice.issuer = issuer;
      CheckSlice(slice);
      SliceState before;
      before.id = slice.id;
      before.pool = slice.pool;
      changes.slices_before.push_back(before);
      slices_.insert_or_assign(slice.id, slice);
    }
    pool.set_placed(true);
    changes.pools.push_back(PoolId(command.pool()));
  }
  proto::Volume volume;
  volume.set_id(NextId());
  volume.set_vtree(NextId());
  volume.set_name(command.name());
  volume.set_pool(command.pool());
  volume.set_size_bytes(command.size_bytes());
  volume.set_snap_number(1);
  volume.set_version(1);
  changes.id = volume.id();
  changes.volumes.push_back(VolumeId(volume.id()));
  volumes_.emplace(VolumeId(volume.id()), std::move(volume));
}

void Repository::Do(const proto::DeleteVolume& command, Changes& changes) {
  const VolumeId id(command.volume());
  for (const auto& [key, mapping] : mappings_) CHECK_NE(key.first, id);
  changes.removed_volumes.push_back(Get(volumes_, id));
  volumes_.erase(id);
  changes.id = command.volume();
}

void Repository::Do(const proto::GrowVolume& command, Changes& changes) {
  proto::Volume& volume = Get(volumes_, VolumeId(command.volume()));
  CHECK_GE(command.size_bytes(), volume.size_bytes());
  volume.set_size_bytes(command.size_bytes());
  changes.volumes.push_back(VolumeId(command.volume()));
  changes.id = command.volume();
}

void Repository::Do(const proto::MapVolume& command, Changes& changes) {
  const VolumeId volume(command.volume());
  const SdcId sdc(command.sdc());
  CHECK(volumes_.contains(volume) && sdcs_.contains(sdc));
  proto::Mapping mapping;
  mapping.set_volume(command.volume());
  mapping.set_sdc(command.sdc());
  mapping.set_read_only(command.read_only());
  CHECK(mappings_.emplace(std::pair(volume, sdc), mapping).second);
  changes.mappings.push_back({volume, sdc});
  changes.id = command.volume();
}

void Repository::Do(const proto::UnmapVolume& command, Changes& changes) {
  const std::pair key(VolumeId(command.volume()), SdcId(command.sdc()));
  changes.removed_mappings.push_back(Get(mappings_, key));
  mappings_.erase(key);
  changes.id = command.volume();
}

void Repository::Do(const proto::AddSdc& command, Changes& changes) {
  proto::Sdc sdc;
  sdc.set_id(command.id() != 0 ? command.id() : NextId());
  CHECK(!sdcs_.contains(SdcId(sdc.id())));
  sdc.set_name(command.name());
  sdc.set_approved(true);
  changes.id = sdc.id();
  changes.sdcs.push_back(SdcId(sdc.id()));
  sdcs_.emplace(SdcId(sdc.id()), std::move(sdc));
}

void Repository::Do(const proto::RemoveSdc& command, Changes& changes) {
  const SdcId id(command.sdc());
  for (const auto& [key, mapping] : mappings_) CHECK_NE(key.second, id);
  CHECK_EQ(sdcs_.erase(id), 1u);
  changes.removed_sdcs.push_back(id);
  changes.id = command.sdc();
}

void Repository::CheckInvariants() const {
  if (!created()) return;
  for (const auto& [id, slice] : slices_) {
    CHECK_EQ(id, slice.id);
    CHECK(!slice.former.valid() || devices_.contains(slice.former)) << id;
    CheckSlice(slice);
  }
  for (const auto& [id, slice] : closed_) {
    CHECK(!slices_.contains(id) && generation_ > 0) << id;
    CHECK_LT(GenerationOf(slice.epoch.value()), generation_);
  }
  for (const auto& [key, mapping] : mappings_) {
    CHECK(volumes_.contains(key.first) && sdcs_.contains(key.second));
  }
  for (const auto& [slice, device] : stale_) CHECK(devices_.contains(device));
  for (const auto& [id, device] : rolled_back_) {
    const SliceState* slice = FindSlice(id);
    CHECK(slice != nullptr);
    CHECK(slice->primary.device == device || slice->secondary.device == device ||
          slice->joining.device == device);
  }
  for (const auto& [id, volume] : volumes_) CHECK(FindPool(PoolId(volume.pool()))->placed());
}

uint64_t Repository::StateHash() const {
  uint64_t hash = mix64(cluster_.value() + 1);
  const auto add = [&hash](uint64_t value) { hash = mix64(hash ^ mix64(value + 0x51)); };
  add(generation_);
  add(mdm_incarnation_.value());
  add(next_id_);
  add(applied_);
  for (const auto& [id, sds] : sdss_) add(id.value()), add(sds.incarnation());
  for (const auto& [id, device] : devices_) {
    add(id.value()), add(device.state()), add(device.size_bytes()), add(device.log_position());
    add(device.removing());
  }
  for (const auto& [id, volume] : volumes_) add(id.value()), add(volume.size_bytes());
  for (const auto& [id, sdc] : sdcs_) add(id.value()), add(sdc.incarnation());
  for (const auto& [key, mapping] : mappings_) add(key.first.value()), add(key.second.value());
  for (const auto& [id, slice] : slices_) {
    add(id.value()), add(slice.epoch.value()), add(slice.reign.value()), add(slice.issuer);
    for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
      add(member->device.value()), add(member->incarnation.value()), add(member->present);
    }
    add(slice.release), add(slice.former.value());
  }
  for (const auto& [id, slice] : closed_) add(id.value());
  for (const auto& [slice, device] : stale_) add(slice.value()), add(device.value());
  for (const auto& [slice, device] : rolled_back_) add(slice.value()), add(device.value());
  return hash;
}

}  // namespace gabion::mdm
