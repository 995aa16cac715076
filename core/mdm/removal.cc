#include "core/mdm/removal.h"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "core/mdm/admin_answers.h"
#include "core/mdm/rebuild.h"
#include "core/plan/plan.h"

namespace gabion::mdm {
namespace {

using Code = proto::AdminReply;

// Empty, or why the pool cannot do without these devices. `usable_only`: as things are now.
std::string CheckRoomWithout(const View& view, PoolId pool_id, const std::vector<DeviceId>& gone,
                             bool usable_only = false) {
  const proto::Pool& pool = *view.repository.FindPool(pool_id);
  if (!view.repository.HasVolumes(pool_id)) return "";
  std::vector<plan::Device> devices = PlanDevices(view, pool_id, usable_only);
  uint64_t used = 0;
  for (plan::Device& device : devices) {
    used += device.used_bytes;
    device.leaving = device.leaving || std::count(gone.begin(), gone.end(), device.id) != 0;
  }
  const uint64_t net = plan::NetCapacity(devices);
  if (net == 0) {
    return absl::StrCat("what is left of pool \"", pool.name(),
                        "\" has no devices of two SDSs (or two fault sets), and so no place for "
                        "two copies: add devices with `gabion device add` first");
  }
  if (used / 2 <= net) return "";
  return absl::StrCat("what is left of pool \"", pool.name(), "\" can hold ", Mebibytes(net),
                      " mirrored, and ", Mebibytes(used / 2),
                      " are in use: add devices with `gabion device add` first");
}

// Empty, or that the device has something that nothing else has, and cannot be read.
std::string CheckLastCopies(const View& view, DeviceId id) {
  const proto::Device& device = *view.repository.FindDevice(id);
  if (view.IsAble(SdsId(device.sds()), id) || !view.repository.HasVolumes(PoolId(device.pool()))) {
    return "";
  }
  const auto& slices = view.repository.slices();
  const auto last = std::count_if(slices.begin(), slices.end(), [&](const auto& entry) {
    return entry.second.primary.device == id && !entry.second.secondary;
  });
  if (last == 0) return "";
  return absl::StrCat("device ", id.value(), " (", device.path(), ") holds the only copy of ", last,
                      " slices, and is not up: bring it back, or, if it is lost for good, accept "
                      "the loss slice by slice with `gabion slice force`");
}

}  // namespace

AdminDecision DecideRemoval(const View& view, const proto::SdsRemove& request) {
  const proto::Sds* sds = FindNamed(view.repository.sdss(), request.sds());
  if (sds == nullptr) return NotFound("SDS", request.sds(), "sds");
  AdminDecision decision;
  if (request.cancel() && !sds->removing()) {
    return Refuse(Code::CONFLICT, absl::StrCat("SDS \"", sds->name(),
                                               "\" is not being removed: nothing to cancel"));
  }
  absl::btree_map<PoolId, std::vector<DeviceId>> pools;
  proto::EvacuateDevices evacuate;
  evacuate.set_sds(sds->id());
  evacuate.set_cancel(request.cancel());
  for (const auto& [id, device] : view.repository.devices()) {
    if (device.sds() != sds->id()) continue;
    evacuate.add_devices(id.value());
    pools[PoolId(device.pool())].push_back(id);
  }
  if (evacuate.devices_size() == 0 && !request.cancel()) {
    decision.command.mutable_remove_sds()->set_sds(sds->id());
    return decision;
  }
  if (!request.cancel()) {
    if (sds->removing()) return Done(sds->id());
    for (const auto& [pool, devices] : pools) {
      for (const DeviceId id : devices) {
        if (std::string error = CheckLastCopies(view, id); !error.empty()) {
          return Refuse(Code::CONFLICT, absl::StrCat("SDS \"", sds->name(), "\": ", error));
        }
      }
      if (std::string error = CheckRoomWithout(view, pool, devices); !error.empty()) {
        return Refuse(Code::NO_SPACE, absl::StrCat("SDS \"", sds->name(), "\": ", error));
      }
    }
  }
  *decision.command.mutable_evacuate_devices() = std::move(evacuate);
  return decision;
}

AdminDecision DecideRemoval(const View& view, const proto::DeviceRemove& request) {
  const Repository& repository = view.repository;
  const proto::Device* device = nullptr;
  uint64_t id = 0;
  const std::string& name = request.device();
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error == std::errc() && end == name.data() + name.size()) {
    device = repository.FindDevice(DeviceId(id));
  }
  if (device == nullptr) return NotFound("device", name, "device");
  const std::string title = absl::StrCat("device ", id, " (", device->path(), ")");
  AdminDecision decision;
  if (request.cancel()) {
    if (!device->removing()) {
      return Refuse(Code::CONFLICT, title + " is not being removed: nothing to cancel");
    }
    const proto::Sds& sds = *repository.FindSds(SdsId(device->sds()));
    if (sds.removing()) {
      return Refuse(Code::CONFLICT,
                    absl::StrCat(title, " goes with its SDS: keep both with `gabion sds remove ",
                                 sds.name(), " --cancel`"));
    }
    decision.command.mutable_evacuate_devices()->add_devices(id);
    decision.command.mutable_evacuate_devices()->set_cancel(true);
    return decision;
  }
  const PoolId pool(device->pool());
  if (repository.HeldBy(DeviceId(id)) == 0) {
    // What it held was lost a moment ago, perhaps: then its room is needed, unless others have it
    // or it is of no use anyway.
    std::string no_room = CheckRoomWithout(view, pool, {DeviceId(id)});
    if (!no_room.empty() && CheckRoomWithout(view, pool, {}).empty()) {
      return Refuse(Code::NO_SPACE, absl::StrCat(title, ": ", no_room));
    }
    decision.command.mutable_remove_device()->set_device(id);
    return decision;
  }
  if (device->removing()) return Done(id);
  if (std::string last = CheckLastCopies(view, DeviceId(id)); !last.empty()) {
    return Refuse(Code::CONFLICT, std::move(last));
  }
  std::string no_room = CheckRoomWithout(view, pool, {DeviceId(id)});
  if (!no_room.empty()) return Refuse(Code::NO_SPACE, absl::StrCat(title, ": ", no_room));
  decision.command.mutable_evacuate_devices()->add_devices(id);
  return decision;
}

std::string WhyNotEmptied(const View& view, DeviceId id) {
  const proto::Device& device = *view.repository.FindDevice(id);
  if (!device.removing() || view.repository.HeldBy(id) == 0) return "";
  if (std::string last = CheckLastCopies(view, id); !last.empty()) return last;
  std::string no_room = CheckRoomWithout(view, PoolId(device.pool()), {id}, true);
  if (no_room.empty()) return "";
  return absl::StrCat(no_room, ", or keep it with `--cancel`");
}

std::string NoteOf(const Repository& repository, const proto::AdminRequest& request, uint64_t id) {
  if (request.has_device_remove() && !request.device_remove().cancel()) {
    const uint32_t held = repository.HeldBy(DeviceId(id));
    if (held == 0) return "";
    return absl::StrCat(held,
                        " slices move elsewhere first; `gabion device list` shows how many are "
                        "left, and the device is gone from it when it is done");
  }
  if (request.has_sds_remove() && !request.sds_remove().cancel() &&
      repository.FindSds(SdsId(id)) != nullptr) {
    return "its devices are emptied first; `gabion device list` shows how far that is, and the SDS "
           "is gone from `gabion sds list` when it is done";
  }
  if (request.has_mdm_restored() && !repository.closed().empty()) {
    return absl::StrCat("generation ", repository.generation(), "; ", repository.closed().size(),
                        " slices wait for the devices that hold their newest data; `gabion "
                        "status` shows how far that is");
  }
  return "";
}

}  // namespace gabion::mdm
