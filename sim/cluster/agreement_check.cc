#include "sim/cluster/agreement_check.h"

#include <map>
#include <set>
#include <utility>

#include "core/sds/inspect.h"
#include "sim/checker/replica_reader.h"

namespace gabion::sim {

namespace {

using Epochs = std::vector<std::pair<SliceId, Epoch>>;

std::string CheckActors(const World& world, NodeIndex node, const Epochs& epochs, const char* as,
                        std::map<uint64_t, NodeIndex> members, const ConfigWatch& watch) {
  const std::string& name = world.node(node).options.name;
  for (const auto& [slice, epoch] : epochs) {
    const auto config = watch.slices().find(slice.value());
    const auto member = members.find(slice.value());
    if (member == members.end() || member->second != node ||
        config->second.epoch() != epoch.value()) {
      return name + " acts as " + as + " of slice " + ToString(slice) + " in epoch " +
             std::to_string(epoch.value()) + "; it is " +
             (config == watch.slices().end() ? "unknown" : config->second.ShortDebugString());
    }
    members.erase(member);
  }
  for (const auto& [slice, member] : members) {
    if (member == node) return name + " does not act as " + as + " of slice " + HexId(slice);
  }
  return {};
}

std::string CheckDevice(Cluster& cluster, const proto::Device& device,
                        const std::set<uint64_t>& expected) {
  const NodeIndex node = cluster.NodeOfSds(device.sds());
  if (node >= cluster.world().node_count()) return {};
  for (const Node::NamedDisk& disk : cluster.world().node(node).disks) {
    if (disk.path != device.path()) continue;
    const std::string name = cluster.world().node(node).options.name + " " + device.path() + ": ";
    BufferPool pool({});
    DeviceInfo info = disk.disk->info();
    info.size_bytes = disk.disk->true_size_bytes();
    ReplicaReader reader(disk.disk->durable(), info, &pool);
    const std::string wrong = reader.Open({.cluster = ClusterId(cluster.last_status().cluster()),
                                           .sds = SdsId(device.sds()),
                                           .device = DeviceId(device.id())});
    if (!wrong.empty()) return name + wrong;
    std::set<uint64_t> missing = expected;
    for (const SliceId slice : reader.slices()) {
      if (missing.erase(slice.value()) == 0) {
        return name + "a replica of slice " + ToString(slice) + " that nobody counts on";
      }
    }
    if (!missing.empty()) return name + "no replica of slice " + HexId(*missing.begin());
  }
  return {};
}

}  // namespace

std::string CheckActing(Cluster& cluster, const ConfigWatch& watch,
                        const std::vector<NodeIndex>& sdss) {
  std::map<uint64_t, NodeIndex> primaries;
  std::map<uint64_t, NodeIndex> secondaries;
  for (const auto& [id, slice] : watch.slices()) {
    if (slice.has_joining()) return "a slice has a joiner: " + slice.ShortDebugString();
    primaries[id] = cluster.NodeOfSds(slice.primary().sds());
    if (slice.has_secondary()) secondaries[id] = cluster.NodeOfSds(slice.secondary().sds());
  }
  const World& world = cluster.world();
  for (const NodeIndex node : sdss) {
    if (!world.Running(node)) continue;
    Epochs epochs;
    sds::AppendPrimaryEpochs(*world.node(node).role, &epochs);
    std::string wrong = CheckActors(world, node, epochs, "primary", primaries, watch);
    if (!wrong.empty()) return wrong;
    epochs.clear();
    sds::AppendFollowedEpochs(*world.node(node).role, &epochs);
    wrong = CheckActors(world, node, epochs, "secondary", secondaries, watch);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string CheckReplicas(Cluster& cluster, const ConfigWatch& watch) {
  std::map<uint64_t, std::set<uint64_t>> replicas;  // slices, by device
  for (const auto& [id, slice] : watch.slices()) {
    replicas[slice.primary().device()].insert(id);
    if (slice.has_secondary()) replicas[slice.secondary().device()].insert(id);
  }
  for (const proto::Device& device : cluster.last_status().devices()) {
    if (device.state() != proto::DEVICE_UP) continue;
    const std::string wrong = CheckDevice(cluster, device, replicas[device.id()]);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace gabion::sim
