// Durability at acknowledgement: at any instant, if the power failed now, every replica of every
// slice's in-sync set holds all acknowledged writes, and nothing that nobody wrote. Looked up on
// the simulated devices themselves. And after healing: both replicas are the same, block for block.
#pragma once

#include <optional>
#include <string>

#include "sim/cluster/cluster.h"
#include "sim/cluster/config_watch.h"

namespace gabion::sim {

struct DurabilityResult {
  std::string wrong;      // empty: nothing
  uint32_t replicas = 0;  // that were looked at
};

// Uses the status that the cluster asked for last to find devices. `only`: of this slice alone.
// `identical`: the two replicas of each slice must also be equal (nothing is in flight).
DurabilityResult CheckDurability(Cluster& cluster, const ConfigWatch& watch, bool identical,
                                 std::optional<uint64_t> only = std::nullopt);

}  // namespace gabion::sim
