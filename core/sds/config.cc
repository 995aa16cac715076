#include "core/sds/config.h"

#include "core/base/bug.h"
#include "core/base/mix.h"

namespace gabion::sds {

namespace {

template <class Map, class Key>
auto* FindIn(const Map& map, const Key& key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}

Member FromProto(const proto::Member& member) {
  return {.sds = SdsId(member.sds()),
          .device = DeviceId(member.device()),
          .incarnation = Incarnation(member.incarnation()),
          .present = member.present()};
}

SliceConfig FromProto(const proto::SliceConfig& slice) {
  SliceConfig config{.slice = SliceId(slice.slice()),
                     .epoch = Epoch(slice.epoch()),
                     .reign = Reign(slice.reign()),
                     .issuer = slice.issuer(),
                     .primary = FromProto(slice.primary()),
                     .release = slice.release()};
  if (slice.has_secondary()) config.secondary = FromProto(slice.secondary());
  if (slice.has_joining()) config.joining = FromProto(slice.joining());
  return config;
}

bool Names(const SliceConfig& slice, DeviceId device) {
  return slice.primary.device == device ||
         (slice.secondary.has_value() && slice.secondary->device == device) ||
         (slice.joining.has_value() && slice.joining->device == device);
}

}  // namespace

store::EpochMembers MembersOf(const SliceConfig& config) {
  store::EpochMembers members{.primary = config.primary.device, .secondary = {}, .joining = {}};
  if (config.secondary.has_value()) members.secondary = config.secondary->device;
  if (config.joining.has_value()) members.joining = config.joining->device;
  return members;
}

void Config::Forget() {
  volumes_.clear();
  mappings_.clear();
  clients_.clear();
  peers_.clear();
  pools_.clear();
  slices_.clear();
  devices_.clear();
}

Config::Outcome Config::Apply(const proto::ConfigUpdate& update, Changes* changes) {
  if (!update.full() && (full_expected_ || update.version() != version_.value() + 1)) {
    return Outcome::kGap;
  }
  if (update.dropped_slices_size() != update.dropped_devices_size() ||
      update.dropped_slices_size() != update.dropped_epochs_size()) {
    return Outcome::kMalformed;
  }
  for (const proto::Pool& pool : update.pools()) {
    const uint32_t n = pool.slice_count();
    if ((n & (n - 1)) != 0) return Outcome::kMalformed;
  }
  changes->full = update.full();
  if (update.full()) {
    for (const auto& [id, slice] : slices_) changes->slices.push_back(id);
    Forget();
    full_expected_ = false;
    changes->devices = true;
    changes->clients = true;
  }
  version_ = ConfigVersion(update.version());

  for (const proto::Pool& pool : update.pools()) {
    pools_[PoolId(pool.id())] = {.slice_count = pool.slice_count(),
                                 .first_slice = SliceId(pool.first_slice())};
  }
  for (const proto::Volume& volume : update.volumes()) {
    volumes_[VolumeId(volume.id())] = {.pool = PoolId(volume.pool()),
                                       .vtree = VtreeId(volume.vtree()),
                                       .size_bytes = volume.size_bytes(),
                                       .snap_number = SnapNumber(volume.snap_number()),
                                       .version = VolumeVersion(volume.version())};
    changes->clients = true;
  }
  for (const uint64_t volume : update.deleted_volumes()) {
    volumes_.erase(VolumeId(volume));
    changes->clients = true;
  }
  for (const proto::Mapping& mapping : update.mappings()) {
    mappings_[{VolumeId(mapping.volume()), SdcId(mapping.sdc())}] = mapping.read_only();
    changes->clients = true;
  }
  for (const proto::Mapping& mapping : update.removed_mappings()) {
    mappings_.erase({VolumeId(mapping.volume()), SdcId(mapping.sdc())});
    changes->clients = true;
  }
  for (const proto::Sds& sds : update.peers()) {
    PeerConfig peer{.addresses = {}, .incarnation = Incarnation(sds.incarnation())};
    for (const std::string& text : sds.addresses()) {
      if (const std::optional<Address> address = Address::Parse(text)) {
        peer.addresses.push_back(*address);
      }
    }
    peers_[SdsId(sds.id())] = std::move(peer);
  }
  for (const proto::Sdc& sdc : update.sdcs()) {
    clients_[SdcId(sdc.id())] = Incarnation(sdc.incarnation());
    if (sdc.incarnation() != 0) {
      changes->fenced_clients.emplace_back(SdcId(sdc.id()), Incarnation(sdc.incarnation()));
    }
    changes->clients = true;
  }
  for (const uint64_t sdc : update.removed_sdcs()) {
    clients_.erase(SdcId(sdc));
    changes->fenced_clients.emplace_back(SdcId(sdc), Incarnation());
    changes->clients = true;
  }
  for (const proto::Device& device : update.devices()) {
    devices_[DeviceId(device.id())] = {.id = DeviceId(device.id()),
                                       .path = device.path(),
                                       .state = device.state(),
                                       .force = device.force(),
                                       .test = device.test()};
    changes->devices = true;
  }
  for (int i = 0; i < update.dropped_slices_size(); ++i) {
    const SliceId slice(update.dropped_slices(i));
    changes->dropped.push_back({.slice = slice,
                                .device = DeviceId(update.dropped_devices(i)),
                                .up_to = Epoch(update.dropped_epochs(i))});
    // What is known of the slice may still name the replica that goes; a newer configuration, or
    // one that names another device of this SDS, stays.
    const DeviceId device(update.dropped_devices(i));
    if (const SliceConfig* known = FindSlice(slice); known != nullptr && Names(*known, device)) {
      slices_.erase(slice);
    }
    changes->slices.push_back(slice);
  }
  for (const proto::SliceConfig& slice : update.slices()) {
    SliceConfig config = FromProto(slice);
    const SliceConfig* known = FindSlice(config.slice);
    if (known != nullptr && known->epoch > config.epoch) continue;
    changes->slices.push_back(config.slice);
    slices_[config.slice] = std::move(config);
  }
  return Outcome::kApplied;
}

const VolumeConfig* Config::FindVolume(VolumeId id) const { return FindIn(volumes_, id); }
VolumeId Config::FindVolumeOf(VtreeId vtree, VolumeVersion version) const {
  for (const auto& [id, volume] : volumes_) {
    if (volume.vtree == vtree && volume.version == version) return id;
  }
  return VolumeId();
}
const PoolConfig* Config::FindPool(PoolId id) const { return FindIn(pools_, id); }
const PeerConfig* Config::FindPeer(SdsId id) const { return FindIn(peers_, id); }
const SliceConfig* Config::FindSlice(SliceId id) const { return FindIn(slices_, id); }

std::optional<Incarnation> Config::FindClient(SdcId id) const {
  const Incarnation* found = FindIn(clients_, id);
  if (found == nullptr) return std::nullopt;
  return *found;
}

std::optional<bool> Config::FindMapping(VolumeId volume, SdcId client) const {
  if (PLANTED_BUG("unmap-not-checked")) return false;
  const bool* found = FindIn(mappings_, std::pair(volume, client));
  if (found == nullptr) return std::nullopt;
  return *found;
}

bool IsWanted(const DeviceConfig& config) {
  return config.state == proto::DEVICE_ADDING || config.state == proto::DEVICE_UP ||
         config.state == proto::DEVICE_DOWN || config.state == proto::DEVICE_REMOVING;
}

std::vector<KnownDevice> Config::WantedDevices() const {
  std::vector<KnownDevice> wanted;
  for (const auto& [id, device] : devices_) {
    if (IsWanted(device)) wanted.push_back({.id = id, .path = device.path});
  }
  return wanted;
}

uint64_t Config::StateHash() const {
  uint64_t hash = mix64(version_.value() + 1);
  for (const auto& [id, slice] : slices_) {
    hash = mix64(hash + id.value()) + slice.epoch.value() + (slice.release ? 1 : 0);
  }
  return mix64(hash + volumes_.size() + mappings_.size() * 3 + clients_.size() * 5);
}

}  // namespace gabion::sds
