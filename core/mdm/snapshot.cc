// Repository to snapshot and back.
#include "core/base/check.h"
#include "core/mdm/repository.h"

namespace gabion::mdm {
namespace {

constexpr uint32_t kFormat = 1;

}  // namespace

proto::RepositorySnapshot Repository::Snapshot() const {
  proto::RepositorySnapshot out;
  out.set_format(kFormat);
  out.set_cluster(cluster_.value());
  out.set_generation(generation_);
  out.set_mdm_incarnation(mdm_incarnation_.value());
  out.set_next_id(next_id_);
  out.set_applied(applied_);
  for (const auto& [id, sds] : sdss_) *out.add_sdss() = sds;
  for (const auto& [id, device] : devices_) *out.add_devices() = device;
  for (const auto& [id, pool] : pools_) *out.add_pools() = pool;
  for (const auto& [id, volume] : volumes_) *out.add_volumes() = volume;
  for (const auto& [id, sdc] : sdcs_) *out.add_sdcs() = sdc;
  for (const auto& [key, mapping] : mappings_) *out.add_mappings() = mapping;
  const auto write = [](const SliceState& slice, proto::SliceRecord* record) {
    *record->mutable_config() = ToProto(slice);
    record->set_pool(slice.pool.value());
    record->set_former_device(slice.former.value());
  };
  for (const auto& [id, slice] : slices_) write(slice, out.add_slices());
  for (const auto& [id, slice] : closed_) write(slice, out.add_closed());
  for (const auto& [generation, next_id] : ended_) {
    proto::EndedGeneration* ended = out.add_ended();
    ended->set_generation(generation);
    ended->set_next_id(next_id);
  }
  for (const auto& [slice, device] : stale_) {
    proto::StaleReplica* replica = out.add_stale();
    replica->set_slice(slice.value());
    replica->set_device(device.value());
  }
  for (const auto& [slice, device] : rolled_back_) {
    proto::StaleReplica* replica = out.add_rolled_back();
    replica->set_slice(slice.value());
    replica->set_device(device.value());
  }
  for (const proto::AnsweredRequest& request : requests_) *out.add_requests() = request;
  return out;
}

Result<Repository> Repository::Load(const proto::RepositorySnapshot& snapshot) {
  if (snapshot.format() != kFormat) {
    return Err(ErrorCode::kUnsupported,
               "repository format %u is not known to this version (it knows %u): start the "
               "version that wrote it",
               snapshot.format(), kFormat);
  }
  Repository out;
  out.cluster_ = ClusterId(snapshot.cluster());
  out.generation_ = snapshot.generation();
  out.mdm_incarnation_ = Incarnation(snapshot.mdm_incarnation());
  out.next_id_ = snapshot.next_id();
  out.applied_ = snapshot.applied();
  for (const auto& sds : snapshot.sdss()) out.sdss_.emplace(SdsId(sds.id()), sds);
  for (const auto& pool : snapshot.pools()) out.pools_.emplace(PoolId(pool.id()), pool);
  for (const auto& device : snapshot.devices()) {
    out.devices_.emplace(DeviceId(device.id()), device);
    ++out.pool_members_[{PoolId(device.pool()), SdsId(device.sds())}];
  }
  for (const auto& volume : snapshot.volumes()) out.volumes_.emplace(VolumeId(volume.id()), volume);
  for (const auto& sdc : snapshot.sdcs()) out.sdcs_.emplace(SdcId(sdc.id()), sdc);
  for (const auto& mapping : snapshot.mappings()) {
    out.mappings_.emplace(std::pair(VolumeId(mapping.volume()), SdcId(mapping.sdc())), mapping);
  }
  const auto read = [](const proto::SliceRecord& record) {
    SliceState slice;
    FromProto(record.config(), slice);
    slice.pool = PoolId(record.pool());
    slice.former = DeviceId(record.former_device());
    return std::pair(slice.id, slice);
  };
  for (const auto& record : snapshot.slices()) out.slices_.insert(read(record));
  for (const auto& record : snapshot.closed()) out.closed_.insert(read(record));
  for (const auto& ended : snapshot.ended()) out.ended_[ended.generation()] = ended.next_id();
  for (const auto& replica : snapshot.stale()) {
    out.stale_.insert({SliceId(replica.slice()), DeviceId(replica.device())});
  }
  for (const auto& replica : snapshot.rolled_back()) {
    out.rolled_back_.insert({SliceId(replica.slice()), DeviceId(replica.device())});
  }
  for (const auto& request : snapshot.requests()) out.requests_.push_back(request);
  return out;
}

}  // namespace gabion::mdm
