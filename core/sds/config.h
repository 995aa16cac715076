// The configuration that this SDS has applied: one ordered stream from the MDM (R6). Applying never
// waits for anything; what it takes away is taken away when Apply returns.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/role/address.h"
#include "core/store/store.h"
#include "core/wire/management.pb.h"

namespace gabion::sds {

struct Member {
  SdsId sds;
  DeviceId device;
  Incarnation incarnation;
  bool present = false;
  friend bool operator==(const Member&, const Member&) = default;
};

struct SliceConfig {
  SliceId slice;
  Epoch epoch;
  Reign reign;
  uint64_t issuer = 0;
  Member primary;
  std::optional<Member> secondary{};
  std::optional<Member> joining{};
  bool release = false;
};

// What every member records with its epoch's start (R23).
store::EpochMembers MembersOf(const SliceConfig& config);

struct VolumeConfig {
  PoolId pool;
  VtreeId vtree;
  uint64_t size_bytes = 0;
  SnapNumber snap_number;
  VolumeVersion version;
};
struct PoolConfig {
  uint32_t slice_count = 0;
  SliceId first_slice;
};
struct PeerConfig {
  std::vector<Address> addresses;
  Incarnation incarnation;
};
struct DeviceConfig {
  DeviceId id;
  std::string path;
  proto::DeviceState state{};
  bool force = false;
  proto::DeviceTest test{};
  bool operator==(const DeviceConfig&) const = default;
};

// One that this SDS is to open: not failed, not unknown.
bool IsWanted(const DeviceConfig& config);

// What an SDS remembers of its devices, so that it finds them before it registers (R22).
struct KnownDevice {
  DeviceId id;
  std::string path;
  bool operator==(const KnownDevice&) const = default;
};

class Config {
 public:
  enum class Outcome : uint8_t { kApplied, kGap, kMalformed };
  struct Changes {
    bool full = false;
    std::vector<SliceId> slices;  // new or changed, and after `full` also those that are gone
    struct Dropped {
      SliceId slice;
      DeviceId device;
      Epoch up_to;  // a replica that has started a later epoch stays (R23)
    };
    std::vector<Dropped> dropped;
    bool devices = false;
    bool clients = false;  // sdcs, mappings or volumes
    // Clients of which lower incarnations, or (0) all, are fenced.
    std::vector<std::pair<SdcId, Incarnation>> fenced_clients;
  };

  // A new connection to the MDM: only a full update may follow.
  void ExpectFull() { full_expected_ = true; }
  Outcome Apply(const proto::ConfigUpdate& update, Changes* changes);

  ConfigVersion version() const { return version_; }
  const VolumeConfig* FindVolume(VolumeId id) const;
  // 0: none has this V-tree and version.
  VolumeId FindVolumeOf(VtreeId vtree, VolumeVersion version) const;
  const PoolConfig* FindPool(PoolId id) const;
  const PeerConfig* FindPeer(SdsId id) const;
  const SliceConfig* FindSlice(SliceId id) const;
  // Nothing: unknown or removed.
  std::optional<Incarnation> FindClient(SdcId id) const;
  // Nothing: not mapped. Else whether it is read-only.
  std::optional<bool> FindMapping(VolumeId volume, SdcId client) const;
  const absl::btree_map<DeviceId, DeviceConfig>& devices() const { return devices_; }
  const absl::btree_map<SliceId, SliceConfig>& slices() const { return slices_; }
  const absl::btree_map<SdcId, Incarnation>& clients() const { return clients_; }
  std::vector<KnownDevice> WantedDevices() const;

  uint64_t StateHash() const;

 private:
  void Forget();

  ConfigVersion version_;
  bool full_expected_ = true;
  absl::btree_map<VolumeId, VolumeConfig> volumes_;
  absl::btree_map<std::pair<VolumeId, SdcId>, bool> mappings_;
  absl::btree_map<SdcId, Incarnation> clients_;
  absl::btree_map<SdsId, PeerConfig> peers_;
  absl::btree_map<PoolId, PoolConfig> pools_;
  absl::btree_map<SliceId, SliceConfig> slices_;
  absl::btree_map<DeviceId, DeviceConfig> devices_;
};

}  // namespace gabion::sds
