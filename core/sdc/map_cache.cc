#include "core/sdc/map_cache.h"

#include <utility>

#include "core/base/bug.h"
#include "core/base/mix.h"
#include "core/wire/data.h"

namespace gabion::sdc {
namespace {

// Volumes address chunks with 32 bits.
constexpr uint64_t kVolumeBytesMax = uint64_t{UINT32_MAX} * wire::kChunkBytes;

}  // namespace

std::optional<std::string> MapCache::Refusal(const proto::MapUpdate& update) const {
  for (const proto::Volume& volume : update.volumes()) {
    if (volume.id() == 0 || volume.vtree() == 0) return "volume without id or V-tree";
    if (volume.size_bytes() > kVolumeBytesMax) return "volume " + volume.name() + ": size";
  }
  for (const proto::Pool& pool : update.pools()) {
    const uint32_t count = pool.slice_count();
    if (pool.id() == 0) return "pool without id";
    if (count != 0 && ((count & (count - 1)) != 0 || pool.first_slice() == 0)) {
      return "pool " + pool.name() + ": " + std::to_string(count) + " slices";
    }
  }
  for (const proto::SliceRoute& route : update.slices()) {
    if (route.slice() == 0) return "route without slice";
  }
  return std::nullopt;
}

MapCache::Outcome MapCache::Apply(const proto::MapUpdate& update) {
  if (!update.full()) {
    if (expects_full_ || update.version() > version_ + 1) return Outcome::kGap;
    if (update.version() <= version_) return Outcome::kOld;
  }
  if (std::optional<std::string> refusal = Refusal(update)) {
    error_ = std::move(*refusal);
    return Outcome::kMalformed;
  }
  if (update.full()) {
    volumes_.clear();
    pools_.clear();
    endpoints_.clear();
    // A slice that is no longer named is served by nobody; its reign still fences what was sent.
    for (auto& [slice, route] : routes_) route.sds = SdsId();
    ready_ = true;
    expects_full_ = false;
  }
  version_ = update.version();

  for (const proto::Pool& pool : update.pools()) {
    pools_[PoolId(pool.id())] = {pool.first_slice(), pool.slice_count()};
  }
  ApplyVolumes(update);
  for (const proto::SliceRoute& update_route : update.slices()) {
    Route& route = routes_[SliceId(update_route.slice())];
    const Reign reign(update_route.reign());
    // Reigns only grow. An older one would make a fenced attempt look alive.
    if (reign < route.reign) continue;
    if (PLANTED_BUG("sdc-stale-map-kept") && route.reign.valid()) continue;
    route = {reign, SdsId(update_route.sds())};
  }
  for (const proto::Sds& endpoint : update.endpoints()) {
    std::vector<Address>& addresses = endpoints_[SdsId(endpoint.id())];
    addresses.clear();
    for (const std::string& text : endpoint.addresses()) {
      if (std::optional<Address> address = Address::Parse(text)) addresses.push_back(*address);
    }
  }
  return Outcome::kApplied;
}

void MapCache::ApplyVolumes(const proto::MapUpdate& update) {
  for (uint64_t id : update.unmapped_volumes()) volumes_.erase(VolumeId(id));
  for (const proto::Volume& volume : update.volumes()) {
    VolumeInfo& info = volumes_[VolumeId(volume.id())];
    info.id = VolumeId(volume.id());
    info.name = volume.name();
    info.pool = PoolId(volume.pool());
    info.vtree = VtreeId(volume.vtree());
    info.size_bytes = volume.size_bytes();
    info.snap_number = SnapNumber(volume.snap_number());
  }
  for (const proto::Mapping& mapping : update.mappings()) {
    const auto it = volumes_.find(VolumeId(mapping.volume()));
    if (it != volumes_.end()) it->second.read_only = mapping.read_only();
  }
}

const VolumeInfo* MapCache::FindVolume(VolumeId id) const {
  const auto it = volumes_.find(id);
  return it == volumes_.end() ? nullptr : &it->second;
}

const VolumeInfo* MapCache::FindVolume(std::string_view name) const {
  for (const auto& [id, volume] : volumes_) {
    if (volume.name == name) return &volume;
  }
  return nullptr;
}

std::optional<SliceId> MapCache::SliceOf(const VolumeInfo& volume, uint32_t chunk) const {
  const auto it = pools_.find(volume.pool);
  if (it == pools_.end() || it->second.slice_count == 0) return std::nullopt;
  const uint64_t index = (mix64(volume.vtree.value()) + chunk) & (it->second.slice_count - 1);
  return SliceId(it->second.first_slice + index);
}

uint32_t MapCache::SliceCountOf(const VolumeInfo& volume) const {
  const auto it = pools_.find(volume.pool);
  return it == pools_.end() ? 0 : it->second.slice_count;
}

Route MapCache::RouteOf(SliceId slice) const {
  const auto it = routes_.find(slice);
  return it == routes_.end() ? Route{} : it->second;
}

const std::vector<Address>* MapCache::AddressesOf(SdsId sds) const {
  const auto it = endpoints_.find(sds);
  return it == endpoints_.end() ? nullptr : &it->second;
}

uint64_t MapCache::StateHash() const {
  uint64_t hash = mix64(version_ + (ready_ ? 1 : 0));
  const auto add = [&hash](uint64_t value) { hash = mix64(hash ^ value) + value; };
  for (const auto& [id, volume] : volumes_) {
    add(id.value());
    add(volume.size_bytes);
    add(volume.snap_number.value());
    add(volume.read_only ? 1 : 0);
  }
  for (const auto& [slice, route] : routes_) {
    add(slice.value());
    add(route.reign.value());
    add(route.sds.value());
  }
  return hash;
}

}  // namespace gabion::sdc
