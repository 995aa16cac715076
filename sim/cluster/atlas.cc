#include "sim/cluster/atlas.h"

#include <set>
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
  using Epochs = std::vector<std::pair<SliceId, Epoch>>;
  std::set<std::pair<uint64_t, uint64_t>> acted;  // slice and epoch
  std::set<std::pair<uint64_t, uint64_t>> followed;
  for (const NodeIndex node : cluster_->sds()) {
    const Role& role = *cluster_->world().node(node).role;
    Epochs epochs;
    sds::AppendPrimaryEpochs(role, &epochs);
    for (const auto& [slice, epoch] : epochs) acted.insert({slice.value(), epoch.value()});
    epochs.clear();
    sds::AppendFollowedEpochs(role, &epochs);
    for (const auto& [slice, epoch] : epochs) followed.insert({slice.value(), epoch.value()});
  }
  for (const auto& [id, slice] : watch_->slices()) {
    if (!slice.primary().present() || !slice.secondary().present()) return false;
    // A secondary that lost its device is a member until somebody needs it (seed 3401240901).
    if (!acted.contains({id, slice.epoch()}) || !followed.contains({id, slice.epoch()})) {
      return false;
    }
  }
  return true;
}

}  // namespace gabion::sim
