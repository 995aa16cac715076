// Liveness: when everything is well again, every I/O completes within 30 s, and everything reads
// back. Convergence: every slice has two copies in sync again within 90 s.
#pragma once

#include <string>

#include "sim/cluster/cluster.h"

namespace gabion::sim {

// Runs the world until all of that has come about, or fails it. `when`: after what, for people.
void CheckRecovery(Cluster& cluster, const std::string& when);

}  // namespace gabion::sim
