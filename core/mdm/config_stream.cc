#include "core/mdm/config_stream.h"

#include <algorithm>
#include <utility>

#include "core/base/bug.h"
#include "core/base/check.h"
#include "core/base/mix.h"
#include "core/wire/management.h"

namespace gabion::mdm {
namespace {

constexpr int kIncarnationShift = 32;
constexpr uint64_t kIncarnationsMax = uint64_t{1} << (kGenerationShift - kIncarnationShift);
// Unapplied fences remembered one by one; above that the newest two are counted as one.
constexpr size_t kFencesMax = 64;

bool IsEmpty(const proto::ConfigUpdate& update) { return update.ByteSizeLong() == 0; }

bool ChangesAccess(const proto::ConfigUpdate& update) {
  return update.volumes_size() + update.deleted_volumes_size() + update.mappings_size() +
             update.removed_mappings_size() + update.sdcs_size() + update.removed_sdcs_size() >
         0;
}

void AddDropped(const Repository& repository, SliceId id, DeviceId device,
                proto::ConfigUpdate& update) {
  const SliceState* slice = repository.FindSlice(id);
  update.add_dropped_slices(id.value());
  update.add_dropped_devices(device.value());
  update.add_dropped_epochs(slice == nullptr ? UINT64_MAX : slice->epoch.value());
}

bool HasMappingIn(const Repository& repository, SdcId sdc, SdsId sds) {
  return std::any_of(
      repository.mappings().begin(), repository.mappings().end(), [&](const auto& entry) {
        const proto::Volume* volume = repository.FindVolume(entry.first.first);
        return entry.first.second == sdc && repository.HasPool(sds, PoolId(volume->pool()));
      });
}

bool ArePeers(const Repository& repository, SdsId a, SdsId b) {
  return a != b &&
         std::any_of(repository.pools().begin(), repository.pools().end(), [&](const auto& pool) {
           return repository.HasPool(a, pool.first) && repository.HasPool(b, pool.first);
         });
}

}  // namespace

bool Concerns(const Repository& repository, const SliceState& slice, SdsId sds) {
  for (const Member* member : {&slice.primary, &slice.secondary, &slice.joining}) {
    if (*member && member->sds == sds) return true;
  }
  if (!slice.former.valid()) return false;
  const proto::Device* device = repository.FindDevice(slice.former);
  return device != nullptr && SdsId(device->sds()) == sds;
}

void ConfigStream::Start(const Repository& repository) {
  // The incarnation alone went back with a repository that was restored.
  CHECK_LT(repository.mdm_incarnation().value(), kIncarnationsMax);
  first_version_ = repository.generation() << kGenerationShift |
                   repository.mdm_incarnation().value() << kIncarnationShift | 1;
  for (const auto& [sds, state] : repository.sdss()) {
    Stream& stream = streams_[sds];
    stream.version = stream.access_version = first_version_;
    stream.fences.push_back({first_version_, Instant()});
  }
}

proto::ConfigUpdate ConfigStream::Full(const Repository& repository, SdsId sds) const {
  proto::ConfigUpdate update;
  update.set_full(true);
  update.set_fence(true);
  for (const auto& [id, slice] : repository.slices()) {
    if (Concerns(repository, slice, sds)) *update.add_slices() = ToProto(slice);
  }
  for (const auto& [slice, device] : repository.stale()) {
    if (SdsId(repository.FindDevice(device)->sds()) != sds) continue;
    AddDropped(repository, slice, device, update);
  }
  for (const auto& [id, device] : repository.devices()) {
    if (SdsId(device.sds()) == sds) *update.add_devices() = device;
  }
  const auto stream = streams_.find(sds);
  if (stream != streams_.end()) {
    for (const proto::Device& device : stream->second.kept) {
      if (repository.FindDevice(DeviceId(device.id())) == nullptr) *update.add_devices() = device;
    }
  }
  update.set_survey(repository.generation() > 0);
  for (const auto& [id, pool] : repository.pools()) {
    if (repository.HasPool(sds, id)) *update.add_pools() = pool;
  }
  for (const auto& [id, volume] : repository.volumes()) {
    if (repository.HasPool(sds, PoolId(volume.pool()))) *update.add_volumes() = volume;
  }
  for (const auto& [key, mapping] : repository.mappings()) {
    const proto::Volume* volume = repository.FindVolume(key.first);
    if (repository.HasPool(sds, PoolId(volume->pool()))) *update.add_mappings() = mapping;
  }
  for (const auto& [id, sdc] : repository.sdcs()) {
    if (HasMappingIn(repository, id, sds)) *update.add_sdcs() = sdc;
  }
  for (const auto& [id, peer] : repository.sdss()) {
    if (ArePeers(repository, sds, id)) *update.add_peers() = peer;
  }
  return update;
}

proto::ConfigUpdate ConfigStream::Increment(const Repository& repository, SdsId sds,
                                            const Changes& changes) const {
  if (std::count(changes.pool_sets.begin(), changes.pool_sets.end(), sds) != 0) {
    return Full(repository, sds);
  }
  proto::ConfigUpdate update;
  bool fence = false;
  const auto in_pools = [&](uint64_t pool) { return repository.HasPool(sds, PoolId(pool)); };
  for (const SliceState& before : changes.slices_before) {
    const SliceState* slice = repository.FindSlice(before.id);
    if (slice == nullptr) continue;
    if (!Concerns(repository, before, sds) && !Concerns(repository, *slice, sds)) continue;
    *update.add_slices() = ToProto(*slice);
    fence = fence || slice->epoch != before.epoch;
  }
  for (const auto& [slice, device] : changes.stale) {
    const proto::Device* found = repository.FindDevice(device);
    if (found == nullptr || SdsId(found->sds()) != sds) continue;
    AddDropped(repository, slice, device, update);
    fence = true;
  }
  for (const DeviceId id : changes.devices) {
    const proto::Device* device = repository.FindDevice(id);
    if (device != nullptr && SdsId(device->sds()) == sds) *update.add_devices() = *device;
  }
  for (const proto::Device& device : changes.removed_devices) {
    if (SdsId(device.sds()) == sds) *update.add_devices() = device;
  }
  for (const VolumeId id : changes.volumes) {
    const proto::Volume* volume = repository.FindVolume(id);
    if (in_pools(volume->pool())) *update.add_volumes() = *volume;
  }
  for (const proto::Volume& volume : changes.removed_volumes) {
    if (!in_pools(volume.pool())) continue;
    update.add_deleted_volumes(volume.id());
    fence = true;
  }
  for (const auto& [volume_id, sdc_id] : changes.mappings) {
    if (!in_pools(repository.FindVolume(volume_id)->pool())) continue;
    *update.add_mappings() = repository.mappings().at({volume_id, sdc_id});
    *update.add_sdcs() = *repository.FindSdc(sdc_id);
  }
  for (const proto::Mapping& mapping : changes.removed_mappings) {
    if (!in_pools(repository.FindVolume(VolumeId(mapping.volume()))->pool())) continue;
    *update.add_removed_mappings() = mapping;
    fence = true;
  }
  for (const SdcId id : changes.sdcs) {
    if (!HasMappingIn(repository, id, sds)) continue;
    *update.add_sdcs() = *repository.FindSdc(id);
    fence = true;
  }
  for (const SdcId id : changes.removed_sdcs) {
    update.add_removed_sdcs(id.value());
    fence = true;
  }
  for (const SdsId id : changes.sdss) {
    if (ArePeers(repository, sds, id)) *update.add_peers() = *repository.FindSds(id);
  }
  for (const SdsId id : changes.pool_sets) {
    const proto::Sds* peer = repository.FindSds(id);
    if (peer != nullptr && ArePeers(repository, sds, id)) *update.add_peers() = *peer;
  }
  for (const PoolId id : changes.pools) {
    if (in_pools(id.value())) *update.add_pools() = *repository.FindPool(id);
  }
  update.set_fence(fence);
  return update;
}

void ConfigStream::Attach(const Repository& repository, SdsId sds, ConnId conn, bool must_apply,
                          std::vector<proto::Device> kept, Effects& effects) {
  Stream& stream = streams_[sds];
  const bool is_new = stream.version == 0;
  stream.version = std::max(stream.version + 1, first_version_ + 1);
  if (must_apply || is_new) {
    stream.fences.push_front({stream.version, Instant()});
    // From then on all of it is one old fence.
    stream.fences.resize(1);
    stream.access_version = stream.version;
    stream.applied = stream.drained = 0;
  }
  stream.conn = conn;
  stream.kept = std::move(kept);
  proto::ConfigUpdate full = Full(repository, sds);
  stream.stale.clear();
  NoteStale(stream, full);
  Send(stream, std::move(full), effects);
}

void ConfigStream::Detach(SdsId sds) {
  const auto at = streams_.find(sds);
  if (at != streams_.end()) at->second.conn = ConnId();
}

void ConfigStream::NoteStale(Stream& stream, const proto::ConfigUpdate& update) {
  for (int i = 0; i < update.dropped_slices_size(); ++i) {
    stream.stale[{SliceId(update.dropped_slices(i)), DeviceId(update.dropped_devices(i))}] =
        stream.version;
  }
}

void ConfigStream::Send(Stream& stream, proto::ConfigUpdate update, Effects& effects) {
  update.set_version(stream.version);
  if (!stream.conn.valid()) return;
  proto::Management management;
  *management.mutable_config_update() = std::move(update);
  wire::Message message = wire::ToMessage(management, 0, *pool_);
  if (message.payload.empty()) {
    // No memory for it now. A new connection starts with everything.
    effects.Close(stream.conn);
    stream.conn = ConnId();
    return;
  }
  effects.Send(stream.conn, message.body, std::move(message.payload));
}

void ConfigStream::OnCommitted(const Repository& repository, const Changes& changes, Instant now,
                               Effects& effects) {
  for (const SdsId id : changes.removed_sdss) streams_.erase(id);
  for (auto& [sds, stream] : streams_) {
    if (repository.FindSds(sds) == nullptr) continue;
    proto::ConfigUpdate update = Increment(repository, sds, changes);
    if (IsEmpty(update)) continue;
    if (PLANTED_BUG("map-update-lost-version") && !stream.conn.valid()) continue;
    ++stream.version;
    if (update.fence()) {
      if (stream.fences.size() == kFencesMax) {
        stream.fences.back().version = stream.version;
      } else {
        stream.fences.push_back({stream.version, now});
      }
    }
    if (update.full() || ChangesAccess(update)) stream.access_version = stream.version;
    NoteStale(stream, update);
    Send(stream, std::move(update), effects);
  }
}

void ConfigStream::OnReport(SdsId sds, const proto::SdsHeartbeat& heartbeat) {
  const uint64_t applied_version = heartbeat.applied_version();
  const uint64_t drained_version = heartbeat.drained_version();
  const auto at = streams_.find(sds);
  if (at == streams_.end()) return;
  Stream& stream = at->second;
  // A version that was never sent is a lie, and counts for nothing.
  if (applied_version > stream.version || drained_version > applied_version) return;
  stream.applied = std::max(stream.applied, applied_version);
  stream.drained = std::max(stream.drained, drained_version);
  stream.undropped.clear();
  const int undropped =
      std::min(heartbeat.undropped_slices_size(), heartbeat.undropped_devices_size());
  for (int i = 0; i < undropped; ++i) {
    stream.undropped.emplace(SliceId(heartbeat.undropped_slices(i)),
                             DeviceId(heartbeat.undropped_devices(i)));
  }
  while (!stream.fences.empty() && stream.fences.front().version <= stream.applied) {
    stream.fences.pop_front();
  }
}

uint64_t ConfigStream::version(SdsId sds) const {
  const auto at = streams_.find(sds);
  return at == streams_.end() ? 0 : at->second.version;
}
uint64_t ConfigStream::applied(SdsId sds) const {
  const auto at = streams_.find(sds);
  return at == streams_.end() ? 0 : at->second.applied;
}
uint64_t ConfigStream::drained(SdsId sds) const {
  const auto at = streams_.find(sds);
  return at == streams_.end() ? 0 : at->second.drained;
}
uint64_t ConfigStream::access_version(SdsId sds) const {
  const auto at = streams_.find(sds);
  return at == streams_.end() ? 0 : at->second.access_version;
}

Leases::Fence ConfigStream::FenceOf(SdsId sds) const {
  const auto at = streams_.find(sds);
  if (at == streams_.end()) return {.lacking = true, .committed_at = Instant()};
  if (at->second.fences.empty()) return {};
  return {.lacking = true, .committed_at = at->second.fences.front().committed_at};
}

std::vector<std::pair<SliceId, DeviceId>> ConfigStream::Forgotten(const Repository& repository,
                                                                  size_t max) const {
  std::vector<std::pair<SliceId, DeviceId>> out;
  for (const auto& replica : repository.stale()) {
    if (out.size() == max) break;
    const auto stream = streams_.find(SdsId(repository.FindDevice(replica.second)->sds()));
    if (stream == streams_.end()) continue;
    const auto sent = stream->second.stale.find(replica);
    if (sent != stream->second.stale.end() && sent->second <= stream->second.drained &&
        !stream->second.undropped.contains(replica)) {
      out.push_back(replica);
    }
  }
  return out;
}

void ConfigStream::CheckInvariants() const {
  for (const auto& [sds, stream] : streams_) {
    CHECK_LE(stream.drained, stream.applied);
    CHECK_LE(stream.applied, stream.version);
    CHECK_LE(stream.access_version, stream.version);
    CHECK_LE(stream.fences.size(), kFencesMax);
    uint64_t version = stream.applied;
    for (const UnappliedFence& fence : stream.fences) {
      CHECK_GT(fence.version, version);
      version = fence.version;
    }
    CHECK_LE(version, stream.version);
  }
}

std::string ConfigStream::Dump() const {
  std::string out = "configuration:\n";
  for (const auto& [sds, stream] : streams_) {
    const auto low = [](uint64_t version) { return std::to_string(version & UINT32_MAX); };
    out += "  sds " + gabion::ToString(sds) + " version " + low(stream.version) + ", applied " +
           low(stream.applied) + ", drained " + low(stream.drained) + ", fences lacking " +
           std::to_string(stream.fences.size()) + (stream.conn.valid() ? "\n" : ", away\n");
  }
  return out;
}

uint64_t ConfigStream::StateHash() const {
  uint64_t hash = first_version_;
  const auto add = [&hash](uint64_t value) { hash = mix64(hash ^ mix64(value + 3)); };
  for (const auto& [sds, stream] : streams_) {
    add(sds.value()), add(stream.conn.value()), add(stream.version), add(stream.access_version);
    add(stream.applied), add(stream.drained), add(stream.fences.size());
  }
  return hash;
}

}  // namespace gabion::mdm
