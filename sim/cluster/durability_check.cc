#include "sim/cluster/durability_check.h"

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "core/base/mix.h"
#include "sim/checker/replica_reader.h"

namespace gabion::sim {

namespace {

class Check {
 public:
  Check(Cluster& cluster, const ConfigWatch& watch) : cluster_(cluster), watch_(watch), pool_({}) {}

  DurabilityResult Run(bool identical, std::optional<uint64_t> only) {
    for (const auto& [id, slice] : watch_.slices()) {
      if (only.has_value() && id != *only) continue;
      std::vector<Slice> of_primary;
      std::vector<Slice> of_secondary;
      CheckMember(slice, slice.primary(), &of_primary);
      if (slice.has_secondary()) CheckMember(slice, slice.secondary(), &of_secondary);
      if (!result_.wrong.empty()) return result_;
      if (!identical || !slice.has_secondary()) continue;
      for (size_t i = 0; i < of_primary.size() && i < of_secondary.size(); ++i) {
        const std::span<const std::byte> a = of_primary[i].span();
        const std::span<const std::byte> b = of_secondary[i].span();
        const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin());
        if (at == a.end()) continue;
        result_.wrong = "the replicas of slice " + HexId(id) + " differ in its chunk number " +
                        std::to_string(i) + " at block " +
                        std::to_string((at - a.begin()) / wire::kBlockBytes);
        return result_;
      }
    }
    return result_;
  }

 private:
  // The reader of a device, opened once; null (and result_ set) when it does not open.
  ReplicaReader* ReaderOf(uint64_t device_id) {
    const auto known = readers_.find(device_id);
    if (known != readers_.end()) return known->second.get();
    const proto::ClusterStatus& status = cluster_.last_status();
    for (const proto::Device& device : status.devices()) {
      if (device.id() != device_id) continue;
      const NodeIndex node = cluster_.NodeOfSds(device.sds());
      if (node >= cluster_.world().node_count()) break;
      for (const Node::NamedDisk& disk : cluster_.world().node(node).disks) {
        if (disk.path != device.path()) continue;
        DeviceInfo info = disk.disk->info();
        info.size_bytes = disk.disk->true_size_bytes();  // whatever it shows just now
        auto reader = std::make_unique<ReplicaReader>(disk.disk->durable(), info, &pool_);
        const std::string wrong = reader->Open({.cluster = ClusterId(status.cluster()),
                                                .sds = SdsId(device.sds()),
                                                .device = DeviceId(device_id)});
        if (!wrong.empty()) {
          result_.wrong =
              cluster_.world().node(node).options.name + " " + device.path() + ": " + wrong;
          return nullptr;
        }
        return (readers_[device_id] = std::move(reader)).get();
      }
    }
    return nullptr;
  }

  void CheckMember(const proto::SliceConfig& slice, const proto::Member& member,
                   std::vector<Slice>* content) {
    if (!result_.wrong.empty()) return;
    ReplicaReader* reader = ReaderOf(member.device());
    if (reader == nullptr) return;
    ++result_.replicas;
    const Workload& workload = cluster_.workload();
    const proto::ClusterStatus& status = cluster_.last_status();
    for (uint32_t v = 0; v < workload.volume_count(); ++v) {
      for (const proto::Volume& volume : status.volumes()) {
        if (volume.id() != workload.volume_id(v).value()) continue;
        for (const proto::Pool& pool : status.pools()) {
          if (pool.id() != volume.pool()) continue;
          CheckVolume(slice, member, *reader, v, volume, pool, content);
        }
      }
    }
  }

  void CheckVolume(const proto::SliceConfig& slice, const proto::Member& member,
                   ReplicaReader& reader, uint32_t v, const proto::Volume& volume,
                   const proto::Pool& pool, std::vector<Slice>* content) {
    const VolumeHistory& history = cluster_.workload().history(v);
    const auto chunks = static_cast<uint32_t>(history.size_bytes() / wire::kChunkBytes);
    for (uint32_t chunk = 0; chunk < chunks && result_.wrong.empty(); ++chunk) {
      const uint64_t of_chunk =
          pool.first_slice() + (mix64(volume.vtree()) + chunk) % pool.slice_count();
      if (of_chunk != slice.slice()) continue;
      Slice bytes = pool_.Allocate(wire::kChunkBytes);
      const store::ChunkKey key{.vtree = VtreeId(volume.vtree()),
                                .version = VolumeVersion(volume.version()),
                                .chunk = chunk};
      std::string wrong;
      if (reader.Find(SliceId(slice.slice())) == nullptr) {
        std::fill(bytes.mutable_span().begin(), bytes.mutable_span().end(), std::byte{0});
      } else {
        wrong = reader.ReadChunk(SliceId(slice.slice()), key, bytes);
      }
      if (wrong.empty()) {
        wrong = history.CheckCopy(bytes.span(),
                                  uint64_t{chunk} * wire::kChunkBytes / kStampSectorBytes);
      }
      content->push_back(std::move(bytes));
      if (wrong.empty()) continue;
      result_.wrong = "replica of slice " + HexId(slice.slice()) + " (epoch " +
                      std::to_string(slice.epoch()) + ") on device " + HexId(member.device()) +
                      " of SDS " + HexId(member.sds()) + ": " + wrong + "config " +
                      slice.ShortDebugString() + "\n" + reader.Dump();
    }
  }

  Cluster& cluster_;
  const ConfigWatch& watch_;
  BufferPool pool_;
  std::map<uint64_t, std::unique_ptr<ReplicaReader>> readers_;
  DurabilityResult result_;
};

}  // namespace

DurabilityResult CheckDurability(Cluster& cluster, const ConfigWatch& watch, bool identical,
                                 std::optional<uint64_t> only) {
  Check check(cluster, watch);
  return check.Run(identical, only);
}

}  // namespace gabion::sim
