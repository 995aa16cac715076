#include "sim/cluster/equal_copies.h"

#include <algorithm>

namespace gabion::sim {

void EqualCopies::OnStepped(NodeIndex node, const Event&) {
  if (std::find(sdss_.begin(), sdss_.end(), node) == sdss_.end() || !world_->Running(node)) return;
  if (differed_(*world_->node(node).role) == 0) return;
  world_->Fail("equal-copies", world_->node(node).options.name +
                                   " has found copies that match their checksums and differ");
}

}  // namespace gabion::sim
