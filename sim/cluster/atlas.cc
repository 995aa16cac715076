#include "sim/cluster/atlas.h"

#include <map>
#include <utility>
#include <vector>

#include "core/sds/inspect.h"

namespace gabion::sim {

bool Atlas::EverybodyIsWell() const {
  const World& world = cluster_->world();
  std::vector<NodeIndex> nodes = cluster_->sds();
  nodes.push_back(cluster_->mdm());
  for (const NodeIndex node : nodes) {
    const Node& n = world.node(node);
    if (n.role == nullptr || n.paused || n.crash_countdown != 0 || n.countdown_when_dirty != 0) {
      return false;
    }
    for (const NodeIndex other : nodes) {
      if (world.IsCut(node, other)) return false;
    }
  }
  return true;
}

bool Atlas::SlicesAreWhole() const {
  std::map<uint64_t, uint64_t> acted_in;  // slice -> epoch
  for (const NodeIndex node : cluster_->sds()) {
    std::vector<std::pair<SliceId, Epoch>> epochs;
    sds::AppendPrimaryEpochs(*cluster_->world().node(node).role, &epochs);
    for (const auto& [slice, epoch] : epochs) acted_in[slice.value()] = epoch.value();
  }
  for (const auto& [id, slice] : watch_->slices()) {
    if (!slice.primary().present() || !slice.secondary().present()) return false;
    const auto acts = acted_in.find(id);
    if (acts == acted_in.end() || acts->second != slice.epoch()) return false;
  }
  return true;
}

}  // namespace gabion::sim
