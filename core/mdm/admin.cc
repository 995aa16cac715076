#include "core/mdm/admin.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/mdm/admin_answers.h"
#include "core/mdm/failover.h"
#include "core/mdm/rebuild.h"
#include "core/mdm/removal.h"
#include "core/mdm/restored.h"
#include "core/plan/plan.h"

namespace gabion::mdm {
namespace {

using Code = proto::AdminReply;

constexpr size_t kRequestIdMax = 128;
constexpr size_t kPathMax = 4096;

AdminDecision BadName(const std::string& kind, const std::string& name) {
  return Refuse(
      Code::INVALID,
      absl::StrCat("\"", name.substr(0, kNameMax + 1), "\" is no name for ", kind, ": use 1 to ",
                   kNameMax, " of the characters A-Z a-z 0-9 . _ -, not digits alone"));
}

AdminDecision Exists(const std::string& kind, const std::string& name, uint64_t id) {
  return Refuse(Code::EXISTS, absl::StrCat("a ", kind, " named \"", name, "\" exists already (id ",
                                           id, "): choose another name"));
}

std::string CheckSize(const std::string& volume, uint64_t size_bytes) {
  if (size_bytes != 0 && size_bytes % kVolumeUnitBytes == 0 && size_bytes <= kVolumeBytesMax) {
    return "";
  }
  return absl::StrCat("volume \"", volume, "\": a size of ", size_bytes,
                      " bytes is not possible: give a multiple of 1 MiB (1048576), from 1 MiB to ",
                      Mebibytes(kVolumeBytesMax));
}

// Empty, or why a volume of that size is too large for the pool.
std::string CheckCapacity(const View& view, const proto::Pool& pool, const std::string& volume,
                          uint64_t size_bytes) {
  const uint64_t net = plan::NetCapacity(PlanDevices(view, PoolId(pool.id()), false));
  if (size_bytes / kOverprovisioningMax <= net) return "";
  return absl::StrCat("volume \"", volume, "\": ", Mebibytes(size_bytes), " is more than ",
                      kOverprovisioningMax, " times what pool \"", pool.name(),
                      "\" can hold mirrored (", Mebibytes(net),
                      "): make it smaller, or add devices with `gabion device add`");
}

AdminDecision Decide(const View& view, const proto::SdsAdd& request) {
  if (!IsValidName(request.name())) return BadName("an SDS", request.name());
  if (!request.fault_set().empty() && !IsValidName(request.fault_set())) {
    return BadName("a fault set", request.fault_set());
  }
  if (!request.protection_domain().empty() && !IsValidName(request.protection_domain())) {
    return BadName("a protection domain", request.protection_domain());
  }
  if (const proto::Sds* sds = FindNamed(view.repository.sdss(), request.name())) {
    return Exists("SDS", request.name(), sds->id());
  }
  AdminDecision decision;
  proto::AddSds* add = decision.command.mutable_add_sds();
  add->set_name(request.name());
  add->set_fault_set(request.fault_set());
  add->set_protection_domain(request.protection_domain());
  const auto lost = view.lost_sdss.find(request.name());
  if (lost != view.lost_sdss.end() && view.repository.FindSds(lost->second) == nullptr) {
    add->set_id(lost->second.value());
  }
  return decision;
}

AdminDecision Decide(const View& view, const proto::PoolAdd& request) {
  if (!IsValidName(request.name())) return BadName("a pool", request.name());
  if (const proto::Pool* pool = FindNamed(view.repository.pools(), request.name())) {
    return Exists("pool", request.name(), pool->id());
  }
  const uint32_t count = request.slice_count() == 0 ? kSliceCountDefault : request.slice_count();
  if ((count & (count - 1)) != 0 || count > kSliceCountMax) {
    return Refuse(Code::INVALID,
                  absl::StrCat("pool \"", request.name(), "\": ", count,
                               " slices are not possible: give a power of two up to ",
                               kSliceCountMax, ", or 0 for ", kSliceCountDefault));
  }
  AdminDecision decision;
  decision.command.mutable_add_pool()->set_name(request.name());
  decision.command.mutable_add_pool()->set_slice_count(count);
  return decision;
}

AdminDecision Decide(const View& view, const proto::PoolRemove& request) {
  const proto::Pool* pool = FindNamed(view.repository.pools(), request.pool());
  if (pool == nullptr) return NotFound("pool", request.pool(), "pool");
  for (const auto& [id, volume] : view.repository.volumes()) {
    if (volume.pool() != pool->id()) continue;
    return Refuse(Code::CONFLICT,
                  absl::StrCat("pool \"", pool->name(), "\" still holds volume \"", volume.name(),
                               "\": delete its volumes with `gabion volume "
                               "delete` first"));
  }
  for (const auto& [id, device] : view.repository.devices()) {
    if (device.pool() != pool->id()) continue;
    return Refuse(
        Code::CONFLICT,
        absl::StrCat("pool \"", pool->name(), "\" still has device ", id.value(), " (",
                     device.path(), "): remove its devices with `gabion device remove` first"));
  }
  AdminDecision decision;
  decision.command.mutable_remove_pool()->set_pool(pool->id());
  return decision;
}

AdminDecision Decide(const View& view, const proto::DeviceAdd& request) {
  const proto::Sds* sds = FindNamed(view.repository.sdss(), request.sds());
  if (sds == nullptr) return NotFound("SDS", request.sds(), "sds");
  const proto::Pool* pool = FindNamed(view.repository.pools(), request.pool());
  if (pool == nullptr) return NotFound("pool", request.pool(), "pool");
  if (sds->removing()) {
    return Refuse(
        Code::CONFLICT,
        absl::StrCat("SDS \"", sds->name(), "\" is being removed: keep it with `gabion sds remove ",
                     sds->name(), " --cancel`, or choose another one"));
  }
  if (request.path().empty() || request.path().front() != '/' || request.path().size() > kPathMax ||
      request.path().find('\0') != std::string::npos) {
    return Refuse(Code::INVALID, absl::StrCat("\"", request.path().substr(0, 256),
                                              "\" is no path of a device: give it from the root, "
                                              "such as /dev/sdb"));
  }
  if (!view.sds(SdsId(sds->id())).alive) {
    return Refuse(Code::UNAVAILABLE,
                  absl::StrCat("SDS \"", sds->name(), "\" is not connected, so it cannot open ",
                               request.path(), ": start it, then repeat the command"));
  }
  for (const auto& [id, device] : view.repository.devices()) {
    if (device.sds() != sds->id() || device.path() != request.path()) continue;
    const bool never_up = device.state() == proto::DEVICE_FAILED && device.size_bytes() == 0;
    const bool tested = device.state() == proto::DEVICE_TESTED;
    if ((never_up || tested) && device.pool() == pool->id()) break;
    return Refuse(Code::EXISTS,
                  absl::StrCat("SDS \"", sds->name(), "\" uses ", request.path(),
                               " already, as device ", id.value(),
                               ": choose another path, or remove that device first with `gabion "
                               "device remove ",
                               id.value(), "`"));
  }
  AdminDecision decision;
  proto::AddDevice* add = decision.command.mutable_add_device();
  add->set_sds(sds->id());
  add->set_pool(pool->id());
  add->set_path(request.path());
  add->set_force(request.force());
  add->set_test(request.test());
  return decision;
}

AdminDecision Decide(const View& view, const proto::VolumeCreate& request) {
  const Repository& repository = view.repository;
  if (!IsValidName(request.name())) return BadName("a volume", request.name());
  const proto::Pool* pool = FindNamed(repository.pools(), request.pool());
  if (pool == nullptr) return NotFound("pool", request.pool(), "pool");
  if (const proto::Volume* volume = FindNamed(repository.volumes(), request.name())) {
    return Exists("volume", request.name(), volume->id());
  }
  if (std::string error = CheckSize(request.name(), request.size_bytes()); !error.empty()) {
    return Refuse(Code::INVALID, std::move(error));
  }
  AdminDecision decision;
  proto::CreateVolume* create = decision.command.mutable_create_volume();
  create->set_name(request.name());
  create->set_pool(pool->id());
  create->set_size_bytes(request.size_bytes());
  if (!pool->placed()) {
    const std::vector<plan::Device> devices = PlanDevices(view, PoolId(pool->id()), true);
    for (const plan::Pair& pair : plan::PlaceSlices(devices, pool->slice_count())) {
      proto::PlacedSlice* placed = create->add_placement();
      placed->set_primary_device(pair.primary.value());
      placed->set_secondary_device(pair.secondary.value());
    }
    if (create->placement_size() == 0) {
      return Refuse(Code::CONFLICT,
                    absl::StrCat("pool \"", pool->name(), "\" has ", devices.size(),
                                 " devices in use, but two copies need devices of two SDSs (and of "
                                 "two fault sets, if they are set): add devices with `gabion "
                                 "device add`, or start the SDSs that are down"));
    }
  }
  std::string error = CheckCapacity(view, *pool, request.name(), request.size_bytes());
  if (!error.empty()) return Refuse(Code::NO_SPACE, std::move(error));
  return decision;
}

AdminDecision Decide(const View& view, const proto::VolumeDelete& request) {
  const proto::Volume* volume = FindNamed(view.repository.volumes(), request.volume());
  if (volume == nullptr) return NotFound("volume", request.volume(), "volume");
  for (const auto& [key, mapping] : view.repository.mappings()) {
    if (mapping.volume() != volume->id()) continue;
    const std::string& sdc = view.repository.FindSdc(key.second)->name();
    return Refuse(Code::CONFLICT,
                  absl::StrCat("volume \"", volume->name(), "\" is mapped to SDC \"", sdc,
                               "\": unmap it first with `gabion volume unmap ", volume->name(),
                               " --sdc=", sdc, "`"));
  }
  AdminDecision decision;
  decision.command.mutable_delete_volume()->set_volume(volume->id());
  return decision;
}

AdminDecision Decide(const View& view, const proto::VolumeGrow& request) {
  const proto::Volume* volume = FindNamed(view.repository.volumes(), request.volume());
  if (volume == nullptr) return NotFound("volume", request.volume(), "volume");
  if (std::string error = CheckSize(volume->name(), request.size_bytes()); !error.empty()) {
    return Refuse(Code::INVALID, std::move(error));
  }
  if (request.size_bytes() < volume->size_bytes()) {
    return Refuse(
        Code::CONFLICT,
        absl::StrCat("volume \"", volume->name(), "\" has ", Mebibytes(volume->size_bytes()),
                     ", and ", Mebibytes(request.size_bytes()),
                     " would cut its end off: a volume only grows; create a smaller one "
                     "and copy what you need"));
  }
  const proto::Pool* pool = view.repository.FindPool(PoolId(volume->pool()));
  std::string error = CheckCapacity(view, *pool, volume->name(), request.size_bytes());
  if (!error.empty()) return Refuse(Code::NO_SPACE, std::move(error));
  AdminDecision decision;
  decision.command.mutable_grow_volume()->set_volume(volume->id());
  decision.command.mutable_grow_volume()->set_size_bytes(request.size_bytes());
  return decision;
}

AdminDecision Decide(const View& view, const proto::VolumeMap& request) {
  const Repository& repository = view.repository;
  const proto::Volume* volume = FindNamed(repository.volumes(), request.volume());
  if (volume == nullptr) return NotFound("volume", request.volume(), "volume");
  const proto::Sdc* sdc = FindNamed(repository.sdcs(), request.sdc());
  if (sdc == nullptr) return NotFound("SDC", request.sdc(), "sdc");
  const auto known = repository.mappings().find({VolumeId(volume->id()), SdcId(sdc->id())});
  if (known != repository.mappings().end()) {
    if (known->second.read_only() == request.read_only()) return Done(volume->id());
    return Refuse(Code::CONFLICT,
                  absl::StrCat("volume \"", volume->name(), "\" is mapped to SDC \"", sdc->name(),
                               known->second.read_only() ? "\" for reading only"
                                                         : "\" for reading and writing",
                               ": unmap it first with `gabion volume unmap ", volume->name(),
                               " --sdc=", sdc->name(), "`"));
  }
  AdminDecision decision;
  proto::MapVolume* map = decision.command.mutable_map_volume();
  map->set_volume(volume->id());
  map->set_sdc(sdc->id());
  map->set_read_only(request.read_only());
  return decision;
}

AdminDecision Decide(const View& view, const proto::VolumeUnmap& request) {
  const Repository& repository = view.repository;
  const proto::Volume* volume = FindNamed(repository.volumes(), request.volume());
  if (volume == nullptr) return NotFound("volume", request.volume(), "volume");
  const proto::Sdc* sdc = FindNamed(repository.sdcs(), request.sdc());
  if (sdc == nullptr) return NotFound("SDC", request.sdc(), "sdc");
  if (!repository.mappings().contains({VolumeId(volume->id()), SdcId(sdc->id())})) {
    return Refuse(Code::NOT_FOUND,
                  absl::StrCat("volume \"", volume->name(), "\" is not mapped to SDC \"",
                               sdc->name(), "\": `gabion volume list` shows the mappings"));
  }
  AdminDecision decision;
  decision.command.mutable_unmap_volume()->set_volume(volume->id());
  decision.command.mutable_unmap_volume()->set_sdc(sdc->id());
  return decision;
}

AdminDecision Decide(const View& view, const proto::SdcAdd& request) {
  if (!IsValidName(request.name())) return BadName("an SDC", request.name());
  if (const proto::Sdc* sdc = FindNamed(view.repository.sdcs(), request.name())) {
    return Exists("SDC", request.name(), sdc->id());
  }
  AdminDecision decision;
  decision.command.mutable_add_sdc()->set_name(request.name());
  const auto lost = view.lost_sdcs.find(request.name());
  if (lost != view.lost_sdcs.end() && view.repository.FindSdc(lost->second) == nullptr) {
    decision.command.mutable_add_sdc()->set_id(lost->second.value());
  }
  return decision;
}

AdminDecision Decide(const View& view, const proto::SdcRemove& request) {
  const proto::Sdc* sdc = FindNamed(view.repository.sdcs(), request.sdc());
  if (sdc == nullptr) return NotFound("SDC", request.sdc(), "sdc");
  for (const auto& [key, mapping] : view.repository.mappings()) {
    if (mapping.sdc() != sdc->id()) continue;
    const std::string& volume = view.repository.FindVolume(key.first)->name();
    return Refuse(Code::CONFLICT,
                  absl::StrCat("SDC \"", sdc->name(), "\" still has volume \"", volume,
                               "\" mapped: unmap it first with `gabion "
                               "volume unmap ",
                               volume, " --sdc=", sdc->name(), "`"));
  }
  AdminDecision decision;
  decision.command.mutable_remove_sdc()->set_sdc(sdc->id());
  return decision;
}

// R13: the one way in which a replica outside the in-sync set becomes the copy.
AdminDecision Decide(const View& view, const proto::SliceForce& request) {
  const auto closed = view.repository.closed().find(SliceId(request.slice()));
  const bool is_closed = closed != view.repository.closed().end();
  const SliceState* slice = view.repository.FindSlice(SliceId(request.slice()));
  if (slice == nullptr && !is_closed) {
    return Refuse(Code::NOT_FOUND, absl::StrCat("no slice ", request.slice(),
                                                ": `gabion status --slices` shows them"));
  }
  const std::string name = absl::StrCat("slice ", request.slice());
  if (!request.accept_data_loss()) {
    return Refuse(Code::INVALID,
                  absl::StrCat(name,
                               ": forcing a copy loses every write that it missed, "
                               "acknowledged ones too: repeat with --accept-data-loss only "
                               "if the other copies are lost for good"));
  }
  if (is_closed) return DecideForceOfClosed(view, closed->second, request);
  const DeviceId id(request.device());
  const proto::Device* device = view.repository.FindDevice(id);
  const bool has_replica = id == slice->former || id == slice->primary.device ||
                           id == slice->secondary.device || id == slice->joining.device;
  if (device == nullptr || !has_replica) {
    return Refuse(Code::NOT_FOUND,
                  absl::StrCat(name, " has no replica on device ", request.device(),
                               ": `gabion status --slices` shows where it is"));
  }
  const auto is_good = [&](const Member& member) {
    return !view.repository.rolled_back().contains({slice->id, member.device});
  };
  if ((view.IsActing(slice->primary) && is_good(slice->primary)) ||
      (view.IsAble(slice->secondary) && is_good(slice->secondary))) {
    return Refuse(Code::CONFLICT, absl::StrCat(name,
                                               " has a good copy that can serve: nothing "
                                               "needs to be forced"));
  }
  if (!MayReplacePrimary(view, *slice)) {
    return Refuse(Code::UNAVAILABLE,
                  absl::StrCat(name, ": its primary may still hold a lease: repeat in a second"));
  }
  if (!view.IsAble(SdsId(device->sds()), id)) {
    return Refuse(Code::UNAVAILABLE,
                  absl::StrCat(name, ": device ", request.device(), " (", device->path(),
                               ") is not up: start its SDS first"));
  }
  return ForceCopy(view, request, SdsId(device->sds()));
}

AdminDecision DecideCommand(const View& view, const proto::AdminRequest& request) {
  const bool removes = (request.has_device_remove() && !request.device_remove().cancel()) ||
                       (request.has_sds_remove() && !request.sds_remove().cancel()) ||
                       request.has_pool_remove();
  if (std::string why = WhyNothingGoes(view.repository); removes && !why.empty()) {
    return Refuse(Code::CONFLICT, std::move(why));
  }
  switch (request.command_case()) {
    case proto::AdminRequest::kSdsAdd:
      return Decide(view, request.sds_add());
    case proto::AdminRequest::kSdsRemove:
      return DecideRemoval(view, request.sds_remove());
    case proto::AdminRequest::kPoolAdd:
      return Decide(view, request.pool_add());
    case proto::AdminRequest::kPoolRemove:
      return Decide(view, request.pool_remove());
    case proto::AdminRequest::kDeviceAdd:
      return Decide(view, request.device_add());
    case proto::AdminRequest::kDeviceRemove:
      return DecideRemoval(view, request.device_remove());
    case proto::AdminRequest::kVolumeCreate:
      return Decide(view, request.volume_create());
    case proto::AdminRequest::kVolumeDelete:
      return Decide(view, request.volume_delete());
    case proto::AdminRequest::kVolumeGrow:
      return Decide(view, request.volume_grow());
    case proto::AdminRequest::kVolumeMap:
      return Decide(view, request.volume_map());
    case proto::AdminRequest::kVolumeUnmap:
      return Decide(view, request.volume_unmap());
    case proto::AdminRequest::kSdcAdd:
      return Decide(view, request.sdc_add());
    case proto::AdminRequest::kSdcRemove:
      return Decide(view, request.sdc_remove());
    case proto::AdminRequest::kSliceForce:
      return Decide(view, request.slice_force());
    case proto::AdminRequest::kMdmRestored:
      return DecideRestored(view, request.mdm_restored());
    case proto::AdminRequest::kStatus:
    case proto::AdminRequest::kDeviceScan:  // nothing for the repository
    case proto::AdminRequest::COMMAND_NOT_SET:
      break;
  }
  return Refuse(Code::INVALID,
                "this MDM does not know the command: it is of a version that does not fit; use the "
                "`gabion` program of the cluster's version");
}

}  // namespace

bool IsValidName(std::string_view name) {
  if (name.empty() || name.size() > kNameMax) return false;
  bool only_digits = true;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!digit && !letter && c != '.' && c != '_' && c != '-') return false;
    only_digits = only_digits && digit;
  }
  return !only_digits;
}

AdminDecision DecideAdmin(const View& view, const proto::AdminRequest& request) {
  if (request.request().empty() || request.request().size() > kRequestIdMax) {
    return Refuse(Code::INVALID,
                  absl::StrCat("the command has no usable request id (", request.request().size(),
                               " characters): give it a unique one of 1 to ", kRequestIdMax));
  }
  if (const auto id = view.repository.AnswerTo(request.request())) return Done(*id);
  AdminDecision decision = DecideCommand(view, request);
  if (!decision.reply) decision.command.set_request(request.request());
  return decision;
}

Await AwaitOf(const proto::AdminRequest& request) {
  switch (request.command_case()) {
    case proto::AdminRequest::kDeviceAdd:
      return Await::kDevice;
    case proto::AdminRequest::kVolumeGrow:
    case proto::AdminRequest::kVolumeMap:
      return Await::kAccessApplied;
    case proto::AdminRequest::kVolumeUnmap:
    case proto::AdminRequest::kSdcRemove:
      return Await::kAccessDrained;
    default:
      return Await::kNothing;
  }
}

}  // namespace gabion::mdm
