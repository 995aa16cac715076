// What the MDM has told this client: volumes mapped to it, where their slices are, who serves them.
// Comes as a stream of versions without gaps, begun by a full update.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "core/base/ids.h"
#include "core/role/address.h"
#include "core/wire/management.pb.h"

namespace gabion::sdc {

struct VolumeInfo {
  VolumeId id;
  std::string name;
  PoolId pool;
  VtreeId vtree;
  uint64_t size_bytes = 0;
  SnapNumber snap_number;
  bool read_only = false;
};

// Who is primary of a slice, and since which reign.
struct Route {
  Reign reign;
  SdsId sds;  // 0: unavailable now

  friend bool operator==(const Route&, const Route&) = default;
};

class MapCache {
 public:
  enum class Outcome : uint8_t {
    kApplied,
    kOld,        // already applied; nothing changed
    kGap,        // a version is missing: nothing changed, a full update is needed
    kMalformed,  // impossible values: nothing changed; error() says which
  };

  Outcome Apply(const proto::MapUpdate& update);
  // A new registration begins with a full update; what is known stays in use until then.
  void ExpectFull() { expects_full_ = true; }

  // A full update has been applied, ever.
  bool ready() const { return ready_; }
  // ... and since the last ExpectFull().
  bool current() const { return ready_ && !expects_full_; }
  uint64_t version() const { return version_; }
  const std::string& error() const { return error_; }

  const VolumeInfo* FindVolume(VolumeId id) const;
  const VolumeInfo* FindVolume(std::string_view name) const;
  const absl::btree_map<VolumeId, VolumeInfo>& volumes() const { return volumes_; }

  // The slice of a chunk; nothing when the volume's pool is unknown.
  std::optional<SliceId> SliceOf(const VolumeInfo& volume, uint32_t chunk) const;
  // How far apart the chunks of one slice are; 0: the volume's pool is unknown.
  uint32_t SliceCountOf(const VolumeInfo& volume) const;
  // Reign 0 and SDS 0 for a slice that was never named.
  Route RouteOf(SliceId slice) const;
  // Null when the SDS is unknown.
  const std::vector<Address>* AddressesOf(SdsId sds) const;
  const absl::btree_map<SdsId, std::vector<Address>>& endpoints() const { return endpoints_; }

  uint64_t StateHash() const;

 private:
  struct Pool {
    uint64_t first_slice = 0;
    uint32_t slice_count = 0;  // a power of two
  };

  std::optional<std::string> Refusal(const proto::MapUpdate& update) const;
  void ApplyVolumes(const proto::MapUpdate& update);

  bool ready_ = false;
  bool expects_full_ = true;
  uint64_t version_ = 0;
  std::string error_;
  absl::btree_map<VolumeId, VolumeInfo> volumes_;
  absl::btree_map<PoolId, Pool> pools_;
  absl::btree_map<SliceId, Route> routes_;  // a reign is never forgotten: fences compare with it
  absl::btree_map<SdsId, std::vector<Address>> endpoints_;
};

}  // namespace gabion::sdc
