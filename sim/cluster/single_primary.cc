#include "sim/cluster/single_primary.h"

#include <algorithm>

#include "core/sds/inspect.h"

namespace gabion::sim {

SliceId FirstInBoth(const std::vector<SliceId>& a, const std::vector<SliceId>& b) {
  for (const SliceId slice : a) {
    if (std::find(b.begin(), b.end(), slice) != b.end()) return slice;
  }
  return SliceId();
}

void SinglePrimary::Serving(NodeIndex node, std::vector<SliceId>* slices) const {
  slices->clear();
  if (!world_->Running(node)) return;
  sds::AppendServedSlices(*world_->node(node).role, world_->NowOf(node), slices);
}

void SinglePrimary::OnStepped(NodeIndex node, const Event&) {
  if (std::find(sdss_.begin(), sdss_.end(), node) == sdss_.end()) return;
  Serving(node, &mine_);
  if (mine_.empty()) return;
  for (const NodeIndex other : sdss_) {
    if (other == node) continue;
    Serving(other, &theirs_);
    const SliceId both = FirstInBoth(mine_, theirs_);
    if (!both.valid()) continue;
    world_->Fail("single-primary", world_->node(node).options.name + " and " +
                                       world_->node(other).options.name +
                                       " would both serve slice " + ToString(both));
    return;
  }
}

}  // namespace gabion::sim
