#include "core/sds/inspect.h"

#include "core/sds/replica.h"
#include "core/sds/sds_role.h"

namespace gabion::sds {

void AppendServedSlices(const Role& sds, const Now& now, std::vector<SliceId>* slices) {
  const Node& node = static_cast<const SdsRole&>(sds).node();
  if (!node.lease.Valid(now) || node.stopping) return;
  for (const auto& [key, replica] : node.replicas) {
    if (replica->primary != nullptr && replica->primary->MayServe()) {
      slices->push_back(replica->config.slice);
    }
  }
}

void AppendPrimaryEpochs(const Role& sds, std::vector<std::pair<SliceId, Epoch>>* epochs) {
  for (const auto& [key, replica] : static_cast<const SdsRole&>(sds).node().replicas) {
    if (replica->primary != nullptr) {
      epochs->push_back({replica->config.slice, replica->config.epoch});
    }
  }
}

void AppendFollowedEpochs(const Role& sds, std::vector<std::pair<SliceId, Epoch>>* epochs) {
  for (const auto& [key, replica] : static_cast<const SdsRole&>(sds).node().replicas) {
    if (replica->secondary != nullptr && !replica->secondary->joining() &&
        replica->secondary->settled()) {
      epochs->push_back({replica->config.slice, replica->config.epoch});
    }
  }
}

uint64_t CopiesThatDiffered(const Role& sds) {
  return static_cast<const SdsRole&>(sds).node().counters.copies_differ;
}

}  // namespace gabion::sds
