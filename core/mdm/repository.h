// The metadata repository: a deterministic state machine. Commands (repository.proto) in, new state
// and the list of what changed out. It decides nothing, reads no clock and knows nobody's liveness:
// equal commands give equal repositories, on every manager and after every restart.
//
// Who proposes a command has validated it against this very state; a command that contradicts it is
// our bug and fails a CHECK. Among them, for every slice: epochs only grow, two copies never share
// an SDS or a fault set, and nobody enters the in-sync set but by joining it (R13, R19).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/mdm/repository.pb.h"
#include "core/wire/management.pb.h"

namespace gabion::mdm {

// The generation of the repository stands in the high bits of every id and epoch (R23).
inline constexpr int kGenerationShift = 56;
inline constexpr uint64_t kGenerationMax = UINT64_MAX >> kGenerationShift;
constexpr uint64_t GenerationOf(uint64_t id_or_epoch) { return id_or_epoch >> kGenerationShift; }
// Ids that a pool reserves for its slices, so that splitting keeps them together.
inline constexpr uint64_t kSliceIdsPerPool = uint64_t{1} << 20;
inline constexpr uint32_t kSliceCountMax = 4096;
inline constexpr uint32_t kSliceCountDefault = 64;
// Requests whose answers are remembered.
inline constexpr size_t kAnsweredRequestsMax = 1024;

// A replica's place in an epoch. Without a device: nobody.
struct Member {
  SdsId sds;
  DeviceId device;
  Incarnation incarnation;
  bool present = false;

  explicit operator bool() const { return device.valid(); }
  friend bool operator==(const Member&, const Member&) = default;
};

struct SliceState {
  SliceId id;
  PoolId pool;
  Epoch epoch;
  Reign reign;
  uint64_t issuer = 0;
  Member primary;
  Member secondary;
  Member joining;
  bool release = false;
  // A device that was in sync last and left, kept because it comes back with the delta only.
  DeviceId former;

  friend bool operator==(const SliceState&, const SliceState&) = default;
};

proto::SliceConfig ToProto(const SliceState& slice);
// The fields that travel; `pool` and `former` stay as they are.
void FromProto(const proto::SliceConfig& config, SliceState& slice);

// What one command changed. Ids of what exists now, copies of what is gone.
struct Changes {
  uint64_t id = 0;  // of the object that the command created or changed
  std::vector<SliceState> slices_before;
  std::vector<SdsId> sdss;
  std::vector<SdsId> removed_sdss;
  std::vector<DeviceId> devices;
  std::vector<proto::Device> removed_devices;
  std::vector<VolumeId> volumes;
  std::vector<proto::Volume> removed_volumes;
  std::vector<std::pair<VolumeId, SdcId>> mappings;
  std::vector<proto::Mapping> removed_mappings;
  std::vector<SdcId> sdcs;
  std::vector<SdcId> removed_sdcs;
  std::vector<PoolId> pools;
  std::vector<std::pair<SliceId, DeviceId>> stale;  // replicas to forget
  std::vector<SdsId> pool_sets;  // SDSs that have devices in other pools than before
};

class Repository {
 public:
  bool created() const { return cluster_.valid(); }
  ClusterId cluster() const { return cluster_; }
  uint64_t generation() const { return generation_; }
  Incarnation mdm_incarnation() const { return mdm_incarnation_; }
  uint64_t applied() const { return applied_; }  // number of commands, ever

  const absl::btree_map<SdsId, proto::Sds>& sdss() const { return sdss_; }
  const absl::btree_map<DeviceId, proto::Device>& devices() const { return devices_; }
  const absl::btree_map<PoolId, proto::Pool>& pools() const { return pools_; }
  const absl::btree_map<VolumeId, proto::Volume>& volumes() const { return volumes_; }
  const absl::btree_map<SdcId, proto::Sdc>& sdcs() const { return sdcs_; }
  const absl::btree_map<std::pair<VolumeId, SdcId>, proto::Mapping>& mappings() const {
    return mappings_;
  }
  const absl::btree_map<SliceId, SliceState>& slices() const { return slices_; }
  // Of a restored repository: nobody may serve them, nobody is told of them, until the devices have
  // said who may (R23). As the repository last knew them.
  const absl::btree_map<SliceId, SliceState>& closed() const { return closed_; }
  // An id that a repository of an older generation issued after this one was copied.
  bool IsOfLostRepository(uint64_t id) const;
  // One that this repository has not issued, and no older one may have: it is itself an old copy.
  bool IsFromTheFuture(uint64_t id) const;
  // The pool whose slices have this id among them; 0: none.
  PoolId PoolOfSlice(SliceId slice) const;
  // Replicas that their devices are to forget.
  const absl::btree_set<std::pair<SliceId, DeviceId>>& stale() const { return stale_; }
  // Replicas of members whose device went back to an older content.
  const absl::btree_set<std::pair<SliceId, DeviceId>>& rolled_back() const { return rolled_back_; }

  const proto::Sds* FindSds(SdsId id) const;
  const proto::Device* FindDevice(DeviceId id) const;
  const proto::Pool* FindPool(PoolId id) const;
  const proto::Volume* FindVolume(VolumeId id) const;
  const proto::Sdc* FindSdc(SdcId id) const;
  const SliceState* FindSlice(SliceId id) const;
  Incarnation IncarnationOf(SdsId id) const;  // last registered; 0: never, or unknown SDS

  bool IsLeaving(DeviceId id) const;  // to be emptied and removed
  bool HasVolumes(PoolId pool) const;
  // Slices of pools with volumes that have a replica on the device.
  uint32_t HeldBy(DeviceId id) const;

  // SDSs with devices in the pool, ascending.
  std::vector<SdsId> SdssOfPool(PoolId pool) const;
  bool HasPool(SdsId sds, PoolId pool) const;

  // Two copies must not share this: a text that is equal for SDSs of one fault set.
  std::string DomainOf(SdsId sds) const;

  // The answer that a request got, if it is among the remembered ones.
  std::optional<uint64_t> AnswerTo(std::string_view request) const;

  Epoch NextEpoch(const SliceState& slice) const;

  // The body is set, and was validated against this state.
  Changes Apply(const proto::Command& command);

  proto::RepositorySnapshot Snapshot() const;
  // Refuses what it cannot read, with the reason.
  static Result<Repository> Load(const proto::RepositorySnapshot& snapshot);

  void CheckInvariants() const;
  uint64_t StateHash() const;

 private:
  uint64_t NextId();
  void CountPoolMember(SdsId sds, PoolId pool, int delta, Changes& changes);
  void MarkStale(SliceId slice, DeviceId device, Changes& changes);
  void ApplySliceConfig(const proto::SliceConfig& config, Changes& changes);
  void CheckSlice(const SliceState& slice) const;
  void Unplace(PoolId id, Changes& changes);

  void Do(const proto::CreateRepository& command, Changes& changes);
  void Do(const proto::StartMdm& command, Changes& changes);
  void Do(const proto::RegisterSds& command, Changes& changes);
  void Do(const proto::RegisterSdc& command, Changes& changes);
  void Do(const proto::ReportDevices& command, Changes& changes);
  void Do(const proto::ChangeSlices& command, Changes& changes);
  void Do(const proto::AskRelease& command, Changes& changes);
  void Do(const proto::ForgetReplicas& command, Changes& changes);
  void Do(const proto::NotePositions& command, Changes& changes);
  void Do(const proto::RollBackDevice& command, Changes& changes);
  void Do(const proto::AddSds& command, Changes& changes);
  void Do(const proto::RemoveSds& command, Changes& changes);
  void Do(const proto::AddPool& command, Changes& changes);
  void Do(const proto::RemovePool& command, Changes& changes);
  void Do(const proto::AddDevice& command, Changes& changes);
  void Do(const proto::RemoveDevice& command, Changes& changes);
  void Do(const proto::CreateVolume& command, Changes& changes);
  void Do(const proto::DeleteVolume& command, Changes& changes);
  void Do(const proto::GrowVolume& command, Changes& changes);
  void Do(const proto::MapVolume& command, Changes& changes);
  void Do(const proto::UnmapVolume& command, Changes& changes);
  void Do(const proto::AddSdc& command, Changes& changes);
  void Do(const proto::RemoveSdc& command, Changes& changes);
  void Do(const proto::ForceSlice& command, Changes& changes);
  void Do(const proto::EvacuateDevices& command, Changes& changes);
  void Do(const proto::RaiseGeneration& command, Changes& changes);
  void Do(const proto::ReopenSlices& command, Changes& changes);
  void Do(const proto::AdoptDevice& command, Changes& changes);

  void NotePosition(const proto::DevicePosition& position);
  void ForgetRollBack(SliceId slice, DeviceId device);

  ClusterId cluster_;
  uint64_t generation_ = 0;
  Incarnation mdm_incarnation_;
  uint64_t next_id_ = 1;  // without the generation
  uint64_t applied_ = 0;
  absl::btree_map<SdsId, proto::Sds> sdss_;
  absl::btree_map<DeviceId, proto::Device> devices_;
  absl::btree_map<PoolId, proto::Pool> pools_;
  absl::btree_map<VolumeId, proto::Volume> volumes_;
  absl::btree_map<SdcId, proto::Sdc> sdcs_;
  absl::btree_map<std::pair<VolumeId, SdcId>, proto::Mapping> mappings_;
  absl::btree_map<SliceId, SliceState> slices_;
  absl::btree_map<SliceId, SliceState> closed_;
  absl::btree_map<uint64_t, uint64_t> ended_;  // generation -> next id, when it was given up
  absl::btree_set<std::pair<SliceId, DeviceId>> stale_;
  absl::btree_set<std::pair<SliceId, DeviceId>> rolled_back_;
  std::deque<proto::AnsweredRequest> requests_;
  // How many devices an SDS has in a pool; follows from devices_.
  absl::btree_map<std::pair<PoolId, SdsId>, uint32_t> pool_members_;
};

}  // namespace gabion::mdm
