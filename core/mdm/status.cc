#include "core/mdm/status.h"

#include <utility>

#include "core/mdm/removal.h"
#include "core/mdm/reopening.h"
#include "core/mdm/restored.h"
#include "core/mdm/scan_orders.h"

namespace gabion::mdm {
namespace {

void CountSlice(const View& view, const Registrar& registrar, const SliceState& slice,
                proto::ClusterStatus& status) {
  if (!view.IsActing(slice.primary) || !registrar.IsOpen(slice)) {
    status.set_slices_unavailable(status.slices_unavailable() + 1);
    return;
  }
  if (view.IsActing(slice.secondary)) {
    status.set_slices_mirrored(status.slices_mirrored() + 1);
    return;
  }
  status.set_slices_degraded(status.slices_degraded() + 1);
  if (slice.joining) status.set_slices_joining(status.slices_joining() + 1);
}

}  // namespace

proto::ClusterStatus MakeStatus(const View& view, const Registrar& registrar, const MapStream& maps,
                                bool with_slices) {
  const Repository& repository = view.repository;
  proto::ClusterStatus status;
  status.set_cluster(repository.cluster().value());
  status.set_generation(repository.generation());
  status.set_mdm_incarnation(repository.mdm_incarnation().value());
  for (const auto& [id, sds] : repository.sdss()) {
    proto::Sds* out = status.add_sdss();
    *out = sds;
    const SdsView seen = view.sds(id);
    out->set_up(seen.alive && !seen.lease_over);
  }
  status.set_problem(registrar.outdated());
  absl::btree_map<DeviceId, uint32_t> held;
  for (const auto& [id, slice] : repository.slices()) {
    for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
      if (*member) ++held[member->device];
    }
  }
  absl::btree_map<uint64_t, proto::Pool> pools;
  for (const auto& [id, pool] : repository.pools()) pools[id.value()] = pool;
  for (const auto& [id, device] : repository.devices()) {
    proto::Device* out = status.add_devices();
    *out = device;
    if (device.state() == proto::DEVICE_UP && !view.IsAble(SdsId(device.sds()), id)) {
      out->set_state(proto::DEVICE_DOWN);
    }
    if (out->state() != proto::DEVICE_UP && out->error().empty()) {
      out->set_error(registrar.ErrorOf(id));
    }
    if (const std::string why = WhyNotEmptied(view, id); !why.empty()) {
      out->set_error("it cannot be emptied: " + why);
    }
    out->set_used_bytes(view.device(id).used_bytes);
    out->set_log_position(view.device(id).log_position);
    *out->mutable_memory() = view.device(id).memory;
    out->set_slices(held[id]);
    *out->mutable_scan() = registrar.ScanOf(id);
    if (!view.IsAble(SdsId(device.sds()), id)) {  // what it said of a pass is over
      proto::ScanStatus last;
      if (out->scan().has_last()) *last.mutable_last() = out->scan().last();
      *out->mutable_scan() = last;
    }
    if (std::string notice = ScanNotice(repository, *out); !notice.empty()) {
      *status.add_notices() = std::move(notice);
    }
    // Nothing is placed on the others: not up yet, only tested, or failed.
    if (device.state() != proto::DEVICE_UP) continue;
    proto::Pool& pool = pools[device.pool()];
    pool.set_capacity_bytes(pool.capacity_bytes() + device.size_bytes());
    pool.set_used_bytes(pool.used_bytes() + out->used_bytes());
  }
  for (const auto& [id, pool] : pools) *status.add_pools() = pool;
  for (const auto& [id, volume] : repository.volumes()) *status.add_volumes() = volume;
  for (const auto& [id, sdc] : repository.sdcs()) {
    proto::Sdc* out = status.add_sdcs();
    *out = sdc;
    out->set_up(maps.IsUp(id, view.now));
  }
  for (const auto& [key, mapping] : repository.mappings()) *status.add_mappings() = mapping;
  for (const auto& [id, slice] : repository.slices()) {
    CountSlice(view, registrar, slice, status);
    if (with_slices) *status.add_slices() = ToProto(slice);
  }
  const auto closed = static_cast<uint32_t>(repository.closed().size());
  status.set_slices_closed(closed);
  status.set_slices_unavailable(status.slices_unavailable() + closed);
  for (const auto& [id, slice] : repository.closed()) {
    if (!with_slices) break;
    proto::ClosedSlice* out = status.add_closed_slices();
    out->set_slice(id.value());
    out->set_why(DecideReopening(view, slice).why_not);
  }
  for (std::string& notice : RestoreNotices(view)) *status.add_notices() = std::move(notice);
  return status;
}

}  // namespace gabion::mdm
